"""What does a hit in the shared tier cost: one caller, 200 tasks, 8 threads, large values?

Workload: a decorated function whose value is in Redis and in no process: every call asks Redis again, on
loopback. It returns a dict of some 200 bytes, and for the sizes one with a text in it that does not repeat
itself. A contender whose function runs again after the first call is named, not measured: it did not cache.
Then the same dict read by key, stored under a tag that its reader does not name. When tiercache first meets
such a key its plain commands ask for no version of that tag, and its script has to say whether the entry is
still good; it knows the tag from then on. So once a key that is read over and over, and once a new one at
each call.

How to read it: the first line is the least that one can do by hand, redis-py's GET and orjson, which knows
no tags and no invalidation; tiercache holds each entry against the last invalidation of its tags (here one
and the function's own). `x` is the multiple of the first line, as a median over the rounds. With 200 tasks
the time is the share of one read in that of all, so that its inverse is the throughput; how long a single
read among them takes is in a table of its own. Each task and each thread has a key of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from bench.contenders.facade import Contender, Unable
from bench.contenders.on_redis import AWAITED, BLOCKING
from bench.opened import answered, opened
from bench.results import Result, against, percentile
from bench.runs import Run

CALLS = 200  # of one caller, a contender and a round
TASKS, READS = 200, 5  # at once, and what each reads
THREADS, THREAD_READS = 8, 25
SIZES = {"10 KB": (10_000, 60), "100 KB": (100_000, 20), "1 MB": (1_000_000, 4)}  # bytes, calls in a round
PROFILE = {
    "id": 7,
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "roles": ["admin", "editor", "reader"],
    "active": True,
    "balance": 1234.5,
    "address": {"street": "12 St James's Square", "city": "London", "country": "GB"},
}
USERS = itertools.count()  # each comparison has keys of its own
Read = Callable[..., Any]
Ready = Callable[[Contender, int, int], Coroutine[Any, Any, Read]]  # by a size and a number of keys
Timed = Callable[[str, Read], Coroutine[Any, Any, float]]  # of a contender and its function: seconds


def measure(run: Run) -> list[Result]:
    with run.server() as url:
        return asyncio.run(everything(run, url))


async def everything(run: Run, url: str) -> list[Result]:
    crowd = Crowd(run.calls(TASKS, 10))
    each = run.calls(THREAD_READS)
    new = rounds_of(run) * run.calls(CALLS) + 1
    results = [
        await one_caller(run, url, BLOCKING, "L2 hit, def, one caller", by_call),
        await one_caller(run, url, AWAITED, "L2 hit, async def, one caller", by_call),
        await one_caller(run, url, BLOCKING, "L2 hit by key, def, one caller", by_key),
        await one_caller(run, url, AWAITED, "L2 hit by key, async def, one caller", by_key),
        await one_caller(run, url, BLOCKING, "L2 hit by a new key, def, one caller", by_new_key, keys=new),
        await one_caller(
            run, url, AWAITED, "L2 hit by a new key, async def, one caller", by_new_key, keys=new
        ),
        await compare(run, url, AWAITED, f"L2 hits, {TASKS} tasks", crowd, crowd.reads, by_call, keys=TASKS),
        crowd.of_single_reads(),
        await compare(
            run,
            url,
            BLOCKING,
            f"L2 hits, {THREADS} threads",
            Threads(each),
            THREADS * each,
            by_call,
            keys=THREADS,
        ),
    ]
    for name, (size, calls) in SIZES.items():
        for world, group in (("def", BLOCKING), ("async def", AWAITED)):
            title = f"L2 hit of {name}, {world}"
            results.append(await one_caller(run, url, group, title, by_call, size=size, calls=calls))
    return results


async def one_caller(
    run: Run,
    url: str,
    contenders: Iterable[type[Contender]],
    title: str,
    ready: Ready,
    *,
    size: int = 0,
    calls: int = CALLS,
    keys: int = 1,
) -> Result:
    times = run.calls(calls)

    async def timed(name: str, read: Read) -> float:
        begun = time.perf_counter()
        if inspect.iscoroutinefunction(read):
            for _ in range(times):
                await read(0)
        else:
            for _ in range(times):
                read(0)
        return time.perf_counter() - begun

    return await compare(run, url, contenders, title, timed, times, ready, size=size, keys=keys)


async def compare(
    run: Run,
    url: str,
    contenders: Iterable[type[Contender]],
    title: str,
    timed: Timed,
    calls: int,
    ready: Ready,
    *,
    size: int = 0,
    keys: int = 1,
) -> Result:
    """The contenders in turn, against the first; a round of one makes so many *calls* on so many *keys*."""
    reads: dict[str, Read] = {}
    rounds = run.rounds(10, 1) if size else rounds_of(run)
    async with opened(run, url, contenders, maxsize=0) as (able, unable):
        for contender in able:
            try:
                reads[contender.name] = await ready(contender, size, keys)
            except Unable as error:
                unable[contender.name] = str(error)
        times: dict[str, list[float]] = {name: [] for name in reads}
        for order in run.turns(reads, rounds, title):
            for name in order:
                times[name].append(await timed(name, reads[name]))
    return against(title, times, calls=calls, unit="us", unable=unable, log=True)


def rounds_of(run: Run) -> int:
    return run.rounds(20, 2)


class Crowd:
    """So many tasks at once; keeps how long each single read took."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.reads = tasks * READS
        self.latencies: dict[str, list[float]] = {}  # milliseconds

    async def __call__(self, name: str, read: Read) -> float:
        latencies = self.latencies.setdefault(name, [])

        async def work(number: int) -> None:
            for _ in range(READS):
                begun = time.perf_counter()
                await read(number)
                latencies.append((time.perf_counter() - begun) * 1000)

        begun = time.perf_counter()
        await asyncio.gather(*(work(number) for number in range(self.tasks)))
        return time.perf_counter() - begun

    def of_single_reads(self) -> Result:
        rows = [
            (name, percentile(some, 50), percentile(some, 99), max(some))
            for name, some in self.latencies.items()
        ]
        return Result(
            f"one read among {self.tasks} tasks",
            ("", "p50, ms", "p99, ms", "longest, ms"),
            rows,
            reading="How fair it is: a p99 far above the p50 means that some tasks wait for the others.",
            unit="ms",
            samples=self.latencies,
            log=True,
        )


class Threads:
    """So many reads in each of the threads, which begin together."""

    def __init__(self, reads: int) -> None:
        self.reads = reads

    async def __call__(self, name: str, read: Read) -> float:
        def work(number: int) -> None:
            ready.wait()
            for _ in range(self.reads):
                read(number)

        ready = threading.Barrier(THREADS + 1)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        ready.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begun


async def by_key(contender: Contender, size: int, keys: int) -> Read:
    """Its `read`, by the number of a key; Unable where it has none, or none that finds what was written."""
    names = [f"profile:{next(USERS)}" for _ in range(keys)]
    for name in names:
        await answered(contender.write(name, PROFILE, tags=["profiles"]))
    if await answered(contender.read(names[0])) != PROFILE:
        raise Unable("gives another value than was written")
    return numbered(contender, contender.read, names)


async def by_new_key(contender: Contender, size: int, keys: int) -> Read:
    """Likewise, by a key that was never read before, whatever its number."""
    read, new = await by_key(contender, size, keys), itertools.count(1)
    return numbered(contender, lambda _: read(next(new)), (None,))


async def by_call(contender: Contender, size: int, keys: int) -> Read:
    """The decorated function by the number of a key, all in Redis; Unable where they do not stay there."""
    runs, users = 0, [next(USERS) for _ in range(keys)]
    text = random.Random(1).randbytes(size // 2).hex()
    value = {**PROFILE, "text": text} if size else PROFILE

    def now(user_id: int) -> dict[str, Any]:
        nonlocal runs
        runs += 1
        return value

    async def later(user_id: int) -> dict[str, Any]:
        return now(user_id)

    function = contender.wrap(later if contender.is_async else now, tags=["user:{user_id}"])
    for user in (*users, *users):
        if await answered(function(user)) != value:
            raise Unable("gives another value than the function did")
    if runs != keys:
        raise Unable(f"its function ran {runs} times for {keys} keys: they did not stay in Redis")
    return numbered(contender, function, users)


def numbered(contender: Contender, ask: Read, named: Sequence[Any]) -> Read:
    """*ask*, by the number of what it is asked for."""
    if contender.is_async:

        async def read(number: int) -> Any:
            return await ask(named[number])

        return read
    return lambda number: ask(named[number])
