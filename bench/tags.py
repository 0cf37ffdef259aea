"""What does it cost to invalidate one tag, by the number of keys that carry it?

Workload: so many keys in Redis, each a small value under one tag that all of them have, written by the
contender's own verbs. One call invalidates the tag. Meanwhile another process, a plain redis-py client, reads
a key of its own over and over and notes how long each read took. A contender gets as many keys as it can
write within a time limit; for more the table says so.

How to read it: tiercache notes one number for the tag, whatever carries it, so its time should not grow
(asked: at most 1.5 x from 1,000 to 1,000,000), and nobody else should wait for it (asked: at most 1 ms more
than at rest). The others find the keys and delete them: their time grows with the number, and who else asks
the server waits for each step of it. What the other client waited stands beside what it waits in windows of
equal length, in turn with those, in which the contender reads one key instead: only the difference is the
invalidation's. Longest waits of single reads are mostly the machine's; the longest of a window, as a median
over the windows, is not. The longest command is what the server says of itself (its slow log): for so long
it answers nobody. So does its latency monitor, whatever the cause: a command, a fork, expiry, eviction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import redis

from bench.contenders.facade import Contender, Unable
from bench.contenders.hand_redis import HandRedis
from bench.contenders.on_redis import AWAITED, Cashews, TiercacheAsync, Yokedcache
from bench.nodes import Here, Node, context
from bench.opened import opened, placed
from bench.results import Result, percentile, significant
from bench.runs import Run

TAG = "everyone"
AT_ONCE = 1_000  # keys in one call, or calls at once
WRITERS = 3
TAGGED = (TiercacheAsync, Cashews, Yokedcache)
SLOW = 50  # microseconds from which on the server notes a command
WINDOW = 0.05  # seconds of one at least; one with an invalidation lasts as long as that
PAIRS, QUICK_PAIRS = 40, 10  # of windows, with and without, on keys that stay there
REFILLS = {1_000: 10, 10_000: 2}  # of what is gone with the invalidation


@dataclass
class Windows:
    """Of one kind, in milliseconds."""

    reads: list[float] = field(default_factory=list)  # of the other client
    longest: list[float] = field(default_factory=list)  # in each window
    command: float = 0.0  # the server's longest; 0 if none was worth a note

    def add(self, reads: Sequence[float], command: float) -> None:
        self.reads += reads
        self.longest.append(max(reads, default=0.0))
        self.command = max(self.command, command)


@dataclass
class Taken:
    """Of one contender and number of keys."""

    times: list[float] = field(default_factory=list)  # of the invalidations, in milliseconds
    during: Windows = field(default_factory=Windows)
    without: Windows = field(default_factory=Windows)
    noted: dict[str, int] = field(default_factory=dict)  # the server's latency events, in milliseconds


class Window(NamedTuple):
    begun: float
    ended: float
    took: float  # seconds, of what was done at its beginning
    command: float


def measure(run: Run) -> list[Result]:
    # maxmemory as it is by default, none: a server of its own, since the slow log is configured.
    with run.server(maxmemory="0") as url:
        return asyncio.run(everything(run, url))


async def everything(run: Run, url: str) -> list[Result]:
    taken: dict[str, dict[int, Taken]] = {}
    async with opened(run, url, TAGGED, maxsize=1000) as (able, unable):
        other = Node(context(), HandRedis, placed(run, url, HandRedis))
        try:
            other.opened()
            for contender in able:
                taken[contender.name] = {}
                for keys in sizes(run, contender):
                    run.step(f"{contender.name}: {keys:,} keys")
                    try:
                        taken[contender.name][keys] = await invalidated(run, url, contender, other, keys)
                    except Unable as error:
                        unable[f"{contender.name}, {keys:,} keys"] = str(error)
                        break
        finally:
            other.close()
    unable |= {kind.name: "no tags" for kind in AWAITED if kind not in TAGGED}
    return [growth(taken), waits(taken, unable)]


def sizes(run: Run, contender: Contender) -> tuple[int, ...]:
    if run.tiny:
        return (10, 20)
    if run.quick:
        return (1_000, 10_000) if isinstance(contender, TiercacheAsync) else (1_000,)
    return (1_000, 100_000, 1_000_000) if isinstance(contender, TiercacheAsync) else (1_000, 10_000)


async def invalidated(run: Run, url: str, contender: Contender, other: Node, keys: int) -> Taken:
    """Windows in pairs: in one the tag is invalidated, in the other a key is read that nobody has."""
    ours = isinstance(contender, TiercacheAsync)  # its keys stay there, and are invalid
    limit = 4.0 if run.quick else 120.0 if ours else 15.0
    pairs = run.rounds(PAIRS, QUICK_PAIRS) if ours else run.rounds(REFILLS.get(keys, 1), 2)
    taken, length = Taken(), WINDOW
    with redis.Redis.from_url(url) as client:
        client.config_set("slowlog-log-slower-than", SLOW)
        for number in range(pairs):
            if number == 0 or not ours:
                await fill(contender, keys, limit)
                await contender.drop_tag("nobody's")  # so that its script is loaded
            client.execute_command("LATENCY", "RESET")
            client.config_set("latency-monitor-threshold", 1)
            ticket = other.begin(note_waits)
            other.heard()
            windows = {}
            for during in (True, False) if number % 2 else (False, True):
                act = contender.drop_tag(TAG) if during else contender.read("nobody")
                windows[during] = await window(client, act, length)
                length = max(WINDOW, windows[during].took) if during else length
            other.open_gate()
            reads = other.result(ticket)
            client.config_set("latency-monitor-threshold", 0)
            for event, _, _, longest in client.execute_command("LATENCY", "LATEST"):
                taken.noted[event.decode()] = max(taken.noted.get(event.decode(), 0), longest)
            taken.times.append(windows[True].took * 1000)
            taken.during.add(within(reads, windows[True]), windows[True].command)
            taken.without.add(within(reads, windows[False]), windows[False].command)
    return taken


async def window(client: Any, act: Awaitable[Any], length: float) -> Window:
    """So many seconds, or as long as the *act* at its beginning takes, and what the server ran in it."""
    client.slowlog_reset()
    begun = time.monotonic()
    await act
    took = time.monotonic() - begun
    await asyncio.sleep(max(0.0, length - took))
    ended = time.monotonic()
    command = max((entry["duration"] / 1000 for entry in client.slowlog_get(128)), default=0.0)
    return Window(begun, ended, took, command)


def within(reads: Iterable[tuple[float, float]], window: Window) -> list[float]:
    """Of the *reads* that were under way in it, how long each took, in milliseconds."""
    return [(end - start) * 1000 for start, end in reads if end >= window.begun and start <= window.ended]


async def fill(contender: Contender, keys: int, limit: float) -> None:
    """Write the keys; Unable if that takes more than so many seconds."""
    deadline = time.monotonic() + limit
    numbers = iter(range(0, keys, AT_ONCE))

    async def writer() -> None:
        while time.monotonic() < deadline and (first := next(numbers, None)) is not None:
            await fill_some(contender, range(first, min(first + AT_ONCE, keys)))

    # While the server stores what one has sent, another makes up more.
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    if next(numbers, None) is not None:
        raise Unable(f"could not write them within {limit:g} s")


async def fill_some(contender: Contender, numbers: Iterable[int]) -> None:
    values = {f"user:{number}": {"id": number} for number in numbers}
    try:
        await contender.write_many(values, [TAG])
    except Unable:
        await asyncio.gather(*(contender.write(key, value, [TAG]) for key, value in values.items()))


def growth(taken: dict[str, dict[int, Taken]]) -> Result:
    rows: list[tuple[Any, ...]] = []
    samples = {}
    for name, some in taken.items():
        least = min(some, default=0)
        for keys, one in some.items():
            ratio = median(one.times) / median(some[least].times)
            times = f"{min(one.times):.2f} to {max(one.times):.2f}"
            rows.append((f"{name}, {keys:,} keys", median(one.times), times, f"{ratio:.2f} x"))
            samples[f"{name} / {keys:,} keys"] = one.times
    columns = ("", "median, ms", "range, ms", "of its fewest")
    return Result("one tag invalidated", columns, rows, unit="ms", samples=samples, log=True)


def waits(taken: dict[str, dict[int, Taken]], unable: dict[str, str]) -> Result:
    rows = []
    samples = {}
    for name, some in taken.items():
        for keys, one in some.items():
            both = (one.during, one.without)
            events = ", ".join(f"{event} {longest} ms" for event, longest in sorted(one.noted.items()))
            rows.append(
                (
                    f"{name}, {keys:,} keys",
                    beside(median(windows.longest) for windows in both),
                    *(beside(percentile(windows.reads, part) for windows in both) for part in (99, 99.9)),
                    beside(max(windows.longest) for windows in both),
                    beside(windows.command for windows in both),
                    events or "nothing",
                )
            )
            samples[f"{name}, {keys:,} keys / during"] = one.during.longest
            samples[f"{name}, {keys:,} keys / without"] = one.without.longest
    columns = (
        *("", "a window's longest, ms", "p99, ms", "p99.9, ms", "longest, ms"),
        *("the server's longest command, ms", "the server noted beyond 1 ms"),
    )
    return Result(
        "who waits while a tag is invalidated",
        columns,
        rows,
        reading=(
            "Of another client's reads, in windows with the invalidation / without one, of equal length and "
            f"in turn; the first is the median over the windows. 0 is a command below {SLOW / 1000} ms."
        ),
        unit="ms",
        samples=samples,
        unable=unable,
        chart="none",
    )


def beside(two: Iterable[float]) -> str:
    return " / ".join(map(significant, two))


def note_waits(here: Here) -> list[tuple[float, float]]:
    """Read until the gate opens; the instants of every read, in the other process."""
    client: Any = here.contender
    reads = []
    client.write("own", 1)
    here.tell("ready")
    while not here.gate_is_open():
        begun = time.monotonic()
        client.read("own")
        reads.append((begun, time.monotonic()))
    return reads
