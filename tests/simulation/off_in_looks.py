"""The rules of looks into L2 by plain commands, each switched off."""

from __future__ import annotations

from tests.simulation.mutations import Mutation
from tiercache._core import l2_batches, l2_hits, looks

_VERSIONS = '        ("ZMSCORE", names.state, *_HEADER, *map(tag_dep, self.tags)),\n'
_ENTRIES = '        ("MGET", *map(names.entry, self.keys)),\n'

OF_LOOKS = (
    # ---- what a look asks
    Mutation(
        "a look asks for the entries before the versions",
        looks,
        "Look.plain",
        _VERSIONS + _ENTRIES,
        _ENTRIES + _VERSIONS,
        also=Mutation("... and reads them so", looks, "Look.parse", "scores, entries,", "entries, scores,"),
        theme="looks",
    ),
    Mutation(
        "a look does not ask where the server stands at its end",
        looks,
        "Look.parse",
        "self.seen <= head <= head_after",
        "self.seen <= head",
        theme="looks",
    ),
    Mutation(
        "at its end a look does not ask for the epoch",
        looks,
        "Look.parse",
        "epoch == epoch_after == self.epoch",
        "epoch == self.epoch",
        theme="looks",
    ),
    Mutation(
        "a look does not compare heads",
        looks,
        "Look.parse",
        "self.seen <= head",
        "0 <= head",
        theme="looks",
    ),
    # ---- what it calls good
    Mutation(
        "a look takes an entry with a tag that it did not ask for",
        looks,
        "Looked.good",
        "self.versions.get(tag, inf)",
        "self.versions.get(tag)",
        theme="looks",  # a look asks for what was last found: seldom by itself
    ),
    Mutation(
        "a look does not compare an entry with the versions of its tags",
        looks,
        "Looked.good",
        "if version is not None and version > stored.token:",
        "if False:",
    ),
    Mutation(
        "a look takes an entry from below the floor",
        looks,
        "Looked.good",
        "self.floor <= stored.token",
        "0 <= stored.token",
    ),
    Mutation(
        "a look takes an entry of another epoch",
        looks,
        "Looked.good",
        "stored.epoch != self.epoch or",
        "",
        theme="looks",
    ),
    # ---- when it is asked, and when its answer counts
    Mutation(
        "no lease for a look",
        l2_hits,
        "look_in_l2",
        "or stand.lease <= stand.at",
        "",
        theme="looks",
    ),
    Mutation(
        "a look is made before what waits to be invalidated is sent",
        l2_hits,
        "look_in_l2",
        "core.pending or",
        "",
        also=Mutation("... and counts", l2_hits, "take_stored", "core.withheld(deps) or", ""),
        theme="looks",
    ),
    # ---- many keys at once
    Mutation(
        "no lease for the look of a batch",
        l2_batches,
        "_look",
        "or stand.lease <= stand.at",
        "",
        theme="looks",
    ),
    Mutation(
        "a batch looks before what waits to be invalidated is sent",
        l2_batches,
        "_look",
        "core.pending or",
        "",
        also=Mutation("... and counts", l2_hits, "take_stored", "core.withheld(deps) or", ""),
        theme="looks",
    ),
    Mutation(
        "a batch lets what a look found count as of the head met since",
        l2_batches,
        "_take",
        "stand, looked.head)",
        "stand, tiers.core.seen)",
        theme="looks",
    ),
)
