"""The server of a run: one of its own, or the user's, where nothing is touched but the run's own keys."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import redis

from tiercache import L2Unavailable, embedded
from tiercache._transport.address import Address
from tiercache.cli.stampede.orders import Place

# What a connection says before it serves, what is loaded once a server, and what waits beside the calls.
APART = {
    "hello",
    "auth",
    "select",
    "ping",
    "info",
    "client|setinfo",
    "client|setname",
    "client|id",
    "client|tracking",
    "config|resetstat",
    "command",
    "command|docs",
    "subscribe",
    "unsubscribe",
    "psubscribe",
    "script|load",
    "script|exists",
    "function|load",
    "role",
}
SCRIPTS = ("eval", "evalsha", "fcall")
IN_A_LOOK = "mget"  # once, beside ZMSCORE and TIME in one pipeline; no script has it
Counted = Literal["round trips", "commands"]
PATIENCE = 5.0  # seconds for one answer of the server
AT_ONCE = 500  # keys looked through, and dropped, in one round trip


class Stage:
    """The user's server at *url*."""

    is_own = False

    def __init__(self, url: str) -> None:
        self.url, self.shown = url, str(Address.of_url(url, PATIENCE))
        self._client = redis.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        try:
            info: Any = self._client.info("server")
        except redis.RedisError as error:
            raise L2Unavailable(f"the server at {self.shown} does not answer: {error}") from error
        self.version: str = info.get("valkey_version") or info["redis_version"]

    def commands(self) -> dict[str, int] | None:
        """How often the server ran each command, of whomever; None where this user may not ask."""
        with self._there():
            try:
                stats: Any = self._client.info("commandstats")
            except redis.ResponseError:
                return None
        return {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}

    def forget_all(self, place: Place) -> None:
        """Let what *place* holds be gone as after a restart, and return when all know of it."""
        self.clear(place.namespace)
        time.sleep(place.max_staleness / 2)  # all sync within a third of it

    def clear(self, namespace: str) -> None:
        """Drop the keys that have *namespace* in their names; no other is touched."""
        with self._there():
            for keys in _batches(self._client, f"*{namespace}*"):
                self._client.delete(*keys)

    @contextmanager
    def _there(self) -> Iterator[None]:
        """L2Unavailable where the server went away: of what is played without one nothing can be told."""
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise L2Unavailable(f"the server at {self.shown} went away amid the run: {error}") from error

    def close(self) -> None:
        self._client.close()


class OwnStage(Stage):
    """A server for this run alone, which ends with it; of *binary*, or of what this machine prefers."""

    is_own = True
    AWAKE = 1.0  # seconds until everybody has noticed that it is back

    def __init__(self, binary: str | None = None) -> None:
        self._binary = binary
        self._server = embedded.start(binary=binary)
        super().__init__(self._server.url)

    def forget_all(self, place: Place) -> None:
        """Kill the server, and start another in its place."""
        port = self._server.port
        self._server.close()
        self._server = embedded.start(port=port, binary=self._binary)
        time.sleep(self.AWAKE)

    def close(self) -> None:
        super().close()
        self._server.close()


def requests(before: Mapping[str, int], after: Mapping[str, int], *, counted: Counted) -> int:
    """The requests between two looks; connecting, loading scripts and looking apart.

    Of tiercache, script calls and looks at an entry count, and not what is done inside of them. An EVAL comes
    after an EVALSHA of the same script that the server did not know. Of others every command counts, those
    of a script or a pipeline, too: the server does not tell them apart.
    """
    ran = {name: calls - before.get(name, 0) for name, calls in after.items()}
    scripts = sum(ran.get(name, 0) for name in SCRIPTS) - ran.get("eval", 0)
    if counted == "round trips":
        return scripts + ran.get(IN_A_LOOK, 0)
    return scripts + sum(calls for name, calls in ran.items() if name not in APART and name not in SCRIPTS)


def _batches(client: Any, pattern: str) -> Any:
    cursor = 0
    while True:
        cursor, keys = client.scan(cursor, match=pattern, count=AT_ONCE)
        if keys:
            yield keys
        if not cursor:
            return
