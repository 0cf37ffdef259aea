"""Following a load that is under way without a plan, for a task outside of any load.

What `read` asks before its caller joins is asked here of one in whose way nothing is. Anything else, and
what a flight brings that its follower may not take, is left to the plan.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from tiercache._core.flights import ABANDONED, Flight, Landing, current_load
from tiercache._core.join_rule import may_follow
from tiercache._core.loads import too_long
from tiercache._core.plan import TIMED_OUT, Plan
from tiercache._core.reads import MISS, fly
from tiercache._core.sources import is_writing
from tiercache._core.stand import Stand
from tiercache._core.tiers import Counts, Tiers, Want

# The flight, which counts it until it leaves; where the node stood when it joined; and the dependencies that
# were under a write of this process then.
Follower: TypeAlias = tuple[Flight, Stand, frozenset[str]]


def follow(tiers: Tiers, key: str) -> Follower | None:
    """Join the flight of *key*; None where there is none, or a plan must see to it."""
    core, board = tiers.core, tiers.board
    if not board.has(key) or key in core.l1.entries:
        return None
    if current_load.get() is not None or core.held or is_writing():
        return None
    joined = core.stand(tiers.clock())
    flight = board.follow(key, joined.at)
    return None if flight is None else (flight, joined, frozenset(core.held))


def taken(tiers: Tiers, counts: Counts, follower: Follower, landing: Landing | Any) -> Any:
    """The value, counted, of the *landing* that the wait came to; MISS where a plan must go `on`."""
    flight, joined, written = follower
    if landing is TIMED_OUT:
        raise too_long(tiers, flight.key)
    if landing is ABANDONED or not may_follow(tiers.core, joined, written, landing, nested=False):
        return MISS
    counts.joins += 1
    return landing.entry.take()


def on(tiers: Tiers, want: Want, follower: Follower, landing: Landing | Any) -> Plan[Any]:
    """The rest of the read, after a *landing* that was not for this follower."""
    flight, joined, _ = follower
    refused = None if landing is ABANDONED else flight
    return fly(tiers, want, None, blocking=False, joined=joined, refused=refused)
