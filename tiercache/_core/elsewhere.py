"""What L2 has of a key, and whose load is waited for where it has none: this process's, or another's.

The read that finds nothing takes the lock of the key along, or is told whose it is. Who waits hangs a bell
that the end of that load rings; a lost wake-up costs a part of the lock's life.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from tiercache._core.asks import ask_for_one
from tiercache._core.commands import Hit, KeyAsk, Mode, Wait
from tiercache._core.flights import MAX_JOINS, Flight, Landing
from tiercache._core.l2_hits import landed, take
from tiercache._core.large import Large
from tiercache._core.loads import load_and_fill, load_away, too_long
from tiercache._core.plan import Join, Plan
from tiercache._core.records import key_dep
from tiercache._core.tiers import NOT_FOUND, Tiers, Want

TRUE_RINGS = 3  # wake-ups in a row that left a waiter waiting, and are no reason for doubt
FIRST_LOOK = 0.02  # seconds; how soon a waiter looks again where no wake-up can reach it


def fetch_past_l1(
    tiers: Tiers, want: Want, flight: Flight, owner: str, *, blocking: bool
) -> Plan[tuple[Landing, Any]]:
    """What L2 has, this process's load or another's.

    After one that brings nothing the same process may be the first to ask, always: nobody waits for many.
    """
    dep = key_dep(want.key)
    bell: Future[None] | None = None
    rung = tiers.bells.rung
    mode: Mode = "renew" if want.renew else "lead"
    looks, rings, give_up = 0, 0, tiers.clock() + tiers.load_timeout
    loading, loads = b"", 0  # by the name of the last, and their number
    try:
        while True:
            asked = yield from ask_for_one(tiers, KeyAsk(want.key, mode, owner), blocking=blocking)
            if asked is None:
                return (yield from load_away(tiers, want, flight))
            stand, head, answer = asked
            mode = "renew" if want.renew else "lead"
            if isinstance(answer, Wait) and answer.owner != loading:
                loading, loads = answer.owner, loads + 1
            has_waited = loads > MAX_JOINS or (loads > 1 and tiers.clock() >= give_up)
            if answer == "lead" or has_waited:
                if not want.renew:
                    want.counts.learn(NOT_FOUND)
                return (yield from load_and_fill(tiers, want, flight, owner, stand, head, blocking=blocking))
            if isinstance(answer, Hit | Large):
                taken = yield from take(tiers, want, answer, stand, head)
                if taken is not None:
                    return landed(tiers, want, taken)
                mode = "renew"
            elif isinstance(answer, Wait):
                if bell is None:
                    bell = tiers.bells.hang(dep)
                    if tiers.bells.rung != rung:
                        continue  # somebody's wake-up came before there was a bell
                if (left := give_up - tiers.clock()) <= 0:
                    raise too_long(tiers, want.key)
                rings += yield from _wait(bell, min(patience_for(tiers, answer.left, looks), left), rings)
                looks += 1
                if bell.done():
                    # It hangs before the read that finds the lock still there: no wake-up is missed.
                    bell = tiers.bells.hang(dep)
    finally:
        if bell is not None:
            tiers.bells.take_down(dep, bell, is_due=isinstance(answer, Wait))


def patience_for(tiers: Tiers, left: float, looks: int) -> float:
    """How long to wait for a wake-up before looking again, *left* seconds before the lock ends."""
    if not tiers.wakes_arrive():
        return min(left + 0.001, FIRST_LOOK * (1 << min(looks, 6)))
    return left / 4 if looks == 0 else left / 2 if looks == 1 else left + 0.001


def _wait(bell: Future[None], patience: float, rings: int) -> Plan[bool]:
    """Wait for *bell*, having been woken *rings* times for nothing; whether it rang.

    A load that brings nothing wakes all, and one of them leads the next. More than some, and somebody makes
    them up: each would be a round trip, so this waiter is deaf for a while.
    """
    if rings > TRUE_RINGS:
        yield Join(Future(), min(patience, FIRST_LOOK * (1 << min(rings - TRUE_RINGS, 6))))
    yield Join(bell, patience)
    return bell.done()
