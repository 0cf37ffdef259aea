"""A real Sentinel as the site, and what is done to its primaries."""

from __future__ import annotations

import redis

from tests.chaos.world import World
from tests.sentinels import SERVICE, Topology
from tests.servers import RedisServer, eventually

# As the documents say of a primary that may be replaced, with the least lag that Redis knows.
MAX_LAG = 1
MIN_REPLICAS = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", str(MAX_LAG))
SPLIT = 2.0 * MAX_LAG  # seconds: Redis looks for lost replicas once a second
DOWN_AFTER = 1_500  # ms; with less than its PING period a sentinel gives up whom it has just promoted


class WithSentinel:
    def __init__(self, binary: str) -> None:
        self.topology = Topology(binary, extra=MIN_REPLICAS)
        try:
            for sentinel in self.topology.sentinels:
                sentinel.cli("SENTINEL", "SET", SERVICE, "down-after-milliseconds", DOWN_AFTER)
            assert eventually(self._takes_writes), "the primary has no replicas"
        except BaseException:
            self.close()
            raise

    @property
    def server(self) -> RedisServer:
        return self.topology.primary

    def url(self, name: str) -> str:
        return self.topology.url()

    def close(self) -> None:
        self.topology.close()

    def _takes_writes(self) -> bool:
        try:
            return bool(self.server.cli("SET", "probe", 1))
        except redis.ResponseError:
            return False


def kill_primaries(world: World) -> None:
    """It comes back as a replica, after another has been promoted."""
    site = world.site
    assert isinstance(site, WithSentinel)
    while world.goes_on(world.d):
        old = site.server
        new = site.topology.kill_primary()
        world.struck()
        old.extra = (*MIN_REPLICAS, "--replicaof", "127.0.0.1", str(new.port))  # as its supervisor would
        old.start()


def fail_over_by_hand(world: World) -> None:
    """The old primary lives, and takes writes until it notices that its replicas have gone (A3)."""
    site = world.site
    assert isinstance(site, WithSentinel)
    while world.goes_on(world.d):
        site.topology.fail_over()
        world.struck()
