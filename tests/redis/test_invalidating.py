"""`cache.invalidating(...)`, around a write of the truth: both tiers stand aside, and let go at its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.loops import NewLoop
from tests.redis.test_cut_short import connections
from tests.servers import RedisServer, eventually
from tests.world import Tasks, World
from tiercache import TierCache

pytestmark = pytest.mark.on_each_loop


@pytest.fixture
def node(any_url: str, new_node: Callable[..., TierCache]) -> TierCache:
    return new_node(any_url, max_staleness=60)


@pytest.fixture
def cache(world: World, node: TierCache) -> Any:
    return world.view(node)


def test_reads_in_a_block_around_a_write_go_past_both_tiers(
    world: World, node: TierCache, cache: Any
) -> None:
    truth = [1]

    @world.cached(node, tags=["t"])
    async def load() -> int:
        return truth[0]

    @world.cached(node, tags=["another"])
    async def another() -> int:
        return truth[0]

    async def body() -> None:
        await cache.set("k", "cached")
        assert (await load(), await another()) == (1, 1)
        async with cache.invalidating(tags=["t"], keys=["k"]) as block:
            for truth[0] in (2, 3):
                assert await load() == truth[0]
            assert await another() == 1
            assert await cache.get("k", "past it") == "past it"
            assert await cache.get_many(["k"]) == {}
            assert block.written is None
        assert block.written.token is not None
        truth[0] = 4
        assert (await load(), await load()) == (4, 4)
        assert await cache.get("k") is None

    world.run(body())


def test_a_loop_that_is_closed_over_a_block_leaves_its_invalidation_to_the_next_sync(
    redis_server: RedisServer, new_node: Callable[..., TierCache], new_loop: NewLoop
) -> None:
    here, there = (new_node(redis_server.url(), max_staleness=60) for _ in range(2))
    there.sync.set("k", "old", tags=["t"])

    async def write(writes: asyncio.Event) -> None:
        async with here.invalidating(tags=["t"]):
            writes.set()
            await asyncio.Event().wait()

    async def until_it_writes() -> asyncio.Task[None]:
        writes = asyncio.Event()
        task = asyncio.create_task(write(writes))
        await writes.wait()
        return task

    loop = new_loop()
    task = loop.run_until_complete(until_it_writes())
    loop.run_until_complete(here._node.close_loop())  # the connections, which would be complained of
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()

    assert not here._node.tiers.core.held
    assert here.sync.get("k") is None
    assert eventually(lambda: there.sync.get("k") is None)


def test_in_a_block_a_read_by_key_counts_under_the_tags_that_it_names(world: World, cache: Any) -> None:
    """They are new to its entry, which is in L1 without them."""
    truth = ["old"]

    async def body() -> None:
        assert await cache.get_or_load("k", lambda: truth[0]) == "old"
        async with cache.invalidating(tags=["t"]):
            truth[0] = "new"
            assert await cache.get_or_load("k", lambda: truth[0], tags=["t"]) == "new"

    world.run(body())


def test_a_block_invalidates_also_after_an_exception(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        with pytest.raises(LookupError):
            async with cache.invalidating(tags=["t"]):
                raise LookupError
        assert not await cache.exists("k")
        await cache.set("k", 2, tags=["t"])
        assert await cache.get("k") == 2, "and it no longer holds anything back"

    world.run(body())


@pytest.mark.anyio
@pytest.mark.parametrize("times", [1, 2])
async def test_a_block_invalidates_also_when_it_is_cancelled(
    any_url: str, new_node: Callable[..., TierCache], times: int
) -> None:
    node, other = new_node(any_url), new_node(any_url, max_staleness=60)
    await node.set("k", 1, tags=["t"])
    await other.get("k")
    inside = asyncio.Event()

    async def write() -> None:
        async with node.invalidating(tags=["t"]):
            inside.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await inside.wait()
    for _ in range(times):  # the second one meets it while it invalidates
        writing.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([writing])

    assert writing.cancelled()
    assert not await node.exists("k")

    async def is_gone() -> bool:
        return not await other.exists("k")

    await Tasks().until(is_gone)
    await Tasks().until(lambda: not node._node.tiers.core.pending)
    await node.set("k", 2, tags=["t"])
    assert await node.exists("k"), "and nothing is held back any more"


@pytest.mark.anyio
@pytest.mark.parametrize("turns", range(1, 4))
async def test_a_block_that_is_cancelled_before_it_begins_holds_nobody_back(
    redis_server: RedisServer, new_node: Callable[..., TierCache], turns: int
) -> None:
    node = new_node(redis_server.url(), max_staleness=60)
    await node.set("k", 1)
    begun: list[int] = []

    async def write() -> None:
        async with node.invalidating(tags=["t"], fence_ttl=3600):
            begun.append(1)

    writing = asyncio.create_task(write())
    for _ in range(turns):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])

    async def is_kept() -> bool:
        return (await node.set("t", 2, tags=["t"])).stored

    assert not begun
    await Tasks().until(is_kept)


@pytest.mark.parametrize("wait", [False, True])
def test_a_block_invalidates_also_when_the_cache_is_closed_meanwhile(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache], wait: bool
) -> None:
    alone = connections(redis_server)
    other = new_node(redis_server.url(), max_staleness=1)
    other.sync.set("k", 1, tags=["t"])
    before = alone + 3  # for its calls, its syncs, and what it hears
    assert eventually(lambda: connections(redis_server) == before)
    cache = world.view(new_node(redis_server.url(), max_staleness=1))

    async def body() -> None:
        async with cache.invalidating(tags=["t"], fence_ttl=3600, wait=wait) as block:
            await cache.close()
        assert block.fenced
        assert block.written.token is not None
        await world.until(lambda: connections(redis_server) == before)

    world.run(body())

    assert eventually(lambda: not other.sync.exists("k"), within=5)
    assert other.sync.set("k", 2, tags=["t"]).stored


def test_blocks_may_be_nested(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        async with cache.invalidating(tags=["t"]):
            async with cache.invalidating(tags=["t"]):
                pass
            assert not await cache.exists("k")
            await cache.set("k", 2, tags=["t"])
            assert not await cache.exists("k")
        assert not await cache.exists("k")

    world.run(body())


@pytest.mark.anyio
async def test_a_generator_that_is_closed_amid_a_block_ends_it_as_any_end_does(node: TierCache) -> None:
    blocks: list[Any] = []

    async def writes() -> AsyncIterator[None]:
        async with node.invalidating(tags=["t"]) as block:
            blocks.append(block)
            yield

    writing = writes()
    await anext(writing)
    await writing.aclose()

    assert blocks[0].written is not None
    assert not blocks[0].written.pending
