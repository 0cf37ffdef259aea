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
import timeit
from collections.abc import Awaitable, Callable
from math import inf

from bench.hit import CALLS, name_of, timed
from bench.results import Result, against
from bench.runs import Run
from tiercache import TierCache
from tiercache._core.coherence import ANY_EPOCH

DRAWN = CALLS // 100  # calls a round of the slow candidate


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(15, 3)
    with run.server() as url:
        caches = {
            name: TierCache(url, namespace=f"{run.prefix}{i}", audit=audit)
            for i, (name, audit) in enumerate(
                {"off": None, "not drawn": 1e-9, "drawn": 1.0, "during an audit's load": None}.items()
            )
        }
        core = caches["during an audit's load"]._node.tiers.core
        try:
            tables = [blocking(caches, rounds), asyncio.run(awaiting(caches, rounds))]
            assert core.open_until == -inf
        finally:
            for cache in caches.values():
                cache.sync.close()
        return tables


def warmed(name: str, cache: TierCache) -> None:
    core = cache._node.tiers.core
    if name.startswith("during") and core.open_until > -inf:
        core.begin_load(ANY_EPOCH, inf)


def calls_of(name: str) -> int:
    return DRAWN if name == "drawn" else CALLS


def blocking(caches: dict[str, TierCache], rounds: int) -> Result:
    functions: dict[str, Callable[[int], str]] = {n: c.cached(ttl=600)(name_of) for n, c in caches.items()}
    times: dict[str, list[float]] = {name: [] for name in caches}
    for _ in range(rounds):
        for name, function in functions.items():
            function(7)
            warmed(name, caches[name])
            taken = timeit.timeit("f(7)", globals={"f": function}, number=calls_of(name))
            times[name].append(taken * CALLS / calls_of(name))
    return against("L1 hit with an auditor, def", times, calls=CALLS, unit="ns")


async def awaiting(caches: dict[str, TierCache], rounds: int) -> Result:
    async def name_later(user_id: int) -> str:
        return name_of(user_id)

    functions: dict[str, Callable[[int], Awaitable[str]]] = {
        n: c.cached(ttl=600)(name_later) for n, c in caches.items()
    }
    times: dict[str, list[float]] = {name: [] for name in caches}
    for _ in range(rounds):
        for name, function in functions.items():
            await function(7)
            warmed(name, caches[name])
            taken = await timed(function, calls_of(name))
            times[name].append(taken * CALLS / calls_of(name))
    return against("L1 hit with an auditor, async def", times, calls=CALLS, unit="ns")
