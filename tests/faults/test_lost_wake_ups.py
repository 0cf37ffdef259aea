"""A process that waits for another one's load, and whose subscription is cut meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import Peer, shorten_locks
from tests.servers import RedisServer, eventually
from tests.source import Source
from tiercache import cached

LOCK_MS = 40_000  # whoever waits for a wake-up alone waits for a quarter of it
SOON = 2.0  # seconds


@cached(ttl=3600)
def it(folder: str) -> int:
    source = Source(folder)
    version = source.load()
    source.flag("loading").set()
    source.flag("go on").wait()
    return version


@pytest.fixture
def deaf_user(own_redis: RedisServer) -> str:
    own_redis.cli("ACL", "SETUSER", "deaf", "on", "nopass", "~*", "allchannels", "+@all")
    return own_redis.url().replace("://", "://deaf:any@")


@pytest.fixture
def holder(own_redis: RedisServer) -> Iterator[Peer]:
    with Peer(own_redis.url()) as peer:
        peer.call(shorten_locks, LOCK_MS)
        yield peer


def is_waiting() -> bool:
    from tiercache import default_cache

    return bool(default_cache()._node.tiers.bells._bells)


def test_a_waiter_whose_subscription_is_cut_does_not_wait_for_the_wake_up_it_cannot_hear(
    own_redis: RedisServer, deaf_user: str, holder: Peer, source: Source
) -> None:
    with Peer(deaf_user) as waiter:
        waiter.call(shorten_locks, LOCK_MS)
        assert waiter.do("get", "anything") is None
        assert eventually(lambda: waiter.do("health").listening)
        leading = holder.start(it, source.folder)
        source.flag("loading").wait()
        waiting = waiter.start(it, source.folder)
        assert eventually(lambda: waiter.call(is_waiting))

        own_redis.cli("ACL", "SETUSER", "deaf", "resetchannels")
        assert eventually(lambda: not waiter.do("health").listening)
        source.flag("go on").set()

        assert leading.result(10) == 0
        assert waiting.result(SOON) == 0
        assert source.loads() == 1
