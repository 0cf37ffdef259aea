"""Early refresh: what is about to end is loaded anew by one caller, beside those whom it still serves.

When, is drawn: `took * (2 - beta * ln(u))` before the end, if its load takes `took` seconds and u is between
0 and 1. The logarithm is that of XFetch (Vattani, Chierichetti and Lowenstein, VLDB 2015): the more processes
have the entry, the sooner the first of them begins, and seldom two at once. There each read draws; here each
process does, once for each entry of Redis, so that a hit costs nothing more; hence the 2, by which a load
that begins a little later ends in time.

It draws out of its own name and the entry's, and so remembers nothing. Its L1 gives the entry up at that
instant; the read that misses it there sees in L2 whether another process was sooner, and begins if not.

One load more, under the lock and the token of any load: no promise depends on it.
"""

from __future__ import annotations

from math import log

from tiercache._core.records import StoredEntry
from tiercache._core.tiers import Early, Tiers, Want

MOST = 0.5  # parts of the ttl; what takes as long to load as it lives would be loaded all the time
MAX_REMEMBERED = 10_000  # entries that were refreshed early


def lead_time(tiers: Tiers, want: Want, early: Early, entry: float) -> float:
    """Seconds before the end of the *entry* of that instant; 0 where this process has seen no load."""
    named = hash((tiers.core.node, want.key, entry))
    drawn = (named & (1 << 53) - 1) / (1 << 53)
    seconds = want.counts.took * (2.0 - early.beta * log(1.0 - drawn))
    return seconds if want.ttl is None else min(seconds, want.ttl * MOST)


def begin_if_due(tiers: Tiers, want: Want, early: Early, stored: StoredEntry, left: float) -> None:
    """Begin, if this is the time for what L2 has for *left* seconds; once for each entry."""
    if (
        left > lead_time(tiers, want, early, stored.expiry_ms)
        or tiers.refreshed.get(want.key) == stored.expiry_ms
    ):
        return
    if len(tiers.refreshed) >= MAX_REMEMBERED:
        tiers.refreshed.clear()  # at worst some are begun twice
    tiers.refreshed[want.key] = stored.expiry_ms  # first, for others may find it due at this moment
    if early.start(want, stored.expiry_ms):
        tiers.events["early_refreshes"] += 1
    else:
        tiers.refreshed.pop(want.key, None)


def kept_for(tiers: Tiers, want: Want, early: Early, stored: StoredEntry, left: float) -> float:
    """Seconds that L1 keeps what L2 has for *left* seconds: until it is time, or to its end."""
    lead = lead_time(tiers, want, early, stored.expiry_ms)
    return left - lead if left > lead else left
