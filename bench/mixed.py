"""What do four processes get out of a cache under reads that follow Zipf and a few writes?

Workload: four processes, each one caller, for a fixed time; 10,000 products, read by a decorated function by
Zipf (s = 1.0), 99 times in 100, and written once: the number of the product in the "database" that all
processes see grows by one, then its tag is invalidated, or its key deleted where there are no tags. Each load
takes 1 ms in the database. Half of the time warms the tiers up and counts for stale reads only. The tier in
the process, where there is one, holds 2,000 products.

How to read it: loads are the work that is left for the database. The value is a version, so a read can be
held against the last write that was over when it began: a stale one returned an older version. Some of them
are within what a cache promises (tiercache: `max_staleness`, and nobody is told before the message comes);
`oldest` is how long ago the write was that the most stale read did not know of.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, replace
from statistics import median

from bench.contenders.facade import Contender, Unable
from bench.contenders.on_redis import AWAITED, BLOCKING, CLIENT_SIDE, CashewsClientSide, HandBatched
from bench.nodes import Failed, Here, Node, close, context
from bench.opened import answered, placed
from bench.results import Result, percentile
from bench.runs import Run
from bench.servers import described, newest
from bench.traces import zipf

PROCESSES = 4
PRODUCTS, TIER = 10_000, 2_000
WRITES = 0.01  # of all calls
LOAD = 0.001  # seconds


@dataclass(frozen=True)
class Share:
    """What one process did in one round."""

    reads: int
    loads: int
    stale: int
    oldest: float  # seconds
    latencies: list[float]  # seconds


def measure(run: Run) -> list[Result]:
    asked = [*BLOCKING, *AWAITED, *CLIENT_SIDE]
    kinds = [kind for kind in run.only(asked) if kind not in (HandBatched, CashewsClientSide)]
    unable = {kind.name: why for kind in asked if (why := run.absent.get(kind.name))}
    unable[CashewsClientSide.name] = "is never told of a write on redis-py 8: see `faults`"
    shares: dict[str, list[list[Share]]] = {}
    rounds, seconds = run.rounds(2, 1), 0.1 if run.tiny else 0.2 if run.quick else 1.1
    with newest(run) as url:
        for number in range(rounds):
            for kind in kinds:
                if kind.name not in unable:
                    run.step(f"{kind.name}, round {number + 1} of {rounds}")
                    try:
                        some = one_round(run, url, kind, seconds, number)
                    except (Unable, Failed) as error:
                        unable[kind.name] = str(error)
                    else:
                        shares.setdefault(kind.name, []).append(some)
        return [table(shares, unable, seconds, described(url))]


def one_round(run: Run, url: str, kind: type[Contender], seconds: float, number: int) -> list[Share]:
    """Four fresh processes, and nothing in Redis under their prefix."""
    server = context()
    truth = (
        server.Array("q", [1] * PRODUCTS),
        server.Array("q", [0] * PRODUCTS, lock=False),
        server.Array("d", [0.0] * PRODUCTS, lock=False),
    )
    place = placed(run, url, kind, maxsize=TIER)
    place = replace(place, prefix=f"{place.prefix}-{number}")
    nodes = [Node(server, kind, place, truth) for _ in range(PROCESSES)]
    try:
        for node in nodes:
            node.opened()
        at = time.monotonic() + (0.05 if run.quick else 0.2)
        tickets = [node.begin(work, at, seconds, run.seed + seat) for seat, node in enumerate(nodes)]
        return [node.result(ticket) for node, ticket in zip(nodes, tickets, strict=True)]
    finally:
        close(nodes)


def table(shares: dict[str, list[list[Share]]], unable: dict[str, str], seconds: float, where: str) -> Result:
    rows, samples = [], {}
    for name, rounds in shares.items():
        rates = [sum(one.reads for one in some) / seconds for some in rounds]
        reads = sum(one.reads for some in rounds for one in some)
        latencies = [taken * 1e3 for some in rounds for one in some for taken in one.latencies]
        stale = sum(one.stale for some in rounds for one in some)
        rows.append(
            (
                name,
                round(median(rates)),
                round(1000 * sum(one.loads for some in rounds for one in some) / reads, 1),
                percentile(latencies, 99),
                stale,
                f"{max(one.oldest for some in rounds for one in some) * 1e3:.1f}",
            )
        )
        samples[name] = rates
    columns = ("", "reads a second", "loads in 1,000", "p99, ms", "stale reads", "oldest, ms")
    title = f"four processes, Zipf, 1 % writes, {seconds:g} s a round"
    return Result(title, columns, rows, f"On {where}.", unit="", samples=samples, unable=unable, log=True)


async def work(here: Here, at: float, seconds: float, seed: int) -> Share:
    """One caller for twice so many seconds, of which the first half warms up and does not count."""
    versions, done, over_at = here.truth  # in the database; whose invalidation is over, and since when
    loads = stale = 0
    loads_before: int | None = None
    oldest, latencies = 0.0, []

    def product(number: int) -> int:
        nonlocal loads
        loads += 1
        version = int(versions[number])
        time.sleep(LOAD)
        return version

    async def product_later(number: int) -> int:
        nonlocal loads
        loads += 1
        version = int(versions[number])
        await asyncio.sleep(LOAD)
        return version

    product_later.__name__ = "product"
    function = product_later if here.contender.is_async else product
    read = here.contender.wrap(function, tags=["product:{number}"])
    numbers = itertools.cycle(zipf(PRODUCTS, 1.0, 20_000, seed))
    choice = random.Random(seed)
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    while (begun := time.monotonic()) < at + 2 * seconds:
        number = next(numbers)
        if loads_before is None and begun > at + seconds:
            loads_before, latencies = loads, []
        if choice.random() < WRITES:
            await write(here, number)
            continue
        newest_over, since = done[number], over_at[number]
        version = await answered(read(number))
        latencies.append(time.monotonic() - begun)
        if version < newest_over:
            stale += 1
            oldest = max(oldest, begun - since)
    return Share(len(latencies), loads - (loads_before or 0), stale, oldest, latencies)


async def write(here: Here, number: int) -> None:
    versions, done, over_at = here.truth
    with versions.get_lock():
        versions[number] += 1
        version = versions[number]
    name = f"product:{number}"
    try:
        await answered(here.contender.drop_tag(name))
    except Unable:
        await answered(here.contender.drop(name))
    with versions.get_lock():
        if done[number] < version:
            over_at[number] = time.monotonic()
            done[number] = version
