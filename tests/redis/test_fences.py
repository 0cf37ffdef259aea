"""Fences around writes of the truth, with real processes that die at the worst moment (R14, G7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.history import Read, Write, reads_until, too_old
from tests.peers import Peer
from tests.servers import RedisServer, eventually
from tests.source import Source
from tests.world import World
from tiercache import L2Unavailable, TierCache, cached, default_cache

pytestmark = pytest.mark.on_each_loop

BOUND = 0.6  # seconds, `max_staleness` of the processes that outlive the writer
FENCE = 60.0  # seconds, `fence_ttl` of a writer that is killed: a busy machine must not outlast it


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    return Source(folder).load()


@cached(ttl=3600, tags=["it"], l2=False)
def here(folder: str) -> int:
    return Source(folder).load()


@cached(ttl=3600, tags=["it"])
def slow(folder: str) -> int:
    """The load finds what is true when it begins; one that finds version 1 ends when "go on" is said."""
    source = Source(folder)
    version = source.load("it")
    if version == 1:
        source.flag("loading").set()
        source.flag("go on").wait()
    return version


@cached(ttl=3600, tags=["it"], l2=False)
def slow_here(folder: str) -> int:
    source = Source(folder)
    version = source.load("it")
    if version == 1:
        source.flag("loading here").set()
        source.flag("go on").wait()
    return version


FENCES = "{default}1:p"
FUNCTIONS = {"it": it, "here": here, "slow": slow, "slow_here": slow_here}


def write_and_hang(folder: str, version: int) -> None:
    source = Source(folder)
    with default_cache().sync.invalidating(tags=["it"], fence_ttl=FENCE):
        source.flag("fenced").set()
        source.flag("commit").wait()
        source.commit(version)
        source.flag("committed").set()
        source.flag("the end").wait()


async def write_and_hang_in_a_task(folder: str, version: int) -> None:
    source = Source(folder)
    async with default_cache().invalidating(tags=["it"], fence_ttl=FENCE):
        source.flag("fenced").set()
        source.flag("commit").wait()
        source.commit(version)
        source.flag("committed").set()
        source.flag("the end").wait()


def call(name: str, folder: str) -> int:
    return FUNCTIONS[name](folder)


def read_until_over(folder: str, name: str) -> list[Read]:
    return reads_until(Source(folder).flag("over").is_set, lambda: FUNCTIONS[name](folder))


def is_cached(folder: str, name: str) -> bool:
    """Whether two calls, one after the other, load at most once; the second is a hit of L1."""
    before = FUNCTIONS[name].cache_info().l1_hits
    call(name, folder)
    call(name, folder)
    return FUNCTIONS[name].cache_info().l1_hits > before


def let_fences_run_out(server: RedisServer) -> None:
    """As if their time had passed."""
    for fence in server.cli("ZRANGE", FENCES, 0, -1):
        server.cli("ZADD", FENCES, 1, fence)


@pytest.fixture
def readers(redis_server: RedisServer) -> Iterator[list[Peer]]:
    url = redis_server.url()
    with Peer(url, max_staleness=BOUND) as one, Peer(url, max_staleness=BOUND) as other:
        yield [one, other]


@pytest.mark.parametrize("write", [write_and_hang, write_and_hang_in_a_task])
def test_a_writer_killed_between_its_commit_and_the_end_leaves_misses_and_never_the_old_value(
    redis_server: RedisServer, readers: list[Peer], source: Source, write: Callable[[str, int], Any]
) -> None:
    source.commit(1)
    for reader in readers:
        assert {reader.call(call, name, source.folder) for name in ("it", "here")} == {1}
    with Peer(redis_server.url()) as writer:
        writer.start(write, source.folder, 2)
        source.flag("fenced").wait()
        old = [readers[0].start(call, name, source.folder) for name in ("slow", "slow_here")]
        source.flag("loading").wait()
        source.flag("loading here").wait()
        seen: list[Future[list[Read]]] = [
            reader.start(read_until_over, source.folder, name)
            for reader in readers
            for name in ("it", "here")
        ]
        source.flag("commit").set()
        source.flag("committed").wait()
        committed = time.monotonic()
        writer.kill()
    source.flag("go on").set()
    assert [each.result(10) for each in old] == [1, 1], "they asked before the commit"
    assert [readers[1].call(call, name, source.folder) for name in ("slow", "slow_here")] == [2, 2]
    assert eventually(lambda: time.monotonic() > committed + 2 * BOUND)
    assert not any(readers[0].call(is_cached, source.folder, name) for name in FUNCTIONS)
    let_fences_run_out(redis_server)
    for name in FUNCTIONS:
        assert eventually(lambda: readers[0].call(is_cached, source.folder, name)), name  # noqa: B023
    source.flag("over").set()

    reads = [read for each in seen for read in each.result(10)]
    assert too_old(reads, [Write(committed, 2)], bound=1.01 * BOUND) == []
    for reader in readers:
        assert {reader.call(call, name, source.folder) for name in FUNCTIONS} == {2}


def test_of_two_writers_the_one_that_ends_first_does_not_lift_the_others_fence(
    redis_server: RedisServer, readers: list[Peer], source: Source, new_node: Callable[..., TierCache]
) -> None:
    source.commit(1)
    mine = new_node(redis_server.url()).sync
    with Peer(redis_server.url()) as writer:
        writer.start(write_and_hang, source.folder, 2)
        source.flag("fenced").wait()
        with mine.invalidating(tags=["it"]):
            pass
        assert readers[0].call(call, "it", source.folder) == 1
        source.flag("commit").set()
        source.flag("committed").wait()
        writer.kill()

    assert [reader.call(call, "it", source.folder) for reader in readers] == [2, 2]


# ---- Redis away, and other ends


@pytest.fixture
def own_cache(own_redis: RedisServer, new_node: Callable[..., TierCache]) -> TierCache:
    return new_node(own_redis.url(), timeout=0.2, max_staleness=60)


def test_without_redis_a_write_goes_on_and_is_told_as_soon_as_redis_is_back(
    world: World, own_redis: RedisServer, own_cache: TierCache, new_node: Callable[..., TierCache]
) -> None:
    cache, other = world.view(own_cache), new_node(own_redis.url(), max_staleness=60).sync

    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        own_redis.save()
        own_redis.kill()
        async with cache.invalidating(tags=["t"]) as block:
            pass
        assert (block.fenced, block.written.pending) == (False, True)
        assert own_cache.stats().events["guarantee_suspended"] == 1
        own_redis.start()
        await world.until(lambda: not own_cache._node.tiers.core.pending)
        assert other.get("k") is None

    world.run(body())


def test_without_redis_a_write_that_must_be_fenced_does_not_begin(
    world: World, own_redis: RedisServer, own_cache: TierCache
) -> None:
    cache, begun = world.view(own_cache), []

    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        own_redis.pause()
        with pytest.raises(L2Unavailable):
            async with cache.invalidating(tags=["t"], on_outage="abort"):
                begun.append(1)
        own_redis.resume()
        assert await cache.get("k") in (1, None)

    world.run(body())

    assert begun == []
    assert "guarantee_suspended" not in own_cache.stats().events


def test_a_write_that_outlives_its_fence_says_so(
    world: World, redis_server: RedisServer, new_node: Any
) -> None:
    node = new_node(redis_server.url())
    cache = world.view(node)

    async def body() -> None:
        begun = time.monotonic()
        async with cache.invalidating(tags=["t"], fence_ttl=0.05) as block:
            await world.until(lambda: time.monotonic() > begun + 0.2)
        assert not block.fenced
        assert block.written.token is not None

    world.run(body())

    assert node.stats().events["guarantee_suspended"] == 1


def test_a_write_that_was_rolled_back_costs_nobody_more_than_misses(
    world: World, redis_server: RedisServer, new_node: Any
) -> None:
    node, other = new_node(redis_server.url()), new_node(redis_server.url()).sync
    cache = world.view(node)

    async def body() -> None:
        before = (await cache.token()).number
        async with cache.invalidating(tags=["t"]) as block:
            other.get_or_load("k", lambda: "not kept", tags=["t"])
            block.discard()
        assert block.written is None
        assert (await cache.token()).number == before + 1
        assert other.get("k") is None
        other.get_or_load("k", lambda: "kept", tags=["t"])
        assert other.get("k") == "kept"

    world.run(body())


def test_more_tags_than_a_record_takes_are_fenced_and_let_go(
    world: World, redis_server: RedisServer, new_node: Any
) -> None:
    node, other = new_node(redis_server.url()), new_node(redis_server.url()).sync
    cache, many = world.view(node), [f"t{i}" for i in range(4_500)]

    async def body() -> None:
        async with cache.invalidating(tags=many, keys=["k"]) as block:
            for tag in (many[0], many[-1]):
                other.get_or_load(tag, lambda: "not kept", tags=[tag])
                assert other.get(tag) is None
            assert not other.set("k", "not kept").stored
        assert block.fenced
        for key in (many[0], many[-1], "k"):
            other.get_or_load(key, lambda: "kept", tags=[key])
            assert other.get(key) == "kept"

    world.run(body())

    assert redis_server.cli("EXISTS", "{default}1:p", "{default}1:q") == 0


def test_blocks_of_many_callers_at_once_leave_no_fence(
    world: World, redis_server: RedisServer, new_node: Any
) -> None:
    node = new_node(redis_server.url())
    cache = world.view(node)

    async def write(number: int) -> None:
        async with cache.invalidating(tags=["t", f"u{number}"], keys=[f"k{number}"]) as block:
            async with cache.invalidating(tags=["t"]):
                pass
        assert block.fenced

    async def body() -> None:
        assert await world.gather(*map(write, range(20))) == [None] * 20
        await cache.set("k0", 1, tags=["t"])
        assert await cache.get("k0") == 1

    world.run(body())

    assert redis_server.cli("EXISTS", "{default}1:p", "{default}1:q") == 0
    assert float(redis_server.cli("ZSCORE", "{default}1:v", b"\1q")) == 0


def test_a_set_under_another_process_s_fence_is_no_value_for_anybody(
    world: World, redis_server: RedisServer, new_node: Any
) -> None:
    node, other = new_node(redis_server.url()), new_node(redis_server.url()).sync
    cache = world.view(node)

    async def body() -> None:
        with other.invalidating(tags=["t"]):
            written = await cache.set("k", "maybe old", tags=["t"])
            assert (written.stored, written.pending) == (False, False)
            assert await cache.get("k") is None
        assert node.stats().events["set_refused"] == 1
        assert (await cache.set("k", "new", tags=["t"])).stored
        assert other.get("k") == "new"

    world.run(body())


def test_memory_alone_is_fenced_as_long_as_the_process_lives(world: World, new_node: Any) -> None:
    node = new_node("memory://")
    cache = world.view(node)

    async def body() -> None:
        async with cache.invalidating(tags=["t"], wait=True) as block:
            await cache.set("k", 1, tags=["t"])
            assert await cache.get("k") is None
        assert block.fenced
        assert (await cache.set("k", 2, tags=["t"])).stored
        assert await cache.get("k") == 2

    world.run(body())

    assert "guarantee_suspended" not in node.stats().events
