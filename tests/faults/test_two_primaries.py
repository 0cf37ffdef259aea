"""A split (A3): a primary is cut off from its replicas, one is promoted, the old one goes on for a while.

    W, A the old primary          cut off from      B promoted, C its replica, P
                                                    P syncs: a new epoch
                                                    P loads v1, stored in the new epoch
    W commits v2
    W invalidates: done, in the old epoch;
      A has heard of its replicas lately enough
                                  healed
    A is made a replica of B: W's record is gone
    W syncs at B: the new epoch
                                                    x would be: P and W are given v1 until its ttl ends

What A took in that time is known to nobody but W, who tells it again in the new epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from tests import servers
from tests.proxy import Proxy
from tests.servers import RedisServer, eventually
from tiercache import TierCache

D = 0.4  # seconds
MAX_LAG = 10  # seconds, as the documents say
MIN_REPLICAS = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", str(MAX_LAG))


@dataclass
class Cluster:
    """Clients reach it by paths of their own, replicas the first primary by one that can fall silent."""

    old: RedisServer
    new: RedisServer
    third: RedisServer
    replication: Proxy

    def cut_and_promote(self) -> None:
        self.replication.fall_silent()
        self.new.cli("REPLICAOF", "NO", "ONE")
        self.third.cli("REPLICAOF", "127.0.0.1", self.new.port)
        assert eventually(lambda: _good_replicas(self.new) == 1)

    def heal(self) -> None:
        self.old.cli("REPLICAOF", "127.0.0.1", self.new.port)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        old = RedisServer(servers.newest(), extra=MIN_REPLICAS)
        stack.callback(old.close)
        replication = stack.enter_context(closing(Proxy(old)))
        of_old = ("--replicaof", "127.0.0.1", str(replication.port), "--repl-diskless-sync-delay", "0")
        replicas = [RedisServer(servers.newest(), extra=(*MIN_REPLICAS, *of_old)) for _ in range(2)]
        for replica in replicas:
            stack.callback(replica.close)
        assert eventually(lambda: _good_replicas(old) == 2), "the replicas do not connect"
        yield Cluster(old, *replicas, replication)


@pytest.fixture
def reader_and_writer(cluster: Cluster) -> Iterator[tuple[TierCache, TierCache]]:
    """After the split: the writer's invalidation was done at the old primary, and both are at the new one."""
    with ExitStack() as stack:
        path_of_reader, path_of_writer = (stack.enter_context(closing(Proxy(cluster.old))) for _ in range(2))
        reader = TierCache(path_of_reader.url, private=True, max_staleness=D)
        writer = TierCache(path_of_writer.url, private=True, max_staleness=D)
        stack.callback(reader.sync.close)
        stack.callback(writer.sync.close)
        before = writer.sync.token()

        cluster.cut_and_promote()
        path_of_reader.lead_to(cluster.new.port)
        assert eventually(lambda: _load(reader, 1) and _has_stored(cluster.new))
        assert not writer.sync.invalidate_tags("t").pending, "the old primary takes writes no more"
        cluster.heal()
        path_of_writer.lead_to(cluster.new.port)
        assert eventually(lambda: _epoch(writer) not in (None, before.epoch))
        yield reader, writer


def test_an_invalidation_that_only_the_old_primary_took_reaches_others_in_the_end(
    reader_and_writer: tuple[TierCache, TierCache],
) -> None:
    reader, _ = reader_and_writer
    assert eventually(lambda: _load(reader, 2) == 2, within=5 * D)


def test_who_invalidated_at_the_old_primary_reads_its_own_write_at_the_new_one(
    reader_and_writer: tuple[TierCache, TierCache],
) -> None:
    _, writer = reader_and_writer
    assert _load(writer, 2) == 2


def _load(cache: TierCache, truth: int) -> int:
    return int(cache.sync.get_or_load("k", lambda: truth, tags=["t"]))


def _has_stored(server: RedisServer) -> bool:
    return bool(server.cli("EXISTS", "{default}1:e:k"))


def _epoch(cache: TierCache) -> int | None:
    cache.sync.get("anything")
    return cache._node.tiers.core.epoch or None


def _good_replicas(server: RedisServer) -> int:
    return int(server.cli("INFO", "replication").get("min_slaves_good_slaves", 0))
