"""What is the longest that any operation on 100,000 entries in memory takes?

Workload: an L1 of 100,000 entries that all carry one tag, each one of its own, and each hundred another.
Every call of an operation is timed, and the longest counts; those that sweep what an invalidation has left
to later operations are calls of it, too.

How to read it: time of the processor, with the garbage collector off: what a busy machine or a collection
adds is not the operation's. Growing is what a plain dict does as well: it moves all that it has into a
larger table; the first line is such a dict alone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from math import inf
from statistics import median
from typing import Any

from bench.results import Result
from bench.runs import Run
from tiercache._core.coherence import Coherence
from tiercache._core.commands import Recorded, Synced
from tiercache._core.l1 import L1, Entry
from tiercache._core.records import Hint

ENTRIES = 100_000
Calls = Iterator[Callable[[], object]]


def measure(run: Run) -> list[Result]:
    count = run.calls(10_000 if run.quick else ENTRIES, tiny=1_000)
    samples: dict[str, list[float]] = {}
    for _ in range(run.rounds(3, quick=1)):
        for name, act in STALLS.items():
            run.step(f"stalls: {name}")
            samples.setdefault(name, []).append(longest(act(count)) * 1e3)
    rows = [(name, min(some), median(some), max(some)) for name, some in samples.items()]
    result = Result(
        f"The longest operation on {count:,} entries",
        ("", "least, ms", "median, ms", "most, ms"),
        rows,
        "The longest call of a round, over the rounds. Below 5 ms is asked for.",
        unit="ms",
        samples=samples,
    )
    return [result]


def longest(calls: Iterable[Callable[[], object]]) -> float:
    """Seconds of the processor that the longest of *calls* took; what comes between them is not in it."""
    gc.collect()
    gc.disable()
    try:
        most = 0.0
        for call in calls:
            begun = time.thread_time()
            call()
            most = max(most, time.thread_time() - begun)
        return most
    finally:
        gc.enable()


def entry_of(n: int, *more: str) -> Entry:
    deps = ("t:users", f"t:user:{n}", *more)
    return Entry(f"shop.users.get_user:{n}", f"user {n}", None, deadline=inf, deps=deps, vouched=1, size=40)


def core_of(count: int, per_tag: int = 100, room: int | None = None) -> Coherence:
    core = Coherence(L1(count, room), max_staleness=inf, node="bench", trust_tenure=True)
    core.prove(core.stand(0.0), Synced(7, 1, 0, 0, True, 1, None), 0.0)
    for n in range(count):
        core.insert(entry_of(n, f"t:hundred:{n // per_tag}"), core.stand(1.0), float(n))
    return core


def puts(core: Coherence, first: int, last: int, table: dict[Any, Entry] | None = None) -> Calls:
    for n in range(first, last):
        entry = entry_of(n)
        yield lambda: core.insert(entry, core.stand(1.0), float(n))  # noqa: B023  # called before the next
        if table is not None:
            yield lambda: core.l1.alias(entry, table, n)  # noqa: B023


def growing(count: int) -> Calls:
    return puts(core_of(0), 0, count)


def filing(count: int) -> Calls:
    core, table = core_of(0), dict[Any, Entry]()
    for n in range(count):
        entry = entry_of(n)
        core.insert(entry, core.stand(1.0), float(n))
        yield lambda: core.l1.alias(entry, table, n)  # noqa: B023


def plain_dict(count: int) -> Calls:
    kept: dict[str, str] = {}
    for n in range(2 * count):
        key = f"shop.users.get_user:{n}"
        if n >= count:
            del kept[f"shop.users.get_user:{n - count}"]
        yield lambda: kept.setdefault(key, "")  # noqa: B023


def evicting(count: int) -> Calls:
    return puts(core_of(count), count, 2 * count)


def evicting_after_hits(count: int) -> Calls:
    core = core_of(count)
    for entry in reversed(list(core.l1.entries.values())):
        entry.stamp = 1e6 - entry.stamp
    return puts(core, count, count + count // 5)


def shrinking(count: int) -> Calls:
    core = core_of(count, room=500 * count)
    for n in range(100):
        entry = Entry(f"large:{n}", "", None, deadline=inf, vouched=1, size=200 * count)
        yield lambda: core.insert(entry, core.stand(1.0), 1e6)  # noqa: B023


def unbinding(count: int) -> Calls:
    core, table = core_of(count), dict[Any, Entry]()
    for n, entry in enumerate(core.l1.entries.values()):
        core.l1.alias(entry, table, n)
    yield table.clear


def after(act: Callable[[Coherence, int], object]) -> Callable[[int], Calls]:
    def calls(count: int) -> Calls:
        core = core_of(count)
        yield lambda: act(core, count)
        while core.l1.condemned:
            yield lambda: core.serve("shop.users.get_user:0")

    return calls


def one_record_each(core: Coherence, count: int) -> None:
    records = tuple((f"t:hundred:{n}", 2) for n in range(min(1_000, count // 100)))
    core.prove(core.stand(1.0), Synced(7, 9, 0, 0, True, 1, records), 1.0)


STALLS: dict[str, Callable[[int], Calls]] = {
    "a plain dict, for comparison: put, then put one and delete one": plain_dict,
    "put, growing": growing,
    "file under arguments, growing": filing,
    "put, evicting": evicting,
    "put, evicting, all were hit": evicting_after_hits,
    "put of what takes the room of thousands (maxbytes)": shrinking,
    "clear": after(lambda core, count: core.l1.clear()),
    "disown the epoch": after(lambda core, count: core.disown()),
    "hint of a tag that all carry": after(lambda core, count: core.hear(Hint(7, 2, ("t:users",)))),
    "own invalidation of it": after(lambda core, count: core.own_record(Recorded(7, 2), ("t:users",), 1.0)),
    "sync after a flush": after(
        lambda core, count: core.prove(core.stand(1.0), Synced(8, 9, 0, 0, True, 1, None), 1.0)
    ),
    "sync of 1,000 records of 100 entries each": after(one_record_each),
    "unbind a function": unbinding,
}
