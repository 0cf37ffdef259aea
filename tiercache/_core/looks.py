"""A look into L2 by plain commands, judged here by the rule that the read script applies there.

One round trip, on one connection, in this order::

    ZMSCORE state      epoch, head, floor, and the versions of the tags that the reader declares
    MGET entries
    TIME               an entry says itself when it ends, by the clock of the server
    ZMSCORE state      epoch and head, once more

Versions first. What is found under a key after that survived every record on the *key* up to that
head, for such a record takes the entry away or replaces it; and its tags are judged by the versions
of that head. The other way about:  1. MGET: v1.  2. W deletes the key, record 7.  3. ZMSCORE: head
7, and no tag of v1 has a version above its token. It would count as good as of 7. (model: LookVersions,
LookEntry)

The last command, since no step of the server holds the others together: what is at the other end may be
replaced by an older copy between two of them, by a resync after a failover or by a proxy. A deleted entry
is back then.  1. ZMSCORE: head 7.  2. The copy, of head 5.  3. MGET: v1. Within an epoch the states of all
copies are beginnings of one history: who has come to 7 again has all its records. (model: LookStands)

A look can only say "good as of this head" or nothing at all. It locks nothing and gives no leave to
load: whoever learns nothing from it asks the script. Of many keys each is judged by itself (l2_batches.py);
and where nothing would be loaded, that there is no entry is an answer as well. It costs the server a fifth
of the script, and the round trip a quarter less (docs/explanation/coherence.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import inf
from typing import Any, NamedTuple

from tiercache._accelerator import compiled
from tiercache._core.records import StoredEntry, parse_entry, tag_dep
from tiercache._core.scripts import Names, fields_of

REPLIES = 4  # to one look
_HEADER = ("\1e", "\1s", "\1f")  # epoch, head and floor, negative


class Looked(NamedTuple):
    """What was found: the state at one instant, and after that the entries, as they are stored."""

    head: int | None  # None: no state, another epoch, or a head below one met before, or at first: sync first
    epoch: int = 0
    floor: int = 0
    versions: dict[str, int | None] | None = None  # of the tags asked for; None: no record since the floor
    entries: dict[str, bytes | None] | None = None
    now_ms: int = 0

    def good(self, key: str) -> tuple[StoredEntry, float] | None:
        """The entry of *key*, good as of `head`, and the seconds it has left; None where that is not sure."""
        if self.head is None or self.entries is None or self.versions is None:
            return None
        raw = self.entries[key]
        stored = None if raw is None else parse_entry(raw, key)
        if stored is None or stored.epoch != self.epoch or not self.floor <= stored.token <= self.head:
            return None
        for tag in stored.tags:
            version = self.versions.get(tag, inf)  # (model: Valid) one not asked for has any
            if version is not None and version > stored.token:
                return None
        left = stored.expiry_ms - self.now_ms
        return (stored, left / 1000) if left > 0 else None


def end_of(names: Names) -> tuple[tuple[Any, ...], ...]:
    """The last commands of every look."""
    return ("TIME",), ("ZMSCORE", names.state, *_HEADER[:2])


class Look(NamedTuple):
    """For *keys*, whose entries may depend on *tags* and no others, or nothing is learned of them."""

    epoch: int
    seen: int
    keys: tuple[str, ...]
    tags: tuple[str, ...]

    def plain(self, names: Names) -> list[tuple[Any, ...]]:
        return [
            ("ZMSCORE", names.state, *_HEADER, *map(tag_dep, self.tags)),
            ("MGET", *map(names.entry, self.keys)),
            *end_of(names),
        ]

    def parse(self, raw: list[Any]) -> Looked:
        scores, entries, (seconds, micros), (epoch_after, head_after) = map(fields_of, raw)
        if len(scores) != len(_HEADER) + len(self.tags) or len(entries) != len(self.keys):
            raise ValueError(f"a look for {len(self.keys)} keys was answered with {len(entries)}")
        epoch, head, floor, *versions = map(_number, scores)
        if None in (epoch, head, floor, epoch_after, head_after):
            return Looked(None)
        epoch_after, head_after = -_number(epoch_after), -_number(head_after)
        epoch, head, floor = -epoch, -head, -floor
        if not (epoch == epoch_after == self.epoch and self.seen <= head <= head_after):
            return Looked(None)
        return Looked(
            head,
            epoch,
            floor,
            dict(zip(self.tags, versions, strict=True)),
            dict(zip(self.keys, entries, strict=True)),
            int(seconds) * 1000 + int(micros) // 1000,
        )


def _number(score: Any) -> Any:
    """A score as a whole number; None, of a member that is not there, stays None."""
    return None if score is None else int(float(score))


if compiled is not None:
    compiled.use_looks(Looked.good)  # its own Looked asks that where an entry is not of the usual form


def together(looks: Sequence[Look]) -> Look:
    """One look for all of *looks*, which are of one epoch: the strictest of their heads holds for all."""
    _, seen, keys, tags = zip(*looks, strict=True)
    return Look(
        looks[0].epoch,
        max(seen),
        tuple(dict.fromkeys(chain.from_iterable(keys))),
        tuple(dict.fromkeys(chain.from_iterable(tags))),
    )
