"""One TLS context for all awaited connections of an address, made outside of their event loops;
and what is told of options that no connection can be made with.

redis-py makes one for each awaited connection, within the loop. To read the authorities of the system
takes 65 ms, in which no task of the loop goes on: 16 connections at once were a second, and the replies
that came meanwhile were late enough to open the circuit. Blocking connections have one each, as
redis-py makes them: only the thread that wants one waits for it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection
from redis.exceptions import ConnectionError as BrokenConnection

from tiercache._locks import Guard

_FILES = ("ca_certs", "ca_path", "certfile", "keyfile")
Stamp = tuple[Any, ...]

_guard = Guard()  # held while one is made, by threads that are there for nothing else


class Shared:
    """The context of one address, in every loop and at every timeout."""

    def __init__(self) -> None:
        self._made: tuple[Stamp, ssl.SSLContext] | None = None  # replaced under `_guard`

    async def lend(self, connection: Connection) -> None:
        """Have *connection*, which is not open yet, use it; made anew where one of its files has changed.

        A certificate that is renewed in its place is so shown by the next connection. Raises what
        redis-py raises where a file is missing or is none.
        """
        if not isinstance(connection, SSLConnection):
            return
        own, stamp = connection.ssl_context, _stamp(connection.ssl_context)
        made = self._made
        if made is None or made[0] != stamp:
            # Not the limit that all share: its threads may be waiting for what this connection is to bring.
            limiter = anyio.CapacityLimiter(1)
            own.context = await anyio.to_thread.run_sync(self._make, own, stamp, limiter=limiter)
        else:
            own.context = made[1]

    def _make(self, own: RedisSSLContext, stamp: Stamp) -> ssl.SSLContext:
        with _guard.lock:
            if self._made is None or self._made[0] != stamp:
                self._made = stamp, own.get()
            return self._made[1]


def _stamp(own: RedisSSLContext) -> Stamp:
    """What is another one as soon as a file that a context is made of is."""
    files = [getattr(own, name, None) for name in _FILES]  # redis-py 7.0 has no ca_path
    return tuple(map(_of_file, (ssl.get_default_verify_paths().cafile, *files)))


def _of_file(path: str | None) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return found and (found.st_mtime_ns, found.st_ino, found.st_size)


class NoConnection(BrokenConnection):
    """What the options say is not there, or is none; nobody was asked."""


@contextmanager
def told(kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Whatever prevents a connection is an error of redis-py or of the system, so that Redis is away.

    A TypeError or ValueError of an option is NoConnection; so is any where a file of *kwargs* is missing.
    """
    try:
        yield
    except (BrokenConnection, OSError, TypeError, ValueError) as error:
        for name in _FILES:
            path = kwargs.get(f"ssl_{name}")
            if isinstance(path, str) and path and not os.path.exists(path):
                raise NoConnection(f"there is no {path!r}, which ssl_{name} names") from error
        if isinstance(error, (BrokenConnection, OSError)):
            raise
        raise NoConnection(f"{type(error).__name__}: {error}") from error
