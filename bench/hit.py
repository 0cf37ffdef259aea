"""What does a hit in L1 cost?

Workload: a decorated function of one int argument, called again and again with the same one; its
value is a str, which is handed out as it is. Everything is on: the lease, the expiry, the LRU
stamp, the counters, the listener thread and its syncs.

How to read it: `lru_cache` is C, checks no clock and never expires; the bare wrapper is the least
that a decorator in Python can do: `*args, **kwargs` and one dict. An `async def` over a dict is
the least that a coroutine can. `x` is the multiple of the first line, as a median over the rounds.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import time
import timeit
from collections.abc import Awaitable, Callable
from typing import Any

from bench.results import Result, against
from bench.runs import Run
from tiercache import TierCache

CALLS = 100_000  # a candidate and a round


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(25, 5)
    with run.server() as url:
        cache = TierCache(url, namespace=run.prefix)
        with cache.sync:
            return [blocking(cache, rounds), asyncio.run(awaiting(cache, rounds))]


def name_of(user_id: int) -> str:
    return f"user {user_id}"


def blocking(cache: TierCache, rounds: int) -> Result:
    candidates: dict[str, Callable[[int], str]] = {
        "functools.lru_cache": functools.lru_cache(name_of),
        "bare wrapper over a dict": bare(name_of),
        "tiercache": cache.cached(ttl=600)(name_of),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            function(7)
            times[name].append(timeit.timeit("f(7)", globals={"f": function}, number=CALLS))
    return against("L1 hit, def", times, calls=CALLS, unit="ns")


async def awaiting(cache: TierCache, rounds: int) -> Result:
    table = {7: name_of(7)}

    async def from_dict(user_id: int) -> str:
        return table[user_id]

    async def name_later(user_id: int) -> str:
        return name_of(user_id)

    candidates: dict[str, Callable[[int], Awaitable[str]]] = {
        "bare async def over a dict": from_dict,
        "bare wrapper over a dict": bare_async(name_later),
        "tiercache": cache.cached(ttl=600)(name_later),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            await function(7)
            times[name].append(await timed(function))
    return against("L1 hit, async def", times, calls=CALLS, unit="ns")


async def timed(function: Callable[[int], Awaitable[str]], calls: int = CALLS) -> float:
    gc.disable()  # as timeit does
    try:
        begun = time.perf_counter()
        for _ in range(calls):
            await function(7)
        return time.perf_counter() - begun
    finally:
        gc.enable()


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    table: dict[Any, Any] = {}

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = None if kwargs else table.get(args)
        if found is None:
            found = table[args] = function(*args, **kwargs)
        return found

    return wrapper


def bare_async(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    table: dict[Any, Any] = {}

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = None if kwargs else table.get(args)
        if found is None:
            found = table[args] = await function(*args, **kwargs)
        return found

    return wrapper
