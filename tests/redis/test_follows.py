"""Callers who come while something is loaded: what they bring is looked at before, and is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.servers import RedisServer
from tiercache import TierCache

pytestmark = pytest.mark.on_each_loop


@pytest.mark.anyio
async def test_tags_that_can_be_read_once_are_kept_while_another_key_is_loaded(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, begun, go = new_node(redis_server.url()), asyncio.Event(), asyncio.Event()

    async def load_for_long() -> int:
        begun.set()
        await go.wait()
        return 1

    async def load() -> str:
        return "v"

    leading = asyncio.create_task(cache.get_or_load("other", load_for_long))
    await begun.wait()
    assert await cache.get_or_load("k", load, tags=(tag for tag in ["x"])) == "v"
    await cache.invalidate_tags("x")
    assert await cache.get("k") is None

    go.set()
    assert await leading == 1


@pytest.mark.anyio
async def test_a_follower_with_wrong_arguments_is_refused(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, begun, go = new_node(redis_server.url()), asyncio.Event(), asyncio.Event()

    async def load() -> int:
        begun.set()
        await go.wait()
        return 1

    leading = asyncio.create_task(cache.get_or_load("k", load))
    await begun.wait()
    wrong: list[dict[str, object]] = [{"loader": None}, {"ttl": "soon"}, {"tags": [1]}, {"key": 7}]
    for each in wrong:
        with pytest.raises((TypeError, ValueError)):
            await cache.get_or_load(**{"key": "k", "loader": load, **each})  # type: ignore[arg-type]
    assert cache._node.tiers.board._flights["k"].followers == 0

    go.set()
    assert await leading == 1
