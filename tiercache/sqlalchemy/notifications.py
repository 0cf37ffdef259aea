"""A connection on which PostgreSQL says that something changed: LISTEN, by psycopg 3 or psycopg2.

What a notification says does not matter, only that one came; so none is kept.
"""

from __future__ import annotations

import importlib.util
import os
import selectors
import socket
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

DRIVERS = ("psycopg", "psycopg2")
UNACKNOWLEDGED_MS = 10_000  # what was sent and is not acknowledged for so long breaks the connection
CONNECT_TIMEOUT = 10  # whole seconds, as libpq has it


def engine_for(target: Engine | AsyncEngine | URL | str) -> Engine:
    """An engine whose driver can listen: *target* itself where it is one, else one for its URL.

    A URL that names another driver, as an AsyncEngine's may, goes through psycopg, else through psycopg2.
    ValueError for another database, or where the URL holds what cannot be said to another driver.
    """
    if isinstance(target, Engine) and target.dialect.driver in DRIVERS and not target.dialect.is_async:
        return target
    url = make_url(target) if isinstance(target, URL | str) else target.url
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"a bridge is for PostgreSQL, not for {url.get_backend_name()}")
    if url.drivername.partition("+")[2] not in DRIVERS:
        url = _through_another(url)
    return create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT})


def _through_another(url: URL) -> URL:
    found = [name for name in DRIVERS if importlib.util.find_spec(name) is not None]
    if not found:
        raise ValueError("a bridge needs psycopg or psycopg2: `pip install 'psycopg[binary]'`")
    said = {("sslmode" if name == "ssl" else name): value for name, value in url.query.items()}
    if not said.keys() <= {"sslmode", "host", "port"}:
        raise ValueError(
            f"of {url!r} a bridge does not know what {sorted(said)} mean to {found[0]}; "
            f"give it a URL or an Engine of postgresql+{found[0]}"
        )
    return url.set(drivername=f"postgresql+{found[0]}", query=said)


class Ears:
    """A connection of the bridge's own, out of its engine's pool; for one thread, but for cut()."""

    def __init__(self, engine: Engine, channel: str) -> None:
        """Connected and listening; raises what the engine's connect() raises."""
        # READ COMMITTED, whatever the engine's others have: at a higher level bridges hinder each other.
        self.connection: Connection = engine.connect().execution_options(
            invalidates=[], isolation_level="READ COMMITTED"
        )
        try:
            self._raw: Any = self.connection.connection.driver_connection
            self.connection.detach()  # held for long: the pool may make another in its place
            self._socket = _socket_of(self._raw)
            self.connection.execute(text(f"LISTEN {channel}"))
            self.connection.commit()  # in a transaction nothing is told
        except BaseException:
            self.connection.close()
            raise
        heard: dict[str, Callable[[], bool]] = {"psycopg": self._heard_3, "psycopg2": self._heard_2}
        self._heard = heard[engine.dialect.driver]

    def wait(self, wake: socket.socket, timeout: float) -> None:
        """Until a notification came or may have come, *wake* is readable, or *timeout* has passed."""
        if self._heard():
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._raw.fileno(), selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            selector.select(timeout)

    def cut(self) -> None:
        """Break the connection under whoever waits for it; from any thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is broken already

    def close(self) -> None:
        self.connection.close()
        self._socket.close()

    def _heard_3(self) -> bool:
        return bool(list(self._raw.notifies(timeout=0)))

    def _heard_2(self) -> bool:
        self._raw.poll()
        heard = bool(self._raw.notifies)
        self._raw.notifies.clear()
        return heard


def _socket_of(raw: Any) -> socket.socket:
    """The socket of a driver's connection, to be broken by us, or by the kernel where nobody answers."""
    found = socket.socket(fileno=os.dup(raw.fileno()))
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT") and found.family != socket.AF_UNIX:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return found
