"""One load of many keys: the call of its loader, what is stored of it, and the flights that land with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from tiercache._core.coherence import Stand
from tiercache._core.commands import Fill, Unlock
from tiercache._core.flights import Flight, Landing, Load, running_call
from tiercache._core.l2_batches import AWAY
from tiercache._core.loads import (
    fill_of,
    keep_local,
    landing_in_private,
    landing_of,
    packed,
    tagged,
    take_fill,
    unfilled,
)
from tiercache._core.many import LoadMany, checked, nothing
from tiercache._core.plan import Ask, Call, Plan, Tell
from tiercache._core.sources import Found, is_writing
from tiercache._core.tiers import Tiers, Want
from tiercache._core.writes import deps_named, in_slices, of_key
from tiercache._errors import L2Unavailable, Unstorable


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


def call_many(
    tiers: Tiers, to_load: Sequence[Leave], loader: LoadMany, spelled: Mapping[str, str]
) -> Plan[Brought]:
    """Call *loader* once. A key whose value cannot be stored fails alone."""
    core, outer = tiers.core, running_call()
    found = Found()
    found.is_committed = not is_writing()
    loads: list[Load] = []
    for (epoch, token), (flight, *others) in _by_leave(to_load).items():
        inside = loads[-1] if loads else outer
        loads.append(Load(core, epoch, token, flight, inside, others=others, found=found))
    try:
        for load in loads:
            core.begin_load(load.epoch, load.token, load)
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
    except Exception:
        for leave in to_load:
            leave.flight.has_failed = True
        raise
    finally:
        for load in loads:
            load.is_over = True
            core.end_load(load)


def _by_leave(to_load: Sequence[Leave]) -> dict[tuple[int, float], list[Flight]]:
    """The flights of each epoch and token: as many as there were between the first slice and the last.

    They wait for the same from now on, whatever their one loader waits for.
    """
    waits: list[Flight] = []
    flights: dict[tuple[int, float], list[Flight]] = {}
    for _, flight, _, stand, head in to_load:
        flight.waits = waits
        flights.setdefault((stand.epoch, inf if head == AWAY else head), []).append(flight)
    return flights


def unlock_all(tiers: Tiers, owned: Sequence[tuple[Want, str]]) -> Plan[None]:
    unlocks = tuple(Unlock(want.key, owner) for want, owner in owned if want.l2 and owner)
    if unlocks:
        yield Tell(unlocks, tiers.owe)


def store_many(
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
    yield from unlock_all(tiers, [(want, owner) for want, _, owner, _, _ in to_load if want.key not in kept])
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
