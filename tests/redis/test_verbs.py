"""Each verb does what its name says: in both worlds, with two tiers and without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache, TierCacheError, Token

pytestmark = pytest.mark.on_each_loop

BRIEF = 0.15  # seconds


@pytest.fixture
def node(any_url: str, new_node: Callable[..., TierCache]) -> TierCache:
    return new_node(any_url, max_staleness=60)


@pytest.fixture
def cache(world: World, node: TierCache) -> Any:
    return world.view(node)


def until_gone(cache: Any, key: str) -> Callable[[], Any]:
    async def is_gone() -> bool:
        return not await cache.exists(key)

    return is_gone


def test_get_gives_what_was_set_and_else_the_default(world: World, cache: Any) -> None:
    async def body() -> None:
        assert await cache.get("k") is None
        assert await cache.get("k", "default") == "default"
        written = await cache.set("k", {"a": (1,)})
        assert written.stored
        assert not written.pending
        assert await cache.get("k", "default") == {"a": (1,)}

    world.run(body())


def test_exists_tells_whether_get_would_find_something(world: World, cache: Any) -> None:
    async def body() -> None:
        assert not await cache.exists("k")
        await cache.set("k", None)
        assert await cache.exists("k")

    world.run(body())


def test_delete_takes_one_key_away(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.set_many({"a": 1, "b": 2})
        await cache.delete("a")
        assert await cache.get_many(["a", "b"]) == {"b": 2}

    world.run(body())


def test_clear_takes_everything_away_and_what_comes_after_stays(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.set_many({"a": 1, "b": 2}, tags=["t"])
        await cache.clear()
        assert await cache.get_many(["a", "b"]) == {}
        await cache.set("a", 3)
        assert await cache.get("a") == 3

    world.run(body())


@pytest.mark.parametrize("ttl", [BRIEF, "150ms", timedelta(milliseconds=150)])
def test_an_entry_lives_as_long_as_its_ttl_says(world: World, cache: Any, ttl: Any) -> None:
    async def body() -> None:
        await cache.set("brief", 1, ttl=ttl)
        await cache.set("default", 2)
        assert await cache.get_many(["brief", "default"]) == {"brief": 1, "default": 2}
        await world.until(until_gone(cache, "brief"))
        assert await cache.exists("default")

    world.run(body())


def test_an_entry_found_in_l2_ends_in_l1_when_it_ends_there(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (world.view(new_node(any_redis.url(), max_staleness=60)) for _ in range(2))

    async def is_found() -> bool:  # again where the machine stood still for its whole life
        await one.set("k", 1, ttl=2 * BRIEF)
        return bool(await other.get("k") == 1)

    async def body() -> None:
        await world.until(is_found)
        await world.until(until_gone(other, "k"))
        await one.set("no end", 1, ttl=None)
        assert any_redis.cli("PTTL", *any_redis.cli("KEYS", "*:e:no end")) > 29 * 86_400_000, "30 days in L2"

    world.run(body())


def test_touch_gives_an_entry_a_new_life(world: World, cache: Any) -> None:
    async def body() -> None:
        assert not await cache.touch("k", ttl=60)
        await cache.set("k", 1, ttl=BRIEF)
        await cache.set("sign", 1, ttl=2 * BRIEF)
        assert await cache.touch("k", ttl=60)
        await world.until(until_gone(cache, "sign"))
        assert await cache.get("k") == 1
        assert await cache.touch("k", ttl=BRIEF)
        await world.until(until_gone(cache, "k"))

    world.run(body())


def test_a_touched_entry_is_reached_by_its_tags_as_before(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        await cache.touch("k", ttl=60)
        await cache.invalidate_tags("t")
        assert not await cache.touch("k", ttl=60)
        assert not await cache.exists("k")

    world.run(body())


def test_touch_does_not_bring_back_what_another_process_has_invalidated(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (world.view(new_node(any_redis.url(), listen=False, max_staleness=60)) for _ in range(2))

    async def body() -> None:
        await one.set("k", 1, tags=["t"])
        await other.invalidate_tags("t")
        assert not await one.touch("k", ttl=60)
        assert not await other.exists("k")

    world.run(body())


def test_a_value_derived_from_what_changed_since_its_token_is_not_stored(world: World, cache: Any) -> None:
    async def body() -> None:
        for number, change in enumerate(
            (cache.invalidate_tags("t"), cache.delete("k0"), cache.set("k0", "new"), cache.clear())
        ):
            before = await cache.token()
            await change
            key = "k0" if number in (1, 2) else f"k{number + 1}"
            refused = await cache.set(key, "old", tags=["t"], token=before)
            assert not refused.stored
            assert await cache.get(key) != "old"

    world.run(body())


def test_a_value_derived_under_a_token_is_stored_when_nothing_of_it_changed(world: World, cache: Any) -> None:
    async def body() -> None:
        token = await cache.token()
        await cache.invalidate_tags("another")
        await cache.set("other", 1)
        assert (await cache.set("k", "derived", tags=["t"], token=token)).stored
        assert await cache.get("k") == "derived"

    world.run(body())


def test_each_write_says_which_record_it_made(world: World, cache: Any) -> None:
    async def body() -> None:
        tokens = [
            (await cache.set("k", 1)).token,
            (await cache.invalidate_tags("t")).token,
            (await cache.delete("k")).token,
            (await cache.clear()).token,
            await cache.token(),
        ]
        assert all(isinstance(token, Token) for token in tokens)
        numbers = [token.number for token in tokens]
        assert numbers[:4] == sorted(set(numbers[:4]))
        assert numbers[4] == numbers[3]
        assert len({token.epoch for token in tokens}) == 1

    world.run(body())


def test_a_node_reads_its_own_writes_in_every_order(world: World, cache: Any) -> None:
    async def body() -> None:
        for turn in range(50):
            await cache.set("k", turn, tags=["t"])
            assert await cache.get("k") == turn
            await (cache.delete("k") if turn % 2 else cache.invalidate_tags("t"))
            assert await cache.get("k") is None

    world.run(body())


def test_a_closed_cache_says_so_and_may_be_closed_again(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.set("k", 1)
        await cache.close()
        await cache.close()
        with pytest.raises(TierCacheError, match="closed"):
            await cache.get("k")

    world.run(body())


def test_a_cache_is_closed_by_its_block(any_url: str) -> None:
    with TierCache(any_url, private=True).sync as blocking:
        blocking.set("k", 1)
    with pytest.raises(TierCacheError, match="closed"):
        blocking.get("k")

    async def body() -> None:
        async with TierCache(any_url, private=True) as awaited:
            await awaited.set("k", 1)
        with pytest.raises(TierCacheError, match="closed"):
            await awaited.get("k")

    asyncio.run(body())


def test_stats_count_how_each_read_was_answered(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (new_node(any_redis.url()) for _ in range(2))
    cache = world.view(other)

    async def load() -> int:
        return 1

    async def body() -> None:
        await world.view(one).set("k", 1)
        await cache.get("missing")  # a miss
        await cache.get("k")  # L2
        await cache.get("k")  # L1
        await cache.get_or_load("loaded", load)

    world.run(body())
    stats = other.stats()
    assert (stats.misses, stats.l2_hits, stats.l1_hits, stats.loads, stats.entries) == (1, 1, 1, 1, 2)
    assert stats.hit_rate == 0.5


def test_health_says_what_serves(world: World, any_url: str, cache: Any) -> None:
    async def body() -> None:
        await cache.get("k")
        health = await cache.health()
        assert (health.mode, health.url) == (
            ("L1 alone", "memory://") if any_url == "memory://" else ("two tiers", any_url)
        )
        assert health.pending == 0
        assert health.lease > 0

    world.run(body())


def test_the_first_health_of_a_process_finds_nothing_wrong(
    world: World, any_url: str, new_node: Callable[..., TierCache]
) -> None:
    async def body() -> None:
        for _ in range(20):
            cache = world.view(new_node(any_url))
            first = await cache.health()
            assert (first.problem, first.pending) == (None, 0)

    world.run(body())


def test_l1_holds_no_more_than_it_may(world: World, any_url: str, new_node: Callable[..., TierCache]) -> None:
    node = new_node(any_url, l1_maxsize=10)
    cache = world.view(node)

    async def body() -> None:
        for i in range(30):
            await cache.set(f"k{i}", i)
            await cache.get("k0")  # used again and again, so it stays

    world.run(body())
    stats = node.stats()
    assert (stats.entries, stats.evictions) == (10, 20)
    assert "k0" in node._node.tiers.core.l1.entries


def test_a_set_that_is_refused_for_its_token_leaves_what_there_is(world: World, cache: Any) -> None:
    async def body() -> None:
        token = await cache.token()
        await cache.set("k", "current")

        assert not (await cache.set("k", "old", token=token)).stored

        assert await cache.get("k") == "current"

    world.run(body())
