"""Plans over many keys: one round trip a thousand keys, one call of the loader for all that is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from tiercache._core.coherence import Stand
from tiercache._core.commands import Fill, Unlock
from tiercache._core.flights import Flight, Landing, Load, audit_around, running_load
from tiercache._core.l2_batches import AWAY, Owned, Told, Without, ask_for_all, look_for_all
from tiercache._core.l2_hits import Taken, keep, landing_of_hit
from tiercache._core.loads import (
    catch_up,
    fill_of,
    keep_local,
    landing_in_private,
    landing_of,
    packed,
    proven,
    tagged,
    take_fill,
    unfilled,
)
from tiercache._core.many import Absent, LoadMany, checked, nothing, one_of, one_of_async
from tiercache._core.plan import Ask, Call, Plan, Tell
from tiercache._core.reads import find_in_l1, is_bypassed, read
from tiercache._core.sources import Found, is_writing
from tiercache._core.tiers import Tiers, Want
from tiercache._core.writes import deps_named, in_slices, of_key
from tiercache._errors import L2Unavailable, Unstorable


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
            entry = find_in_l1(tiers, want, load, now)
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
    load, now = running_load(), tiers.clock()
    if audit_around(tiers.core, load) is not None:
        found = checked((yield Call(loader, ([spelled[want.key] for want in wants],))))
        return {want.key: found[spelled[want.key]] for want in wants if spelled[want.key] in found}
    out: dict[str, Any] = {}
    led: dict[str, tuple[Want, Flight]] = {}
    later: list[Want] = []
    try:
        for want in wants:
            entry = find_in_l1(tiers, want, load, now)
            if entry is not None:
                want.counts.l1_hits += 1
                out[want.key] = entry.take()
                continue
            if is_bypassed(tiers, want) or _is_withheld(tiers, want):
                later.append(want)
                continue
            flight, role = tiers.board.claim(want.key, now, load, blocking=blocking)
            tiers.board.leave(flight, load, role)
            if role == "lead":
                led[want.key] = want, flight
            else:
                later.append(want)
        others, refusal = yield from _lead_many(tiers, led, loader, spelled, out, blocking=blocking)
    except Exception as error:
        for _, flight in led.values():
            tiers.board.fail(flight, error)
        raise
    finally:
        for _, flight in led.values():
            tiers.board.abandon(flight)
    if refusal is not None:
        raise refusal
    for want in (*later, *others):
        one = Call(one_of if blocking else one_of_async, (loader, spelled[want.key]))
        try:
            out[want.key] = yield from read(tiers, replace(want, call=one, in_batch=True), blocking=blocking)
        except Absent:
            continue
    return {want.key: out[want.key] for want in wants if want.key in out}


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
    blocking: bool,
) -> Plan[tuple[list[Want], Unstorable | None]]:
    """Land what L2 has and what one call of *loader* brings.

    Returns what others are loading, and why what *loader* brought cannot all be stored.
    """

    def told(want: Want, taken: Taken) -> None:
        want.counts.l2_hits += 1
        out[want.key] = taken.value
        tiers.board.land(led[want.key][1], landing_of_hit(tiers, want, taken))

    wants = [want for want, _ in led.values()]
    if all(want.l2 for want in wants):
        left = yield from look_for_all(tiers, wants, told, loads=True)
    else:
        left = wants
    if not left:
        return [], None
    owned, refusal = [(want, tiers.owner()) for want in left], None
    try:
        learns = len(left) == len(wants)
        answers = yield from _find(tiers, owned, told, blocking=blocking, learns=learns)
        later, to_load = _sort(tiers, led, answers)
        if to_load:
            proved = yield from catch_up(tiers, max(leave.head for leave in to_load), blocking=blocking)
            brought = yield from _call_many(tiers, to_load, loader, spelled)
            to_load = [leave._replace(head=min(leave.head, proved)) for leave in to_load]
            yield from _store_many(tiers, to_load, brought, out, blocking=blocking)
            refusal = brought.refusal
    except GeneratorExit:  # the plan itself is thrown away, with the loop it ran in
        raise
    except BaseException:
        yield from _unlock(tiers, owned)
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
    tiers: Tiers, led: dict[str, tuple[Want, Flight]], answers: list[Without]
) -> tuple[list[Want], list[Leave]]:
    """What others are loading, for whoever asks here to wait for, and what is to be loaded here."""
    later: list[Want] = []
    to_load: list[Leave] = []
    for want, owner, stand, head, answer in answers:
        if answer in ("lead", "miss"):
            to_load.append(Leave(want, led[want.key][1], owner, stand, head))
        else:
            tiers.board.abandon(led[want.key][1])
            later.append(want)
    return later, to_load


class Leave(NamedTuple):
    """A key that is to be loaded here."""

    want: Want
    flight: Flight
    owner: str
    stand: Stand
    head: int  # the token, or AWAY


class Brought(NamedTuple):
    """What one call of a loader gave: of all of it, its source has said the same."""

    values: dict[str, tuple[Any, bytes]]  # by key; as bytes, too
    found: Found
    refusal: Unstorable | None  # why the first of those that are missing here cannot be stored


def _call_many(
    tiers: Tiers, to_load: Sequence[Leave], loader: LoadMany, spelled: Mapping[str, str]
) -> Plan[Brought]:
    """Call *loader* once. A key whose value cannot be stored fails alone."""
    core, outer = tiers.core, running_load()
    found = Found()
    found.is_committed = not is_writing()
    loads: list[Load] = []
    tokens = set()  # in as many epochs as there were between the first slice and the last
    for _, flight, _, stand, head in to_load:
        token = inf if head == AWAY else head
        loads.append(Load(core, stand.epoch, token, flight, loads[-1] if loads else outer, found=found))
        tokens.add((stand.epoch, token))
    for epoch, token in tokens:
        core.begin_load(epoch, token)
    try:
        keys = [spelled[leave.want.key] for leave in to_load]  # the loader's own from now on
        for leave in to_load:
            leave.want.counts.loads += 1
        brought = checked((yield Call(loader, (keys,), load=loads[-1])))
        values, refusal = {}, None
        for want, flight, *_ in to_load:
            key = spelled[want.key]
            if key not in brought:
                continue
            try:
                values[want.key] = brought[key], packed(tiers, want, brought[key], loads[-1])
            except Unstorable as error:
                named = of_key(key, error)
                tiers.board.fail(flight, named)
                refusal = refusal or named
        return Brought(values, found, refusal)
    finally:
        for load in loads:
            load.is_over = True
        for epoch, token in tokens:
            core.end_load(epoch, token)


def _unlock(tiers: Tiers, owned: Sequence[tuple[Want, str]]) -> Plan[None]:
    unlocks = tuple(Unlock(want.key, owner) for want, owner in owned if want.l2)
    if unlocks:
        yield Tell(unlocks, tiers.owe)


def _store_many(
    tiers: Tiers,
    to_load: Sequence[Leave],
    brought: Brought,
    out: dict[str, Any],
    *,
    blocking: bool,
) -> Plan[None]:
    """Keep what was loaded, as far as the server still accepts it, and land each flight."""
    values, found, _ = brought
    kept = values if found.is_committed else {}
    yield from _unlock(tiers, [(want, owner) for want, _, owner, _, _ in to_load if want.key not in kept])
    local: list[tuple[Want, Flight, Landing]] = []
    fills: list[tuple[Want, Flight, Landing, Fill]] = []
    for want, flight, owner, stand, head in to_load:
        if want.key not in values:
            if not flight.future.done():  # with the error of a value that cannot be stored
                tiers.board.land(flight, _landing_of_nothing(want, stand, head, found))
            continue
        value, payload = values[want.key]
        out[want.key] = value
        if not found.is_committed or (head == AWAY and found.limit < inf):
            tiers.board.land(flight, landing_in_private(tiers, want, value, stand))
            continue
        want = tagged(want, found)
        token = found.capped(None if head == AWAY else head)
        landing = landing_of(tiers, want, value, payload, stand, token)
        if head == AWAY:
            tiers.events["uncached"] += 1
            tiers.board.land(flight, landing)
        elif want.l2:
            fills.append((want, flight, landing, fill_of(tiers, want, landing, owner)))
        else:
            local.append((want, flight, landing))
    if local:
        landings = [(want, landing) for want, _, landing in local]
        landed = yield from keep_local(tiers, landings, blocking=blocking)
        for (_, flight, _), landing in zip(local, landed, strict=True):
            tiers.board.land(flight, landing)
    for some in in_slices(fills, lambda each: len(each[3].payload)):
        yield from _fill_slice(tiers, some)


def _landing_of_nothing(want: Want, stand: Stand, head: int, found: Found) -> Landing:
    deps = deps_named(tagged(want, found).tags, (want.key,))
    is_private = not found.is_committed or (head == AWAY and found.limit < inf)
    token = found.capped(None if head == AWAY else head)
    return Landing(
        nothing(want.key), deps, stand, stand.at, token, None, is_private=is_private, is_absent=True
    )


def _fill_slice(tiers: Tiers, fills: Sequence[tuple[Want, Flight, Landing, Fill]]) -> Plan[None]:
    sent = tiers.clock()
    try:
        replies = yield Ask(tuple(fill for *_, fill in fills))
    except L2Unavailable as error:
        yield from unfilled(tiers, error, [fill for *_, fill in fills])
        for _, flight, landing, _ in fills:
            tiers.board.land(flight, landing)
        return
    for (want, flight, landing, _), filled in zip(fills, replies, strict=True):
        tiers.board.land(flight, take_fill(tiers, want, landing, filled.status, filled.head, sent))
