"""Fault 1: a slow load that an invalidation overtakes. What it brings never comes back from a cache.

1. A's loader reads the old version.  2. B commits the new one and invalidates.  3. A's loader
returns the old one, and A stores it. Other caches serve it from there on, everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.peers import Peer, verb_of
from tests.servers import RedisServer, eventually
from tests.source import Source
from tests.world import World
from tiercache import TierCache, cached

pytestmark = pytest.mark.on_each_loop


@cached(ttl=3600, tags=["things", "thing:{name}"])
def thing(folder: str, name: str) -> int:
    return slow_load(folder, name)


@cached(ttl=3600, tags=["things", "thing:{name}"], l2=False)
def thing_in_l1(folder: str, name: str) -> int:
    return slow_load(folder, name)


@cached(ttl=3600, tags=["things", "thing:{name}"])
async def thing_awaited(folder: str, name: str) -> int:
    return await asyncio.to_thread(slow_load, folder, name)


def slow_load(folder: str, name: str) -> int:
    source = Source(folder)
    version = source.load(name)
    source.flag("has read").set()
    source.flag("go on").wait()
    return version


@pytest.fixture(scope="module")
def peers(any_redis: RedisServer) -> Iterator[tuple[Peer, Peer]]:
    # The lease, and the sync that a mere loss would wait for, outlast the test.
    with Peer(any_redis.url(), max_staleness=60) as one, Peer(any_redis.url(), max_staleness=60) as other:
        yield one, other


Act = Callable[[Peer, str], object]
ACTS: dict[str, Act] = {
    "a tag": lambda peer, folder: peer.do("invalidate_tags", "thing:x"),
    "one of many tags": lambda peer, folder: peer.do(
        "invalidate_tags", [f"t{i}" for i in range(99)] + ["things"]
    ),
    "the key": lambda peer, folder: peer.do("delete", thing.key(folder, "x")),
    "the call": lambda peer, folder: peer.call(verb_of, thing, "invalidate", folder, "x"),
    "the function": lambda peer, folder: peer.call(verb_of, thing, "invalidate_all"),
    "everything": lambda peer, folder: peer.do("clear"),
}


def overtake(slow: Peer, writer: Peer, source: Source, function: Callable[[str, str], int], act: Act) -> None:
    """A load of version 1 by *slow*, during which *writer* commits version 2 and does *act*."""
    source.commit(1, "x")
    loading: Future[int] = slow.start(function, source.folder, "x")
    source.flag("has read").wait()

    source.commit(2, "x")
    act(writer, source.folder)
    source.flag("go on").set()

    assert loading.result(10) == 1, "who asked before the write may have the old version"


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_an_overtaken_load_brings_is_found_by_no_process(
    peers: tuple[Peer, Peer], source: Source, act: Act
) -> None:
    one, other = peers
    overtake(one, other, source, thing, act)

    assert [peer.call(thing, source.folder, "x") for peer in (one, other, one)] == [2, 2, 2]


def test_the_writers_own_load_that_it_overtook_is_not_kept_either(
    peers: tuple[Peer, Peer], source: Source
) -> None:
    one, other = peers
    overtake(one, one, source, thing, ACTS["a tag"])

    assert [peer.call(thing, source.folder, "x") for peer in (one, other)] == [2, 2]


def test_a_value_set_meanwhile_outlives_the_load_it_overtook(
    peers: tuple[Peer, Peer], source: Source
) -> None:
    one, other = peers
    overtake(one, other, source, thing, lambda peer, folder: peer.do("set", thing.key(folder, "x"), 22))

    key = thing.key(source.folder, "x")
    assert [peer.do("get", key) for peer in (one, other)] == [22, 22]


def test_a_value_set_meanwhile_and_gone_again_keeps_the_load_it_overtook_out(
    peers: tuple[Peer, Peer], source: Source
) -> None:
    # Nothing is left of the value that the older one could be compared with: the record on its key is.
    one, other = peers
    key = thing.key(source.folder, "x")

    def act(peer: Peer, folder: str) -> None:
        peer.do("set", key, 22, ttl=0.05)
        assert eventually(lambda: not peer.do("exists", key))

    overtake(one, other, source, thing, act)

    assert [peer.do("get", key) for peer in (one, other)] == [None, None]


def test_an_overtaken_load_of_a_coroutine_function_is_found_by_no_process(
    peers: tuple[Peer, Peer], source: Source
) -> None:
    one, other = peers
    overtake(one, other, source, thing_awaited, ACTS["a tag"])

    assert [peer.call(thing_awaited, source.folder, "x") for peer in (one, other)] == [2, 2]


@pytest.mark.parametrize("writer", [0, 1], ids=["by its own process", "by another"])
def test_an_overtaken_load_is_not_kept_in_l1_alone(
    peers: tuple[Peer, Peer], source: Source, writer: int
) -> None:
    loader = peers[0]
    loader.do("set", "canary", True, tags=["thing:x"])

    def act(peer: Peer, folder: str) -> None:
        peer.do("invalidate_tags", "thing:x")
        assert eventually(lambda: not loader.do("exists", "canary")), "the loading process hears of it"

    overtake(loader, peers[writer], source, thing_in_l1, act)

    assert loader.call(thing_in_l1, source.folder, "x") == 2


def test_who_asks_after_the_invalidation_does_not_take_an_older_loads_result(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(redis_server.url())
    cache, truth = world.view(node), [1]

    async def body() -> None:
        gate = world.gate()

        async def load() -> int:
            version = truth[0]
            await gate.wait()
            return version

        before = world.start(cache.get_or_load("k", load, tags=["t"]))
        await world.until(lambda: gate.arrived == 1)
        truth[0] = 2
        await cache.invalidate_tags("t")
        after = world.start(cache.get_or_load("k", load, tags=["t"]))
        gate.open()

        assert (await before.result(), await after.result()) == (1, 2)

    world.run(body())


def test_a_load_does_not_store_an_old_part_that_it_read_through_the_cache(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    # Neither hears the other: the part in L1 is old, and by the lease it may be served.
    reader, writer = (new_node(redis_server.url(), listen=False, max_staleness=60) for _ in range(2))
    truth = [1]

    @world.cached(reader, tags=["part"])
    async def part() -> int:
        return truth[0]

    @world.cached(reader, tags=["part", "whole"])
    async def whole() -> list[int]:
        return [await part()]

    async def body() -> None:
        await part()
        truth[0] = 2
        await world.view(writer).invalidate_tags("part")

        assert await part() == 1, "L1 has it still, or this test shows nothing"
        assert await whole() == [2]

    world.run(body())


def test_a_load_that_reads_a_part_in_another_thread_does_not_store_an_old_one(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    # There nobody can tell that the read is part of a load: context variables do not follow.
    reader, writer = (new_node(redis_server.url(), listen=False, max_staleness=60) for _ in range(2))
    truth = [1]

    @reader.cached(tags=["part"])
    def part() -> int:
        return truth[0]

    @reader.cached(tags=["part", "whole"])
    def whole() -> list[int]:
        with ThreadPoolExecutor(1) as pool:
            return [pool.submit(part).result()]

    part()
    truth[0] = 2
    writer.sync.invalidate_tags("part")

    assert part() == 1, "L1 has it still, or this test shows nothing"
    assert whole() == [2]
