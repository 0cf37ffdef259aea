"""Plans that change what is stored: invalidate, set, clear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple, TypeVar

from tiercache._core.coherence import Stand
from tiercache._core.collect import note
from tiercache._core.commands import MAX_SENT, Clear, Invalidate, Recorded, Set
from tiercache._core.copies import kept
from tiercache._core.fences import lifting
from tiercache._core.l1 import Entry
from tiercache._core.plan import Ask, Plan
from tiercache._core.records import EVERYTHING, MAX_DEPS, StoredEntry, check_of, key_dep, tag_dep
from tiercache._core.syncs import invalidation_of, sync
from tiercache._core.tiers import Tiers, Want
from tiercache._core.values import LINKED
from tiercache._errors import L2Unavailable, Unstorable

T = TypeVar("T")

BYTES_SENT = 4_000_000  # of payload in one round trip, which has one timeout, and is in memory twice
MAX_TURNS = 8  # of a set among others of its key at the same time
NO_EXPIRY_MS = 30 * 24 * 3600 * 1000  # of `ttl=None` in L2: after a clear such entries must go some day


class Token(NamedTuple):
    """A place in the domain's history; for another process (`at_least`), or for a later `set`.

    `str(token)` is text of at most 29 characters for a cookie or a header, and `Token.parse` its inverse.
    """

    epoch: int
    number: int

    def __str__(self) -> str:
        return f"{self.epoch:x}-{self.number:x}"

    @classmethod
    def parse(cls, text: str) -> Token:
        """The token that *text* is; ValueError for any other text, however long."""
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise ValueError(f"not a token: {text!r:.40}")
        epoch, number = (int(part, 16) for part in text.split("-"))
        if max(epoch, number) >= 2**53:
            raise ValueError(f"not a token, its numbers are too large: {text!r}")
        return cls(epoch, number)


_TOKEN = re.compile("[0-9a-f]{1,14}-[0-9a-f]{1,14}")


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did.

    `token` names the last record it made, None while it is `pending`: Redis was away, the write is
    retried until it is done, and until then this process reads what it names from its source.
    `stored` tells, for a `set`, whether the value was kept.
    """

    token: Token | None
    pending: bool = False
    stored: bool = True


def ttl_ms(ttl: float | None) -> int:
    return NO_EXPIRY_MS if ttl is None else max(1, round(ttl * 1000))


def invalidate(
    tiers: Tiers, tags: Sequence[str], keys: Sequence[str], *, raise_if_away: bool = False, fence: str = ""
) -> Plan[Written]:
    """Make every entry under *tags* and *keys* invalid everywhere, in one record a slice of 2,000.

    When this returns, no read of this process gives what was valid before, and others hear of it at once
    or find it in their next sync. Cancelled or failed half-way, the rest counts as pending. The *fence* of
    that name on just these is lifted by it.
    """
    deps = [*map(tag_dep, tags), *map(key_dep, keys)]
    if not deps:
        return Written(None)
    return (yield from _send(tiers, deps, raise_if_away, fence))


def clear(tiers: Tiers, *, raise_if_away: bool = False) -> Plan[Written]:
    """Make every entry of the domain invalid, in one record."""
    return (yield from _send(tiers, [EVERYTHING], raise_if_away))


def _send(tiers: Tiers, deps: list[str], raise_if_away: bool, fence: str = "") -> Plan[Written]:
    core = tiers.core
    serial = core.begin_invalidation(deps)
    token = None
    sent = 0
    try:
        while sent < len(deps):
            part = deps[sent : sent + MAX_DEPS]
            command: Clear | Invalidate = (
                Clear() if part == [EVERYTHING] else invalidation_of(tiers, part, fence)
            )
            replies = yield Ask((command,))
            record: Recorded = replies[0]
            core.own_record(record, part, tiers.clock())
            token = note(core, Token(record.epoch, record.number))
            sent += len(part)
    except BaseException as error:
        # Whether it ran is not known: it is idempotent, so it is sent again, and its fence lifted after that.
        core.pend(deps[sent:], serial)
        if fence:
            tiers.owe(lifting(deps[sent:], fence))
        if not isinstance(error, L2Unavailable):
            raise
        tiers.events["pending"] += 1
        if raise_if_away:
            raise
        return Written(None, pending=True)
    return Written(token)


def put(
    tiers: Tiers, items: Sequence[tuple[Want, object]], token: Token | None = None, *, blocking: bool
) -> Plan[Written]:
    """Store each value as current: a record on its key, the value, and the hint, in one step.

    A thousand items a round trip, or some megabytes, each a step of its own, in their order. With *token*,
    refused (`stored` is False) when anything a value depends on changed since. Where Redis is away nothing is
    stored, and the old values count as invalidated, pending.
    """
    written = Written(None)
    packed = [(want, value, _encoded(tiers, want, value, alone=len(items) == 1)) for want, value in items]
    for some in in_slices(packed, lambda each: len(each[2])):
        part = yield from _put_slice(tiers, some, token, blocking)
        written = Written(
            part.token or written.token, part.pending or written.pending, part.stored and written.stored
        )
    return written


def _encoded(tiers: Tiers, want: Want, value: object, *, alone: bool) -> bytes:
    try:
        return tiers.values.encode(value)
    except Unstorable as error:
        if alone:
            raise
        raise of_key(want.key, error) from error.__cause__


def of_key(key: str, error: Unstorable) -> Unstorable:
    """*error*, saying which of several values it is about."""
    named = Unstorable(f"under {key!r}, {error}")
    named.__cause__ = error.__cause__
    return named


def in_slices(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """*items* as they are sent: `MAX_SENT` a round trip, and `BYTES_SENT` by their *size*, or one alone."""
    start, sent = 0, 0
    for at, item in enumerate(items):
        more = size(item)
        if at > start and (at - start == MAX_SENT or sent + more > BYTES_SENT):
            yield items[start:at]
            start, sent = at, 0
        sent += more
    if items:
        yield items[start:]


def _put_slice(
    tiers: Tiers, packed: Sequence[tuple[Want, object, bytes]], token: Token | None, blocking: bool
) -> Plan[Written]:
    """Bind each set to a place in the history: the *token*, or the head that this node has met.

    1. Redis stalls, a set in its socket.  2. Its sender gives up.  3. Redis goes on, and runs a newer set
    first. The late one must not undo it. One that is refused for what others did before it was called is
    sent again from where Redis says it is now. Who is overtaken at every turn leaves the key invalid.
    """
    core = tiers.core
    deps = [key_dep(want.key) for want, _, _ in packed]
    serial = core.begin_invalidation(deps if packed[0][0].l2 else ())  # without L2, what is refused leaves it
    place, last = token or Token(core.epoch, core.seen), None
    left = list(packed)
    try:
        for _ in range(1 if token is not None else MAX_TURNS):
            stand = core.stand(tiers.clock())
            replies = yield Ask(tuple(_set_of(tiers, want, payload, place) for want, _, payload in left))
            refused, fenced = [], True
            for one, record in zip(left, replies, strict=True):
                place = Token(record.epoch, record.number)
                if record.status in ("ok", "full"):
                    last = note(core, place)
                    _take_set(tiers, one, record, stand)
                else:
                    refused.append(one)
                    fenced = fenced and record.status == "fenced"
            left = refused
            if not left:
                return Written(last)
            if fenced:  # and that will not end before somebody's write does
                break
            if place.epoch != core.epoch:
                # What is owed to a new epoch goes first, or it would take away what is set here.
                yield from sync(tiers, blocking=blocking)
                with core.lock:
                    place = Token(core.epoch, core.seen) if core.epoch else place
    except L2Unavailable:
        core.pend(deps, serial)
        tiers.events["pending"] += 1
        return Written(None, pending=True, stored=False)
    except BaseException:
        core.pend(deps, serial)
        raise
    tiers.events["set_refused"] += len(left)
    if token is not None:
        return Written(last, stored=False)
    gone = yield from _send(tiers, [key_dep(want.key) for want, _, _ in left], False)
    return replace(gone, stored=False)


def _take_set(tiers: Tiers, one: tuple[Want, object, bytes], record: Recorded, stand: Stand) -> None:
    want, value, payload = one
    if tiers.core.own_record(record, (key_dep(want.key),), tiers.clock()) and want.l1:
        entry = made_entry(tiers, want, value, payload, stand.at, want.ttl, record.number)
        tiers.core.insert(entry, stand, stand.at)


def _set_of(tiers: Tiers, want: Want, payload: bytes, place: Token) -> Set:
    payload = tiers.for_l2(payload)
    check = check_of(want.key, want.tags, payload)
    return Set(
        place.epoch, place.number, ttl_ms(want.ttl), want.key, check, payload, want.tags, tiers.key_cap
    )


def made_entry(
    tiers: Tiers,
    want: Want,
    value: object,
    payload: bytes,
    since: float,
    left: float | None,
    vouched: int,
    stored: StoredEntry | None = None,
) -> Entry:
    """The L1 entry of *value*: shared where nobody can change it, else what copies are made of.

    What it depends on is what *want* declares, or what the entry *stored* in L2 says of itself.
    """
    lives = min(inf if left is None else left, inf if want.l1_ttl is None else want.l1_ttl)
    # Entities are never shared, whatever *want* says: each caller has a session of its own.
    shared = (want.share and payload[:1] != LINKED) or tiers.values.is_shareable(value)
    sized = tiers.core.l1.maxbytes is not None
    held, restore, size = (
        (value, None, len(payload)) if shared else kept(tiers.values, value, payload, sized=sized)
    )
    return Entry(
        want.key,
        held,
        restore,
        deadline=since + lives,
        deps=tuple(map(tag_dep, stored.tags if stored is not None else want.tags)),
        vouched=vouched,
        size=size,
        print=stored.print if stored is not None else want.print or 0,
    )


def token(tiers: Tiers, *, blocking: bool) -> Plan[Token]:
    """The head as it is now; raises L2Unavailable where Redis cannot be asked."""
    core, begun, met = tiers.core, tiers.clock(), tiers.core.seen
    for _ in range(2):  # the first may be one that was under way before, and know less
        good, _ = yield from sync(tiers, blocking=blocking)
        if not good or (core.proved >= met and core.lease >= begun + core.max_staleness):
            break
    with core.lock:
        if not good or not core.epoch:
            raise L2Unavailable("no token can be given while Redis is away; load with get_or_load instead")
        return Token(core.epoch, core.proved)


def deps_named(tags: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    return (*map(tag_dep, tags), *map(key_dep, keys))
