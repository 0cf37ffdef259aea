"""Plans and steps of plans that ask L2, run the loader, and keep what it brings.

Whatever is stored carries a token taken before its load began: the head at the miss, answered
by the server, or `proved`, which needs no round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

from tiercache._core import early
from tiercache._core.asks import ask_l2, lapsed
from tiercache._core.coherence import Stand
from tiercache._core.commands import Fill, Hit, KeyAsk, Unlock
from tiercache._core.flights import Flight, Landing, Load, current_load, running_call
from tiercache._core.l1 import Entry
from tiercache._core.l2_hits import file_alias, keep, take_hit
from tiercache._core.plan import Call, Plan, Tell, ask
from tiercache._core.records import check_of
from tiercache._core.sources import Found, is_writing
from tiercache._core.syncs import sync
from tiercache._core.tiers import Tiers, Want
from tiercache._core.writes import deps_named, made_entry, ttl_ms
from tiercache._errors import L2Refused, L2Unavailable, LoadTimeout


def _call(
    tiers: Tiers, want: Want, flight: Flight, stand: Stand, token: float
) -> Plan[tuple[Any, bytes, Found, Want]]:
    """Run the loader, known to the reads inside it as a load with *token*.

    What it returned, that as bytes, what its source said, and *want* with the tags that the source named.
    """
    assert want.call is not None
    want.counts.loads += 1
    load = Load(tiers.core, stand.epoch, token, flight, running_call())
    load.found.is_committed = not is_writing()  # it may take its value from objects, and ask no source
    try:
        tiers.core.begin_load(stand.epoch, token, load)
        begun = tiers.clock()
        value = yield want.call.within(load)
        want.counts.took = tiers.clock() - begun
        payload = packed(tiers, want, value, load)
    except Exception:
        flight.has_failed = True
        raise
    finally:
        load.is_over = True
        tiers.core.end_load(load)
    return value, payload, load.found, tagged(want, load.found)


def tagged(want: Want, found: Found) -> Want:
    """*want*, with the tags that its source named, too."""
    return replace(want, tags=found.tagged(want.tags)) if found.tags else want


def packed(tiers: Tiers, want: Want, value: Any, load: Load) -> bytes:
    """*value* as it is stored: a part of its *load*, for what it is made of may say how old it is."""
    if not load.found.is_committed:
        return b""
    values = tiers.values
    inside = current_load.set(load)
    try:
        return values.encode_linked(value) if want.share and not want.l2 else values.encode(value)
    finally:
        current_load.reset(inside)


def catch_up(tiers: Tiers, token: int, *, blocking: bool) -> Plan[int]:
    """Let L1 know all that a load with *token* must reflect, before it begins; the token to store it with.

    Its loader may read the cache where nobody can tell that the read is part of a load: in a thread of an
    executor, context variables do not follow. A head that others moved since the last sync costs such a
    load one round trip. Twice, as the first may join an older sync. Where none gets through, reads that are
    known to be part of it must be that new all the same, see `Coherence.serve`, and it is stored with what is
    proved for a token: the server refuses it where another part may be older. (model: CatchUp)
    """
    for _ in range(2):
        if tiers.core.proved < token:
            yield from sync(tiers, blocking=blocking)
    return min(token, tiers.core.proved)


def call_past_the_tiers(tiers: Tiers, key: str, call: Call, *, blocking: bool) -> Plan[Any]:
    """What *call* brings under a write of what it reads; kept by nobody, and nobody waits for it.

    1. k is answered anew.  2. A block on one of its tags opens.  3. k is asked for, and its function called.
    4. That reads a part which L1 still has from before 1. So what is read inside it must be as new as all
    that was answered before it began. (G6)
    """
    core = tiers.core
    with core.lock:
        epoch, token = core.epoch, core.answered
    yield from catch_up(tiers, token, blocking=blocking)
    load = Load(core, epoch, token, Flight(key, tiers.clock()), running_call(), is_past=True)
    try:
        core.begin_load(epoch, token, load)
        return (yield call.within(load))
    finally:
        load.is_over = True
        core.end_load(load)


def load_and_fill(
    tiers: Tiers, want: Want, flight: Flight, owner: str, stand: Stand, token: int, *, blocking: bool
) -> Plan[tuple[Landing, Any]]:
    """Load with leave from the server, and store what the server still accepts."""
    proved = yield from catch_up(tiers, token, blocking=blocking)
    value, payload, found, want = yield from _call(tiers, want, flight, stand, token)
    if not found.is_committed:
        yield from unlock(tiers, want, owner)
        return landing_in_private(tiers, want, value, stand), value
    landing = landing_of(tiers, want, value, payload, stand, found.capped(proved))
    sent = tiers.clock()
    fill = fill_of(tiers, want, landing, owner)
    try:
        filled = yield from ask(fill)
    except L2Unavailable as error:
        yield from unfilled(tiers, error, (fill,))
        return landing, value
    except BaseException:
        # The value is there, only its storing was cut short: those who waited may have it, unless somebody
        # has seen that the loop was closed over this load, and gave it up.
        if not flight.future.done():
            tiers.board.land(flight, landing)
        raise
    return take_fill(tiers, want, landing, filled.status, filled.head, sent), value


def load_anew(tiers: Tiers, want: Want, seen: int, *, blocking: bool) -> Plan[None]:
    """Load and store what is still good, unless somebody loads it by now, or has, here or elsewhere.

    *seen* is the end of the entry that is to be replaced:  1. A looks, and finds it due.  2. B has loaded it
    anew, and unlocks.  3. A is given the lock. So A asks along with that what is there now, and takes it if
    it is another.
    """
    owner = tiers.owner()
    # On no board: who reads now has the old value, and waits for none.
    flight = Flight(want.key, tiers.clock())
    try:
        asks = KeyAsk(want.key, "renew", owner), KeyAsk(want.key, "get", "")
        asked = yield from ask_l2(tiers, asks, blocking=blocking)
        if asked is None or asked[2][0] != "lead":
            return
        stand, head, (_, there) = asked
        taken = take_hit(tiers, want, there, stand, head) if isinstance(there, Hit) else None
        if taken is not None and taken.stored.expiry_ms != seen:
            keep(tiers, want, taken)
            yield from unlock(tiers, want, owner)
            return
        yield from load_and_fill(tiers, want, flight, owner, stand, head, blocking=blocking)
    except GeneratorExit:
        owe_unlock(tiers, want, owner)
        raise
    except BaseException:
        yield from unlock(tiers, want, owner)
        raise


def unfilled(tiers: Tiers, error: L2Unavailable, fills: Sequence[Fill]) -> Plan[None]:
    """L2 did not take *fills*, nor end their locks; `health` tells of a server that was there and refused."""
    tiers.events["unfilled"] += len(fills)
    unlocks = tuple(Unlock(fill.key, fill.owner) for fill in fills)
    if isinstance(error, L2Refused):
        tiers.unstored = str(error)
        yield Tell(unlocks, tiers.owe)
    else:
        tiers.owe(unlocks)


def fill_of(tiers: Tiers, want: Want, landing: Landing, owner: str) -> Fill:
    payload = tiers.for_l2(landing.payload)
    return Fill(
        landing.stand.epoch,
        landing.token or 0,
        owner,
        ttl_ms(want.ttl),
        want.key,
        check_of(want.key, want.tags, payload),
        want.print or 0,
        payload,
        want.tags,
    )


def take_fill(tiers: Tiers, want: Want, landing: Landing, status: str, head: int, sent: float) -> Landing:
    """The landing after the server's word on its fill; accepted, the value stays in L1 as well."""
    tiers.events[f"fill_{status}"] += 1
    tiers.unstored = None
    if status not in ("ok", "full") or not tiers.core.meet(landing.stand, head):
        return landing
    landing.entry.vouched = head
    if want.early is not None:
        ends = landing.entry.deadline if want.ttl is None else sent + want.ttl
        lead = early.lead_time(tiers, want, want.early, sent)
        landing.entry.deadline = min(landing.entry.deadline, ends - lead)
    if want.l1 and tiers.core.insert(landing.entry, landing.stand, sent):
        file_alias(tiers, want, landing.entry)
    return landing._replace(head=head)


def load_away(tiers: Tiers, want: Want, flight: Flight) -> Plan[tuple[Landing, Any]]:
    """Load for those who wait now; nothing is kept."""
    tiers.events["uncached"] += 1
    stand = tiers.core.stand(tiers.clock())
    value, payload, found, want = yield from _call(tiers, want, flight, stand, inf)
    if found.is_committed and found.limit == inf:
        return landing_of(tiers, want, value, payload, stand, None), value
    return landing_in_private(tiers, want, value, stand), value  # nobody could tell how old a snapshot is


def proven(tiers: Tiers, *, blocking: bool) -> Plan[Stand | None]:
    """Where the node stands under a good lease, with all that it has met proved; None: load without caching.

    `proved` is then a token for loads that need no leave from the server.
    """
    core = tiers.core
    stand = core.stand(tiers.clock())
    if stand.lease <= stand.at or stand.proved < stand.seen:
        yield from sync(tiers, blocking=blocking)
        stand = core.stand(tiers.clock())
    if stand.lease > stand.at:
        return stand
    lapsed(tiers)
    return None


def load_for_l1(tiers: Tiers, want: Want, flight: Flight, *, blocking: bool) -> Plan[tuple[Landing, Any]]:
    """Load for L1 alone: exact, and no round trip while the lease is good."""
    stand = yield from proven(tiers, blocking=blocking)
    if stand is None:
        return (yield from load_away(tiers, want, flight))
    value, payload, found, want = yield from _call(tiers, want, flight, stand, stand.proved)
    if not found.is_committed:
        return landing_in_private(tiers, want, value, stand), value
    landing = landing_of(tiers, want, value, payload, stand, found.capped(stand.proved))
    (landing,) = yield from keep_local(tiers, [(want, landing)], blocking=blocking)
    return landing, value


def landing_of(
    tiers: Tiers, want: Want, value: Any, payload: bytes, stand: Stand, token: int | None
) -> Landing:
    """What a load with *token*, or with none while Redis is away, brings before anybody vouches for it."""
    entry = made_entry(tiers, want, value, payload, tiers.clock(), want.ttl, token or 0)
    return Landing(entry, deps_named(want.tags, (want.key,)), stand, stand.at, token, None, payload)


def landing_in_private(tiers: Tiers, want: Want, value: Any, stand: Stand) -> Landing:
    """What a load brings that is for its own caller alone; whether it could be stored is not asked."""
    tiers.events["uncommitted"] += 1
    entry = Entry(want.key, None, None, deadline=-inf)
    return Landing(entry, deps_named(want.tags, (want.key,)), stand, stand.at, None, None, is_private=True)


def unlock(tiers: Tiers, want: Want, owner: str) -> Plan[None]:
    """Let the next one lead, here or elsewhere."""
    if want.l2:
        yield Tell((Unlock(want.key, owner),), tiers.owe)


def owe_unlock(tiers: Tiers, want: Want, owner: str) -> None:
    """Unlock with the next sync: of a plan that is closed, and can ask for nothing any more.

    It is so when it is thrown away with the loop it ran in; or its loader raised a GeneratorExit.
    """
    if want.l2 and owner:
        tiers.owe((Unlock(want.key, owner),))


def leave_abandoned(tiers: Tiers, want: Want, flight: Flight) -> Plan[None]:
    """The end of a follower of *flight* by an error: nobody may be left who takes over.

    1. The leader is cancelled, sees a follower, and leaves it the lock.  2. So is the follower.
    """
    if flight.is_abandoned() and flight.owner:
        owner, flight.owner = flight.owner, ""  # one of those who leave tells it for all
        yield from unlock(tiers, want, owner)


def too_long(tiers: Tiers, key: str) -> LoadTimeout:
    return LoadTimeout(
        f"the load of {key!r} that others had begun took longer than {tiers.load_timeout} s; "
        "raise load_timeout if the loader may take that long"
    )


def keep_local(
    tiers: Tiers, landings: Sequence[tuple[Want, Landing]], *, blocking: bool
) -> Plan[list[Landing]]:
    """Keep in L1 what was loaded with a proved head as its token; what is kept is vouched for by that."""
    core = tiers.core
    if core.proved < core.seen:
        # Others met a newer head meanwhile: nothing is kept before it is known what it brought.
        yield from sync(tiers, blocking=blocking)
    landed = []
    for want, landing in landings:
        with core.lock:
            kept = (
                want.l1
                and not core.is_fenced(landing.deps)
                and core.insert(landing.entry, landing.stand, tiers.clock())
            )
        if kept:
            file_alias(tiers, want, landing.entry)
        landed.append(landing._replace(head=landing.token) if kept else landing)
    return landed
