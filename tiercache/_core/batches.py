"""Plans over many keys: one round trip a thousand keys, one call of the loader for all that is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from tiercache._core.coherence import Stand
from tiercache._core.commands import Wait
from tiercache._core.flights import ABANDONED, MAX_JOINS, Flight, Load, ahead_of, audit_around, running_load
from tiercache._core.join_rule import may_follow
from tiercache._core.l2_batches import AWAY, Owned, Told, Without, ask_for_all, look_for_all
from tiercache._core.l2_hits import Taken, keep, landing_of_hit
from tiercache._core.loads import call_past_the_tiers, catch_up, owe_unlock, proven
from tiercache._core.many import Absent, LoadMany, checked, one_of, one_of_async
from tiercache._core.many_loads import Leave, call_many, store_many, unlock_all
from tiercache._core.plan import Call, Plan
from tiercache._core.reads import find_in_l1, is_bypassed, read
from tiercache._core.syncs import sync
from tiercache._core.tiers import Tiers, Want
from tiercache._core.writes import deps_named
from tiercache._errors import Unstorable


def get_many(tiers: Tiers, wants: Sequence[Want], *, blocking: bool) -> Plan[dict[str, Any]]:
    """The values the tiers have; keys they do not have are left out."""
    load, now = running_load(), tiers.clock()
    audit = audit_around(tiers.core, load)
    if audit is not None:
        audit.unsourced = True
        return {}
    out: dict[str, Any] = {}
    missing = []
    for want in wants:
        if not is_bypassed(tiers, want):
            entry = find_in_l1(tiers, want, ahead_of(tiers.core), now)
            if entry is None:
                missing.append(want)
            else:
                want.counts.l1_hits += 1
                out[want.key] = entry.take()

    def told(want: Want, taken: Taken) -> None:
        want.counts.l2_hits += 1
        if want.l1:
            keep(tiers, want, taken)
        out[want.key] = taken.value

    asked = [want for want in missing if want.l2]
    left = yield from look_for_all(tiers, asked, told, loads=False)
    if left:
        owned = [(want, "") for want in left]
        learns = len(left) == len(asked)
        yield from ask_for_all(tiers, owned, "get", told, blocking=blocking, learns=learns)
    for want in wants:
        want.counts.misses += want.key not in out
    return out


def get_or_load_many(
    tiers: Tiers, wants: Sequence[Want], loader: LoadMany, spelled: Mapping[str, str], *, blocking: bool
) -> Plan[dict[str, Any]]:
    """The values of all keys, those missing loaded by one call of *loader*.

    Keys another caller or another process is loading are waited for, after what this call loads
    itself is stored: two batches that overlap in opposite order do not wait for each other.
    Keys the loader leaves out are left out of the result, and not kept. The loader is given keys, and
    gives them back, as they were *spelled* by the caller; a long one is stored under another name.
    """
    load = running_load()
    if audit_around(tiers.core, load) is not None:
        found = checked((yield Call(loader, ([spelled[want.key] for want in wants],))))
        return {want.key: found[spelled[want.key]] for want in wants if spelled[want.key] in found}
    out: dict[str, Any] = {}
    if tiers.core.pending:  # once, and not for each key that waits to be invalidated
        yield from sync(tiers, blocking=blocking)
    rest, waits = list(wants), 0
    while rest:
        joined, written = tiers.core.stand(tiers.clock()), frozenset(tiers.core.held)
        is_last = waits >= MAX_JOINS
        later = yield from _lead(tiers, rest, loader, spelled, out, is_last=is_last, blocking=blocking)
        if not later:
            break
        # One is waited for; what the others have come to by then is known at once, or asked for together.
        first, *others = later
        one = Call(one_of if blocking else one_of_async, (loader, spelled[first.want.key]))
        with suppress(Absent):
            want = replace(first.want, call=one, in_batch=True)
            out[want.key] = yield from read(tiers, want, blocking=blocking)
        rest = [each.want for each in others if not _landed(tiers, each, joined, written, out, load)]
        waits += 1
    return {want.key: out[want.key] for want in wants if want.key in out}


class Later(NamedTuple):
    """A key that somebody else loads: here, in *flight*, or in another process."""

    want: Want
    flight: Flight | None = None


def _landed(
    tiers: Tiers,
    each: Later,
    joined: Stand,
    written: frozenset[str],
    out: dict[str, Any],
    load: Load | None,
) -> bool:
    """Whether the flight of *each* has landed with what may be taken; it may be that there is nothing."""
    future = None if each.flight is None else each.flight.future
    if future is None or not future.done() or future.exception() is not None:
        return False
    landing = future.result(0.0)
    if landing is ABANDONED or not may_follow(
        tiers.core, joined, written, landing, nested=load is not None, in_batch=True
    ):
        return False
    each.want.counts.joins += 1
    with suppress(Absent):
        out[each.want.key] = landing.entry.take()
    return True


def _lead(
    tiers: Tiers,
    wants: Sequence[Want],
    loader: LoadMany,
    spelled: Mapping[str, str],
    out: dict[str, Any],
    *,
    is_last: bool,
    blocking: bool,
) -> Plan[list[Later]]:
    """Answer what is in L1, and lead what nobody leads; *is_last*: what other processes load, too."""
    load, now = running_load(), tiers.clock()
    led: dict[str, tuple[Want, Flight]] = {}
    later: list[Later] = []
    past: list[Want] = []
    try:
        for want in wants:
            if is_bypassed(tiers, want):
                past.append(want)
                continue
            entry = find_in_l1(tiers, want, ahead_of(tiers.core), now)
            if entry is not None:
                want.counts.l1_hits += 1
                out[want.key] = entry.take()
                continue
            flight, role = tiers.board.claim(want.key, now, load, blocking=blocking)
            if role == "lead":
                led[want.key] = want, flight
            else:
                later.append(Later(want, flight))
            tiers.board.leave(flight, load, role)
        others, refusal = yield from _lead_many(
            tiers, led, loader, spelled, out, is_last=is_last, blocking=blocking
        )
        if refusal is not None:
            raise refusal
        if past:
            yield from _past_the_tiers(tiers, past, loader, spelled, out, blocking=blocking)
    except BaseException as error:
        for _, flight in led.values():
            if flight.ends_by(error):
                tiers.board.fail(flight, error)
        raise
    finally:
        for _, flight in led.values():
            tiers.board.abandon(flight)
    return [*later, *map(Later, others)]


def _past_the_tiers(
    tiers: Tiers,
    wants: Sequence[Want],
    loader: LoadMany,
    spelled: Mapping[str, str],
    out: dict[str, Any],
    *,
    blocking: bool,
) -> Plan[None]:
    """What is written here at this moment comes from the source, and is kept by nobody."""
    for want in wants:
        want.counts.loads += 1
    call = Call(loader, ([spelled[want.key] for want in wants],))
    found = checked((yield from call_past_the_tiers(tiers, wants[0].key, call, blocking=blocking)))
    out.update((want.key, found[spelled[want.key]]) for want in wants if spelled[want.key] in found)


def _is_withheld(tiers: Tiers, want: Want) -> bool:
    """Whether L2 may not answer *want*, since an invalidation of it waits to be sent."""
    return bool(tiers.core.pending) and tiers.core.withheld(deps_named(want.tags, (want.key,)))


def _lead_many(
    tiers: Tiers,
    led: dict[str, tuple[Want, Flight]],
    loader: LoadMany,
    spelled: Mapping[str, str],
    out: dict[str, Any],
    *,
    is_last: bool,
    blocking: bool,
) -> Plan[tuple[list[Want], Unstorable | None]]:
    """Land what L2 has and what one call of *loader* brings.

    Returns what others are loading, and why what *loader* brought cannot all be stored.
    """

    def told(want: Want, taken: Taken) -> None:
        want.counts.l2_hits += 1
        out[want.key] = taken.value
        tiers.board.land(led[want.key][1], landing_of_hit(tiers, want, taken))

    withheld = [key for key, (want, _) in led.items() if _is_withheld(tiers, want)]
    held = set(withheld)
    wants = [want for want, _ in led.values() if want.key not in held]
    if all(want.l2 for want in wants):
        left = yield from look_for_all(tiers, wants, told, loads=True)
    else:
        left = wants
    if not (left or withheld):
        return [], None
    owned, refusal = [(want, tiers.owner()) for want in left], None
    try:
        learns = len(left) == len(wants)
        answers = []
        if left:
            answers = yield from _find(tiers, owned, told, blocking=blocking, learns=learns)
        stand = tiers.core.stand(tiers.clock())
        answers += [(led[key][0], "", stand, AWAY, "miss") for key in withheld]
        later, to_load = _sort(tiers, led, answers, is_last=is_last)
        if to_load:
            proved = yield from catch_up(tiers, max(leave.head for leave in to_load), blocking=blocking)
            brought = yield from call_many(tiers, to_load, loader, spelled)
            to_load = [leave._replace(head=min(leave.head, proved)) for leave in to_load]
            yield from store_many(tiers, to_load, brought, out, blocking=blocking)
            refusal = brought.refusal
    except GeneratorExit:
        for want, owner in owned:
            owe_unlock(tiers, want, owner)
        raise
    except BaseException:
        yield from unlock_all(tiers, owned)
        raise
    return later, refusal


def _find(
    tiers: Tiers, owned: Sequence[Owned], told: Told, *, blocking: bool, learns: bool
) -> Plan[list[Without]]:
    """Who has no value in L2, and why; where it is left out, all have leave to load under what is proved."""
    if all(want.l2 for want, _ in owned):
        return (yield from ask_for_all(tiers, owned, "lead", told, blocking=blocking, learns=learns))
    stand = yield from proven(tiers, blocking=blocking)
    leave = (tiers.core.stand(tiers.clock()), AWAY) if stand is None else (stand, stand.proved)
    return [(want, owner, *leave, "lead") for want, owner in owned]


def _sort(
    tiers: Tiers, led: dict[str, tuple[Want, Flight]], answers: list[Without], *, is_last: bool
) -> tuple[list[Want], list[Leave]]:
    """What other processes load, for whoever asks here to wait for, and what is to be loaded here."""
    later: list[Want] = []
    to_load: list[Leave] = []
    for want, owner, stand, head, answer in answers:
        if answer in ("lead", "miss") or (is_last and isinstance(answer, Wait)):
            to_load.append(Leave(want, led[want.key][1], owner, stand, head))
        else:
            tiers.board.abandon(led[want.key][1])
            later.append(want)
    return later, to_load
