"""A real Sentinel as the site, and what is done to its primaries."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import redis

from tests.chaos.world import World
from tests.proxy import Proxy
from tests.sentinels import SERVICE, Topology
from tests.servers import RedisServer, eventually
from tiercache import TierCache
from tiercache._errors import TierCacheError

# As the documents say of a primary that may be replaced, with the least lag that Redis knows.
MAX_LAG = 1
MIN_REPLICAS = f"--min-replicas-to-write 1 --min-replicas-max-lag {MAX_LAG}".split()
SPLIT = 2.0 * MAX_LAG  # seconds: Redis looks for lost replicas once a second
DOWN_AFTER = 1_500  # ms; with less than its PING period a sentinel gives up whom it has just promoted


class WithSentinel:
    """Where the cache knows no Sentinel URLs, a proxy follows the primary for it, and cuts at once."""

    def __init__(self, binary: str) -> None:
        with ExitStack() as stack:
            self.topology = Topology(binary, extra=MIN_REPLICAS)
            stack.callback(self.topology.close)
            for sentinel in self.topology.sentinels:
                sentinel.cli("SENTINEL", "SET", SERVICE, "down-after-milliseconds", DOWN_AFTER)
            self._ended = threading.Event()
            self._proxy: Proxy | None = None
            if not _knows_sentinel():
                self._proxy = Proxy(self.server)
                stack.callback(self._proxy.close)
                follower = threading.Thread(target=self._follow, args=(self._proxy,), daemon=True)
                follower.start()
                stack.callback(follower.join)
                stack.callback(self._ended.set)
            assert eventually(self._takes_writes), "the primary has no replicas"
            self._stack = stack.pop_all()

    @property
    def server(self) -> RedisServer:
        return self.topology.primary

    def url(self, name: str) -> str:
        return self.topology.url() if self._proxy is None else self._proxy.url

    def close(self) -> None:
        self._stack.close()

    def _takes_writes(self) -> bool:
        try:
            return bool(self.server.cli("SET", "probe", 1))
        except redis.ResponseError:
            return False

    def _follow(self, proxy: Proxy) -> None:
        port = self.server.port
        while not self._ended.wait(0.02):
            now = self.topology.sentinels[0].names()
            if now is not None and now != port:
                port = now
                proxy.lead_to(port)


def _knows_sentinel() -> bool:
    try:
        TierCache("redis+sentinel://127.0.0.1:1/x/0", private=True).sync.close()
    except TierCacheError:
        return False
    return True


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
