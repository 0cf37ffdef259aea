"""What a slower path would change first: instructions of a hit, what it leaves behind, round trips.

No times: a busy machine moves those by a factor of two. The limits are generous, some two thirds above
what CPython 3.11 does; what they catch is a lock, a generator, a `Signature.bind` or a second request.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from math import inf
from typing import Any

import pytest

from tests.bench.instructions import instructions
from tests.bench.turns import Turns
from tests.servers import RedisServer
from tiercache import TierCache


def in_one_step(coroutine: Any) -> None:
    """Run a *coroutine* that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[TierCache]:
    cache = TierCache(redis_server.url(), namespace="regressions")
    with cache.sync:
        yield cache


def test_a_hit_of_one_argument_executes_few_instructions(cache: TierCache) -> None:
    @cache.cached(ttl=60)
    def name_of(user_id: int) -> str:
        return f"user {user_id}"

    name_of(7)
    assert instructions(lambda: name_of(7)) <= 120


def test_a_hit_of_two_arguments_and_a_keyword_executes_few_instructions(cache: TierCache) -> None:
    @cache.cached(ttl=60)
    def label(number: int, language: str, *, short: bool) -> str:
        return f"label {number}"

    label(7, "en", short=True)
    assert instructions(lambda: label(7, "en", short=True)) <= 150


def test_a_hit_whose_value_is_copied_executes_few_instructions(cache: TierCache) -> None:
    @cache.cached(ttl=60)
    def profile(user_id: int) -> dict[str, Any]:
        return {"id": user_id, "roles": ["reader"], "address": {"city": "London"}}

    profile(7)
    assert instructions(lambda: profile(7)) <= 200


def test_an_awaited_hit_executes_few_instructions(cache: TierCache) -> None:
    @cache.cached(ttl=60)
    async def name_of(user_id: int) -> str:
        return f"user {user_id}"

    cache.sync.get("warm")

    async def filled() -> int:
        await name_of(7)
        return await awaited(name_of(7))

    assert asyncio.run(filled()) <= 130


def test_a_hit_by_key_executes_few_instructions(cache: TierCache) -> None:
    def load() -> int:
        return 2

    assert cache.sync.get_or_load("k", load, tags=["t"]) == 2

    assert instructions(lambda: cache.sync.get("k")) <= 170
    assert instructions(lambda: cache.sync.exists("k")) <= 170
    assert instructions(lambda: cache.sync.get_or_load("k", load, tags=["t"])) <= 220
    assert asyncio.run(awaited(cache.get("k"))) <= 190
    assert asyncio.run(awaited(cache.get_or_load("k", load, tags=["t"]))) <= 240


async def awaited(coroutine: Any) -> int:
    return instructions(lambda: in_one_step(coroutine))


@pytest.mark.parametrize("token", [0, inf])
def test_a_load_costs_no_more_while_a_thousand_run(cache: TierCache, token: float) -> None:
    cache.sync.get("warm")
    core = cache._node.tiers.core
    running = [object() for _ in range(1_000)]

    def one_load() -> None:
        core.begin_load(core.epoch, token, one_load)
        core.end_load(one_load)

    alone = instructions(one_load)
    for each in running:
        core.begin_load(core.epoch, token, each)
    among_many = instructions(one_load)
    for each in running:
        core.end_load(each)

    assert among_many <= 2 * alone


def test_a_hit_leaves_nothing_behind(cache: TierCache) -> None:
    @cache.cached(ttl=60)
    def name_of(user_id: int) -> str:
        return f"user {user_id}"

    def hits() -> None:
        for _ in range(1000):
            name_of(7)

    hits()
    gc.collect()
    before = sys.getallocatedblocks()
    hits()
    assert sys.getallocatedblocks() - before < 100


def read_many(count: int, cache: TierCache) -> None:
    cache.sync.get_many([f"n{i}" for i in range(count)])


def load_many(count: int, cache: TierCache) -> None:
    keys, loads = [f"m{i}" for i in range(count)], []
    cache.sync.get_or_load_many(keys, lambda missing: loads.append(missing) or dict.fromkeys(missing, 1))
    assert loads == [keys], "one call, with all that is missing"


def write_many(count: int, cache: TierCache) -> None:
    cache.sync.set_many({f"w{i}": i for i in range(count)})


def fenced(cache: TierCache) -> None:
    with cache.sync.invalidating(tags=["t"]):
        pass


# Docs: explanation/coherence.md. After hits in L2, a look that finds nothing costs a third.
COSTS: dict[str, tuple[Callable[[TierCache], object], int]] = {
    "a hit in L1": (lambda cache: cache.sync.get("kept"), 0),
    "a miss": (lambda cache: cache.sync.get_or_load("missed", lambda: 1), 3),
    "a read of what nobody has": (lambda cache: cache.sync.get("nobody"), 1),
    **{
        f"{act} of {count} keys": (partial(acts, count), limit)
        for count in (1, 10, 100)  # for a thousand: tests/core/test_batches.py
        for act, acts, limit in (
            ("a read", read_many, 1),
            ("a load", load_many, 3),
            ("a write", write_many, 1),
        )
    },
    "a write": (lambda cache: cache.sync.set("kept", 2), 1),
    "an invalidation": (lambda cache: cache.sync.invalidate_tags("t"), 1),
    "a fenced write": (fenced, 2),
}


@pytest.fixture
def counted(redis_server: RedisServer) -> Iterator[tuple[TierCache, Turns]]:
    """A cache that has done everything once: connections are open, scripts are known, the lease is long."""
    with closing(Turns(redis_server.port)) as turns:
        cache = TierCache(turns.url, namespace="regressions", max_staleness=120)
        with cache.sync:
            for act, _ in COSTS.values():
                act(cache)
                cache.sync.delete_many(["missed", *(f"m{i}" for i in range(1_000))])
            cache.sync.set("kept", 1)
            cache.sync.get("kept")
            yield cache, turns


@pytest.mark.parametrize("what", COSTS)
def test_costs_no_more_round_trips_than_it_must(what: str, counted: tuple[TierCache, Turns]) -> None:
    cache, turns = counted
    act, limit = COSTS[what]
    before = turns.count
    act(cache)
    assert turns.count - before <= limit


def test_a_hit_in_l2_is_one_round_trip(counted: tuple[TierCache, Turns]) -> None:
    cache, turns = counted

    @cache.cached(ttl=60, l1=False, tags=["user:{user_id}"])
    def profile(user_id: int) -> dict[str, int]:
        return {"id": user_id}

    for _ in range(2):
        profile(7)
    before = turns.count
    profile(7)
    assert turns.count - before == 1


def test_misses_in_a_row_are_two_round_trips_each(counted: tuple[TierCache, Turns]) -> None:
    cache, turns = counted

    @cache.cached(ttl=60, tags=["user:{user_id}"])
    def profile(user_id: int) -> dict[str, int]:
        return {"id": user_id}

    profile(1)
    before = turns.count
    for user_id in range(2, 12):
        profile(user_id)
    assert turns.count - before <= 2 * 10 + 1
