"""Large values: compressed in Redis where it was asked for, and read by anybody."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
import redis

from tests.servers import RedisServer
from tests.world import World
from tiercache import SettingError, TierCache
from tiercache._core.large import LARGE
from tiercache._core.scripts import Names

pytestmark = pytest.mark.on_each_loop

VALUE = {"rows": [{"id": n, "name": f"user {n}"} for n in range(500)]}
NewNode = Callable[..., TierCache]


def stored(server: RedisServer, key: str) -> bytes:
    with redis.Redis("127.0.0.1", server.port) as client:
        raw: Any = client.get(Names("default", 0).entry(key))
        assert isinstance(raw, bytes)
        return raw


@pytest.mark.parametrize("form", ["zstd", "lz4"])
def test_a_long_value_is_compressed_and_read_by_a_process_without_the_setting(
    any_redis: RedisServer, world: World, new_node: NewNode, form: Literal["zstd", "lz4"]
) -> None:
    one = new_node(any_redis.url(), compression=form, max_staleness=60)
    other = new_node(any_redis.url(), max_staleness=60)

    async def loaded() -> Any:
        return VALUE

    async def body() -> None:
        writer, reader = world.view(one), world.view(other)
        await reader.set("plain", VALUE)
        await writer.set("set", VALUE)
        await writer.set_many({"many": VALUE})
        await writer.get_or_load("loaded", loaded)
        await writer.get_or_load_many(["batch"], all_of)
        for key in ("set", "many", "loaded", "batch"):
            assert len(stored(any_redis, key)) < len(stored(any_redis, "plain")) / 2
            assert await writer.get(key) == VALUE
            assert await reader.get(key) == VALUE
        assert await writer.get("plain") == VALUE

    async def all_of(keys: list[str]) -> dict[str, Any]:
        return dict.fromkeys(keys, VALUE)

    world.run(body())


def test_a_short_value_is_not_compressed(any_redis: RedisServer, new_node: NewNode) -> None:
    node = new_node(any_redis.url(), compression="zstd", compression_above=10**6)

    node.sync.set("a", VALUE)

    assert b'"user 499"' in stored(any_redis, "a")


def test_a_format_whose_library_is_missing_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tiercache._settings.find_spec", lambda name: None)

    with pytest.raises(SettingError, match=r"zstandard.*pip install 'tiercache\[zstd\]'"):
        TierCache("memory://", compression="zstd", private=True)


def test_a_compressed_entry_is_a_miss_where_the_library_is_missing(
    any_redis: RedisServer, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_node(any_redis.url(), compression="zstd").sync.set("a", VALUE)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    reader = new_node(any_redis.url())

    assert reader.sync.get("a") is None
    assert reader.stats().events["unreadable"] == 1


LONG = "x" * LARGE


def commands(server: RedisServer) -> dict[str, int]:
    with redis.Redis("127.0.0.1", server.port) as client:
        stats: Any = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): of["calls"] for name, of in stats.items()}


def keys(server: RedisServer, pattern: str) -> list[bytes]:
    with redis.Redis("127.0.0.1", server.port) as client:
        found: Any = client.keys(pattern)
        return list(found)


def test_a_large_value_goes_past_the_scripts_both_ways(
    any_redis: RedisServer, world: World, new_node: NewNode
) -> None:
    one, other = (new_node(any_redis.url(), max_staleness=60) for _ in range(2))

    async def loaded() -> Any:
        return LONG

    async def body() -> None:
        writer, reader = world.view(one), world.view(other)
        await writer.get_or_load("loaded", loaded, tags=["t"])
        await writer.set("set", LONG, tags=["t"])
        await writer.set_many({"many": LONG, "few": 1})
        await writer.get_or_load_many(["batch"], all_of)
        assert keys(any_redis, "*:s:*") == []
        before = commands(any_redis).get("mget", 0)
        for key in ("loaded", "set", "many", "batch"):
            assert await reader.get(key) == LONG
            assert await reader.get_or_load(key, never) == LONG
        assert commands(any_redis)["mget"] == before + 4, "each is read once, by a look"
        assert await writer.get_many(["loaded", "few"]) == {"loaded": LONG, "few": 1}
        assert await reader.touch("set", ttl=60)
        await writer.invalidate_tags("t")
        assert await writer.get_many(["loaded", "set", "many"]) == {"many": LONG}

    async def never() -> Any:
        raise AssertionError

    async def all_of(keys: list[str]) -> dict[str, Any]:
        return dict.fromkeys(keys, LONG)

    world.run(body())


def test_a_large_value_that_is_touched_is_not_copied(any_redis: RedisServer, new_node: NewNode) -> None:
    node = new_node(any_redis.url(), max_staleness=60, listen=False)
    node.sync.set("a", LONG, ttl=60, tags=["t"])
    before, stats = stored(any_redis, "a").split(b"|", 4), commands(any_redis)

    assert node.sync.touch("a", ttl=5_000)

    after, since = stored(any_redis, "a").split(b"|", 4), commands(any_redis)
    assert since["set"] == stats["set"]
    assert (after[:3], after[4]) == (before[:3], before[4])
    assert 4_900_000 < int(after[3]) - int(before[3]) < 5_000_000
    assert 4_900 < any_redis.cli("TTL", Names("default", 0).entry("a")) <= 5_000
    assert new_node(any_redis.url()).sync.get("a") == LONG


def test_a_large_value_that_an_invalidation_overtook_is_not_stored(
    any_redis: RedisServer, new_node: NewNode
) -> None:
    node, writer = new_node(any_redis.url(), max_staleness=60), new_node(any_redis.url())

    def load() -> str:
        writer.sync.invalidate_tags("t")
        return LONG

    assert node.sync.get_or_load("a", load, tags=["t"]) == LONG
    assert node.stats().events["fill_stale"] == 1
    assert new_node(any_redis.url()).sync.get("a") is None
    assert keys(any_redis, "*:s:*") == [], "what was sent ahead is gone, too"


def test_a_large_value_that_redis_has_no_room_for_is_loaded_all_the_same(
    any_redis: RedisServer, new_node: NewNode
) -> None:
    node = new_node(any_redis.url(), max_staleness=60)
    node.sync.get("anything")
    any_redis.cli("CONFIG", "SET", "maxmemory", "1")
    try:
        assert node.sync.get_or_load("a", lambda: LONG) == LONG
        assert node.stats().events["fill_full"] == 1
        assert node.sync.get("a") == LONG
    finally:
        any_redis.cli("CONFIG", "SET", "maxmemory", "0")


def test_a_planted_large_entry_whose_tags_are_no_text_spoils_nothing_that_is_read_with_it(
    any_redis: RedisServer, new_node: NewNode
) -> None:
    node = new_node(any_redis.url(), max_staleness=60)
    node.sync.set("a", LONG)
    node.sync.set("b", 1)
    fields = stored(any_redis, "a").split(b"|", 7)
    with redis.Redis("127.0.0.1", any_redis.port) as client:
        client.set(Names("default", 0).entry("a"), b"|".join([*fields[:6], b"1", b"\xff" + fields[7]]))
    reader = new_node(any_redis.url(), max_staleness=60)

    assert reader.sync.get_many(["a", "b"]) == {"b": 1}
    assert reader.sync.get_or_load("a", lambda: "new") == "new"


def test_a_planted_large_entry_is_loaded_anew(any_redis: RedisServer, new_node: NewNode) -> None:
    node = new_node(any_redis.url(), max_staleness=60)
    node.sync.set("a", LONG)
    raw = stored(any_redis, "a")
    with redis.Redis("127.0.0.1", any_redis.port) as client:
        client.set(Names("default", 0).entry("a"), raw[:-1] + b"y")
    reader = new_node(any_redis.url(), max_staleness=60)

    assert reader.sync.get("a") is None
    assert reader.sync.get_or_load("a", lambda: "new") == "new"


def test_reads_gathered_in_one_request_are_all_answered(
    any_redis: RedisServer, world: World, new_node: NewNode
) -> None:
    """A reply has room for some 256 KB: who did not fit in is asked for again, and is no miss."""
    values = {f"k{n}": str(n) * 100_000 for n in range(8)}
    writer, reader = new_node(any_redis.url(), max_staleness=60), new_node(any_redis.url(), max_staleness=60)

    async def body() -> None:
        await world.view(writer).set_many(values, tags=["t"])
        view = world.view(reader)
        assert await view.get("warm") is None
        assert await world.gather(*map(view.get, values)) == list(values.values())
        reader._node.tiers.core.l1.clear()
        reader._verbs.counts.prospect = 0
        assert await world.gather(*map(view.exists, values)) == [True] * len(values)
        assert reader.stats().misses == 1

    world.run(body())
