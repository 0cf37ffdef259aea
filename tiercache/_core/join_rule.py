"""The join rule: who may take what a load brought that another had begun."""

from __future__ import annotations

from tiercache._core.coherence import Coherence, Stand
from tiercache._core.flights import Landing
from tiercache._core.sources import uncommitted


def _has_no_older_part(core: Coherence, joined: Stand, began: Stand) -> bool:
    """Whether L1 can have given no part to a load without Redis that is too old for who joined it.

    A loader may read the cache in a thread where nobody can tell that it is part of a load, and is then
    served as anybody is: 1. W's record.  2. P, cut off before it, loads, just before its lease ends; a part
    comes from L1.  3. The lease ends, somebody joins.  4. It lands: a part older than D at the join. What L1
    gives under a lease is no older, at any instant of that lease, than D; how old it is under one that was
    got after the load began, and may have been asked for before, nobody can tell.
    """
    if began.at < began.lease:
        return joined.at <= began.lease
    return core.lease <= began.at


def may_follow(
    core: Coherence,
    joined: Stand,
    written: frozenset[str],
    landing: Landing,
    *,
    nested: bool,
    in_batch: bool = False,
) -> bool:
    """Whether who joined at *joined*, while writes under *written* were under way, may take the landing."""
    if landing.is_absent and not in_batch:
        return False  # its own loader may have something
    return written.isdisjoint(landing.deps) and may_take(core, joined, landing, nested=nested)


def may_take(core: Coherence, joined: Stand, landing: Landing, *, nested: bool) -> bool:
    """The join rule: whether a caller that joined at *joined* may take what its flight landed with.

    1. A's load reads v1.  2. B commits v2, invalidates.  3. B reads and joins A's flight: v1 (R5).
    The value must reflect every record B could have met before it joined. So it needs a head or token
    at or above B's; or no record on its dependencies up to a proof that covers B. B's own lease may have
    lapsed at the join: then the lease at landing must cover that instant, and B's head is what it proved.
    A value that nobody vouches for may have been loaded under a fence, before a commit whose writer then
    died and left no record: it must have begun within the bound (G7), and is no part of another, whose
    followers would count from that one's beginning. (model: MayTake)
    """
    deps = landing.deps
    if landing.is_private or core.bypassed(deps) or uncommitted(deps):
        return False
    if landing.token is None and landing.head is None:
        # Loaded without Redis: younger than the last invalidation of this node, and than D.
        return (
            not nested
            and landing.stand.own >= joined.own
            and (landing.stand.epoch, landing.stand.generation) == (joined.epoch, joined.generation)
            and landing.stand.seen >= joined.seen
            and landing.began > joined.at - core.max_staleness
            and _has_no_older_part(core, joined, landing.stand)
        )
    with core.lock:
        same = (core.epoch, core.generation) == (landing.stand.epoch, joined.generation)
        if not same or joined.epoch not in (0, core.epoch) or core.withheld(deps):
            return False
        must_reflect = joined.seen
        if joined.lease <= joined.at:
            if core.lease <= joined.at:
                return False
            must_reflect = max(must_reflect, core.proved)
        vouched = max(landing.head or 0, landing.token or 0)
        if joined.own > landing.stand.own and not core.reflects(deps, vouched):
            return False  # an own invalidation that was pending at the join had no number then
        if landing.head is not None and landing.head >= must_reflect:
            return True
        if landing.token is None or (
            landing.head is None and (nested or landing.began <= joined.at - core.max_staleness)
        ):
            return False
        if landing.token >= must_reflect:
            return True
        return core.proved >= must_reflect and core.reflects(deps, landing.token)
