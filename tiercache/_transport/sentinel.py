"""Where a primary is that Sentinel watches over, and how to connect to it, for both worlds.

    redis+sentinel://[[user]:password@]host[:26379][,host...]/service[/database][?options]

The primary is searched for whenever a connection is opened, and it is left like this:

    its server is gone         the next connection asks the sentinels again
    it turns a write away      that connection is closed, and the next one asks them again
    another one was found      every connection to the one before is closed instead of used
    another one is named       the listener asks a sentinel once a second, and finds it

redis-py's own `discover_master` is not used: it cannot tell a service that nobody knows from
sentinels that nobody reaches, takes the first answer for good, knows no terms, and each silent
sentinel costs its caller a timeout. Its connections are used, and two commands.
"""

from __future__ import annotations

import ipaddress
import re
import reprlib
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote

import redis.asyncio.connection as awaiting
import redis.connection as blocking
from redis.exceptions import InvalidResponse, RedisError

from tiercache._core.plan import run, run_async
from tiercache._errors import SettingError
from tiercache._nearest import nearest
from tiercache._transport.address import Address, Identity
from tiercache._transport.options import check_characters, check_once, check_options, is_database
from tiercache._transport.primary import Inquire, Known, Leave, Named, Reach, Step, Where, search, shown
from tiercache._transport.replies import packed
from tiercache._transport.urls import check_marks, redacted, redacted_host

FORM = "redis+sentinel://host1:26379,host2:26379/service/0"
PORT = 26379
OWN_OPTIONS = ("sentinel_username", "sentinel_password")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:;\[\]\s]+)(?::(\d+))?")


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
        # Two questions in one piece: the first names the new primary as soon as there is one, where the
        # second, which has the term, goes on with the old one until the other replicas have moved.
        questions = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), ("SENTINEL", "MASTER", service)]
        self._question = [packed(questions)]

    @classmethod
    def of_url(cls, url: str, timeout: float) -> SentinelAddress:
        """From redis+sentinel:// or, with TLS to sentinels and servers alike, rediss+sentinel://."""
        scheme, _, rest = url.partition("+sentinel://")
        where, _, query = rest.partition("?")
        authority, *path = where.split("/")
        credentials, _, hosts = authority.rpartition("@")
        try:
            check_marks(rest)
            places = [_place(host) for host in hosts.split(",")]
            service, database = _service(path)
            check_once(parse_qs(query))
            own, options = _own_options(query)
            user = _user(credentials)
            check_options(options, [*user, "db"] if database else list(user), tls=scheme == "rediss")
            kwargs = {**blocking.parse_url(f"{scheme}://primary/{database}?{options}"), **user}
            del kwargs["host"]
            connection_class = kwargs.pop("connection_class", blocking.Connection)
            shared = {name: value for name, value in kwargs.items() if name.startswith(("ssl_", "socket_"))}
            sentinels = [
                Address(connection_class, {**shared, **own, **place._asdict()}, timeout) for place in places
            ]
            address = cls(service, sentinels, connection_class, kwargs, timeout)
            address.connection()
        except (ValueError, TypeError, AttributeError, OSError, RedisError) as error:
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
        address._known, address._context = self._known, self._context
        return address

    @property
    def identity(self) -> Identity:
        # In any order: two handles that name the same sentinels are on the same server.
        hosts = ",".join(sorted(map(shown, self._sentinels)))
        return Identity(f"{self._service}@{hosts}", 0, self.database, str(self.kwargs.get("username") or ""))

    @property
    def manner(self) -> dict[str, Any]:
        theirs = {shown(sentinel): sentinel.manner for sentinel in self._sentinels}
        return {**super().manner, "what the sentinels ask for": theirs}

    @property
    def primary(self) -> str | None:
        last = self._known.last
        return None if last is None else str(last.where)

    def open(self) -> blocking.Connection:
        plan = search(self._known, self._service, self.timeout, time.monotonic)
        connection: blocking.Connection = run(plan, self._perform)
        return connection

    async def open_async(self) -> awaiting.Connection:
        plan = search(self._known, self._service, self.timeout, time.monotonic)
        connection: awaiting.Connection = await run_async(plan, self._perform_async)
        return connection

    def leads_to(self, connection: blocking.Connection | awaiting.Connection) -> bool:
        last = self._known.last
        return last is not None and (connection.host, connection.port) == last.where

    def look(self, patience: float) -> None:
        known = self._known
        if known.last is None:
            return
        share = min(patience, self.timeout / len(known.sentinels))
        try:
            named = self._perform(Inquire(known.next_in_turn(), share))
            if named is not None and known.hear(named):
                self.open().disconnect()
        except (RedisError, OSError):
            return  # the next look asks another sentinel

    def _perform(self, step: Step) -> Any:
        match step:
            case Inquire(sentinel, share):
                connection = sentinel.with_timeout(share).open()
                try:
                    connection.send_packed_command(self._question)
                    where = connection.read_response()
                    return None if where is None else _named(where, connection.read_response())
                finally:
                    connection.disconnect()
            case Reach(where):
                connection = self.connection(where._asdict())
                try:
                    self._connect(connection)
                    connection.send_command("INFO", "replication")
                    is_primary = _says_primary(connection.read_response())
                except BaseException:
                    connection.disconnect()
                    raise
                if is_primary:
                    return connection
                connection.disconnect()
            case Leave(connection):
                connection.disconnect()

    async def _perform_async(self, step: Step) -> Any:
        match step:
            case Inquire(sentinel, share):
                connection = await sentinel.with_timeout(share).open_async()
                try:
                    await connection.send_packed_command(self._question)
                    where = await connection.read_response()
                    return None if where is None else _named(where, await connection.read_response())
                finally:
                    await connection.disconnect(nowait=True)
            case Reach(where):
                connection = self.async_connection(where._asdict())
                try:
                    await self._connect_async(connection)
                    await connection.send_command("INFO", "replication")
                    is_primary = _says_primary(await connection.read_response())
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                if is_primary:
                    return connection
                await connection.disconnect(nowait=True)
            case Leave(connection):
                await connection.disconnect(nowait=True)

    def __str__(self) -> str:
        hosts = ",".join(map(shown, self._sentinels))
        scheme = "rediss" if issubclass(self._blocking, blocking.SSLConnection) else "redis"
        return f"{scheme}+sentinel://{hosts}/{quote(self._service, safe='')}/{self.database}"


def _place(text: str) -> Where:
    """The host and port of one sentinel as the URL has them."""
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[2] or PORT) < 65536:
        raise ValueError(f"{redacted_host(text)!r} is not the host, or host:port, of a sentinel")
    host = match[1]
    if host.startswith("["):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    return Where(unquote(host), int(match[2] or PORT))


def _service(path: Sequence[str]) -> tuple[str, str]:
    """The service and the database that follow the hosts."""
    service, database, *more = *path, *("", "")[: max(0, 2 - len(path))]
    if not service:
        raise ValueError("it names no service, under which the sentinels watch over the primary")
    if database and not is_database(database):
        raise ValueError(f"the database must be a number, not {database!r}")
    if any(more):
        raise ValueError("no more than the service and the database may follow the hosts")
    check_characters("the name of the service", unquote(service))
    return unquote(service), database


def _user(credentials: str) -> dict[str, str]:
    user, _, password = credentials.partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}


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
            own.update((name.removeprefix("sentinel_"), value) for name, value in parse_qsl(part))
    for name, value in own.items():
        check_characters(f"sentinel_{name}", value)
    return own, "&".join(options)


def _named(where: Any, state: Any) -> Named:
    try:
        term = int(state[state.index(b"config-epoch") + 1])
        return Named(Where(where[0].decode(), int(where[1])), term)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidResponse(f"a sentinel gave an answer that is not one: {reprlib.repr(where)}") from error


def _says_primary(info: bytes) -> bool:
    # INFO and not ROLE: a cache's user has the right to it, for the scripts.
    return b"role:master" in info.split()
