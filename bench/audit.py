"""What does the auditor cost a hit in L1?

Workload: that of `hit.py`, on caches that differ in `audit` alone. `off` runs the very same code as a cache
without the setting. `not drawn` is nearly every hit of a cache with audit=1e-9: its clock is a Python
function that draws a number. `drawn` is every hit of one with audit=1: the caller's part of it, the long way
through the read and the look at what it was handed; most audits are dropped then, as one key is audited once
at a time. `during an audit's load` is a hit that is not drawn while a load of an audit runs beside it.

How to read it: `x` is the multiple of the first line, as a median over the rounds. The cost of an audit
itself, a load or four of them, is your loader's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from bench.hit import name_later, name_of
from bench.results import Result, against
from bench.runs import Run
from bench.timing import loop_of, without_gc
from tiercache import TierCache
from tiercache._core.sources import ANY_EPOCH

CALLS = 100_000  # a candidate and a round
AUDITS = {"off": None, "not drawn": 1e-9, "drawn": 1.0, "during an audit's load": None}


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(15, 3)
    with run.server() as url:
        caches = {
            name: TierCache(url, namespace=f"{run.prefix}{i}", audit=audit)
            for i, (name, audit) in enumerate(AUDITS.items())
        }
        core = caches["during an audit's load"]._node.tiers.core
        try:
            turns = list(run.turns(caches, rounds))
            tables = [blocking(caches, turns, run), asyncio.run(awaiting(caches, turns, run))]
            assert core.open_until == -inf
        finally:
            for cache in caches.values():
                cache.sync.close()
        return tables


def warmed(name: str, cache: TierCache) -> None:
    core = cache._node.tiers.core
    if name.startswith("during") and core.open_until > -inf:
        core.begin_load(ANY_EPOCH, inf, core)


def calls_of(name: str, run: Run) -> int:
    return run.calls((CALLS // 100 if name == "drawn" else CALLS) // (4 if run.quick else 1))


def blocking(caches: dict[str, TierCache], turns: Sequence[Sequence[str]], run: Run) -> Result:
    loop = loop_of("f(7)", is_async=False)
    functions: dict[str, Callable[..., Any]] = {n: c.cached(ttl=600)(name_of) for n, c in caches.items()}
    times: dict[str, list[float]] = {name: [] for name in caches}
    for order in turns:
        for name in order:
            calls = calls_of(name, run)
            functions[name](7)
            warmed(name, caches[name])
            with without_gc():
                times[name].append(loop(functions[name], range(calls)) / calls)
    return against("hit with an auditor, def", times, calls=1, unit="ns", log=True)


async def awaiting(caches: dict[str, TierCache], turns: Sequence[Sequence[str]], run: Run) -> Result:
    loop = loop_of("f(7)", is_async=True)
    functions: dict[str, Callable[..., Any]] = {n: c.cached(ttl=600)(name_later) for n, c in caches.items()}
    times: dict[str, list[float]] = {name: [] for name in caches}
    for order in turns:
        for name in order:
            calls = calls_of(name, run)
            await functions[name](7)
            warmed(name, caches[name])
            with without_gc():
                times[name].append(await loop(functions[name], range(calls)) / calls)
    return against("hit with an auditor, async def", times, calls=1, unit="ns", log=True)
