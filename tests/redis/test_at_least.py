"""Tokens that carry a write to another process (G8), for real."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import RedisServer
from tests.source import Source
from tests.world import World
from tiercache import Token

pytestmark = pytest.mark.on_each_loop


def test_a_token_carries_a_write_to_another_process_as_text(
    world: World, redis_server: RedisServer, source: Source, new_node: Any
) -> None:
    """The other hears no message, and its lease is long."""
    writer = new_node(redis_server.url()).sync
    reader = new_node(redis_server.url(), max_staleness=60, listen=False)
    cache = world.view(reader)

    @world.cached(reader, tags=["it"])
    async def current(folder: str) -> int:
        return Source(folder).load()

    async def body() -> None:
        source.commit(1)
        assert await current(source.folder) == 1
        source.commit(2)
        text = str(writer.invalidate_tags("it").token)
        assert await current(source.folder) == 1
        syncs = reader.stats().events["syncs"]

        await cache.at_least(Token.parse(text))
        assert await current(source.folder) == 2
        await cache.at_least(Token.parse(text))
        assert reader.stats().events["syncs"] == syncs + 1

    world.run(body())


def test_where_redis_is_away_a_token_makes_reads_load(
    world: World, own_redis: RedisServer, source: Source, new_node: Any
) -> None:
    writer = new_node(own_redis.url()).sync
    reader = new_node(own_redis.url(), max_staleness=60, listen=False, timeout=0.2)
    cache = world.view(reader)

    @world.cached(reader, tags=["it"])
    async def current(folder: str) -> int:
        return Source(folder).load()

    async def body() -> None:
        source.commit(1)
        assert await current(source.folder) == 1
        source.commit(2)
        token = writer.invalidate_tags("it").token
        own_redis.kill()
        await cache.at_least(token)
        assert await current(source.folder) == 2

    world.run(body())


@pytest.mark.parametrize("token", [None, "1-2", (1, 2), 7])
def test_only_a_token_is_a_token(world: World, new_node: Any, token: object) -> None:
    cache = world.view(new_node("memory://"))

    async def body() -> None:
        with pytest.raises(TypeError, match="token"):
            await cache.at_least(token)

    world.run(body())
