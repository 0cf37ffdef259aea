"""Plans that answer a read: from L1, from a load under way, from L2, from the loader.

A read goes down the tiers and fills them on its way back, and nothing it puts there can be
older than what an invalidation removed: the token is taken with the miss, before the load
begins, and every store is checked against it (R1, R2). Callers of one key share one flight,
which holds its look into L2 as well as its load.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

from tiercache._core.asks import ask_for_one
from tiercache._core.commands import Hit, KeyAsk, Touch
from tiercache._core.elsewhere import fetch_past_l1
from tiercache._core.flights import (
    ABANDONED,
    MAX_JOINS,
    Flight,
    Landing,
    Load,
    ahead_of,
    audit_around,
    running_load,
)
from tiercache._core.join_rule import may_follow
from tiercache._core.l1 import Entry, deps_of
from tiercache._core.l2_hits import (
    Taken,
    file_alias,
    is_absent,
    judged,
    keep,
    look_in_l2,
    take,
)
from tiercache._core.large import Large
from tiercache._core.loads import (
    call_past_the_tiers,
    leave_abandoned,
    load_for_l1,
    owe_unlock,
    too_long,
    unlock,
)
from tiercache._core.looks import Looked
from tiercache._core.plan import TIMED_OUT, Join, Plan, ask
from tiercache._core.sources import is_writing, uncommitted
from tiercache._core.stand import Stand
from tiercache._core.tiers import Tiers, Want
from tiercache._core.whole import amend
from tiercache._core.writes import deps_named, ttl_ms
from tiercache._errors import L2Unavailable


class _Miss:
    def __repr__(self) -> str:
        return "MISS"


MISS: Final = _Miss()


def read(tiers: Tiers, want: Want, *, blocking: bool) -> Plan[Any]:
    """The value of *want*, or MISS where it has no loader.

    What the loader raises reaches its caller and those who waited for it, and is not kept. Raises
    LoadTimeout when another's load takes longer than `load_timeout`, L2Unavailable under
    `on_lapse="raise"`.
    """
    load = running_load()
    audit = audit_around(tiers.core, load)
    if audit is not None or is_bypassed(tiers, want):
        return (yield from _past_the_tiers(tiers, want, audit, blocking=blocking))
    if want.l1 and not want.renew:
        entry = find_in_l1(tiers, want, ahead_of(tiers.core), tiers.clock())
        if entry is not None:
            want.counts.l1_hits += 1
            file_alias(tiers, want, entry)
            if want.audit is not None:
                want.audit(want, entry, "L1")
            return entry.take()
    looked = (yield from look_in_l2(tiers, want)) if want.l2 and not want.renew else None
    return (yield from after_look(tiers, want, looked, blocking=blocking))


def after_look(tiers: Tiers, want: Want, looked: tuple[Stand, Looked] | None, *, blocking: bool) -> Plan[Any]:
    """The rest of a read that has *looked* in L2: what it was sent at, and found; None where it did not."""
    if want.call is None:
        return (yield from _peek(tiers, want, looked, blocking=blocking))
    taken = None if looked is None else judged(tiers, want, *looked)
    if taken is None:
        # Asked anew: whoever did not wait for this read may be done by now.
        return (yield from fly(tiers, want, running_load(), blocking=blocking))
    want.counts.l2_hits += 1
    if want.l1 or want.audit is not None or want.early is not None:
        entry = keep(tiers, want, taken)
        if want.audit is not None:
            want.audit(want, entry, "L2")
    return taken.value


def fly(
    tiers: Tiers,
    want: Want,
    load: Load | None,
    *,
    blocking: bool,
    joined: Stand | None = None,
    refused: Flight | None = None,
) -> Plan[Any]:
    """Lead the flight of *want*, or take what another's brings, if the join rule allows: past any look.

    *joined*: where the node stood when the caller began, if not now; what *refused* brought is not for it.
    """
    core = tiers.core
    joined = core.stand(tiers.clock()) if joined is None else joined
    begun = joined.at
    joins, given_up = (0 if refused is None else 1), 0
    while True:
        now = tiers.clock()
        if joined.lease <= joined.at:
            joined = core.stand(now)
        # A refresh promises a load of its own; a part of a load without Redis must be as young as that.
        afresh = want.renew or joins == MAX_JOINS or ahead_of(core) == inf
        is_patient, board = given_up >= MAX_JOINS, tiers.board
        flight, role = board.claim(
            want.key, now, load, blocking=blocking, instead_of=refused, afresh=afresh, is_patient=is_patient
        )
        try:
            if role == "lead":
                return (yield from _lead(tiers, want, flight, blocking=blocking))
            # It may land after a write that is under way here, and be from before the commit: this read went
            # past the tiers for the tags that are declared, and its source may name others.
            written = frozenset(core.held)
            landing = yield Join(flight.future, max(0.0, begun + tiers.load_timeout - now))
        except BaseException as error:
            if role == "lead":
                board.abandon(flight)
            elif not isinstance(error, GeneratorExit):
                yield from leave_abandoned(tiers, want, flight)
            raise
        finally:
            tiers.board.leave(flight, load, role)
        if landing is TIMED_OUT:
            raise too_long(tiers, want.key)
        if landing is ABANDONED:
            given_up += 1
            continue
        if may_follow(core, joined, written, landing, nested=load is not None, in_batch=want.in_batch):
            want.counts.joins += 1
            return landing.entry.take()
        joins += 1
        refused = flight


def find_in_l1(tiers: Tiers, want: Want, ahead: float, now: float) -> Entry | None:
    """The entry L1 may answer with at *now*, stamped as used."""
    entry, until = tiers.core.serve(want.key, ahead)
    if entry is None or tiers.clock() >= until:
        return None
    if uncommitted(entry.deps):
        return None
    if want.print is not None and entry.print != want.print:
        return None  # it was stored by key, say, and the function's tags do not reach it
    entry.stamp = now
    return entry


def is_bypassed(tiers: Tiers, want: Want) -> bool:
    """Whether a write of the truth under what *want* depends on is under way, in this process or context."""
    core = tiers.core
    if not core.held and not is_writing():
        return False
    deps = deps_named(want.tags, (want.key,))
    return core.bypassed(deps) or uncommitted(deps)


def _peek(tiers: Tiers, want: Want, looked: tuple[Stand, Looked] | None, *, blocking: bool) -> Plan[Any]:
    """The value under a key as L2 has it, or MISS; loads nothing and waits for nobody."""
    taken = None
    if want.l2 and (looked is None or not is_absent(tiers, want, *looked)):
        taken = None if looked is None else judged(tiers, want, *looked)
        if taken is None:
            return (yield from by_script(tiers, want, blocking=blocking))
    return _peeked(tiers, want, taken)


def by_script(tiers: Tiers, want: Want, *, blocking: bool) -> Plan[Any]:
    """A read without a loader, in whose way nothing is, of what no look could find."""
    asked, taken = (yield from ask_for_one(tiers, KeyAsk(want.key, "get", ""), blocking=blocking)), None
    if asked is not None:
        stand, head, answer = asked
        # Any other answer says nothing of a look: that would have shown as much, where there is no entry.
        if isinstance(answer, Hit | Large):
            taken = yield from take(tiers, want, answer, stand, head)
    return _peeked(tiers, want, taken)


def _peeked(tiers: Tiers, want: Want, taken: Taken | None) -> Any:
    """What a read without a loader returns, counted, and kept in L1."""
    if taken is None:
        want.counts.misses += 1
        return MISS
    want.counts.l2_hits += 1
    if want.l1:
        keep(tiers, want, taken)
    return taken.value


def _past_the_tiers(tiers: Tiers, want: Want, audit: Load | None, *, blocking: bool) -> Plan[Any]:
    """A read under a write of the truth, of this transaction's or within an audit: the source, or a miss."""
    if want.call is None:
        want.counts.misses += 1
        if audit is not None:
            audit.unsourced = True
        return MISS
    want.counts.loads += 1
    if audit is not None:
        return (yield want.call)
    return (yield from call_past_the_tiers(tiers, want.key, want.call, blocking=blocking))


def _lead(tiers: Tiers, want: Want, flight: Flight, *, blocking: bool) -> Plan[Any]:
    """Answer for everybody who joins *flight*, and end it whatever happens."""
    owner = ""
    try:
        owner = flight.owner = tiers.owner()
        landing, value = yield from _fetch(tiers, want, flight, owner, blocking=blocking)
        tiers.board.land(flight, landing)
        return value
    except GeneratorExit:
        if not tiers.board.abandon(flight):
            owe_unlock(tiers, want, owner)
        raise
    except BaseException as error:
        # Where a follower takes over, as from one that is cancelled, the lock stays with the node.
        is_followed = False
        if flight.ends_by(error):
            tiers.board.fail(flight, error)
        else:
            is_followed = tiers.board.abandon(flight)
        if not is_followed:
            yield from unlock(tiers, want, owner)
        raise


def _second_look(tiers: Tiers, want: Want, now: float) -> tuple[Landing, Any] | None:
    """What L1 has by the time the caller leads.

    Two callers miss.  1. A claims, loads, lands.  2. B claims and leads, too. Without this look B would
    load again what A has just stored.
    """
    if not want.l1 or want.renew:
        return None
    # The stand before the look: the numbers of an epoch that ends between them are not the next one's.
    stand = tiers.core.stand(now)
    entry = find_in_l1(tiers, want, ahead_of(tiers.core), now)
    if entry is None:
        return None
    want.counts.l1_hits += 1
    if want.audit is not None:
        want.audit(want, entry, "L1")
    deps = deps_of(entry.key, entry.deps)
    return Landing(entry, deps, stand, now, entry.vouched, entry.vouched), entry.take()


def _fetch(
    tiers: Tiers, want: Want, flight: Flight, owner: str, *, blocking: bool
) -> Plan[tuple[Landing, Any]]:
    """What a tier has by now, or what the loader returns."""
    found = _second_look(tiers, want, tiers.clock())
    if found is not None:
        return found
    if not want.l2:
        return (yield from load_for_l1(tiers, want, flight, blocking=blocking))
    return (yield from fetch_past_l1(tiers, want, flight, owner, blocking=blocking))


def touch(tiers: Tiers, want: Want, *, blocking: bool) -> Plan[bool]:
    """Let the entry of *want* live *want.ttl* from now on; whether there was one that may be served.

    Two round trips: one finds out whether it is valid, one moves the end of what is there by then. Other
    processes learn of the new end when their L1 lets go of the entry.
    """
    core = tiers.core
    now = tiers.clock()
    if not want.l2:
        with core.lock:
            entry = find_in_l1(tiers, want, 0, now)
            if entry is not None:
                entry.deadline = now + min(inf if t is None else t for t in (want.ttl, want.l1_ttl))
        return entry is not None
    asked = yield from ask_for_one(tiers, KeyAsk(want.key, "get", ""), blocking=blocking)
    if asked is None or not isinstance(asked[2], Hit | Large):
        return False
    amend(core, core.l1.drop, want.key)
    try:
        return (yield from ask(Touch(asked[0].epoch, want.key, ttl_ms(want.ttl))))
    except L2Unavailable:
        return False
    finally:
        amend(core, core.l1.drop, want.key)  # a read meanwhile may have met the old end
