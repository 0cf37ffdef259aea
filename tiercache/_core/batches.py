"""Plans over many keys: one look into L2 a hundred keys, one call of the loader for all that is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiercache._core.coherence import Stand
from tiercache._core.commands import MAX_READ, Answer, Fill, Hit, KeyAsk, Mode, Unlock
from tiercache._core.flights import Flight, Landing, Load, current_load
from tiercache._core.loads import (
    ask_l2,
    fill_of,
    keep_local,
    landing_of,
    proven,
    take_fill,
    take_hit,
    unfilled,
)
from tiercache._core.plan import Ask, Call, Plan, Tell
from tiercache._core.reads import look, read
from tiercache._core.tiers import Tiers, Want
from tiercache._core.writes import deps_named
from tiercache._errors import L2Unavailable

AWAY = -1  # in place of a head: Redis is away, and what is loaded is not kept
LoadMany = Callable[[list[str]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]


class Absent(BaseException):
    """The loader has nothing for a key. No error of anybody's: the flight is given up, the key left out."""


def one_of(loader: LoadMany, key: str) -> Any:
    """What *loader* has for *key* alone; Absent where it has nothing."""
    return _pick(loader([key]), key)  # type: ignore[arg-type]  # a coroutine is refused by name in _pick


async def one_of_async(loader: LoadMany, key: str) -> Any:
    found = loader([key])
    return _pick(await found if isinstance(found, Awaitable) else found, key)


def _pick(found: Mapping[str, Any], key: str) -> Any:
    checked(found)
    if key not in found:
        raise Absent
    return found[key]


def checked(found: object) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise TypeError(
            f"the loader of many keys must return a mapping of key to value, not {type(found).__name__}"
        )
    return found


def get_many(tiers: Tiers, wants: Sequence[Want], *, blocking: bool) -> Plan[dict[str, Any]]:
    """The values the tiers have; keys they do not have are left out."""
    out: dict[str, Any] = {}
    missing = []
    for want in wants:
        if not tiers.core.bypassed(deps_named((), (want.key,))):
            entry = look(tiers, want, current_load.get(), tiers.clock())
            if entry is None:
                missing.append(want)
            else:
                want.counts.l1_hits += 1
                out[want.key] = entry.take()
    asked = [want for want in missing if want.l2]
    found = yield from _ask_all(tiers, asked, "get", [""] * len(asked), blocking=blocking)
    for want, (stand, head, answer) in zip(asked, found, strict=True):
        hit = take_hit(tiers, want, answer, stand, head) if isinstance(answer, Hit) else None
        if hit is not None:
            want.counts.l2_hits += 1
            out[want.key] = hit[1]
    for want in wants:
        want.counts.misses += want.key not in out
    return out


Found = tuple[Stand, int, Answer]


def _ask_all(
    tiers: Tiers, wants: Sequence[Want], mode: Mode, owners: Sequence[str], *, blocking: bool
) -> Plan[list[Found]]:
    """An answer for each of *wants*, "away" ones as a miss at no head; a slice a round trip."""
    answers: dict[str, Found] = {}
    todo = [KeyAsk(want.key, mode, owner) for want, owner in zip(wants, owners, strict=True)]
    while todo:
        asks, todo = tuple(todo[:MAX_READ]), todo[MAX_READ:]
        asked = yield from ask_l2(tiers, asks, blocking=blocking)
        if asked is None:
            stand = tiers.core.stand(tiers.clock())
            answers.update((x.key, (stand, AWAY, "miss")) for x in (*asks, *todo))
            break
        stand, head, found = asked
        for x, answer in zip(asks, found, strict=True):
            if answer == "again":
                todo.insert(0, x)
            else:
                answers[x.key] = (stand, head, answer)
    return [answers[want.key] for want in wants]


def get_or_load_many(
    tiers: Tiers, wants: Sequence[Want], loader: LoadMany, spelled: Mapping[str, str], *, blocking: bool
) -> Plan[dict[str, Any]]:
    """The values of all keys, those missing loaded by one call of *loader*.

    Keys another caller or another process is loading are waited for, after what this call loads
    itself is stored: two batches that overlap in opposite order do not wait for each other.
    Keys the loader leaves out are left out of the result, and not kept. The loader is given keys, and
    gives them back, as they were *spelled* by the caller; a long one is stored under another name.
    """
    out: dict[str, Any] = {}
    load = current_load.get()
    led: dict[str, tuple[Want, Flight]] = {}
    later: list[Want] = []
    for want in wants:
        entry = look(tiers, want, load, tiers.clock())
        if entry is not None:
            want.counts.l1_hits += 1
            out[want.key] = entry.take()
            continue
        deps = deps_named(want.tags, (want.key,))
        if tiers.core.bypassed(deps) or tiers.core.withheld(deps):
            later.append(want)
            continue
        flight, role = tiers.board.claim(want.key, tiers.clock(), load, blocking=blocking)
        tiers.board.leave(flight, load, role)
        if role == "lead":
            led[want.key] = want, flight
        else:
            later.append(want)
    try:
        later += yield from _lead_many(tiers, led, loader, spelled, out, blocking=blocking)
    except Exception as error:
        for _, flight in led.values():
            if not flight.future.done():
                tiers.board.fail(flight, error)
        raise
    finally:
        for _, flight in led.values():
            tiers.board.abandon(flight)
    for want in later:
        one = Call(one_of if blocking else one_of_async, (loader, spelled[want.key]))
        try:
            out[want.key] = yield from read(tiers, replace(want, call=one), blocking=blocking)
        except Absent:
            continue
    return {want.key: out[want.key] for want in wants if want.key in out}


def _lead_many(
    tiers: Tiers,
    led: dict[str, tuple[Want, Flight]],
    loader: LoadMany,
    spelled: Mapping[str, str],
    out: dict[str, Any],
    *,
    blocking: bool,
) -> Plan[list[Want]]:
    """Land what L2 has and what one call of *loader* brings; returns what others are loading."""
    later: list[Want] = []
    to_load: list[tuple[Want, Flight, str, Stand, int]] = []
    wants = [want for want, _ in led.values()]
    owners = [tiers.owner() for _ in wants]
    found: list[Found]
    if all(want.l2 for want in wants):
        found = yield from _ask_all(tiers, wants, "lead", owners, blocking=blocking)
    else:
        stand = yield from proven(tiers, blocking=blocking)
        leave = (tiers.core.stand(tiers.clock()), AWAY) if stand is None else (stand, stand.proved)
        found = [(*leave, "lead")] * len(wants)
    for (want, flight), owner, (stand, head, answer) in zip(led.values(), owners, found, strict=True):
        hit = take_hit(tiers, want, answer, stand, head) if isinstance(answer, Hit) else None
        if hit is not None:
            want.counts.l2_hits += 1
            out[want.key] = hit[1]
            tiers.board.land(flight, hit[0])
        elif answer in ("lead", "miss"):
            to_load.append((want, flight, owner, stand, head))
        else:
            later.append(want)
    if not to_load:
        return later
    try:
        keys = [spelled[want.key] for want, *_ in to_load]
        brought = yield from _call_many(tiers, to_load, Call(loader, (keys,)))
        values = {
            want.key: brought[key] for (want, *_), key in zip(to_load, keys, strict=True) if key in brought
        }
        yield from _store_many(tiers, to_load, values, out, blocking=blocking)
    except GeneratorExit:  # the plan itself is thrown away, with the loop it ran in
        raise
    except BaseException:
        yield from _unlock(to_load)
        raise
    return later


Leave = tuple[Want, Flight, str, Stand, int]  # the last is the token, or AWAY


def _call_many(tiers: Tiers, to_load: list[Leave], call: Call) -> Plan[Mapping[str, Any]]:
    core, load = tiers.core, current_load.get()
    epoch = to_load[0][3].epoch
    token = max(stand.seen if head == AWAY else head for _, _, _, stand, head in to_load)
    for _, flight, _, _, _ in to_load:
        load = Load(core, epoch, token, flight, load)
    core.begin_load(epoch, token)
    try:
        values = checked((yield replace(call, load=load)))
    finally:
        core.end_load(epoch, token)
    return values


def _unlock(leaves: list[Leave]) -> Plan[None]:
    unlocks = tuple(Unlock(want.key, owner) for want, _, owner, _, _ in leaves if want.l2)
    if unlocks:
        yield Tell(unlocks)


def _store_many(
    tiers: Tiers,
    to_load: list[Leave],
    values: Mapping[str, Any],
    out: dict[str, Any],
    *,
    blocking: bool,
) -> Plan[None]:
    """Keep what was loaded, as far as the server still accepts it, and land each flight."""
    yield from _unlock([leave for leave in to_load if leave[0].key not in values])
    local: list[tuple[Want, Landing]] = []
    fills: list[tuple[Want, Flight, Landing, Fill]] = []
    landed: list[tuple[Flight, Landing]] = []
    for want, flight, owner, stand, head in to_load:
        if want.key not in values:
            continue
        want.counts.loads += 1
        value = out[want.key] = values[want.key]
        landing = landing_of(tiers, want, value, stand, None if head == AWAY else head)
        tiers.events["uncached"] += head == AWAY
        if head != AWAY and want.l2:
            fills.append((want, flight, landing, fill_of(want, landing, owner)))
        else:
            landed.append((flight, landing))
            if head != AWAY:
                local.append((want, landing))
    if local:
        yield from keep_local(tiers, local, blocking=blocking)
    for flight, landing in landed:
        tiers.board.land(flight, landing)
    for start in range(0, len(fills), MAX_READ):
        yield from _fill_slice(tiers, fills[start : start + MAX_READ])


def _fill_slice(tiers: Tiers, fills: list[tuple[Want, Flight, Landing, Fill]]) -> Plan[None]:
    sent = tiers.clock()
    try:
        replies = yield Ask(tuple(fill for *_, fill in fills))
    except L2Unavailable as error:
        unfilled(tiers, error, len(fills))
        for _, flight, landing, _ in fills:
            tiers.board.land(flight, landing)
        return
    for (want, flight, landing, _), filled in zip(fills, replies, strict=True):
        tiers.board.land(flight, take_fill(tiers, want, landing, filled.status, filled.head, sent))
