"""Fault 5: an invalidation that Redis refuses or does not answer. It is retried until it is done.

Other caches lose it, on every node; and keep what a read that timed out did not find as missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from tests import servers
from tests.peers import Peer
from tests.servers import RedisServer, eventually
from tests.source import Source
from tests.world import World
from tiercache import L2Unavailable, TierCache, cached

SOON = 3.0  # seconds; the next sync is due after four
LEASE = 15.0


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    return Source(folder).load()


@pytest.fixture
def server(own_redis: RedisServer) -> RedisServer:
    own_redis.cli("ACL", "SETUSER", "issuer", "on", "nopass", "~*", "&*", "+@all")
    return own_redis


def issuers(server: RedisServer) -> str:
    """The URL of the user whose writes a test refuses."""
    return server.url().replace("://", "://issuer:any@")


Act = Callable[[RedisServer], object]
REFUSALS: dict[str, tuple[Act, Act]] = {
    "by acl": (
        lambda server: server.cli("ACL", "SETUSER", "issuer", "-@write"),
        lambda server: server.cli("ACL", "SETUSER", "issuer", "+@write"),
    ),
    "by a read-only replica": (
        lambda server: server.cli("REPLICAOF", "127.0.0.1", "1"),
        lambda server: server.cli("REPLICAOF", "NO", "ONE"),
    ),
    "by silence": (RedisServer.pause, RedisServer.resume),
}
refusals = pytest.mark.parametrize(("refuse", "permit"), REFUSALS.values(), ids=REFUSALS)


@refusals
def test_a_refused_invalidation_is_sent_again_until_it_is_done(
    server: RedisServer, source: Source, refuse: Act, permit: Act
) -> None:
    with (
        Peer(issuers(server), max_staleness=LEASE) as issuer,
        Peer(server.url(), max_staleness=LEASE) as other,
    ):
        source.commit(1)
        assert [peer.call(it, source.folder) for peer in (issuer, other)] == [1, 1]

        refuse(server)
        source.commit(2)
        assert issuer.do("invalidate_tags", "it").pending
        permit(server)

        assert eventually(lambda: other.call(it, source.folder) == 2, within=SOON)
        assert eventually(lambda: issuer.do("health").pending == 0, within=SOON)


@refusals
def test_until_it_is_done_its_process_does_not_read_what_it_names_from_a_cache(
    server: RedisServer, source: Source, refuse: Act, permit: Act
) -> None:
    with Peer(issuers(server), max_staleness=LEASE) as issuer:
        source.commit(1)
        assert issuer.call(it, source.folder) == 1

        refuse(server)
        for version in (2, 3):
            source.commit(version)
            assert issuer.do("invalidate_tags", "it").pending
            assert issuer.call(it, source.folder) == version
        source.commit(4)
        assert issuer.call(it, source.folder) == 4, "no value is kept, not even one loaded since"
        permit(server)

        assert eventually(lambda: not issuer.do("health").pending, within=SOON)
        assert issuer.call(it, source.folder) == 4


def test_a_pending_invalidation_leaves_other_entries_alone(
    server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache = new_node(issuers(server), max_staleness=LEASE).sync
    assert not cache.exists("k")  # with a lease, what is set is kept in L1 as well
    cache.set("k", 1, tags=["it"])
    cache.set("another", 2, tags=["that"])
    server.cli("ACL", "SETUSER", "issuer", "-@write")

    assert cache.invalidate_tags("it").pending
    assert cache.get_many(["k", "another"]) == {"another": 2}
    server.cli("ACL", "SETUSER", "issuer", "+@write")


@pytest.mark.parametrize("binary", [servers.newest, servers.oldest_supported])
def test_an_invalidation_takes_effect_in_a_server_without_memory(
    source: Source, binary: Callable[[], str]
) -> None:
    with closing(RedisServer(binary())) as server:
        invalidate_without_memory(server, source)


def invalidate_without_memory(server: RedisServer, source: Source) -> None:
    with Peer(server.url(), max_staleness=LEASE) as issuer, Peer(server.url(), max_staleness=LEASE) as other:
        source.commit(1)
        assert [peer.call(it, source.folder) for peer in (issuer, other)] == [1, 1]
        server.cli(
            "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"
        ) if server.version > "7" else (server.cli("CONFIG", "SET", "maxmemory", "1"))

        source.commit(2)
        assert not issuer.do("invalidate_tags", "it").pending
        assert issuer.call(it, source.folder) == 2
        assert eventually(lambda: other.call(it, source.folder) == 2, within=SOON)


def test_a_read_that_timed_out_is_not_kept_as_a_miss(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    writer = new_node(own_redis.url()).sync
    cache = world.view(new_node(own_redis.url(), max_staleness=LEASE, timeout=0.1))

    async def body() -> None:
        await cache.get("k")
        writer.set("k", 1)
        own_redis.pause()
        assert await cache.get("k", "away") == "away"
        own_redis.resume()

        async def is_found() -> bool:
            return bool(await cache.get("k", "away") == 1)

        await world.until(is_found)

    world.run(body())


def test_who_wants_to_know_is_told_and_the_invalidation_is_sent_all_the_same(
    world: World, server: RedisServer, source: Source, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(issuers(server))
    cache = world.view(node)

    async def body() -> None:
        await cache.set("k", 1, tags=["it"])
        server.cli("ACL", "SETUSER", "issuer", "-@write")
        with pytest.raises(L2Unavailable, match="invalidate"):
            await cache.invalidate_tags("it", on_error="raise")
        assert (await cache.health()).pending == 1
        server.cli("ACL", "SETUSER", "issuer", "+@write")
        await world.until(lambda: not node.sync.health().pending)

    world.run(body())
