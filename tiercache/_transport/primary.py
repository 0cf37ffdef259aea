"""The search for the primary that Sentinel names, as a plan: who is asked, and who is believed.

No server is believed to be the primary before it has said so itself: a sentinel may be behind
(Redis' guidelines for clients of Sentinel). That is not enough. After a failover whose old
primary lives, it says so, too, until Sentinel makes it a replica, eight seconds and more later:

    1. P finds the new primary, invalidates there, and has its answer.
    2. P opens another connection; the sentinel it asks is behind, and the old primary says yes.
    3. P reads there what it has just invalidated.

So each answer has its term, the number of the failover that made it (Sentinel's config-epoch),
and one of an earlier term than was found to be true before is not believed, unless nothing else
is left: sentinels that were all set up anew begin at 0 again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.sentinel import MasterNotFoundError

from tiercache._locks import Guard
from tiercache._transport.address import Address

log = logging.getLogger("tiercache")

LEAST_SHARE = 0.01  # seconds a sentinel is given at least


class Where(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Named(NamedTuple):
    """What a sentinel takes for the primary."""

    where: Where
    term: int


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask a sentinel, for *share* seconds: the reply is Named, or None if it knows no such service."""

    sentinel: Address
    share: float


@dataclass(frozen=True, slots=True)
class Reach:
    """Open a connection to *where*: the reply is the connection, or None if its server is no primary."""

    where: Where


@dataclass(frozen=True, slots=True)
class Leave:
    """Close a connection that is not wanted after all."""

    connection: Any


Step = Inquire | Reach | Leave
Search = Generator[Step, Any, Any]

_guard = Guard()


class Known:
    """What the connections of one node know of their primary, and whom they ask."""

    def __init__(self, sentinels: Sequence[Address]) -> None:
        self.last: Named | None = None  # changed under `_guard`; was primary when it was found
        self.term = -1  # changed under `_guard`; the highest that a sentinel has told, found or not
        self.sentinels = tuple(sentinels)  # the one to ask first stands first; replaced whole
        self._in_turn = cycle(sentinels)

    def next_in_turn(self) -> Address:
        """Another sentinel each time: the one that is asked first may be the one that is behind."""
        return next(self._in_turn)

    def is_behind(self, named: Named) -> bool:
        return named.term < self.term

    def hear(self, named: Named) -> bool:
        """Note what a sentinel says; whether it names another primary than the last, and a later one."""
        with _guard.lock:
            self.term = max(self.term, named.term)
            return not self.is_behind(named) and self.last is not None and self.last.where != named.where

    def found(self, named: Named, *, even_if_behind: bool = False) -> bool:
        """Note that *named* is primary; False if another thread has heard of a later one meanwhile."""
        with _guard.lock:
            if self.is_behind(named) and not even_if_behind:
                return False
            before, self.last, self.term = self.last, named, named.term
        if before is not None and before.where != named.where:
            log.warning("the primary is %s now, no longer %s", named.where, before.where)
        return True

    def prefer(self, sentinel: Address) -> None:
        self.sentinels = (sentinel, *(other for other in self.sentinels if other is not sentinel))

    def put_last(self, sentinel: Address) -> None:
        self.sentinels = (*(other for other in self.sentinels if other is not sentinel), sentinel)


def search(known: Known, service: str, timeout: float, clock: Callable[[], float]) -> Search:
    """The plan of finding the primary; returns a connection to it, of the world that performs it.

    All sentinels together get *timeout*, each its share of what the others have left, and the
    server that is named gets its own. MasterNotFoundError tells what each of them said.
    """
    give_up = clock() + timeout
    why: list[str] = []
    reached: set[Where] = set()
    behind: list[Named] = []
    sentinels = known.sentinels
    for place, sentinel in enumerate(sentinels):
        share = (give_up - clock()) / (len(sentinels) - place)
        named = yield from _inquire(sentinel, service, max(LEAST_SHARE, share), why)
        if named is None or named.where in reached:
            continue
        if known.is_behind(named):
            behind.append(named)
            continue
        reached.add(named.where)
        try:
            connection = yield from _reach(named.where, f"named by {shown(sentinel)}", why)
        except RedisTimeout:
            # It had its time, and the caller has no more. The next search hears another sentinel first.
            known.put_last(sentinel)
            raise
        if connection is not None:
            if known.found(named):
                known.prefer(sentinel)
                return connection
            yield Leave(connection)
    connection = None if reached else (yield from _without_news(known, behind, why))
    if connection is None:
        raise MasterNotFoundError(f"found no primary of {service!r}: {'; '.join(why)}")
    return connection


def _without_news(known: Known, behind: list[Named], why: list[str]) -> Search:
    """A connection where no sentinel answers that is not behind: nothing speaks against the last one."""
    last = known.last
    if last is not None:
        connection = yield from _reach(last.where, "the last one known", why)
        if connection is not None:
            return connection
    for named in sorted(behind, key=lambda each: -each.term):
        connection = yield from _reach(named.where, "named by sentinels that are behind", why)
        if connection is not None:
            known.found(named, even_if_behind=True)
            return connection
    return None


def _inquire(sentinel: Address, service: str, share: float, why: list[str]) -> Search:
    """What the sentinel names; None, and *why* is told, if it does not."""
    try:
        named = yield Inquire(sentinel, share)
    except (RedisError, OSError) as error:
        own = "; a sentinel's own are sentinel_username and sentinel_password"
        advice = own if isinstance(error, AuthenticationError) else ""
        why.append(f"{shown(sentinel)} did not say: {type(error).__name__}: {error}{advice}")
        return None
    if named is None:
        why.append(f"{shown(sentinel)} knows no service {service!r}")
    return named


def _reach(where: Where, source: str, why: list[str]) -> Search:
    """A connection to *where*; None, and *why* is told, if there is none or it is to no primary."""
    try:
        connection = yield Reach(where)
    except RedisTimeout:
        raise
    except (RedisError, OSError) as error:
        why.append(f"{where}, {source}, did not answer: {type(error).__name__}: {error}")
        return None
    if connection is None:
        why.append(f"{where}, {source}, is a replica")
    return connection


def shown(sentinel: Address) -> str:
    return str(Where(sentinel.identity.host, sentinel.identity.port))
