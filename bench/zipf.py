"""A part of `hit`: skewed reads through a tier that is smaller than what is asked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from statistics import median

from bench.contenders import IN_MEMORY_ASYNC, IN_MEMORY_SYNC
from bench.contenders.facade import Contender, Place
from bench.contenders.hand_written import BareLruLater
from bench.contenders.lru_cache import LruCache
from bench.results import Result, against
from bench.runs import Run
from bench.timing import Times, Wrapped, loop_of, without_gc
from bench.traces import zipf

KEYS, HELD = 10_000, 1_000
ROUNDS = 9


def measured(classes: tuple[type[Contender], ...]) -> tuple[type[Contender], ...]:
    return tuple(contender for contender in classes if contender.is_bounded)


def traces(run: Run, rounds: int) -> list[list[int]]:
    """One to warm up, and one a round, the same for every contender."""
    calls = run.calls(2_500 if run.quick else 20_000, tiny=20)
    whole = zipf(KEYS, 1.0, (rounds + 1) * calls, run.seed)
    return [whole[start : start + calls] for start in range(0, len(whole), calls)]


class Loads:
    """A loader that takes no time, and how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def now(self, key: int) -> str:
        self.count += 1
        return f"value {key}"

    async def later(self, key: int) -> str:
        self.count += 1
        return f"value {key}"


def blocking(run: Run) -> Result:
    loads, loop = Loads(), loop_of("f(key)", is_async=False)

    def load(key: int) -> str:
        return loads.now(key)

    wrapped = Wrapped(run, measured(IN_MEMORY_SYNC), Place(maxsize=HELD, prefix=run.prefix))
    asyncio.run(wrapped.open(load))
    warm, *rest = traces(run, run.rounds(ROUNDS))
    times: Times = {name: [] for name in wrapped.functions}
    misses: Times = {name: [] for name in wrapped.functions}
    for function in wrapped.functions.values():
        loop(function, warm)
    for order, trace in zip(run.turns(times, len(rest), "Zipf, def,"), rest, strict=True):
        for name in order:
            loads.count = 0
            with without_gc():
                times[name].append(loop(wrapped.functions[name], trace) / len(trace))
            misses[name].append(loads.count / len(trace))
    asyncio.run(wrapped.close())
    return table("def", times, misses, unbounded(wrapped, IN_MEMORY_SYNC), LruCache.name)


async def awaiting(run: Run) -> Result:
    loads, loop = Loads(), loop_of("f(key)", is_async=True)

    async def load(key: int) -> str:
        return await loads.later(key)

    classes = (BareLruLater, *measured(IN_MEMORY_ASYNC))
    wrapped = Wrapped(run, classes, Place(maxsize=HELD, prefix=run.prefix))
    await wrapped.open(load)
    warm, *rest = traces(run, run.rounds(ROUNDS))
    times: Times = {name: [] for name in wrapped.functions}
    misses: Times = {name: [] for name in wrapped.functions}
    for function in wrapped.functions.values():
        await loop(function, warm)
    for order, trace in zip(run.turns(times, len(rest), "Zipf, async def,"), rest, strict=True):
        for name in order:
            loads.count = 0
            with without_gc():
                times[name].append(await loop(wrapped.functions[name], trace) / len(trace))
            misses[name].append(loads.count / len(trace))
    await wrapped.close()
    return table("async def", times, misses, unbounded(wrapped, IN_MEMORY_ASYNC), BareLruLater.name)


def unbounded(wrapped: Wrapped, classes: tuple[type[Contender], ...]) -> dict[str, str]:
    return wrapped.unable | {
        contender.name: "its memory has no bound" for contender in classes if not contender.is_bounded
    }


def table(world: str, times: Times, misses: Times, unable: dict[str, str], base: str) -> Result:
    result = against(
        f"Zipf, {world}: {KEYS:,} keys through {HELD:,} entries",
        times,
        calls=1,
        unit="ns",
        base=base,
        unable=unable,
        log=True,
        reading=(
            "Hits, misses and evictions together, with a loader that takes no time. A real one is paid once "
            "a miss, so the hit ratio weighs more than the time. tiercache is on memory alone here."
        ),
    )
    ratios = {name: f"{100 * (1 - median(some)):.1f} %" for name, some in misses.items()}
    return replace(
        result,
        columns=(*result.columns, "hit ratio"),
        rows=[(*row, ratios[str(row[0])]) for row in result.rows],
    )
