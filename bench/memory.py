"""What does an entry in memory cost?

Workload of the first table: a function of one int is called with 100,000 different ones and returns a short
str; each entry carries the tags "users" and "user:7", where the library has tags. Each contender does so in
a process of its own, and the figure is what the process grew by (resident memory), an entry, over that of a
bare wrapper over a dict, which keeps the same arguments and values.

The second table takes tiercache's L1 apart, by what Python allocated (tracemalloc): the same entries over a
plain dict of keys and values, then what is added by being found through the arguments as well, by having
been hit (the instant of it), and by a tag that twenty entries share.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.contenders import IN_MEMORY_SYNC
from bench.contenders.async_lru import AsyncLru
from bench.contenders.cashews_memory import CashewsMemory
from bench.contenders.facade import Contender, Place, Unable
from bench.results import Result
from bench.runs import Run
from tiercache._core.l1 import L1, Entry

PATIENCE = 40  # seconds

ENTRIES = 100_000
FEWER = 5_000  # --quick
TAGS = ("users", "user:{user_id}")
CONTENDERS: tuple[type[Contender], ...] = (*IN_MEMORY_SYNC, AsyncLru, CashewsMemory)
BARE = "bare wrapper over a dict"


def measure(run: Run) -> list[Result]:
    count = run.calls(FEWER if run.quick else ENTRIES, tiny=200)
    return [of_processes(run, count), of_parts(run, count)]


# ---- what a process grows by


def of_processes(run: Run, count: int) -> Result:
    samples: dict[str, list[float]] = {}
    unable = dict(run.absent)
    for classes in run.turns(run.only(CONTENDERS), run.rounds(3, quick=1), "memory"):
        for contender in classes:
            grown = grown_by(contender.name, count)
            if isinstance(grown, str):
                unable[contender.name] = grown
            else:
                samples.setdefault(contender.name, []).append(grown)
    floor = median(samples.get(BARE) or [0.0])
    rows = [
        (name, median(some), median(some) - floor, CONTENDER[name].setting) for name, some in samples.items()
    ]
    return Result(
        f"Memory of {count:,} entries, filed by a decorator",
        ("", "B an entry", "B over a dict", "setting"),
        sorted(rows, key=lambda row: row[1]),
        "Resident memory of a process of its own, by entry; 40 to 60 B of noise.",
        unit="B",
        samples=samples,
        unable=unable,
    )


def grown_by(name: str, count: int) -> float | str:
    """Bytes an entry in a process of its own, or why there is no figure."""
    command = [sys.executable, "-m", "bench.memory", name, str(count)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {PATIENCE} s to keep {count:,} entries"
    if ran.returncode:
        return ran.stderr.strip().splitlines()[-1]
    return float(json.loads(ran.stdout.splitlines()[-1]))


async def filled(contender: Contender, count: int) -> float:
    def user(user_id: int) -> str:
        return f"user {user_id}"

    async def user_later(user_id: int) -> str:
        return f"user {user_id}"

    await contender.open()
    function = contender.wrap(user_later if contender.is_async else user, tags=TAGS)
    for user_id in range(-100, 0):  # what is made once is made before
        await maybe(function(user_id))
    gc.collect()
    before = resident()
    for user_id in range(count):
        await maybe(function(user_id))
    gc.collect()
    return (resident() - before) / count


async def maybe(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def resident() -> int:
    """Bytes of memory the process has now; where nothing tells, the most it ever had."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ---- what the parts of an entry take


def of_parts(run: Run, count: int) -> Result:
    run.step("parts of an entry")
    plain = {
        False: allocated(lambda: by_key(count), count),
        True: allocated(lambda: by_argument(count), count),
    }
    cases: dict[str, tuple[bool, Callable[[], object]]] = {
        "by key, two tags": (False, lambda: tier(count)),
        "the same, each hit once": (False, lambda: tier(count, hit=True)),
        "the same, 20 entries a tag": (False, lambda: tier(count, shared=20)),
        "by key and arguments, two tags and the function's": (True, lambda: tier(count, filed=True)),
        "the same, each hit since": (True, lambda: tier(count, filed=True, hit=True)),
    }
    rows = []
    for name, (is_filed, make) in cases.items():
        taken = allocated(make, count)
        rows.append((name, taken, taken - plain[False], taken - plain[True] if is_filed else "-"))
    return Result(
        f"An entry of L1, of {count:,}",
        ("", "B an entry", "B over {key: value}", "B over {argument: value}"),
        rows,
        "What Python allocated. What is filed under its arguments is found in two ways.",
        unit="B",
        chart="none",
    )


def allocated(make: Callable[[], object], count: int) -> float:
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return taken / count


def by_key(count: int) -> dict[str, str]:
    return {key_of(n): f"user {n}" for n in range(count)}


def by_argument(count: int) -> dict[int, str]:
    return {n: f"user {n}" for n in range(count)}


def key_of(n: int) -> str:
    return f"shop.users.get_user:{n}"


def tier(count: int, *, filed: bool = False, hit: bool = False, shared: int = 1) -> object:
    """An L1 filled at a thousand entries a second, as reads fill it."""
    l1, table, now = L1(count), dict[Any, Entry](), 1_000.0
    for n in range(count):
        now += 0.001
        deps = ("t:" + "users", f"t:user:{n // shared}") + (
            ("t:" + "shop.users.get_user()",) if filed else ()
        )
        lives = 600.0 * (1 - 0.1 * (n * 7919 % 1000) / 1000)
        entry = Entry(
            key_of(n), f"user {n}", None, deadline=now + lives, deps=deps, vouched=int("12345"), size=40
        )
        l1.put(entry, now)
        if filed:
            l1.alias(entry, table, n)
    if hit:
        for entry in l1.entries.values():
            now += 0.00001
            entry.stamp = now
    return l1, table


CONTENDER = {contender.name: contender for contender in CONTENDERS}


def main() -> None:
    """In a process of its own: what the named contender takes an entry."""
    name, count = sys.argv[1], int(sys.argv[2])
    contender = CONTENDER[name](Place(maxsize=count + 1_000, ttl=3_600.0))
    try:
        print(json.dumps(asyncio.run(filled(contender, count))), flush=True)
    except Unable as why:
        raise SystemExit(str(why)) from None
    os._exit(0)  # not in a hurry to free all of it


if __name__ == "__main__":
    main()
