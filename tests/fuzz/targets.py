"""What bytes from outside may do to a decoder: give a value of ours, or the one answer it has for others.

Each target takes any bytes and raises AssertionError, or whatever escaped the decoder, where its
promise is broken. hypothesis plays them briefly in the suite (test_targets.py), atheris for as
long as it is told (`make fuzz SECONDS=3600`, run.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, Flag
from math import inf
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from tests.fuzz.entities import Author, Base, Book, Word
from tiercache import shapes
from tiercache._core import records
from tiercache._core.barriers import Ack, Barrier, Forget, parse_question
from tiercache._core.coherence import MAX_RECENT, Coherence
from tiercache._core.commands import (
    Clear,
    Command,
    Fill,
    Invalidate,
    KeyAsk,
    Read,
    Recorded,
    Set,
    Sync,
    Synced,
    Touch,
    Unlock,
)
from tiercache._core.compression import MAX_INFLATED, inflate
from tiercache._core.fences import Fence, Unfence
from tiercache._core.l1 import L1, Entry
from tiercache._core.scripts import Names
from tiercache._core.values import ENVELOPED, LINKED, PLAIN, Unreadable, Values
from tiercache._errors import SettingError, Unstorable
from tiercache._transport.address import Address
from tiercache._transport.replies import Request
from tiercache._transport.sentinel import _named

NODE = "a" * 32
EPOCH = 271828182845904
PASSWORD = "s3cr3t-PaSs"
# What a byte of an entry may come to in memory: "[]," is three bytes and a list of 56 and a pointer.
BYTES_FOR_A_BYTE = 64
# And of one that holds entities: "1," is a row of a table, and with its state an instance of a kilobyte.
BYTES_FOR_A_LINKED_BYTE = 800
SMALL_CHANGE = 8_192


class Taker:
    """Parts of some bytes, in turn; where they end, the parts are empty."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def byte(self) -> int:
        return self.take(1)[0] if self.left else 0

    def part(self) -> bytes:
        """As many bytes as the next byte says."""
        return self.take(self.byte())

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def rest(self) -> bytes:
        return self.take(self.left)


class Colour(Enum):
    RED = 1
    GREEN = 2


class Right(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Order:
    id: Any
    lines: Any


class Odd:
    """Comes back by functions of the user's."""

    def __init__(self, value: Any) -> None:
        self.value = value


def values() -> Values:
    made = Values(shapes.families())
    for cls in (Colour, Right, Point, Order, Author, Book, Word):
        made.register(cls)
    made.register(Odd, lambda odd: odd.value, Odd)
    return made


VALUES = values()


# ---- entries


def entry(data: bytes) -> None:
    """Any bytes under any key."""
    taker = Taker(data)
    key = taker.part().decode("utf-8", "replace")
    check_entry(taker.rest(), key)


def checked_entry(data: bytes) -> None:
    """Bytes whose check is right, as somebody makes them who knows the format."""
    taker = Taker(data)
    key = taker.part().decode("utf-8", "replace")
    head = [taker.part() for _ in range(5)]
    tags, payload = taker.part(), taker.rest()
    size = taker.part() if data[:1] == b"\xff" else str(len(tags)).encode()
    try:
        named = tuple(tags.decode().split("\0")) if tags else ()
    except UnicodeDecodeError:
        named = ()
    head[3] = records.check_of(key, named, payload).encode()
    check_entry(b"|".join((b"1", *head, size)) + b"|" + tags + payload, key)


def check_entry(raw: bytes, key: str) -> None:
    parsed = records.parse_entry(raw, key)
    assert parsed == records.parse_entry_in_python(raw, key), "one half reads what the other does not"
    if parsed is not None:
        assert len(parsed.tags) <= records.MAX_ENTRY_TAGS
        assert len(str(parsed.token)) <= 4_300  # more digits, and each time it is shown is an error
        try:
            VALUES.decode(parsed.payload)
        except Unreadable:
            pass


# ---- hints


def hint(data: bytes) -> None:
    """Any message on the channel, heard by a node with something in its L1."""
    core = coherence()
    for _ in range(2):
        parsed = records.parse_hint(data)
        if parsed is not None:
            hear(core, parsed)


def question(data: bytes) -> None:
    """Any message that asks for an acknowledgement."""
    for raw in (data, b"2|" + data, b"2|%d|" % EPOCH + data):
        asked = parse_question(raw)
        if asked is not None:
            assert 0 < asked.number < 10**16
            assert len(asked.waiter) <= 100


def next_hint(data: bytes) -> None:
    """A message that claims to be the next record."""
    core = coherence()
    for number in (2, 3):
        parsed = records.parse_hint(b"1|%d|%d|" % (EPOCH, number) + data)
        if parsed is not None:
            hear(core, parsed)
    reply = Synced(EPOCH, 1, 1, 1, True, 1, ())
    _, stand = core.sync(2.0)
    assert core.prove(stand, reply, 2.0)
    assert (core.applied, core.seen, core.proved) == (1, 1, 1), "a lie outlived the sync"


def hear(core: Coherence, told: records.Hint) -> None:
    before = core.applied
    said = core.hear(told)
    assert (core.applied == before + 1) == (said == "applied")
    assert (core.seen, core.proved, core.lease) == (1, 1, 6.0), "a message moved what only a reply may"
    assert len(core.recent) <= MAX_RECENT


def coherence() -> Coherence:
    core = Coherence(L1(100), max_staleness=5.0, node=NODE)
    _, stand = core.sync(1.0)
    assert core.prove(stand, Synced(EPOCH, 1, 1, 1, True, 1, None), 1.0)
    for key, tags in (("a", ("t:users",)), ("b", ("t:users", "t:user:7")), ("c", ())):
        core.l1.put(Entry(key, key, None, deadline=inf, deps=tags, vouched=1), 1.0)
    return core


# ---- values


def value(data: bytes) -> None:
    """Any payload."""
    decoded(data)


def enveloped(data: bytes) -> None:
    decoded(ENVELOPED + data)


def linked(data: bytes) -> None:
    decoded(LINKED + data)


def plain(data: bytes) -> None:
    decoded(PLAIN + data)


def decoded(data: bytes) -> None:
    try:
        came = VALUES.decode(data)
    except Unreadable:
        return
    most = BYTES_FOR_A_LINKED_BYTE if data[:1] == LINKED else BYTES_FOR_A_BYTE
    assert weight(came) <= most * len(data) + SMALL_CHANGE, "bytes that grow"
    try:
        again = VALUES.encode(came)
    except Unstorable:
        return  # deeper than encode() writes
    VALUES.decode(again)


def weight(whole: Any) -> int:
    """Bytes of *whole* and all it holds, as if nothing were shared but entities, which may be in circles."""
    total, todo = 0, [whole]
    entities: set[int] = set()
    while todo:
        part = todo.pop()
        if isinstance(part, Base):
            if id(part) in entities:
                continue
            entities.add(id(part))
            state = vars(part)["_sa_instance_state"]
            todo += [vars(part), vars(state), state.committed_state, state.expired_attributes]
        total += sys.getsizeof(part)
        if isinstance(part, dict):
            todo += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            todo += part
        elif isinstance(part, Order | Odd):
            todo.append(vars(part))
    return total


# ---- replies of Redis

NAMES = Names("shop", 0)
ASKS = (KeyAsk("k", "lead", NODE + ":0"), KeyAsk("other", "get", ""))
COMMANDS: tuple[Command[Any], ...] = (
    Sync(EPOCH, 1, NODE),
    Read(EPOCH, 1, ASKS),
    Read(EPOCH, 1, ASKS[:1]),
    Fill(EPOCH, 1, NODE + ":0", 1_000, "k", "00000000", 0, b"", ()),
    Set(None, 0, 1_000, "k", "00000000", b"", (), 100),
    Invalidate(("t",), ("k",), 100, 100),
    Clear(),
    Unlock("k", NODE + ":0"),
    Touch(EPOCH, "k", 1_000),
    Barrier(EPOCH, 1, NODE, "-0.5"),
    Ack(EPOCH, 1, NODE + ":200", 1, NODE),
    Forget(((NODE + ":200", "-0.5"),)),
    Fence(("t",), ("k",), 100, 100, "name", 1_000),
    Unfence("name", ("t:t",)),
)
WORDS = (b"ok", b"full", b"stale", b"hit", b"miss", b"lead", b"wait", b"again", b"records", b"flush", b"new")


def reply(data: bytes) -> None:
    """Any reply to any command: typed, or a refusal."""
    taker = Taker(data)
    command = COMMANDS[taker.byte() % len(COMMANDS)]
    request = Request((command,), NAMES)
    (result,) = request.results([said(taker)])
    assert result is None or isinstance(result, int) or type(result).__module__.startswith("tiercache.")
    if isinstance(result, Synced):
        core = coherence()
        _, stand = core.sync(2.0)
        core.prove(stand, result, 2.0)
    if isinstance(result, Recorded):
        coherence().own_record(result, ("t:users",), 2.0)


def said(taker: Taker, depth: int = 0) -> Any:
    """Something a server can say."""
    kind = taker.byte() % 8
    if kind == 0 and depth < 20:
        return [said(taker, depth + 1) for _ in range(taker.byte() % 24)]
    if kind == 1:
        return int.from_bytes(taker.take(8), "big", signed=True)
    if kind == 2:
        return None
    if kind == 3:
        return ResponseError(taker.part().decode("latin-1"))
    if kind == 4:
        return WORDS[taker.byte() % len(WORDS)]
    if kind == 5:
        return str(int.from_bytes(taker.take(1 + taker.byte() % 8), "big")).encode()
    return taker.part()


def sentinel(data: bytes) -> None:
    """Anything in the place of a sentinel's two answers: a place, or an error of redis-py's kind."""
    taker = Taker(data)
    try:
        named = _named(said(taker), said(taker))
    except RedisError:
        return
    assert isinstance(named.where.port, int)
    assert isinstance(named.term, int)


# ---- compressed payloads


def compressed(data: bytes) -> None:
    """Any bytes as a payload: the payload, or Unreadable, and never more than the limit in memory."""
    try:
        whole = inflate(data)
    except Unreadable:
        return
    assert len(whole) <= max(MAX_INFLATED, len(data))


# ---- addresses


def address(data: bytes) -> None:
    """Any text in the place of a URL: an Address, or a SettingError that tells no password."""
    url = data.decode("utf-8", "surrogateescape")
    try:
        made = Address.of_url(url, 1.0)
    except SettingError as error:
        told: BaseException | None = error
        while told is not None:
            assert PASSWORD not in str(told)
            told = told.__cause__
        return
    assert PASSWORD not in str(made)
    assert made.connection().retry.get_retries() == 0
    made.async_connection()


def address_with_password(data: bytes) -> None:
    """A URL whose password is known, so that it can be looked for in what is said."""
    taker = Taker(data)
    user, host = (part.decode("utf-8", "replace").replace(":", "") for part in (taker.part(), taker.part()))
    scheme = ("redis", "rediss", "redis+sentinel", "redids")[taker.byte() % 4]
    rest = taker.rest().decode("utf-8", "replace")
    address(f"{scheme}://{user}:{PASSWORD}@{host}{rest}".encode())


TARGETS: tuple[Callable[[bytes], None], ...] = (
    entry,
    checked_entry,
    hint,
    next_hint,
    value,
    enveloped,
    plain,
    reply,
    address,
    address_with_password,
    question,
    sentinel,
    linked,
    compressed,
)
