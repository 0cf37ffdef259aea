"""Barriers across real processes: after `wait=True` nobody serves the old value (G4), and none waits long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import pytest
import redis

from tests.history import Read, Write, reads_until, too_old
from tests.peers import Peer
from tests.servers import RedisServer, eventually
from tests.source import Source
from tests.world import World
from tiercache import L2Unavailable, TierCache, cached

D = 1.0  # seconds, `max_staleness` of every process here
LEASE = 1.002 * D + 0.5  # and what a busy machine may add
STATE, CHANNEL = "{default}1:v", "{default}1@0:c"


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    return Source(folder).load()


def read(folder: str) -> int:
    return it(folder)


def read_until_over(folder: str) -> list[Read]:
    return reads_until(Source(folder).flag("over").is_set, lambda: it(folder))


def members(server: RedisServer) -> set[bytes]:
    """The nodes on the register."""
    return {member for member in server.cli("ZRANGE", STATE, 0, -1) if member[:2] == b"\1n"}


def settle(server: RedisServer, cache: TierCache) -> None:
    """Let the epoch outlive the leases of any before."""

    def is_settled() -> bool:
        cache.sync.get("nothing")
        return server.cli("ZSCORE", STATE, b"\1o") is not None

    assert eventually(is_settled)


@pytest.fixture
def node(redis_server: RedisServer, new_node: Callable[..., TierCache]) -> TierCache:
    made = new_node(redis_server.url(), max_staleness=D, timeout=5)  # a starved machine is not what is tested
    settle(redis_server, made)
    return made


@pytest.fixture
def readers(redis_server: RedisServer) -> Iterator[list[Peer]]:
    with (
        Peer(redis_server.url(), max_staleness=D) as one,
        Peer(redis_server.url(), max_staleness=D) as other,
    ):
        yield [one, other]


def test_after_a_barrier_no_process_returns_the_old_value_and_it_takes_a_fraction_of_a_lease(
    world: World, readers: list[Peer], node: TierCache, source: Source
) -> None:
    cache = world.view(node)
    source.commit(1)
    assert [reader.call(read, source.folder) for reader in readers] == [1, 1]
    seen = [reader.start(read_until_over, source.folder) for reader in readers]
    writes, took = [], []

    async def body() -> None:
        for version in range(2, 42):
            source.commit(version)
            begun = time.monotonic()
            written = await cache.invalidate_tags("it", wait=True)
            writes.append(Write(time.monotonic(), version))
            took.append(writes[-1].done - begun)
            assert written.token is not None

    world.run(body())
    source.flag("over").set()

    for each in seen:
        reads = each.result(10)
        assert too_old(reads, writes, bound=0) == []
        assert reads[-1].version == 41
        assert len({read.version for read in reads}) > 10, "it had what could grow old"
    assert median(took) < D / 4
    assert max(took) < LEASE


@pytest.mark.parametrize("verb", ["delete", "delete_many", "clear", "invalidating"])
def test_every_verb_that_invalidates_can_wait(
    world: World, readers: list[Peer], node: TierCache, verb: str
) -> None:
    cache = world.view(node)

    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        assert [reader.do("get", "k") for reader in readers] == [1, 1]
        match verb:
            case "delete":
                await cache.delete("k", wait=True)
            case "delete_many":
                await cache.delete_many(["k"], wait=True)
            case "clear":
                await cache.clear(wait=True)
            case "invalidating":
                async with cache.invalidating(tags=["t"], wait=True):
                    pass

    world.run(body())

    assert [reader.do("get", "k") for reader in readers] == [None, None]


def test_a_process_that_is_stopped_is_waited_for_once_and_serves_nothing_old_when_it_goes_on(
    readers: list[Peer], node: TierCache, source: Source
) -> None:
    source.commit(1)
    assert [reader.call(read, source.folder) for reader in readers] == [1, 1]
    stopped, other = readers
    stopped.stop()
    source.commit(2)
    begun = time.monotonic()
    node.sync.invalidate_tags("it", wait=True)
    assert time.monotonic() - begun < LEASE
    assert other.call(read, source.folder) == 2
    assert node.stats().events["forgotten_nodes"] == 1

    begun = time.monotonic()
    node.sync.invalidate_tags("it", wait=True)
    assert time.monotonic() - begun < D / 2, "nobody waits for it again"

    resumed = stopped.start(read, source.folder)
    stopped.resume()
    assert resumed.result(10) == 2


def test_a_process_that_was_killed_is_waited_for_once(
    redis_server: RedisServer, readers: list[Peer], node: TierCache
) -> None:
    for reader in readers:
        reader.do("get", "k")
    before = members(redis_server)
    readers[0].kill()
    node.sync.invalidate_tags("it", wait=True)
    assert len(members(redis_server)) == len(before) - 1

    begun = time.monotonic()
    node.sync.invalidate_tags("it", wait=True)

    assert time.monotonic() - begun < D / 2


def test_a_process_that_ends_in_good_order_is_not_waited_for(
    redis_server: RedisServer, node: TierCache
) -> None:
    with Peer(redis_server.url(), max_staleness=D) as reader:
        reader.do("get", "k")
        assert len(members(redis_server)) == 2
    assert len(members(redis_server)) == 1

    begun = time.monotonic()
    node.sync.invalidate_tags("it", wait=True)
    assert time.monotonic() - begun < D / 2


def test_a_cache_that_is_closed_is_not_waited_for(
    redis_server: RedisServer, node: TierCache, new_node: Callable[..., TierCache]
) -> None:
    other = new_node(redis_server.url(), max_staleness=D).sync
    other.get("k")
    assert len(members(redis_server)) == 2

    other.close()

    assert len(members(redis_server)) == 1


def test_a_process_that_does_not_listen_serves_nothing_old_after_a_barrier(
    redis_server: RedisServer, node: TierCache, source: Source
) -> None:
    source.commit(1)
    with Peer(redis_server.url(), max_staleness=D, listen=False) as deaf:
        assert deaf.call(read, source.folder) == 1
        seen = deaf.start(read_until_over, source.folder)
        source.commit(2)
        begun = time.monotonic()
        node.sync.invalidate_tags("it", wait=True)
        done = time.monotonic()
        source.flag("over").set()

        assert done - begun < LEASE
        assert too_old(seen.result(10), [Write(done, 2)], bound=0) == []


def test_after_a_flush_leases_of_before_it_are_waited_for(
    redis_server: RedisServer, source: Source, new_node: Callable[..., TierCache]
) -> None:
    source.commit(1)
    with Peer(redis_server.url(), max_staleness=D, listen=False) as deaf:
        assert deaf.call(read, source.folder) == 1
        redis_server.flush()
        source.commit(2)
        new_node(redis_server.url(), max_staleness=D).sync.invalidate_tags("it", wait=True)

        assert deaf.call(read, source.folder) == 2


def test_when_redis_dies_during_the_wait_it_ends_with_the_leases(
    own_redis: RedisServer, source: Source, new_node: Callable[..., TierCache]
) -> None:
    source.commit(1)
    writer = new_node(own_redis.url(), max_staleness=D, timeout=0.2)
    settle(own_redis, writer)
    with Peer(own_redis.url(), max_staleness=D, timeout=0.2) as reader, ThreadPoolExecutor() as pool:
        assert reader.call(read, source.folder) == 1
        reader.stop()
        source.commit(2)
        begun = time.monotonic()
        waiting = pool.submit(lambda: writer.sync.invalidate_tags("it", wait=True))
        assert eventually(lambda: [s for _, s in register(own_redis) if s % 1])
        own_redis.kill()

        assert waiting.result(10).token is not None
        assert time.monotonic() - begun < LEASE + 0.5
        reader.resume()
        assert reader.call(read, source.folder) == 2


def register(server: RedisServer) -> list[tuple[bytes, float]]:
    with redis.Redis("127.0.0.1", server.port) as client:
        found: Any = client.zrange(STATE, 0, -1, withscores=True)
        return [(member, score) for member, score in found if member[:2] == b"\1n"]


def test_without_redis_nobody_can_be_waited_for(world: World, own_redis: RedisServer, new_node: Any) -> None:
    node = new_node(own_redis.url(), timeout=0.2)
    cache = world.view(node)

    async def body() -> None:
        await cache.get("k")
        own_redis.kill()
        with pytest.raises(L2Unavailable, match="pending"):
            await cache.invalidate_tags("t", wait=True)

    world.run(body())

    assert set(node._node.tiers.core.pending) == {"t:t"}, "it is retried all the same"


def test_many_who_wait_at_once_are_all_served(
    world: World, redis_server: RedisServer, readers: list[Peer], node: TierCache, new_node: Any
) -> None:
    other = new_node(redis_server.url(), max_staleness=D)
    views = [world.view(node), world.view(other)]
    for reader in readers:
        reader.do("get", "k")

    async def wait(number: int) -> float:
        begun = time.monotonic()
        await views[number % 2].invalidate_tags(f"t{number}", wait=True)
        return time.monotonic() - begun

    async def body() -> None:
        took = await world.gather(*map(wait, range(10)))
        assert max(took) < LEASE
        assert median(took) < D / 2

    world.run(body())


# ---- what others may say


def test_a_flood_of_forged_questions_costs_a_few_syncs_and_barriers_still_end(
    redis_server: RedisServer, readers: list[Peer], node: TierCache
) -> None:
    for reader in readers:
        reader.do("get", "k")
    victim = node._node.tiers
    epoch, before = victim.core.epoch, victim.events["syncs"]
    begun = time.monotonic()
    with redis.Redis("127.0.0.1", redis_server.port) as client:
        for number in range(3_000):
            client.publish(CHANNEL, f"2|{epoch}|{10**14 + number}|{number:032x}")
        client.publish(CHANNEL, "2|garbage")
        assert eventually(lambda: victim.events["foreign_messages"] or victim.events["floods"])
        tenths = (time.monotonic() - begun) / (D / 10)
        assert victim.events["syncs"] - before <= 3 + 2 * tenths
        for number in range(200):
            client.publish(CHANNEL, f"2|{epoch}|{10**14 + number}|{number:032x}")
        begun = time.monotonic()
        node.sync.invalidate_tags("it", wait=True)

    assert time.monotonic() - begun < LEASE


def test_forged_wake_ups_do_not_let_who_waits_go_early(
    redis_server: RedisServer, readers: list[Peer], node: TierCache, source: Source
) -> None:
    source.commit(1)
    assert readers[0].call(read, source.folder) == 1
    readers[0].stop()
    source.commit(2)
    with ThreadPoolExecutor() as pool, redis.Redis("127.0.0.1", redis_server.port) as client:
        waiting = pool.submit(lambda: node.sync.invalidate_tags("it", wait=True))
        while not waiting.done():
            client.publish(f"{{default}}1@0:w:{node._node.tiers.core.node}", "barrier")
    resumed = readers[0].start(read, source.folder)
    readers[0].resume()

    assert resumed.result(10) == 2
