"""What does it cost to invalidate one tag, by the number of keys that carry it?

Workload: so many keys in Redis, each a small value under one tag that all of them have, written by the
contender's own verbs. One call invalidates the tag. Meanwhile another process, a plain redis-py client, reads
a key of its own over and over and notes how long each read took. A contender gets as many keys as it can
write within a time limit; for more the table says so.

How to read it: tiercache notes one number for the tag, whatever carries it, so its time should not grow
(asked: at most 1.5 x from 1,000 to 1,000,000), and nobody else should wait for it (asked: at most 1 ms more
than at rest). The others find the keys and delete them: their time grows with the number, and who else asks
the server waits for each step of it. The longest command is what the server says of itself (its slow log):
for so long it answers nobody. A client's longest wait has the machine's own hiccups in it, which are those
of the line "at rest".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import redis

from bench.contenders.facade import Contender, Unable
from bench.contenders.hand_redis import HandRedis
from bench.contenders.on_redis import AWAITED, Cashews, TiercacheAsync, Yokedcache
from bench.nodes import Here, Node, context
from bench.opened import opened, placed
from bench.results import Result
from bench.runs import Run

TAG = "everyone"
AT_ONCE = 1_000  # keys in one call, or calls at once
TAGGED = (TiercacheAsync, Cashews, Yokedcache)
SLOW = 50  # microseconds from which on the server notes a command
REST = 0.3  # seconds in which the other client is alone with the server
REPEATS = {1_000: 10, 10_000: 2, 100_000: 10, 1_000_000: 10}


@dataclass(frozen=True)
class Taken:
    """Of one contender and number of keys, in milliseconds."""

    times: list[float]
    waited: float  # longest wait of another client during the invalidations
    rest: float  # and while there were none
    command: float  # the server's longest command; 0 if none was worth a note


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
    repeats = run.rounds(REPEATS.get(keys, 1), min(2, REPEATS.get(keys, 1)))
    limit = 4.0 if run.quick else 120.0 if isinstance(contender, TiercacheAsync) else 15.0
    times: list[float] = []
    waited: list[float] = []
    rest: list[float] = []
    command = 0.0
    with redis.Redis.from_url(url) as client:
        client.config_set("slowlog-log-slower-than", SLOW)
        for repeat in range(repeats):
            # What the others invalidate is gone; ours is there, and invalid.
            if repeat == 0 or not isinstance(contender, TiercacheAsync):
                await fill(contender, keys, limit)
            ticket = other.begin(note_waits)
            other.heard()
            await asyncio.sleep(REST)
            client.slowlog_reset()
            begun = time.monotonic()
            await contender.drop_tag(TAG)
            ended = time.monotonic()
            times.append((ended - begun) * 1000)
            command = max([command, *(entry["duration"] / 1000 for entry in client.slowlog_get(128))])
            other.open_gate()
            for start, end in other.result(ticket):
                (waited if end >= begun and start <= ended else rest).append((end - start) * 1000)
    return Taken(times, max(waited), max(rest), command)


async def fill(contender: Contender, keys: int, limit: float) -> None:
    """Write the keys; Unable if that takes more than so many seconds."""
    deadline = time.monotonic() + limit
    for first in range(0, keys, AT_ONCE):
        if time.monotonic() > deadline:
            raise Unable(f"could not write them within {limit:g} s")
        await fill_some(contender, range(first, min(first + AT_ONCE, keys)))


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
    rows = [
        (f"{name}, {keys:,} keys", one.waited, one.rest, one.command or f"below {SLOW / 1000}")
        for name, some in taken.items()
        for keys, one in some.items()
    ]
    columns = ("", "another client's longest wait, ms", "at rest, ms", "the server's longest command, ms")
    title = "who waits while a tag is invalidated"
    return Result(title, columns, rows, unit="ms", unable=unable, chart="none")


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
