"""A real Sentinel on loopback ports: a primary, two replicas, three sentinels, and what is done to them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import redis

from tests.chaos.world import World
from tests.proxy import Proxy
from tests.servers import RedisServer, eventually
from tiercache import TierCache, embedded
from tiercache._errors import TierCacheError

NAME = "chaos"
QUORUM = 2
DOWN_AFTER_MS = 1_500  # less than its PING period of 1 s, and a Sentinel gives up whom it has just promoted
# As the documents say of a primary that may be replaced. The least that Redis knows, since a split counts.
MAX_LAG = 1
SETTINGS = f"--min-replicas-to-write 1 --min-replicas-max-lag {MAX_LAG} --repl-diskless-sync-delay 0".split()
CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir {folder}
sentinel monitor {name} 127.0.0.1 {primary} {quorum}
sentinel down-after-milliseconds {name} {down_after}
sentinel failover-timeout {name} 3000
sentinel parallel-syncs {name} 2
"""


class Sentinel:
    """One of them; ended by `close`."""

    def __init__(self, binary: str, primary: int) -> None:
        self.port = embedded._free_port()
        self._folder = tempfile.mkdtemp(prefix="tiercache-sentinel-")
        path = Path(self._folder) / "sentinel.conf"
        path.write_text(
            CONFIGURATION.format(
                port=self.port,
                folder=self._folder,
                name=NAME,
                primary=primary,
                quorum=QUORUM,
                down_after=DOWN_AFTER_MS,
            )
        )
        self._log = (Path(self._folder) / "log").open("w")
        self._process = subprocess.Popen([binary, str(path), "--sentinel"], stdout=self._log, stderr=self._log)

    def ask(self, *words: str) -> Any:
        with redis.Redis(port=self.port, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(" ".join(("SENTINEL", words[0])), *words[1:])

    def primary(self) -> int | None:
        """The port of the primary as this one sees it."""
        try:
            _, port = self.ask("GET-MASTER-ADDR-BY-NAME", NAME)
        except (redis.RedisError, TypeError):
            return None
        return int(port)

    def sees_all(self) -> bool:
        try:
            seen = self.ask("MASTER", NAME)
        except redis.RedisError:
            return False
        return (seen["num-slaves"], seen["num-other-sentinels"]) == (2, 2)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder)


class WithSentinel:
    """The site. Where the cache knows no Sentinel URLs, a proxy follows the primary for it, and cuts at once."""

    def __init__(self, binary: str) -> None:
        with ExitStack() as stack:
            first = RedisServer(binary, extra=tuple(SETTINGS))
            stack.callback(first.close)
            self.servers = [first]
            for _ in range(2):
                server = RedisServer(binary, extra=(*SETTINGS, "--replicaof", "127.0.0.1", str(first.port)))
                stack.callback(server.close)
                self.servers.append(server)
            self.sentinels = [Sentinel(binary, first.port) for _ in range(3)]
            for sentinel in self.sentinels:
                stack.callback(sentinel.close)
            self._ended = threading.Event()
            self._proxy: Proxy | None = None
            if not _knows_sentinel():
                self._proxy = Proxy(first)
                stack.callback(self._proxy.close)
                follower = threading.Thread(target=self._follow, args=(self._proxy, first.port), daemon=True)
                follower.start()
                stack.callback(follower.join)
                stack.callback(self._ended.set)
            assert eventually(lambda: all(each.sees_all() for each in self.sentinels), within=30)
            self._stack = stack.pop_all()

    @property
    def server(self) -> RedisServer:
        port = self.sentinels[0].primary()
        return next(server for server in self.servers if server.port == port)

    def url(self, name: str) -> str:
        if self._proxy is not None:
            return self._proxy.url
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def close(self) -> None:
        self._stack.close()

    def _follow(self, proxy: Proxy, port: int) -> None:
        while not self._ended.wait(0.02):
            now = self.sentinels[0].primary()
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
        old.kill()
        if not _promoted(world, old):
            break
        world.struck()
        _bring_back(site, old)
    for server in site.servers:
        if server is not site.server:
            _bring_back(site, server)


def fail_over_by_hand(world: World) -> None:
    """The old primary lives, and takes writes until it notices that its replicas have gone (A3)."""
    site = world.site
    assert isinstance(site, WithSentinel)
    for attempt in count():
        if not world.goes_on(world.d):
            break
        old = site.server
        try:
            site.sentinels[attempt % 3].ask("FAILOVER", NAME)
        except redis.ResponseError:  # it is not done with the last one, or has found no good replica
            continue
        world.struck(int(_promoted(world, old)))


def _promoted(world: World, old: RedisServer) -> bool:
    """Whether another than *old* is the primary, by the end of the run and some seconds."""
    site = world.site
    assert isinstance(site, WithSentinel)
    return eventually(lambda: site.sentinels[0].primary() != old.port, within=10)


def _bring_back(site: WithSentinel, server: RedisServer) -> None:
    """As its supervisor would: a replica of whoever is the primary now."""
    try:
        server.cli("PING")
    except redis.ConnectionError:
        server.extra = (*SETTINGS, "--replicaof", "127.0.0.1", str(site.server.port))
        server.start()
