"""Each act on a domain as one script call, and what its reply means.

A plan speaks of `Sync`, `Read`, `Fill`, `Set`, `Invalidate`, `Clear` and `Unlock`, and of what stands
in `fences` and `barriers`; a transport asks a command for its `Script`, its keys and its arguments,
and hands the raw reply back to `parse`. A reply that is not of the form the script gives raises
ValueError: whoever answers there does not run our scripts.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from tiercache._core.large import Large, staging
from tiercache._core.records import EVERYTHING, key_dep, pack_deps, tag_dep
from tiercache._core.scripts import (
    CLEAR,
    FILL,
    INVALIDATE,
    READ,
    SET,
    SYNC,
    TOUCH,
    UNLOCK,
    Names,
    Parts,
    fields_of,
    nonce,
)

R_co = TypeVar("R_co", covariant=True)

MAX_READ = 100  # keys a read
MAX_SENT = 1_000  # keys a round trip: some reads, or as many fills or sets
REPLAY_LIMIT = 1_000  # records one sync brings; a node further behind empties its L1 instead
LOCK_MS = 10_000  # a load that takes longer may be led twice
Mode = Literal["get", "lead", "renew"]


class Command(Protocol[R_co]):
    """One round trip's worth of work for Redis."""

    def parts(self, names: Names) -> Parts: ...

    def parse(self, raw: Any) -> R_co: ...


def member_of(node: str, lease_ms: int) -> str:
    """A node as it stands on the register: who it is, and how long its leases are."""
    return f"{node}:{lease_ms}"


@dataclass(frozen=True, slots=True)
class Synced:
    """The state of the domain at one instant, and what the asker had not been proved yet."""

    epoch: int
    head: int
    tag_floor: int
    key_floor: int
    tenure_known: bool
    members: int
    records: tuple[tuple[str, int], ...] | None  # None: too far behind, or another epoch
    fenced: tuple[str, ...] = ()  # dependencies under a fence; "*": too many to name


@dataclass(frozen=True, slots=True)
class Sync:
    epoch: int
    proved: int
    node: str
    lease_ms: int = 0  # how long the lease is that the asker takes
    settled: bool = False  # the asker has known this epoch for longer than any lease of the one before

    @property
    def member(self) -> str:
        return member_of(self.node, self.lease_ms)

    def parts(self, names: Names) -> Parts:
        return Parts(
            SYNC,
            (*names.domain, names.members),
            (
                nonce(),
                names.channel,
                self.epoch,
                self.proved,
                REPLAY_LIMIT,
                self.node,
                self.member,
                int(self.settled),
            ),
        )

    def parse(self, raw: Any) -> Synced:
        epoch, head, tag_floor, key_floor, known, members, kind, fenced, *rest = fields_of(raw)
        records = None
        if kind == b"records":
            records = tuple(
                (dep.decode("utf-8", "replace"), int(float(number)))
                for dep, number in zip(rest[::2], rest[1::2], strict=True)
            )
        return Synced(
            int(epoch),
            int(head),
            int(tag_floor),
            int(key_floor),
            bool(known),
            int(members),
            records,
            tuple(dep.decode("utf-8", "replace") for dep in fenced),
        )


class Hit(NamedTuple):
    raw: bytes
    left: float | None  # seconds to live; None: no expiry in Redis


class Wait(NamedTuple):
    left: float  # seconds the leader's lock still lives at most
    owner: bytes = b""  # the name of its load


Answer = Hit | Large | Wait | Literal["miss", "lead", "again"]


class Answers(NamedTuple):
    """What a read found at *head*, one answer a key; no head: the asker must sync first."""

    head: int | None
    found: tuple[Answer, ...] = ()
    newest: int | None = None  # of several reads: the head of the last


class KeyAsk(NamedTuple):
    """One key of a read: how it is asked for, and the name its load would have."""

    key: str
    mode: Mode
    owner: str


class Read(NamedTuple):
    """At most `MAX_READ` keys; a transport may join several reads of one epoch into one."""

    epoch: int
    seen: int
    asks: tuple[KeyAsk, ...]

    def parts(self, names: Names) -> Parts:
        keys = [names.state]
        args: list[Any] = [self.epoch, self.seen, LOCK_MS]
        for key, mode, owner in self.asks:
            keys += (names.entry(key), names.lock(key))
            args += (mode, owner)
        return Parts(READ, tuple(keys), tuple(args))

    def parse(self, raw: Any) -> Answers:
        if not fields_of(raw):
            return Answers(None)
        if len(raw) != len(self.asks) + 1:
            raise ValueError(f"a read of {len(self.asks)} keys was answered with {len(raw)} fields")
        return Answers(int(raw[0]), tuple(map(_answer, raw[1:])))


def _answer(raw: Any) -> Answer:
    if type(raw) is list and len(raw) == 3:  # by hand, as it is by far the most frequent
        kind, entry, left = raw
        if kind == b"hit" and type(entry) is bytes and type(left) is int:
            return Hit(entry, left / 1000 if left >= 0 else None)
    match raw:
        case [b"large", bytes(tags), int(size)]:
            # Planted ones may be no text. No entry that is read has what replaces it, so it is a miss.
            return Large(tuple(tags.decode("utf-8", "replace").split("\0")) if tags else (), size)
        case [b"wait", int(left), bytes(owner)]:
            return Wait(left / 1000, owner)
        case [b"miss"]:
            return "miss"
        case [b"lead"]:
            return "lead"
        case [b"again"]:
            return "again"
    raise ValueError(f"not the answer of a read: {reprlib.repr(raw)}")


class Filled(NamedTuple):
    status: str
    head: int

    @property
    def accepted(self) -> bool:
        """Whether L1 may keep the value: the server vouches for it, with or without room of its own."""
        return self.status in ("ok", "full")


class Fill(NamedTuple):
    epoch: int
    token: int
    owner: str
    ttl_ms: int
    key: str
    check: str
    print: int
    payload: bytes
    tags: tuple[str, ...]

    def parts(self, names: Names) -> Parts:
        _, versions, _, fenced = names.domain
        keys = (names.entry(self.key), names.state, versions, names.lock(self.key), fenced)
        large = staging(names, self.owner, self.epoch, self.check, self.print, self.tags, self.payload)
        return Parts(
            FILL,
            keys if large is None else (*keys, large[1]),
            (
                self.epoch,
                self.token,
                self.owner,
                self.ttl_ms,
                key_dep(self.key),
                self.check,
                f"{self.print:x}",
                self.payload if large is None else b"",
                names.wake,
                *self.tags,
            ),
            large,
        )

    def parse(self, raw: Any) -> Filled:
        status, head = fields_of(raw)
        return Filled(status.decode(), int(head))


class Recorded(NamedTuple):
    """The record an act made. A set refused for its token has another status than "ok" or "full"."""

    epoch: int
    number: int
    status: str = "ok"


class Set(NamedTuple):
    epoch: int
    token: int  # refused where anything it depends on has a record after this one
    ttl_ms: int
    key: str
    check: str
    payload: bytes
    tags: tuple[str, ...]
    key_cap: int

    def parts(self, names: Names) -> Parts:
        name = nonce()
        large = staging(names, f"{name:x}", self.epoch, self.check, 0, self.tags, self.payload)
        keys = (*names.domain, names.entry(self.key))
        return Parts(
            SET,
            keys if large is None else (*keys, large[1]),
            (
                name,
                names.channel,
                self.key_cap,
                key_dep(self.key),
                self.epoch,
                self.token,
                self.ttl_ms,
                self.check,
                "0",
                self.payload if large is None else b"",
                *self.tags,
            ),
            large,
        )

    def parse(self, raw: Any) -> Recorded:
        status, epoch, number = fields_of(raw)
        return Recorded(int(epoch), int(number), status.decode())


@dataclass(frozen=True, slots=True)
class Invalidate:
    """One record for tags and keys together; at most `MAX_DEPS` of them."""

    tags: tuple[str, ...]
    keys: tuple[str, ...]
    cap: int
    key_cap: int
    fence: str = ""  # the name of one on just these, that goes with it

    @property
    def deps(self) -> tuple[str, ...]:
        return (*map(tag_dep, self.tags), *map(key_dep, self.keys))

    def parts(self, names: Names) -> Parts:
        deps = self.deps
        return Parts(
            INVALIDATE,
            (*names.domain, *map(names.entry, self.keys)),
            (nonce(), names.channel, pack_deps(deps), self.cap, self.key_cap, self.fence, *deps),
        )

    def parse(self, raw: Any) -> Recorded:
        epoch, number = fields_of(raw)
        return Recorded(int(epoch), int(number))


@dataclass(frozen=True, slots=True)
class Clear:
    @property
    def deps(self) -> tuple[str, ...]:
        return (EVERYTHING,)

    def parts(self, names: Names) -> Parts:
        return Parts(CLEAR, names.domain, (nonce(), names.channel, EVERYTHING))

    def parse(self, raw: Any) -> Recorded:
        epoch, number = fields_of(raw)
        return Recorded(int(epoch), int(number))


@dataclass(frozen=True, slots=True)
class Unlock:
    key: str
    owner: str

    def parts(self, names: Names) -> Parts:
        return Parts(UNLOCK, (names.lock(self.key),), (self.owner, names.wake, key_dep(self.key)))

    def parse(self, raw: Any) -> int:
        return int(raw)


@dataclass(frozen=True, slots=True)
class Touch:
    epoch: int
    key: str
    ttl_ms: int

    def parts(self, names: Names) -> Parts:
        return Parts(TOUCH, (names.entry(self.key),), (self.epoch, self.ttl_ms))

    def parse(self, raw: Any) -> bool:
        return int(raw) == 1
