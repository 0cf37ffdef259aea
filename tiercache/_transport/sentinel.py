"""A primary that Sentinel names: found when a connection is opened, and left when another one is named.

    redis+sentinel://[[user]:password@]host[:26379][,host...]/service[/database][?options]

No connection is used before its server has said itself that it is the primary: a sentinel may
be behind (Redis' guidelines for clients of Sentinel). From then on

    the server is gone          the next connection asks the sentinels again
    it turns a write away       that connection is closed, and the next one asks them again
    another one is found        every connection to the one before is closed instead of used
    another one is named        the listener asks once a second, and finds it

The last is for a failover whose old primary lives: it takes writes until Sentinel makes it a
replica, eight seconds and more later. The search is written once, as a plan of two steps.

`discover_master` of redis-py is not used: it cannot tell a service that nobody knows from
sentinels that nobody reaches, takes the first answer for good, lets each silent sentinel cost
a timeout, and names the new primary later than the question asked here.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

import redis.asyncio.connection as awaiting
import redis.connection as blocking
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.sentinel import MasterNotFoundError

from tiercache._core.plan import run, run_async
from tiercache._errors import SettingError
from tiercache._nearest import nearest
from tiercache._transport.address import Address, Identity, redacted

log = logging.getLogger("tiercache")

FORM = "redis+sentinel://host1:26379,host2:26379/service/0"
PORT = 26379
OWN_OPTIONS = ("sentinel_username", "sentinel_password")
LEAST_SHARE = 0.01  # seconds a sentinel is given at least
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]\s]+)(?::(\d+))?")


class Where(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask a sentinel, for *share* seconds, where the primary is; None: it knows no such service."""

    sentinel: Address
    share: float


@dataclass(frozen=True, slots=True)
class Reach:
    """Open a connection to *where*; the reply is the connection and what the server says of its role."""

    where: Where


Search = Generator[Inquire | Reach, Any, Any]


class Known:
    """What the connections of one node know; each part is replaced whole, so no lock guards it."""

    def __init__(self, sentinels: Sequence[Address]) -> None:
        self.primary: Where | None = None  # the last that was found
        self.sentinels = tuple(sentinels)  # whom to ask first stands first


class SentinelAddress(Address):
    """How to open a connection to whichever server is the primary of *service* at that moment."""

    def __init__(
        self,
        service: str,
        sentinels: Sequence[Address],
        connection_class: type,
        kwargs: Mapping[str, Any],
        timeout: float,
    ) -> None:
        super().__init__(connection_class, kwargs, timeout)
        self._service, self._sentinels, self._known = service, tuple(sentinels), Known(sentinels)

    @classmethod
    def of_url(cls, url: str, timeout: float) -> SentinelAddress:
        """From redis+sentinel:// or, with TLS to sentinels and servers alike, rediss+sentinel://."""
        scheme, _, rest = url.partition("+sentinel://")
        where, _, query = rest.partition("#")[0].partition("?")
        authority, *path = where.split("/")
        credentials, at, hosts = authority.rpartition("@")
        try:
            if "#" in rest or (not at and "@" in rest):
                raise ValueError(
                    "a '/', '?', '#' or '@' in a name or password is written %2F, %3F, %23 or %40"
                )
            places = [_place(host) for host in hosts.split(",")]
            service, database = _service(path)
            own, options = _own_options(query)
            plain = f"{scheme}://{credentials}{at}primary/{database}?{options}"
            kwargs = dict(blocking.parse_url(plain))
            del kwargs["host"]
            connection_class = kwargs.pop("connection_class", blocking.Connection)
            shared = {name: value for name, value in kwargs.items() if name.startswith(("ssl_", "socket_"))}
            sentinels = [
                Address(connection_class, {**shared, **own, **place._asdict()}, timeout) for place in places
            ]
            address = cls(service, sentinels, connection_class, kwargs, timeout)
            address.connection()
        except (ValueError, TypeError, RedisError) as error:
            # Not `from error`: it may quote a part of the URL that is a password's.
            raise SettingError(
                f"cannot read the URL {redacted(url)!r}: {error}; write it as in {FORM}"
            ) from None
        return address

    @classmethod
    def of_pool(cls, pool: Any, timeout: float) -> SentinelAddress:
        """From the pool of what a Sentinel of redis-py, of either world, gave as `master_for`."""
        manager, kwargs = pool.sentinel_manager, dict(pool.connection_kwargs)
        if not pool.is_master:
            raise SettingError("client= is made by slave_for; replicas are not read here, so use master_for")
        if manager.min_other_sentinels or getattr(manager, "_force_master_ip", None):
            raise SettingError(
                "client= has a Sentinel with min_other_sentinels or force_master_ip, which are not known "
                f"here; pass the URL instead, as in {FORM}"
            )
        del kwargs["connection_pool"]
        sentinels = [Address.of_client(sentinel, timeout) for sentinel in manager.sentinels]
        return cls(pool.service_name, sentinels, pool.connection_class, kwargs, timeout)

    def with_timeout(self, timeout: float) -> SentinelAddress:
        """The same, asked with less patience; what one of the two finds, both know."""
        address = SentinelAddress(self._service, self._sentinels, self._blocking, self.kwargs, timeout)
        address._known = self._known
        return address

    @property
    def identity(self) -> Identity:
        # In any order: two handles that name the same sentinels are on the same server.
        hosts = ",".join(sorted(f"{s.identity.host}:{s.identity.port}" for s in self._sentinels))
        return Identity(f"{self._service}@{hosts}", 0, self.database, str(self.kwargs.get("username") or ""))

    @property
    def primary(self) -> str | None:
        found = self._known.primary
        return None if found is None else f"{found.host}:{found.port}"

    def open(self) -> blocking.Connection:
        connection: blocking.Connection = run(self._search(), self._perform)
        return connection

    async def open_async(self) -> awaiting.Connection:
        connection: awaiting.Connection = await run_async(self._search(), self._perform_async)
        return connection

    def leads_to(self, connection: blocking.Connection | awaiting.Connection) -> bool:
        return (connection.host, connection.port) == self._known.primary

    def look(self, patience: float) -> None:
        known = self._known
        if known.primary is None:
            return
        first, *others = known.sentinels
        try:
            where = self._perform(Inquire(first, min(patience, self.timeout / len(known.sentinels))))
            if where not in (None, known.primary):
                self.open().disconnect()
        except (RedisError, OSError):
            known.sentinels = (*others, first)

    def _search(self) -> Search:
        """The plan of finding the primary; returns a connection to it, of the world it is performed in."""
        known, give_up = self._known, time.monotonic() + self.timeout
        reached: set[Where] = set()
        why: list[str] = []
        named = False
        for place, sentinel in enumerate(known.sentinels):
            share = (give_up - time.monotonic()) / (len(known.sentinels) - place)
            try:
                where = yield Inquire(sentinel, max(LEAST_SHARE, share))
            except (RedisError, OSError) as error:
                why.append(f"{_shown(sentinel)} did not say: {_told(error)}")
                continue
            if where is None:
                why.append(f"{_shown(sentinel)} knows no service {self._service!r}")
            elif where not in reached:
                reached.add(where)
                named = True
                connection = yield from self._reach(where, f"named by {_shown(sentinel)}", why)
                if connection is not None:
                    self._found(where, sentinel)
                    return connection
        # Sentinels that are away, or have forgotten, say nothing against the primary.
        if not named and known.primary is not None:
            connection = yield from self._reach(known.primary, "the last one known", why)
            if connection is not None:
                return connection
        raise MasterNotFoundError(f"found no primary of {self._service!r}: {'; '.join(why)}")

    def _reach(self, where: Where, source: str, why: list[str]) -> Search:
        """A connection to *where*; None, and *why* is told, if there is none or it is no primary."""
        server = f"{where.host}:{where.port}, {source},"
        try:
            connection, is_primary = yield Reach(where)
        except RedisTimeout:
            raise  # it had its time, and the caller no more
        except (RedisError, OSError) as error:
            why.append(f"{server} did not answer: {_told(error)}")
            return None
        if not is_primary:
            why.append(f"{server} is a replica")
            return None
        return connection

    def _found(self, where: Where, sentinel: Address) -> None:
        known, before = self._known, self._known.primary
        if before not in (None, where):
            log.warning("the primary of %s is %s:%d now, no longer %s:%d", self._service, *where, *before)
        known.primary = where
        if known.sentinels[0] is not sentinel:
            known.sentinels = (sentinel, *(other for other in known.sentinels if other is not sentinel))

    def _perform(self, step: Inquire | Reach) -> Any:
        match step:
            case Inquire(sentinel, share):
                connection = sentinel.with_timeout(share).open()
                try:
                    connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                    return _named(connection.read_response())
                finally:
                    connection.disconnect()
            case Reach(where):
                connection = self.connection(where._asdict())
                try:
                    connection.connect()
                    connection.send_command("INFO", "replication")
                    is_primary = _says_primary(connection.read_response())
                except BaseException:
                    connection.disconnect()
                    raise
                if not is_primary:
                    connection.disconnect()
                return connection, is_primary

    async def _perform_async(self, step: Inquire | Reach) -> Any:
        match step:
            case Inquire(sentinel, share):
                connection = await sentinel.with_timeout(share).open_async()
                try:
                    await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                    return _named(await connection.read_response())
                finally:
                    await connection.disconnect(nowait=True)
            case Reach(where):
                connection = self.async_connection(where._asdict())
                try:
                    await connection.connect()
                    await connection.send_command("INFO", "replication")
                    is_primary = _says_primary(await connection.read_response())
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                if not is_primary:
                    await connection.disconnect(nowait=True)
                return connection, is_primary

    def __str__(self) -> str:
        hosts = ",".join(map(_shown, self._sentinels))
        scheme = "rediss" if issubclass(self._blocking, blocking.SSLConnection) else "redis"
        return f"{scheme}+sentinel://{hosts}/{quote(self._service, safe='')}/{self.database}"


def _place(text: str) -> Where:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[2] or PORT) < 65536:
        raise ValueError(f"{text!r} is not the host, or host:port, of a sentinel")
    host = match[1]
    if host.startswith("["):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    return Where(unquote(host), int(match[2] or PORT))


def _service(path: Sequence[str]) -> tuple[str, str]:
    """The service and the database that follow the hosts."""
    service, database, *more = (*path, "", "")[: max(2, len(path))]
    if not service:
        raise ValueError("it names no service, the name under which the sentinels watch the primary")
    if database and not database.isdecimal():
        raise ValueError(f"the database must be a number, not {database!r}")
    if any(more):
        raise ValueError("a service and a database are all that may follow the hosts")
    return unquote(service), database


def _own_options(query: str) -> tuple[dict[str, str], str]:
    """What the sentinels themselves ask for, and the other options as they stand."""
    own: dict[str, str] = {}
    options = []
    for part in filter(None, query.split("&")):
        name = part.partition("=")[0]
        if not name.startswith("sentinel_"):
            options.append(part)
        elif name not in OWN_OPTIONS:
            raise ValueError(f"{name!r} is not an option{nearest(name, OWN_OPTIONS)}")
        else:
            own.update(parse_qsl(part, strict_parsing=True))
    return {name.removeprefix("sentinel_"): value for name, value in own.items()}, "&".join(options)


def _named(reply: Any) -> Where | None:
    return None if reply is None else Where(reply[0].decode(), int(reply[1]))


def _says_primary(info: bytes) -> bool:
    # INFO and not ROLE: a cache's user has the right to it, for the scripts.
    return b"role:master" in info.split()


def _shown(sentinel: Address) -> str:
    host, port, _, _ = sentinel.identity
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _told(error: BaseException) -> str:
    advice = "; its own are sentinel_username and sentinel_password" if _asks_for_password(error) else ""
    return f"{type(error).__name__}: {error}{advice}"


def _asks_for_password(error: BaseException) -> bool:
    return isinstance(error, AuthenticationError)
