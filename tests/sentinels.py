"""A primary, two replicas and three sentinels on loopback, to fail over, hurt and bring back.

The sentinels know one another and the replicas from their first second: their configuration
says so, where they would take two seconds to greet each other. Failure is noticed after
half a second, and everything else is as in production.

    1. A sentinel finds the primary silent; a quorum of 2 agrees.    DOWN_AFTER
    2. One sentinel leads, promotes a replica, and names it.         under a second
    3. The others hear of it and name it, too: `await_agreed`.       under a second
    4. The old primary, if it lives, is made a replica.              8 s or more later

Until 4 two servers take writes, unless `min_replicas` keeps the old one from it.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from tests.servers import RedisServer, eventually, is_alive
from tiercache import embedded

SERVICE = "shop-primary"
DOWN_AFTER = 500  # ms
PATIENCE = 0.5  # seconds for one reply of a sentinel, which may be silent
FAILOVER_TIMEOUT = 2_000  # ms between two attempts
AGREED_WITHIN = 15.0  # seconds, on a machine that is busy
QUORUM = 2


class SentinelServer:
    """One sentinel. It keeps its port, its identity and what it has learned from start to start."""

    def __init__(self, binary: str, port: int, settings: Sequence[str]) -> None:
        self.binary, self.port = binary, port
        self.identity = secrets.token_hex(20)
        self._directory = tempfile.mkdtemp(prefix="tiercache-sentinel-")
        self._settings = [f"port {port}", "bind 127.0.0.1", f"sentinel myid {self.identity}", *settings]
        self._process: embedded.EmbeddedServer | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() first"
        return self._process.pid

    def start(self, extra: Sequence[str] = ()) -> None:
        """Start, with what it knew when it ended; *extra* is for its first start."""
        configuration = Path(self._directory, "sentinel.conf")
        if not configuration.exists():
            lines = [f"dir {self._directory}", *self._settings, *extra]
            configuration.write_text("\n".join(lines) + "\n")
        lifeline = tempfile.mkdtemp(prefix="tiercache-sentinel-")  # removed when the sentinel ends
        with tempfile.TemporaryFile() as log:
            command = ["/bin/sh", "-c", embedded.SUPERVISOR, "sentinel", lifeline]
            supervisor = subprocess.Popen(
                [*command, self.binary, str(configuration), "--sentinel"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
            self._process = embedded.EmbeddedServer(supervisor, lifeline, self.port)
            self._process._await_answer(log)

    def cli(self, *command: str | int) -> Any:
        return _cli(self.port, *command)

    def names(self, service: str = SERVICE) -> int | None:
        """The port of the primary it names now; None if it does not answer."""
        try:
            answer = _cli(self.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service, patience=0.1)
        except (redis.RedisError, OSError):
            return None
        return None if answer is None else int(answer[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert eventually(lambda: not is_alive(self.pid))
        self.end()

    def pause(self) -> None:
        """Stop it in its tracks: the port accepts, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def close(self) -> None:
        """End it, in whatever state it is, and forget what it knew."""
        self.end()
        shutil.rmtree(self._directory)


class Topology:
    """The six of them. All methods block until the servers are in the state they name.

    *binary* is of `tests.servers.binaries()`; *extra* are settings of the three data servers, as in
    `("--min-replicas-to-write", "1")`; *auth* are lines for the configuration of the sentinels.
    """

    def __init__(self, binary: str, *, extra: Sequence[str] = (), auth: Sequence[str] = ()) -> None:
        self.servers: list[RedisServer] = []
        self.sentinels: list[SentinelServer] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            soon = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
            options = (*soon, "--repl-ping-replica-period", "1", *extra)
            self.servers.append(RedisServer(binary, extra=options))
            of_first = ("--replicaof", "127.0.0.1", str(self.servers[0].port))
            for _ in range(2):
                self.servers.append(RedisServer(binary, extra=(*options, *of_first)))
            assert eventually(lambda: all(map(_is_in_sync, self.servers[1:]))), "a replica did not connect"
            assert eventually(lambda: _takes_writes(self.servers[0])), "no replica has acknowledged anything"
            self._start_sentinels(binary, auth)
            undo.pop_all()

    def url(self, db: int = 0, *, options: str = "") -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/{db}{options}"

    @property
    def primary(self) -> RedisServer:
        """The server that the sentinels name."""
        port = next(filter(None, (sentinel.names() for sentinel in self.sentinels)))
        return self.server_at(port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The others, alive or not."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def server_at(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> RedisServer:
        """An operator's failover: the old primary lives, and takes writes for a while. The new primary."""
        before = self.primary
        # Refused for a while after another one, and while the replicas are not known to be well.
        assert eventually(self._asked_to_fail_over, within=AGREED_WITHIN), "no failover was begun"
        return self.await_agreed(other_than=before)

    def kill_primary(self) -> RedisServer:
        """A crash, and the failover that follows. The new primary."""
        before = self.primary
        before.kill()
        return self.await_agreed(other_than=before)

    def await_agreed(self, *, other_than: RedisServer) -> RedisServer:
        """Wait until all sentinels that answer name one primary, which is another than that one."""

        def agreed() -> bool:
            named = {sentinel.names() for sentinel in self.sentinels} - {None}
            return len(named) == 1 and named != {other_than.port}

        assert eventually(agreed, within=AGREED_WITHIN), "the sentinels did not agree on another primary"
        return self.primary

    def close(self) -> None:
        """End all of them, in whatever state they are."""
        for sentinel in self.sentinels:
            sentinel.close()
        for server in self.servers:
            server.close()

    def _start_sentinels(self, binary: str, auth: Sequence[str]) -> None:
        watch = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT}",
            f"sentinel parallel-syncs {SERVICE} 2",
            *(f"sentinel known-replica {SERVICE} 127.0.0.1 {s.port}" for s in self.servers[1:]),
            *auth,
        ]
        self.sentinels = [SentinelServer(binary, port, watch) for port in _free_ports(3)]
        for sentinel in self.sentinels:
            others = [other for other in self.sentinels if other is not sentinel]
            sentinel.start(
                [f"sentinel known-sentinel {SERVICE} 127.0.0.1 {o.port} {o.identity}" for o in others]
            )
        assert eventually(lambda: all(map(_sees_everybody, self.sentinels))), "the sentinels see not all"

    def _asked_to_fail_over(self) -> bool:
        for sentinel in self.sentinels:
            with suppress(redis.RedisError, OSError):
                return bool(sentinel.cli("SENTINEL", "FAILOVER", SERVICE))
        return False


def _sees_everybody(sentinel: SentinelServer) -> bool:
    flat = sentinel.cli("SENTINEL", "MASTER", SERVICE)
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    return (state[b"num-slaves"], state[b"num-other-sentinels"], state[b"flags"]) == (b"2", b"2", b"master")


def _is_in_sync(server: RedisServer) -> bool:
    return b"master_link_status:up" in _cli(server.port, "INFO", "replication")


def _takes_writes(server: RedisServer) -> bool:
    """Also under `min-replicas-to-write`: a replica in sync counts once it has acknowledged something."""
    try:
        server.cli("DEL", "a key that is not there")
    except redis.ResponseError:
        return False
    return True


def _cli(port: int, *command: str | int, patience: float = PATIENCE) -> Any:
    """The reply as it came, not parsed, over a connection of its own."""
    once = Retry(NoBackoff(), 0)
    connection = Connection("127.0.0.1", port, protocol=2, socket_timeout=patience, retry=once)
    try:
        connection.connect()
        connection.send_command(*command)
        return connection.read_response()
    finally:
        connection.disconnect()


def _free_ports(count: int) -> list[int]:
    """Ports that no outgoing connection is given: the servers of a topology look for one another from the
    first moment on, and one that looks for a port that nobody listens at yet may come from that very port.
    """
    free: list[int] = []
    while len(free) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
    return free
