"""What does a hit in L2 cost, one caller, one round trip after the other?

Workload: a decorated function with l1=False whose value, a dict of some 200 bytes, is in Redis;
every call asks Redis again, on loopback.

How to read it: the first line is the least that one can do by hand, redis-py's GET and orjson,
which knows no tags and no invalidation. tiercache asks by a script that holds the entry against
the last invalidation of each of its tags (here one and the function's own) before it answers.
`x` is the multiple of the first line, as a median over the rounds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import redis
import redis.asyncio

from bench.results import Result, against
from bench.runs import Run
from tiercache import TierCache

CALLS = 300  # a candidate and a round
PROFILE = {
    "id": 7,
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "roles": ["admin", "editor", "reader"],
    "active": True,
    "balance": 1234.5,
    "address": {"street": "12 St James's Square", "city": "London", "country": "GB"},
}


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(25, 5)
    with run.server() as url:
        cache = TierCache(url, namespace=run.prefix)
        with cache.sync:
            return [blocking(url, cache, rounds), asyncio.run(awaiting(url, cache, rounds))]


def profile(user_id: int) -> dict[str, Any]:
    return PROFILE


async def profile_later(user_id: int) -> dict[str, Any]:
    return PROFILE


def blocking(url: str, cache: TierCache, rounds: int) -> Result:
    cached = cache.cached(l1=False, tags=["user:{user_id}"])(profile)
    times: dict[str, list[float]] = {"redis-py GET + orjson": [], "tiercache": []}
    client: Any  # redis-py types replies for both worlds at once
    with redis.Redis.from_url(url) as client:
        client.set("profile:7", orjson.dumps(PROFILE))
        for _ in range(rounds):
            begun = time.perf_counter()
            for _ in range(CALLS):
                orjson.loads(client.get("profile:7"))
            between = time.perf_counter()
            for _ in range(CALLS):
                cached(7)
            times["redis-py GET + orjson"].append(between - begun)
            times["tiercache"].append(time.perf_counter() - between)
    _check(cached.cache_info().l2_hits, rounds)
    return against("L2 hit, def", times, calls=CALLS, unit="us")


async def awaiting(url: str, cache: TierCache, rounds: int) -> Result:
    cached = cache.cached(l1=False, tags=["user:{user_id}"])(profile_later)
    times: dict[str, list[float]] = {"redis-py GET + orjson": [], "tiercache": []}
    client: Any
    async with redis.asyncio.Redis.from_url(url) as client:
        for _ in range(rounds):
            begun = time.perf_counter()
            for _ in range(CALLS):
                orjson.loads(await client.get("profile:7"))
            between = time.perf_counter()
            for _ in range(CALLS):
                await cached(7)
            times["redis-py GET + orjson"].append(between - begun)
            times["tiercache"].append(time.perf_counter() - between)
    _check(cached.cache_info().l2_hits, rounds)
    return against("L2 hit, async def", times, calls=CALLS, unit="us")


def _check(l2_hits: int, rounds: int) -> None:
    if l2_hits < rounds * CALLS - 1:
        raise RuntimeError(
            f"only {l2_hits} of {rounds * CALLS} calls were hits in L2: the figures mean nothing"
        )
