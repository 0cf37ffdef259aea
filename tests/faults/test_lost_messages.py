"""Faults 2 and 3: a node that does not hear what others invalidate. What it missed, it learns all the same.

Other caches serve the old value after they are connected again, until its ttl; or never hear a
word, and do not say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis
import redis.asyncio

from tests.history import Read, Write, reads_until, too_old
from tests.peers import Peer
from tests.proxy import Proxy
from tests.servers import RedisServer, eventually
from tests.source import Source
from tiercache import TierCache, cached, default_cache

SOON = 2.0  # seconds; a lease of a minute is no help within them
BOUND = 0.6  # seconds, where a test waits for it


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    return Source(folder).load()


def read_until_over(folder: str) -> list[Read]:
    return reads_until(Source(folder).flag("over").is_set, lambda: it(folder))


def write_until_over(folder: str) -> list[Write]:
    """A new version every few milliseconds, each invalidated as soon as it is committed."""
    source, writes, version = Source(folder), list[Write](), 1
    while not source.flag("over").is_set():
        version += 1
        source.commit(version)
        default_cache().sync.invalidate_tags("it")
        writes.append(Write(time.monotonic(), version))
        time.sleep(0.005)  # so that the reader has hits in between
    return writes


@pytest.fixture
def deaf_user(own_redis: RedisServer) -> str:
    """A URL whose user may subscribe to nothing until `hear`."""
    own_redis.cli("ACL", "SETUSER", "deaf", "on", "nopass", "~*", "allchannels", "+@all")
    return own_redis.url().replace("://", "://deaf:any@")


def deafen(server: RedisServer) -> None:
    """Cut the subscriptions of the user; no other is made until `hear`."""
    server.cli("ACL", "SETUSER", "deaf", "resetchannels")


def hear(server: RedisServer) -> None:
    server.cli("ACL", "SETUSER", "deaf", "allchannels")


def test_what_was_invalidated_while_a_subscription_was_down_is_gone_when_it_is_up_again(
    own_redis: RedisServer, deaf_user: str, source: Source
) -> None:
    with Peer(deaf_user, max_staleness=60) as reader, Peer(own_redis.url()) as writer:
        source.commit(1)
        assert reader.call(it, source.folder) == 1
        assert eventually(lambda: reader.do("health").listening)

        deafen(own_redis)
        assert eventually(lambda: not reader.do("health").listening)
        source.commit(2)
        writer.do("invalidate_tags", "it")
        hear(own_redis)

        assert eventually(lambda: reader.call(it, source.folder) == 2, within=SOON)


def test_a_node_whose_subscription_is_killed_again_and_again_reads_within_the_bound(
    own_redis: RedisServer, source: Source
) -> None:
    with Peer(own_redis.url(), max_staleness=BOUND) as reader, Peer(own_redis.url()) as writer:
        source.commit(1)
        reads = reader.start(read_until_over, source.folder)
        writes = writer.start(write_until_over, source.folder)
        for _ in range(6):
            assert eventually(
                lambda: len(own_redis.cli("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) == 2
            )
            assert own_redis.cli("CLIENT", "KILL", "TYPE", "pubsub") == 2
        source.flag("over").set()

        assert too_old(reads.result(10), writes.result(10), bound=BOUND) == []


def test_a_node_that_never_hears_reads_within_the_bound(
    own_redis: RedisServer, deaf_user: str, source: Source
) -> None:
    deafen(own_redis)
    with Peer(deaf_user, max_staleness=BOUND) as reader, Peer(own_redis.url()) as writer:
        source.commit(1)
        assert reader.call(it, source.folder) == writer.call(it, source.folder) == 1  # both are there
        reads = reader.start(read_until_over, source.folder)
        writes = writer.start(write_until_over, source.folder)
        begun = time.monotonic()
        assert eventually(lambda: time.monotonic() > begun + 3 * BOUND)
        source.flag("over").set()

        history = reads.result(10)
        assert too_old(history, writes.result(10), bound=BOUND) == []
        assert reader.do("stats").l1_hits > len(history) / 2, "it read from L1, or this test shows little"


def test_a_node_that_never_heard_says_so(
    own_redis: RedisServer, deaf_user: str, new_node: Callable[..., TierCache]
) -> None:
    deafen(own_redis)
    cache = new_node(deaf_user).sync
    assert eventually(lambda: "not heard" in str(cache.health().problem))


def test_a_node_that_does_not_hear_says_so(
    own_redis: RedisServer, deaf_user: str, new_node: Callable[..., TierCache]
) -> None:
    cache = new_node(deaf_user).sync
    cache.get("k")
    assert eventually(lambda: cache.health().problem is None)

    deafen(own_redis)
    assert eventually(lambda: "not heard" in str(cache.health().problem))

    hear(own_redis)
    assert eventually(lambda: cache.health().problem is None)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with closing(Proxy(redis_server)) as made:
        yield made


def test_a_subscription_that_fell_silent_is_made_anew(
    proxy: Proxy, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    reader = new_node(proxy.url, max_staleness=BOUND).sync
    reader.get("k")
    assert eventually(lambda: reader.health().listening)

    proxy.silence_subscriptions()

    # Only a node that reads looks at its subscription.
    assert eventually(lambda: reader.get("k") is None and len(proxy.subscriptions) > 1)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis], ids=["blocking", "asyncio"])
def test_a_node_on_a_users_client_hears_the_others(
    any_redis: RedisServer, new_node: Callable[..., TierCache], kind: type, protocol: int
) -> None:
    client = kind.from_url(any_redis.url(), protocol=protocol)
    reader = new_node(client=client, max_staleness=60).sync
    writer = new_node(any_redis.url()).sync
    writer.set("k", 1)
    assert reader.get("k") == 1
    assert eventually(lambda: reader.health().listening)

    writer.set("k", 2)

    assert eventually(lambda: reader.get("k") == 2, within=SOON)


@pytest.mark.parametrize("planted", ["", "1|x|y|", "1|1|99999|t:it", "\0" * 70, "1|" + "9" * 40 + "|1|*"])
def test_a_planted_message_neither_deafens_a_node_nor_hides_what_comes_after_it(
    redis_server: RedisServer, new_node: Callable[..., TierCache], planted: str
) -> None:
    reader = new_node(redis_server.url(), max_staleness=60).sync
    writer = new_node(redis_server.url(), max_staleness=60).sync
    writer.set("k", 1, tags=["it"])
    assert reader.get("k") == 1
    assert eventually(lambda: reader.health().listening)

    for channel in redis_server.cli("PUBSUB", "CHANNELS"):
        redis_server.cli("PUBLISH", channel, planted)
    writer.invalidate_tags("it")

    assert eventually(lambda: reader.get("k") is None, within=SOON)
