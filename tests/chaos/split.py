"""A site that can be split: a primary is cut off, a replica promoted, clients are on both sides (A3)."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from itertools import cycle

import redis

from tests.chaos.crew import NAMES, READERS, WRITERS
from tests.chaos.world import World
from tests.proxy import Proxy
from tests.servers import RedisServer, eventually

MAX_LAG = 2  # seconds the old primary believes in replicas that it does not hear
MIN_REPLICAS = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", str(MAX_LAG))
QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
SIDES = ((READERS[0], WRITERS[0]), (READERS[1], WRITERS[1]))


class TwoSides:
    """Three servers by hand, without Sentinel; each process, and replication, by a path of its own."""

    def __init__(self, binary: str) -> None:
        with ExitStack() as stack:
            self.server = self._start(stack, binary)
            self._replication = stack.enter_context(closing(Proxy(self.server)))
            of_primary = ("--replicaof", "127.0.0.1", str(self._replication.port))
            self._replicas = [self._start(stack, binary, *of_primary) for _ in range(2)]
            self._paths = {name: stack.enter_context(closing(Proxy(self.server))) for name in NAMES}
            assert eventually(lambda: _good_replicas(self.server) == 2), "the replicas do not connect"
            self._stack = stack.pop_all()

    def url(self, name: str) -> str:
        return self._paths[name].url

    def close(self) -> None:
        self._stack.close()

    def split(self, others: tuple[str, ...]) -> RedisServer:
        """Promote a replica and lead *others* to it; the old primary."""
        old, (new, third) = self.server, self._replicas
        self._replication.fall_silent()
        new.cli("REPLICAOF", "NO", "ONE")
        third.cli("REPLICAOF", "127.0.0.1", new.port)
        assert eventually(lambda: _good_replicas(new) == 1)
        for name in others:
            self._paths[name].lead_to(new.port)
        self.server, self._replicas = new, [third, old]
        return old

    def heal(self) -> None:
        """Make the old primary a replica, and lead everybody to the new one."""
        self._replication.speak(late=False)
        self._replication.lead_to(self.server.port)
        for replica in reversed(self._replicas):
            replica.cli("REPLICAOF", "127.0.0.1", self._replication.port)
        for path in self._paths.values():
            if not path.leads_to(self.server.port):
                path.lead_to(self.server.port)
        assert eventually(lambda: _good_replicas(self.server) == 2)

    @staticmethod
    def _start(stack: ExitStack, binary: str, *extra: str) -> RedisServer:
        server = RedisServer(binary, extra=(*MIN_REPLICAS, *QUICK, *extra))
        stack.callback(server.close)
        return server


def split(world: World) -> None:
    """A strike is when the old primary took a record after the new one had begun its own history."""
    site = world.site
    assert isinstance(site, TwoSides)
    for others in cycle(SIDES):
        if not world.goes_on(world.d):
            break
        old = site.split(others)
        world.goes_on(0.3 * world.d)
        before = _head(old)
        world.goes_on(0.4 * MAX_LAG)
        world.struck(int(_head(old) != before))
        site.heal()


def _head(server: RedisServer) -> float | None:
    score = None
    with suppress(redis.RedisError):
        score = server.cli("ZSCORE", "{default}1:v", "\x01s")
    return None if score is None else float(score)


def _good_replicas(server: RedisServer) -> int:
    return int(server.cli("INFO", "replication").get("min_slaves_good_slaves", 0))
