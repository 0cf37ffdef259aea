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
from tiercache._core.scripts import Names

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
