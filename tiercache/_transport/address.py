"""Where Redis is, and how to connect to it, for both worlds: made from a URL or from a user's client."""

from __future__ import annotations

# The first connection imports it, and a child forked amid an import waits for a thread it does not have.
import encodings.idna  # noqa: F401
import inspect
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

import redis
import redis.asyncio.connection as awaiting
import redis.asyncio.sentinel
import redis.connection as blocking
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as BrokenConnection

from tiercache._errors import SettingError
from tiercache._transport import tls
from tiercache._transport.options import OURS
from tiercache._transport.replies import ClosedAtOnce, is_closed_at_once
from tiercache._transport.urls import THROUGH_SENTINEL, read, redacted, without_secrets

_TWINS: dict[type, type] = {
    blocking.Connection: awaiting.Connection,
    blocking.SSLConnection: awaiting.SSLConnection,
    blocking.UnixDomainSocketConnection: awaiting.UnixDomainSocketConnection,
}
# What each class of redis-py's own is in the blocking world; what another one adds would be lost in silence.
_KNOWN: dict[type, type] = {
    **{own: own for own in _TWINS},
    **{twin: own for own, twin in _TWINS.items()},
    redis.sentinel.SentinelManagedConnection: blocking.Connection,
    redis.sentinel.SentinelManagedSSLConnection: blocking.SSLConnection,
    redis.asyncio.sentinel.SentinelManagedConnection: blocking.Connection,
    redis.asyncio.sentinel.SentinelManagedSSLConnection: blocking.SSLConnection,
}
_SENTINEL_POOLS = (redis.sentinel.SentinelConnectionPool, redis.asyncio.sentinel.SentinelConnectionPool)
NOWHERE: Mapping[str, Any] = {}
# Each is asked in the same way by both worlds, or has a method for each.
_CALLED_ALIKE = ("credential_provider", "ssl_password")
_MANNER = ("credential_provider", "password", "ssl_", "username")
_REQUIRED = {
    None: ssl.CERT_NONE,
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class Identity(NamedTuple):
    """What makes two addresses the same server, database and user."""

    host: str
    port: int
    database: int
    user: str


class Address:
    """How to open a connection in either world, with this cache's own timeouts and no retries."""

    def __init__(self, connection_class: type, kwargs: Mapping[str, Any], timeout: float) -> None:
        known = _KNOWN.get(connection_class)
        if known is None:
            raise SettingError(
                f"client= has connections of {connection_class.__module__}.{connection_class.__qualname__}, "
                "which is not redis-py's own, and what it adds would be left out here; pass a client of "
                "redis-py's own connections, or a URL, and for a tunnel or proxy the address of its near end"
            )
        self._blocking, self._awaiting = known, _TWINS[known]
        self.kwargs = {name: value for name, value in kwargs.items() if name not in OURS}
        _refuse_callables(self.kwargs)
        self._options = {world: _taken(world, self.kwargs) for world in (self._blocking, self._awaiting)}
        self.timeout = timeout
        self._context = tls.Shared()

    @classmethod
    def of_url(cls, url: str, timeout: float) -> Address:
        """From a URL of `SCHEMES` but memory://; a typo anywhere in it is a SettingError now, not later."""
        if url.partition(":")[0] in THROUGH_SENTINEL:
            from tiercache._transport.sentinel import SentinelAddress

            return SentinelAddress.of_url(url, timeout)
        try:
            kwargs = read(url)
            address = cls(kwargs.pop("connection_class", blocking.Connection), kwargs, timeout)
            address.connection()
        except SettingError:
            raise
        except (TypeError, ValueError, AttributeError, OSError, redis.RedisError) as error:
            # Not `from error`: it may quote a part of the URL that is a password's.
            raise SettingError(f"cannot read the URL {redacted(url)!r}: {error}") from None
        return address

    @classmethod
    def of_client(cls, client: Any, timeout: float) -> Address:
        """From a redis.Redis, a redis.asyncio.Redis, or a pool of either."""
        pool = getattr(client, "connection_pool", client)
        kwargs, connection_class = (
            getattr(pool, "connection_kwargs", None),
            getattr(pool, "connection_class", None),
        )
        if kwargs is None or connection_class is None:
            raise SettingError(
                "client= takes a redis.Redis, a redis.asyncio.Redis or a pool of one, "
                f"not {type(client).__name__}"
            )
        try:
            if isinstance(pool, _SENTINEL_POOLS):
                from tiercache._transport.sentinel import SentinelAddress

                return SentinelAddress.of_pool(pool, timeout)
            return cls(connection_class, kwargs, timeout)
        except TypeError as error:
            raise SettingError(
                f"client= has options that not both worlds of redis-py have: {error}"
            ) from error

    def with_timeout(self, timeout: float) -> Address:
        """The same server, asked with less patience."""
        address = Address(self._blocking, self.kwargs, timeout)
        address._context = self._context
        return address

    @property
    def database(self) -> int:
        return int(self.kwargs.get("db") or 0)

    @property
    def identity(self) -> Identity:
        host = self.kwargs.get("path") or self.kwargs.get("host") or "localhost"
        host = "127.0.0.1" if host == "localhost" else host
        port = 0 if "path" in self.kwargs else int(self.kwargs.get("port") or 6379)
        return Identity(str(host), port, self.database, str(self.kwargs.get("username") or ""))

    @property
    def manner(self) -> dict[str, Any]:
        """Who connects, and how far the server is trusted; all who share a connection agree. Has secrets."""
        options = {**_defaults(self._blocking), **self.kwargs}
        said = {name: value or None for name, value in options.items() if name.startswith(_MANNER)}
        if "ssl_cert_reqs" in said:
            said["ssl_cert_reqs"] = _REQUIRED.get(options["ssl_cert_reqs"], options["ssl_cert_reqs"])
        return {"scheme": str(self).partition(":")[0], **said}

    @property
    def primary(self) -> str | None:
        """The server that Sentinel named and that is in use; None where nobody asked it."""
        return None

    def open(self) -> blocking.Connection:
        """A connection for one thread at a time, open."""
        connection = self.connection()
        try:
            self._connect(connection)
        except BrokenConnection as error:
            if is_closed_at_once(error):
                raise ClosedAtOnce(str(error)) from error
            raise
        return connection

    async def open_async(self) -> awaiting.Connection:
        """A connection for one task at a time, open."""
        connection = self.async_connection()
        try:
            await self._connect_async(connection)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, BrokenConnection) and is_closed_at_once(error):
                raise ClosedAtOnce(str(error)) from error
            raise
        return connection

    def _connect(self, connection: blocking.Connection) -> None:
        with without_secrets(self.kwargs), tls.told(self.kwargs):
            connection.connect()

    async def _connect_async(self, connection: awaiting.Connection) -> None:
        with without_secrets(self.kwargs), tls.told(self.kwargs):
            await self._context.lend(connection)
            await connection.connect()

    def leads_to(self, connection: blocking.Connection | awaiting.Connection) -> bool:
        """Whether a connection that is open may be used: no other server has taken the place of its own."""
        return True

    def look(self, patience: float) -> None:
        """Find out whether another server has taken the place; blocks for *patience* if nobody answers."""

    def connection(self, where: Mapping[str, Any] = NOWHERE) -> blocking.Connection:
        """A connection that is not open yet, to *where* instead if that is given."""
        options = {**self._options[self._blocking], **where, **self._own(redis.retry.Retry)}
        with tls.told(self.kwargs):
            made: blocking.Connection = self._blocking(**options)
        return made

    def async_connection(self, where: Mapping[str, Any] = NOWHERE) -> awaiting.Connection:
        """The same in the other world."""
        options = {**self._options[self._awaiting], **where, **self._own(redis.asyncio.retry.Retry)}
        with tls.told(self.kwargs):
            made: awaiting.Connection = self._awaiting(**options)
        return made

    def _own(self, retry: Any) -> dict[str, Any]:
        return {
            "protocol": 2,
            "retry": retry(NoBackoff(), 0),
            "socket_timeout": self.timeout,
            "socket_connect_timeout": self.timeout,
        }

    def __str__(self) -> str:
        _, port, database, _ = self.identity
        host = self.kwargs.get("path") or self.kwargs.get("host") or "localhost"
        if not port:
            return f"unix://{host}?db={database}"
        host = f"[{host}]" if ":" in host else host
        scheme = "rediss" if issubclass(self._blocking, blocking.SSLConnection) else "redis"
        return f"{scheme}://{host}:{port}/{database}"


def _refuse_callables(kwargs: Mapping[str, Any]) -> None:
    """Raise SettingError for a function among *kwargs*: one of the other world would be called in vain.

    A blocking `redis_connect_func` awaits nothing, so an awaited connection would have no AUTH and no SELECT.
    """
    for name, value in kwargs.items():
        if callable(value) and not isinstance(value, type) and name not in _CALLED_ALIKE:
            raise SettingError(
                f"client= has {name}=, a function for connections of one world of redis-py, and a cache has "
                "both; say who connects by credential_provider=, or by username= and password="
            )


def _taken(connection_class: type, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of *kwargs* that the class takes; raises TypeError for one it does not take and that is set.

    A client has every option of its own world, most of them at a value that asks for nothing.
    """
    known = _defaults(connection_class)
    refused = sorted(name for name, value in kwargs.items() if value and name not in known)
    if refused:
        raise TypeError(
            f"{connection_class.__module__}.{connection_class.__name__} takes no {', '.join(refused)}"
        )
    return {name: value for name, value in kwargs.items() if name in known}


def _defaults(connection_class: type) -> dict[str, Any]:
    """Every option that the class takes, and what it is where nobody says."""
    inits = [vars(cls)["__init__"] for cls in connection_class.__mro__ if "__init__" in vars(cls)]
    return {name: each.default for init in inits for name, each in inspect.signature(init).parameters.items()}
