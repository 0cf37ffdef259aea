"""What does a fence cost a write, against an invalidation after it and against nothing?

Workload: a "write" that takes no time, one tag, one caller, on loopback; blocking and awaited.

How to read it: an invalidation is one round trip, a fenced write two, one before the commit and one
after it. `x` is the multiple of the first line, as a median over the rounds; what a real commit takes
comes on top of each line. `discard()` is a write that was rolled back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.results import Result, against
from bench.runs import Run
from tiercache import TierCache

CALLS = 100  # a candidate and a round


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(40, 5)
    with run.server() as url:
        cache = TierCache(url, namespace=run.prefix)
        with cache.sync:
            cache.sync.get("warm")
            return [blocking(cache, run, rounds), asyncio.run(awaiting(cache, run, rounds))]


def write() -> None:
    """The commit, which takes no time here."""


def blocking(cache: TierCache, run: Run, rounds: int) -> Result:
    def invalidated() -> None:
        write()
        cache.sync.invalidate_tags("t")

    def fenced() -> None:
        with cache.sync.invalidating(tags=["t"]):
            write()

    def rolled_back() -> None:
        with cache.sync.invalidating(tags=["t"]) as block:
            block.discard()

    candidates: dict[str, Callable[[], None]] = {
        "invalidate_tags after it": invalidated,
        "inside invalidating": fenced,
        "inside invalidating, discarded": rolled_back,
        "nothing": write,
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    calls = run.calls(CALLS)
    for order in run.turns(candidates, rounds):
        for name in order:
            act = candidates[name]
            begun = time.perf_counter()
            for _ in range(calls):
                act()
            times[name].append(time.perf_counter() - begun)
    return against(f"a write, def, {rounds} rounds of {CALLS}", times, calls=calls, unit="us")


async def awaiting(cache: TierCache, run: Run, rounds: int) -> Result:
    async def invalidated() -> None:
        write()
        await cache.invalidate_tags("t")

    async def fenced() -> None:
        async with cache.invalidating(tags=["t"]):
            write()

    async def rolled_back() -> None:
        async with cache.invalidating(tags=["t"]) as block:
            block.discard()

    async def nothing() -> None:
        write()

    candidates: dict[str, Callable[[], Awaitable[None]]] = {
        "invalidate_tags after it": invalidated,
        "inside invalidating": fenced,
        "inside invalidating, discarded": rolled_back,
        "nothing": nothing,
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    calls = run.calls(CALLS)
    for order in run.turns(candidates, rounds):
        for name in order:
            act = candidates[name]
            begun = time.perf_counter()
            for _ in range(calls):
                await act()
            times[name].append(time.perf_counter() - begun)
    return against(f"a write, async def, {rounds} rounds of {CALLS}", times, calls=calls, unit="us")
