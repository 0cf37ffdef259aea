"""Single flight within the process: at most one load a key, for threads and tasks alike.

Threads and tasks wait for a flight's future; who gives up cannot take it down. A leader ends
its flight with `land`, `fail` or `abandon`, whatever happens; until then the board holds it.
Who may take what a flight brought is the rule of `join_rule`.

Nobody waits for a flight that cannot end while it waits: each running load knows the load
it is nested in and the flights it waits for, so a wait that would close a circle (a
function that asks for its own key; AB-BA), or a blocking wait on the very thread that is to
run the leader, is refused, and the caller loads on its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import InvalidStateError
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, TypeGuard

from tiercache._core.coherence import Coherence, Stand
from tiercache._core.l1 import Entry
from tiercache._core.sources import ANY_EPOCH, Found
from tiercache._errors import TierCacheError
from tiercache._turnstiles import Turnstile


class _Abandoned:
    def __repr__(self) -> str:
        return "ABANDONED"


ABANDONED: Final = _Abandoned()
Role = Literal["lead", "follow"]

MAX_JOINS = 2  # flights, or loads of other processes, a caller waits for in turn; then it loads on its own


class Landing(NamedTuple):
    """What a flight brought, and what is known of its age."""

    entry: Entry  # never looked up: the value, and how a follower gets its own copy
    deps: tuple[str, ...]
    stand: Stand  # of the request that found the value or gave leave to load it
    began: float  # instant of that request, or of the load where Redis was away
    token: int | None  # leave to load; None: a hit, or a load without Redis
    head: int | None  # head of the hit or of the accepted fill; None: neither
    payload: bytes = b""  # of what was loaded
    is_private: bool = False  # its source says that it is for nobody but its loader's caller
    is_absent: bool = False  # the loader of a batch has nothing for the key: to take it raises Absent


class Loop(Protocol):
    def is_closed(self) -> bool: ...


class Flight:
    """One load under way; of a task, in *loop*."""

    def __init__(self, key: str, born: float, loop: Loop | None = None) -> None:
        self.key = key
        self.born = born
        self.loop = loop
        self.is_patient = False  # led by one who had waited for others, which were given up
        self.thread = threading.get_ident()
        self.owner = ""  # the name of its lock in Redis
        self.has_failed = False  # its loader raised an error; a StopIteration leaves the plan as another one
        self.followers = 0  # under `_lock`
        self.waits: list[Flight] = []  # under `_lock`: flights that must end before this one's loader goes on
        self.future = Turnstile()

    def is_stranded(self) -> bool:
        """Whether its loop was closed over it, so that its leader never goes on."""
        return self.loop is not None and self.loop.is_closed()

    def ends_by(self, error: BaseException) -> TypeGuard[Exception]:
        """Whether *error* is the end of the load, and not of its leader alone.

        1. A leads, asks Redis.  2. A signal's handler raises in A's thread (a soft time limit).  3. B, who
        waits in another thread, must not have that for an answer: it takes over.
        """
        return isinstance(error, TierCacheError) or (self.has_failed and isinstance(error, Exception))

    def is_abandoned(self) -> bool:
        """Whether its leader gave up, so that who waited may take over."""
        future = self.future
        return future.done() and future.exception() is None and future.result(0.0) is ABANDONED


@dataclass(slots=True, eq=False)
class Load:
    """A running call of a user's loader, known to the reads made inside it."""

    core: Coherence
    epoch: int
    token: float  # inf: of a load without Redis, whose parts must be as young as itself
    flight: Flight
    outer: Load | None
    others: Sequence[Flight] = ()  # that it answers as well: one list of `waits` is that of all of them
    unsourced: bool = False  # of an audit: it read, by `get`, what has no loader
    found: Found = field(default_factory=Found)  # what its source said
    is_over: bool = False  # a task that the loader started, and did not wait for, may outlive it
    is_past: bool = False  # past the tiers, so that nobody keeps what it brings, nor waits for it

    def chain(self) -> Iterable[Load]:
        load: Load | None = self
        while load is not None:
            yield load
            load = load.outer


# The load that this thread or task is inside of; each node's loads share the one chain.
current_load: ContextVar[Load | None] = ContextVar("tiercache_load", default=None)


def running_call() -> Load | None:
    """The innermost call of a loader that the caller is inside of, and that has not ended."""
    load = current_load.get()
    while load is not None and load.is_over:
        load = load.outer
    return load


def running_load() -> Load | None:
    """Likewise, of those that are not past the tiers: somebody may keep, or wait for, what it brings."""
    load = running_call()
    while load is not None and (load.is_over or load.is_past):
        load = load.outer
    return load


def ahead_of(core: Coherence) -> float:
    """The newest token of the calls of *core* this read is part of; 0 outside of any.

    A load without Redis brings no token by which those who join it could tell how old its parts are:
    1. Its loader reads a part from L1, nearly `max_staleness` old.  2. Nearly as long after it began
    somebody joins it.  3. It lands: a part of twice that age. So no tier answers inside of it.
    """
    load = running_call()
    if load is None:
        return 0
    here = (core.epoch, ANY_EPOCH)
    return max((x.token for x in load.chain() if x.core is core and x.epoch in here), default=0)


def audit_around(core: Coherence, load: Load | None) -> Load | None:
    """The load of an auditor of *core* that *load* is part of: its reads go to the source, past all tiers."""
    if load is None:
        return None
    return next((x for x in load.chain() if x.core is core and x.epoch == ANY_EPOCH), None)


# One for all boards: a circle of waits may run through the loads of several caches. Reentrant: at any
# allocation the garbage collector may end a forgotten plan, which leaves its board on this very thread.
_lock = threading.RLock()


class Board:
    """The flights of one node."""

    def __init__(self, patience: float) -> None:
        self.patience = patience  # seconds after which a flight is joined no more
        self._flights: dict[str, Flight] = {}  # under `_lock`
        self.running_loop: Callable[[], Loop | None] = lambda: None  # asked by tasks alone

    @property
    def is_empty(self) -> bool:
        return not self._flights

    def has(self, key: str) -> bool:
        """Whether a flight of *key* is under way at this moment."""
        return key in self._flights

    def claim(
        self,
        key: str,
        now: float,
        load: Load | None,
        *,
        blocking: bool,
        instead_of: Flight | None = None,
        afresh: bool = False,
        is_patient: bool = False,
    ) -> tuple[Flight, Role]:
        """The flight that loads *key*, and whether the caller leads it or follows.

        A leader ends its flight, whatever happens; both `leave` it when they are done with it. The
        caller leads a flight of its own beside another's when waiting for that one would never end.
        A flight older than `patience`, the one it is *instead_of*, or any if the caller wants one *afresh*,
        is replaced on the board; those who wait for it go on waiting for it. A stranded one is abandoned.
        Who *is_patient* has waited for several that were given up, as callers who never wait for the end of
        a load give up one after the other: it replaces what is not led by another such.
        """
        role: Role = "lead"
        stranded: Flight | None = None
        placed: Flight | None = None
        try:
            with _lock:
                flight = self._flights.get(key)
                is_own = afresh or flight is instead_of or (flight and is_patient and not flight.is_patient)
                if flight is None or is_own or not self._is_open(flight, now):
                    stranded = flight if flight is not None and flight.is_stranded() else None
                    placed = flight = self._flights[key] = self._begun(key, now, blocking)
                    flight.is_patient = is_patient
                elif (blocking or load is not None) and _never_ends(flight, load, blocking):
                    flight = self._begun(key, now, blocking)
                else:
                    flight.followers += 1
                    role = "follow"
                for outer in load.chain() if load is not None else ():
                    outer.flight.waits.append(flight)
            if stranded is not None:
                self.abandon(stranded)  # in place of its leader, which never goes on
            return flight, role
        except BaseException:  # a signal's, just now
            if placed is not None:
                self.abandon(placed)
            raise

    def follow(self, key: str, now: float) -> Flight | None:
        """The flight of *key* that a task outside of any load follows by a `claim`; None: it would lead."""
        with _lock:
            flight = self._flights.get(key)
            if flight is None or not self._is_open(flight, now):
                return None
            flight.followers += 1
            return flight

    def leave(self, flight: Flight, load: Load | None, role: Role) -> None:
        """The caller, inside *load*, is done with *flight*."""
        with _lock:
            if role == "follow":
                flight.followers -= 1
            for outer in load.chain() if load is not None else ():
                outer.flight.waits.remove(flight)

    def land(self, flight: Flight, result: object) -> None:
        """End *flight* with what it brought."""
        self._take_off(flight)
        flight.future.set_result(result)

    def fail(self, flight: Flight, error: Exception) -> None:
        """Hand the *error* it ends by to everybody who waited, unless they have a value; it is not kept."""
        if flight.future.done():
            return
        self._take_off(flight)
        flight.future.set_exception(error)

    def abandon(self, flight: Flight) -> bool:
        """The leader gave up without a result: a follower takes over; whether there is one."""
        if flight.future.done():
            return False
        self._take_off(flight)
        with _lock:
            followed = flight.followers > 0
        try:
            flight.future.set_result(ABANDONED)
        except InvalidStateError:
            return False  # it was stranded, and somebody else has seen that just now
        return followed

    def forget(self) -> None:
        """After a fork, in the child: the leaders are gone with the parent's threads."""
        self._flights.clear()

    def _is_open(self, flight: Flight, now: float) -> bool:
        """Whether who comes at *now* may wait for it."""
        return now - flight.born < self.patience and not flight.is_stranded()

    def _begun(self, key: str, now: float, blocking: bool) -> Flight:
        return Flight(key, now, None if blocking else self.running_loop())

    def _take_off(self, flight: Flight) -> None:
        with _lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]


def renew_lock() -> None:
    """After a fork, in the child: a thread of the parent may have held the lock."""
    global _lock
    _lock = threading.RLock()


def _never_ends(flight: Flight, load: Load | None, blocking: bool) -> bool:
    """Whether *flight* cannot land before this caller, inside *load* or blocking, goes on."""
    mine = {id(y) for x in load.chain() for y in (x.flight, *x.others)} if load is not None else set()
    ahead, met = [flight], set()
    while ahead:
        other = ahead.pop()
        if id(other) in met:
            continue
        met.add(id(other))
        # A blocking wait stops this thread, and with it every task that its loop was to run.
        if id(other) in mine or (blocking and other.thread == threading.get_ident()):
            return True
        ahead += other.waits
    return False
