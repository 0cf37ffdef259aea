"""Plans that change what is stored: invalidate, set, clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from tiercache._core.commands import MAX_READ, Clear, Invalidate, Recorded, Set
from tiercache._core.l1 import Entry
from tiercache._core.plan import Ask, Plan
from tiercache._core.records import EVERYTHING, MAX_DEPS, StoredEntry, check_of, key_dep, tag_dep
from tiercache._core.syncs import invalidation_of, sync
from tiercache._core.tiers import Tiers, Want
from tiercache._errors import L2Unavailable

NO_EXPIRY_MS = 30 * 24 * 3600 * 1000  # of `ttl=None` in L2: after a clear such entries must go some day


class Token(NamedTuple):
    """A place in the domain's history; for another process, or for a later `set`."""

    epoch: int
    number: int


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
    tiers: Tiers, tags: Sequence[str], keys: Sequence[str], *, raise_if_away: bool = False
) -> Plan[Written]:
    """Make every entry under *tags* and *keys* invalid everywhere, in one record a slice of 2,000.

    When this returns, no read of this process gives what was valid before, and others hear of it at once
    or find it in their next sync. Cancelled or failed half-way, the rest counts as pending.
    """
    deps = [*map(tag_dep, tags), *map(key_dep, keys)]
    if not deps:
        return Written(None)
    return (yield from _send(tiers, deps, raise_if_away))


def clear(tiers: Tiers, *, raise_if_away: bool = False) -> Plan[Written]:
    """Make every entry of the domain invalid, in one record."""
    return (yield from _send(tiers, [EVERYTHING], raise_if_away))


def _send(tiers: Tiers, deps: list[str], raise_if_away: bool) -> Plan[Written]:
    core = tiers.core
    serial = core.begin_invalidation(deps)
    token = None
    sent = 0
    try:
        while sent < len(deps):
            part = deps[sent : sent + MAX_DEPS]
            command: Clear | Invalidate = Clear() if part == [EVERYTHING] else invalidation_of(tiers, part)
            replies = yield Ask((command,))
            record: Recorded = replies[0]
            core.own_record(record, part)
            token = Token(record.epoch, record.number)
            sent += len(part)
    except L2Unavailable:
        core.pend(deps[sent:], serial)
        tiers.events["pending"] += 1
        if raise_if_away:
            raise
        return Written(None, pending=True)
    except BaseException:
        # Whether it ran is not known: it is idempotent, so it is sent again.
        core.pend(deps[sent:], serial)
        raise
    return Written(token)


def put(tiers: Tiers, items: Sequence[tuple[Want, object]], token: Token | None = None) -> Plan[Written]:
    """Store each value as current: a record on its key, the value, and the hint, in one step.

    A hundred items a round trip, each a step of its own, in their order. With *token*, refused (`stored`
    is False) when anything a value depends on changed since. Where Redis is away nothing is stored, and
    the old values count as invalidated, pending.
    """
    written = Written(None)
    packed = [(want, value, tiers.values.encode(value)) for want, value in items]
    for start in range(0, len(packed), MAX_READ):
        part = yield from _put_slice(tiers, packed[start : start + MAX_READ], token)
        written = Written(
            part.token or written.token, part.pending or written.pending, part.stored and written.stored
        )
    return written


def _put_slice(
    tiers: Tiers, packed: Sequence[tuple[Want, object, bytes]], token: Token | None
) -> Plan[Written]:
    core = tiers.core
    deps = [key_dep(want.key) for want, _, _ in packed]
    serial = core.begin_invalidation(deps)
    stand = core.stand(tiers.clock())
    commands = tuple(_set_of(tiers, want, payload, token) for want, _, payload in packed)
    try:
        replies: list[Recorded] = yield Ask(commands)
    except L2Unavailable:
        core.pend(deps, serial)
        tiers.events["pending"] += 1
        return Written(None, pending=True, stored=False)
    except BaseException:
        core.pend(deps, serial)
        raise
    last: Token | None = None
    stored = True
    for (want, value, payload), record in zip(packed, replies, strict=True):
        if record.status not in ("ok", "full"):
            tiers.events[f"set_{record.status}"] += 1
            stored = False
            continue
        last = Token(record.epoch, record.number)
        if core.own_record(record, (key_dep(want.key),)) and want.l1:
            entry = made_entry(tiers, want, value, payload, stand.at, want.ttl, record.number)
            core.insert(entry, stand, stand.at)
    return Written(last, stored=stored)


def _set_of(tiers: Tiers, want: Want, payload: bytes, token: Token | None) -> Set:
    epoch, number = token if token is not None else (None, 0)
    check = check_of(want.key, want.tags, payload)
    return Set(epoch, number, ttl_ms(want.ttl), want.key, check, payload, want.tags, tiers.key_cap)


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
    """The L1 entry of *value*: shared where nobody can change it, else kept as its bytes.

    What it depends on is what *want* declares, or what the entry *stored* in L2 says of itself.
    """
    lives = min(inf if left is None else left, inf if want.l1_ttl is None else want.l1_ttl)
    shared = want.share or tiers.values.is_shareable(value)
    return Entry(
        want.key,
        value if shared else payload,
        None if shared else tiers.values.decode,
        deadline=since + lives,
        deps=tuple(map(tag_dep, stored.tags if stored is not None else want.tags)),
        vouched=vouched,
        size=len(payload),
        print=stored.print if stored is not None else want.print or 0,
    )


def token(tiers: Tiers, *, blocking: bool) -> Plan[Token]:
    """The head as it is now; raises L2Unavailable where Redis cannot be asked."""
    good, _ = yield from sync(tiers, blocking=blocking)
    core = tiers.core
    with core.lock:
        if not good or not core.epoch:
            raise L2Unavailable("no token can be given while Redis is away; load with get_or_load instead")
        return Token(core.epoch, core.proved)


def deps_named(tags: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    return (*map(tag_dep, tags), *map(key_dep, keys))
