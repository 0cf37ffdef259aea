"""Where Redis is, and how to connect to it, for both worlds: made from a URL or from a user's client."""

from __future__ import annotations

# The first connection imports it, and a child forked amid an import waits for a thread it does not have.
import encodings.idna  # noqa: F401
import inspect
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio.connection as awaiting
import redis.asyncio.sentinel
import redis.connection as blocking
import redis.sentinel
from redis.backoff import NoBackoff

from tiercache._errors import SettingError
from tiercache._nearest import nearest

THROUGH_SENTINEL = ("redis+sentinel", "rediss+sentinel")
SCHEMES = ("redis", "rediss", "unix", "memory", *THROUGH_SENTINEL)
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
# What a cache decides for itself: redis-py's own retries cost 3.5 to 7 s where nobody answers.
_OURS = (
    "connection_class",
    "decode_responses",
    "health_check_interval",
    "himport_registry",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "max_connections",
    "orig_host_address",
    "orig_socket_connect_timeout",
    "orig_socket_timeout",
    "oss_cluster_maint_notifications_handler",
    "parser_class",
    "protocol",
    "event_dispatcher",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "socket_connect_timeout",
    "socket_timeout",
    "timeout",
)
# What a text can say of a connection. The other options are objects: as text they would fail at each call.
_SAID_IN_A_URL = """
    client_name db password path socket_keepalive socket_read_size username
    ssl_ca_certs ssl_ca_data ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers
    ssl_exclude_verify_flags ssl_include_verify_flags ssl_keyfile ssl_min_version ssl_password
"""
_IN_A_URL = {*_SAID_IN_A_URL.split(), *_OURS} - {"connection_class"}
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
        self.kwargs = {name: value for name, value in kwargs.items() if name not in _OURS}
        _refuse_callables(self.kwargs)
        self._options = {world: _taken(world, self.kwargs) for world in (self._blocking, self._awaiting)}
        self.timeout = timeout

    @classmethod
    def of_url(cls, url: str, timeout: float) -> Address:
        """From a URL of `SCHEMES` but memory://; a typo anywhere in it is a SettingError now, not later."""
        scheme = url.partition(":")[0]
        if scheme in THROUGH_SENTINEL:
            from tiercache._transport.sentinel import SentinelAddress

            return SentinelAddress.of_url(url, timeout)
        if scheme not in SCHEMES:
            raise SettingError(
                f"{redacted(url)!r} is not the URL of a cache: its scheme must be one of "
                f"{', '.join(SCHEMES)}{nearest(scheme.lower(), SCHEMES)}; write it as in redis://localhost:6379/0"
            )
        try:
            parts = urlsplit(url)
            _ = parts.port
            options = parse_qs(parts.query)
            kwargs = dict(blocking.parse_url(url))
        except ValueError as error:
            raise _unreadable(url, url, f"cannot read the URL {redacted(url)!r}: {error}") from None
        path, beyond = parts.path.strip("/"), f"{parts.path}{parts.query}{parts.fragment}"
        if scheme == "unix" and not path:
            raise SettingError(
                f"{redacted(url)!r} names no socket; write it as in unix:///run/redis.sock?db=0"
            )
        if any(c.isspace() for c in parts.netloc):
            raise SettingError(f"the URL {redacted(url)!r} has white space in it")
        if scheme != "unix" and path and not path.isdecimal():
            raise _unreadable(
                url,
                beyond,
                f"{redacted(url)!r} names the database {path!r}; it must be a number, as in redis://host:6379/0",
            )
        try:
            check_options(options)
            address = cls(kwargs.pop("connection_class", blocking.Connection), kwargs, timeout)
            address.connection()
        except (TypeError, ValueError, AttributeError, OSError, redis.RedisError) as error:
            raise _unreadable(
                url, beyond, f"the URL {redacted(url)!r} has an option redis-py refuses: {error}"
            ) from None
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
        return Address(self._blocking, self.kwargs, timeout)

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
        connection.connect()
        return connection

    async def open_async(self) -> awaiting.Connection:
        """A connection for one task at a time, open."""
        connection = self.async_connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def leads_to(self, connection: blocking.Connection | awaiting.Connection) -> bool:
        """Whether a connection that is open may be used: no other server has taken the place of its own."""
        return True

    def look(self, patience: float) -> None:
        """Find out whether another server has taken the place; blocks for *patience* if nobody answers."""

    def connection(self, where: Mapping[str, Any] = NOWHERE) -> blocking.Connection:
        """A connection that is not open yet, to *where* instead if that is given."""
        options = {**self._options[self._blocking], **where, **self._own(redis.retry.Retry)}
        made: blocking.Connection = self._blocking(**options)
        return made

    def async_connection(self, where: Mapping[str, Any] = NOWHERE) -> awaiting.Connection:
        """The same in the other world."""
        options = {**self._options[self._awaiting], **where, **self._own(redis.asyncio.retry.Retry)}
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
        scheme = "rediss" if issubclass(self._blocking, blocking.SSLConnection) else "redis"
        return f"{scheme}://{host}:{port}/{database}"


def check_options(options: Mapping[str, Sequence[str]]) -> None:
    """Raise an error for those *options* of a URL that would be one no sooner than with each connection."""
    if unknown := options.keys() - _IN_A_URL:
        raise TypeError(f"a URL takes no {', '.join(sorted(unknown))}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for version in options.get("ssl_min_version", ()):
        context.minimum_version = ssl.TLSVersion(int(version))
    for ciphers in options.get("ssl_ciphers", ()):
        context.set_ciphers(ciphers)
    for data in options.get("ssl_ca_data", ()):
        context.load_verify_locations(cadata=data)


def _unreadable(url: str, quoted: str, why: str) -> SettingError:
    """An error that says *why*, unless *quoted*, which it may quote, may hold a part of a password."""
    if "@" in quoted:
        return SettingError(
            f"cannot read the URL {redacted(url)!r}: in a user's name or password '/', '?', '#', '[' and ']' "
            "are written %2F, %3F, %23, %5B and %5D, and a port is a number"
        )
    return SettingError(why)


def redacted(url: str) -> str:
    """*url* without what is, or may be, a password: for messages."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    credentials, at, where = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:***" if colon else user
    # An option that is misspelt is shown in an error, too.
    return re.sub("(pass?wo?r?d=)[^&]*", r"\1***", f"{scheme}{mark}{shown}{at}{where}")


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
