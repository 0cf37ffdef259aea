"""Hits in L2: asked for by a look where that may do, judged, read, and kept in L1.

Nothing here locks or loads; what is not a hit is somebody else's business (reads.py, loads.py).
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

from tiercache._core import early
from tiercache._core.coherence import Stand
from tiercache._core.commands import Hit
from tiercache._core.compression import inflate
from tiercache._core.flights import Landing, ahead_of
from tiercache._core.l1 import Entry
from tiercache._core.large import Large
from tiercache._core.looks import Look, Looked
from tiercache._core.plan import Ask, Plan
from tiercache._core.records import StoredEntry, parse_entry
from tiercache._core.sources import is_writing, uncommitted
from tiercache._core.tiers import FOUND, IN_VAIN, MOST, NOT_FOUND, REFUSED, Counts, Tiers, Want
from tiercache._core.values import Unreadable
from tiercache._core.whole import amend
from tiercache._core.writes import deps_named, made_entry
from tiercache._errors import L2Refused, L2Unavailable


def file_alias(tiers: Tiers, want: Want, entry: Entry) -> None:
    """Let the next call with the same arguments find *entry* without a key being made."""
    if want.caller is None or want.table is None:
        return
    with tiers.core.lock:
        # 1. A load begins.  2. The function goes to another cache, and its table is emptied.  3. The load
        # lands: nobody would ever drop what it filed there now.
        if want.caller.table is want.table:
            amend(tiers.core, tiers.core.l1.alias, entry, want.table, want.arguments)


class Taken(NamedTuple):
    """A value that L2 had, good as of *head* in the reply to what was sent at *stand*."""

    value: Any
    payload: bytes
    stored: StoredEntry
    left: float | None  # seconds; None: no expiry in Redis
    stand: Stand
    head: int


def likely_tags(tiers: Tiers, key: str, declared: tuple[str, ...]) -> tuple[str, ...]:
    """All that the entry of *key* may depend on: those that were last found on it are but a guess.

    A look finds nothing that has others. The very tags *declared* where nothing else is known.
    """
    known = tiers.known_tags.get(key)
    return declared if known is None else tuple(dict.fromkeys((*declared, *known)))


def tags_to_look_for(
    tiers: Tiers, counts: Counts, key: str, declared: tuple[str, ...]
) -> tuple[str, ...] | None:
    """What a look for *key* asks for; None: it would be in vain, in all likelihood."""
    likely = likely_tags(tiers, key, declared)
    is_in_vain = counts.prospect <= 0 if likely is declared else is_refused(counts)
    return None if is_in_vain else likely


def is_refused(counts: Counts) -> bool:
    return counts.prospect < -MOST


def are_declared(want: Want, tags: tuple[str, ...]) -> bool:
    return set(tags) <= set(want.tags)


def can_be_looked_for(tiers: Tiers, want: Want, tags: tuple[str, ...]) -> bool:
    """Whether a look for *want* finds an entry with *tags*; where it has to ask for more, that is kept."""
    if are_declared(want, tags):
        return True
    tiers.known_tags.learn(want.key, tags)
    return False


def look_in_l2(
    tiers: Tiers, want: Want, tags: tuple[str, ...] | None = None
) -> Plan[tuple[Stand, Looked] | None]:
    """Look for the entry of *want* by plain commands; None where the script must be asked.

    It is there and depends on *tags*, as the script said; None: on such as are likely, if it is.
    No flight: who looks loads nothing. One at a time looks for a key; whoever comes meanwhile flies, and
    is joined: a hundred threads that miss at once would else be a hundred requests.
    """
    expected = tags_to_look_for(tiers, want.counts, want.key, want.tags) if tags is None else tags
    if expected is None:
        return None
    core = tiers.core
    stand = core.stand(tiers.clock())
    if core.pending or stand.lease <= stand.at:
        return None  # a sync comes first
    if tags is None and (want.key in tiers.looking or tiers.board.has(want.key)):
        return None  # a load under way says that there is nothing to find
    if ahead_of(core) == inf:
        return None
    tiers.looking.add(want.key)
    try:
        replies = yield Ask((Look(stand.epoch, stand.seen, (want.key,), expected),))
    except L2Unavailable as error:
        unlooked(tiers, want.counts, error)
        return None
    finally:
        tiers.looking.discard(want.key)
    return stand, replies[0]


def unlooked(tiers: Tiers, counts: Counts, error: L2Unavailable) -> None:
    """A look was not answered, and perhaps none ever will be."""
    if isinstance(error, L2Refused):
        tiers.events["look_refused"] += 1
        counts.prospect = REFUSED


def judged(tiers: Tiers, want: Want, stand: Stand, looked: Looked) -> Taken | None:
    """What a look sent at *stand* found that will do."""
    taken = None
    good = looked.good(want.key)
    if good is not None and looked.head is not None and tiers.core.meet(stand, looked.head, (want.key,)):
        taken = take_stored(tiers, want, *good, stand, looked.head)
    if taken is not None:
        learn_found(tiers, want, taken)
    elif not tiers.known_tags.failed(want.key, looked.versions):
        want.counts.learn(IN_VAIN)
    return taken


def learn_found(tiers: Tiers, want: Want, taken: Taken) -> None:
    """Let what a look has found count for the next."""
    if are_declared(want, taken.stored.tags):
        want.counts.learn(FOUND)
    else:
        tiers.known_tags.found(want.key)


def is_absent(tiers: Tiers, want: Want, stand: Stand, looked: Looked) -> bool:
    """Whether a look sent at *stand* shows that there is no entry: an answer to who would not load it."""
    if looked.head is None or looked.entries is None or looked.entries[want.key] is not None:
        return False
    return tiers.core.meet(stand, looked.head, (want.key,))


def take(tiers: Tiers, want: Want, answer: Hit | Large, stand: Stand, head: int) -> Plan[Taken | None]:
    """The value of an entry that the script found good as of *head*; None where it will not do."""
    if isinstance(answer, Large):
        can_be_looked_for(tiers, want, answer.tags)
        looked = yield from look_in_l2(tiers, want, answer.tags)
        return None if looked is None else judged(tiers, want, *looked)
    taken = take_hit(tiers, want, answer, stand, head)
    could_be_seen = taken is not None and can_be_looked_for(tiers, want, taken.stored.tags)
    want.counts.learn(FOUND if could_be_seen else NOT_FOUND)
    return taken


def take_hit(tiers: Tiers, want: Want, hit: Hit, stand: Stand, head: int) -> Taken | None:
    stored = parse_entry(hit.raw, want.key)
    if stored is None:
        tiers.events["unreadable"] += 1
        return None
    return take_stored(tiers, want, stored, hit.left, stand, head)


def take_stored(
    tiers: Tiers, want: Want, stored: StoredEntry, left: float | None, stand: Stand, head: int
) -> Taken | None:
    """The value of an entry of L2 good as of *head*; None where its bytes, or its tags, will not do."""
    if want.print is not None and stored.print != want.print:
        tiers.events["retagged"] += 1
        return None
    try:
        payload = inflate(stored.payload)
        value = tiers.values.decode(payload)
    except Unreadable:
        tiers.events["unreadable"] += 1
        return None
    core = tiers.core
    if core.pending or core.held or is_writing():
        deps = deps_named(stored.tags, (want.key,))
        if core.withheld(deps) or core.bypassed(deps) or uncommitted(deps):
            return None
    return Taken(value, payload, stored, left, stand, head)


def keep(tiers: Tiers, want: Want, taken: Taken) -> Entry:
    """The entry of what was *taken*, in L1 unless something overtook it; if it is due, its refresh begins.

    After that, or the old value could follow the new one into L1.
    """
    value, payload, stored, left, stand, head = taken
    entry = made_entry(tiers, want, value, payload, stand.at, left, head, stored)
    if want.early is not None and left is not None:
        entry.deadline = min(entry.deadline, stand.at + early.kept_for(tiers, want, want.early, stored, left))
    if want.l1 and tiers.core.insert(entry, stand, stand.at):
        file_alias(tiers, want, entry)
    if want.early is not None and left is not None:
        early.begin_if_due(tiers, want, want.early, stored, left)
    return entry


def landing_of_hit(tiers: Tiers, want: Want, taken: Taken) -> Landing:
    deps = deps_named(taken.stored.tags, (want.key,))
    return Landing(keep(tiers, want, taken), deps, taken.stand, taken.stand.at, None, taken.head)


def landed(tiers: Tiers, want: Want, taken: Taken) -> tuple[Landing, Any]:
    """What was *taken* of L2, for everybody who joined."""
    want.counts.l2_hits += 1
    landing = landing_of_hit(tiers, want, taken)
    if want.audit is not None:
        want.audit(want, landing.entry, "L2")
    return landing, taken.value
