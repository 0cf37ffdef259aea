"""Many keys asked of L2: by looks where that may do, a thousand keys each, and the script for the rest.

What a look finds is taken, and told of, before anything else is asked: by the rule of a single read
(l2_hits.py), under the stand at which that look was sent. Whatever comes between it and the script's answer
for other keys makes it neither older nor newer:  1. A batch looks: a as of head 7, no b.  2. W's record 8, on
a tag of both.  3. The script gives leave to load b, with token 8. So a is vouched for at 7 and goes with W's
hint, or is not kept where the hint came first; b has seen W. No promise is about two keys at one time. An
epoch that ends in between is met by the script's answer, and takes a away with all of L1. A look gives no
leave to load: its head is nobody's token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

from tiercache._core.asks import ask_l2
from tiercache._core.coherence import Stand
from tiercache._core.commands import MAX_SENT, Answer, Hit, KeyAsk, Mode
from tiercache._core.flights import ahead_of
from tiercache._core.l2_hits import (
    Taken,
    are_declared,
    can_be_looked_for,
    is_refused,
    likely_tags,
    take_hit,
    take_stored,
)
from tiercache._core.large import Large
from tiercache._core.looks import Look, Looked
from tiercache._core.plan import Ask, Plan
from tiercache._core.records import MAX_DEPS
from tiercache._core.tiers import FOUND, IN_VAIN, NOT_FOUND, REFUSED, Counts, Tiers, Want
from tiercache._core.writes import BYTES_SENT
from tiercache._errors import L2Refused, L2Unavailable

AWAY = -1  # in place of a head: Redis is away, and what is loaded is not kept
# A look in front of the script is a round trip more, and takes from it what it finds. It makes up for that
# from so many keys on, and an eighth of all (bench/batch.py).
PAYS = 8

Owned = tuple[Want, str]  # and the name that its load would have
Without = tuple[Want, str, Stand, int, Answer]
Told = Callable[[Want, Taken], None]


class Sought(NamedTuple):
    want: Want
    tags: tuple[str, ...]  # all that its entry may depend on
    size: int  # bytes of the entry, as far as is known


def look_for_all(tiers: Tiers, wants: Sequence[Want], told: Told, *, loads: bool) -> Plan[list[Want]]:
    """Ask by looks, have *told* called with each value; whom of *wants* the script must be asked for.

    That there is no entry is an answer, but for who *loads*: leave to do so is the script's alone.
    """
    left: list[Want] = []
    for some in _looks(
        Sought(want, likely_tags(tiers, want.key, want.tags), want.counts.size) for want in wants
    ):
        counts = some[0].want.counts
        new = {each.want.key for each in some if each.tags is each.want.tags}  # nothing is known of these
        is_likely = counts.prospect > 0 or (_pays(len(some), len(new)) and not is_refused(counts))
        found = (yield from _look(tiers, some)) if is_likely else None
        if found is None:
            left += (each.want for each in some)
            continue
        looked, stand = found
        unfound = [each.want for each in some if not _take(tiers, each.want, looked, stand, told)]
        raws = looked.entries or {}
        note_sizes(counts, [len(raw) for raw in raws.values() if raw is not None])
        unsure = unfound if loads else [want for want in unfound if raws[want.key] is not None]
        in_vain = [want for want in unsure if not tiers.known_tags.failed(want.key, looked.versions)]
        if in_vain or new.difference(want.key for want in unfound):
            counts.learn(FOUND if _pays(len(new), len(in_vain)) else IN_VAIN)
        left += unsure
    return left


def take_large(tiers: Tiers, large: Sequence[tuple[Want, Large]], told: Told) -> Plan[list[Want]]:
    """Look for what the script has left to that, some megabytes a round trip; who is still without."""
    left: list[Want] = []
    for some in _looks(Sought(want, answer.tags, answer.size) for want, answer in large):
        found = yield from _look(tiers, some)
        left += (each.want for each in some if found is None or not _take(tiers, each.want, *found, told))
    return left


def _looks(sought: Iterable[Sought]) -> Iterator[list[Sought]]:
    """*sought*, in parts for one look each: by their number, what comes back, and the versions asked for."""
    some: list[Sought] = []
    tags: set[str] = set()
    size = 0
    for each in sought:
        if some and (len(some) == MAX_SENT or size + each.size > BYTES_SENT or len(tags) >= MAX_DEPS):
            yield some
            some, tags, size = [], set(), 0
        some.append(each)
        tags.update(each.tags)
        size += each.size
    if some:
        yield some


def _look(tiers: Tiers, some: Sequence[Sought]) -> Plan[tuple[Looked, Stand] | None]:
    """What one look for all of *some* finds; None where the script must be asked."""
    core = tiers.core
    stand = core.stand(tiers.clock())
    if core.pending or stand.lease <= stand.at:
        return None  # a sync comes first
    if ahead_of(core) == inf:
        return None
    keys = tuple(each.want.key for each in some)
    tags = tuple(dict.fromkeys(tag for each in some for tag in each.tags))
    try:
        replies = yield Ask((Look(stand.epoch, stand.seen, keys, tags),))
    except L2Refused:
        tiers.events["look_refused"] += 1
        some[0].want.counts.prospect = REFUSED
        return None
    except L2Unavailable:
        return None
    looked: Looked = replies[0]
    # For a key that has no entry, too: that there is none is an answer, as of that head.
    if looked.head is None or not core.meet(stand, looked.head, keys):
        return None
    return looked, stand


def _take(tiers: Tiers, want: Want, looked: Looked, stand: Stand, told: Told) -> bool:
    good = looked.good(want.key)
    if good is None or looked.head is None:
        return False
    taken = take_stored(tiers, want, *good, stand, looked.head)
    if taken is not None:
        if not are_declared(want, taken.stored.tags):
            tiers.known_tags.found(want.key)
        told(want, taken)
    return taken is not None


def ask_for_all(
    tiers: Tiers, owned: Sequence[Owned], mode: Mode, told: Told, *, blocking: bool, learns: bool
) -> Plan[list[Without]]:
    """Ask the script, have *told* called with each value; who is without one, and what the script said.

    Redis away, that is "miss", at no head. A whole batch *learns* from this whether a look would pay.
    """
    answered = yield from _ask_script(tiers, owned, mode, blocking=blocking)
    without: list[Without] = []
    large: list[tuple[Want, Large]] = []
    sizes: list[int] = []
    seen = absent = 0
    for want, owner, stand, head, answer in answered:
        if isinstance(answer, Hit):
            sizes.append(len(answer.raw))
            taken = take_hit(tiers, want, answer, stand, head)
            if taken is not None:
                seen += can_be_looked_for(tiers, want, taken.stored.tags)
                told(want, taken)
                continue
        elif isinstance(answer, Large):
            can_be_looked_for(tiers, want, answer.tags)
            large.append((want, answer))
        absent += answer == "miss" and head != AWAY
        without.append((want, owner, stand, head, answer))
    if sizes:
        note_sizes(owned[0][0].counts, sizes)
    if learns and (sizes or mode != "get"):
        pays = _pays(len(owned), len(owned) - seen - absent)
        owned[0][0].counts.learn(FOUND if pays else NOT_FOUND)
    if large:
        left = {want.key for want in (yield from take_large(tiers, large, told))}
        without = [each for each in without if each[0].key in left or not isinstance(each[-1], Large)]
    return without


def _ask_script(tiers: Tiers, owned: Sequence[Owned], mode: Mode, *, blocking: bool) -> Plan[list[Without]]:
    """An answer for each; a thousand a round trip."""
    answers: dict[str, tuple[Stand, int, Answer]] = {}
    todo = [KeyAsk(want.key, mode, owner) for want, owner in owned]
    while todo:
        asks, todo = tuple(todo[:MAX_SENT]), todo[MAX_SENT:]
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
    return [(want, owner, *answers[want.key]) for want, owner in owned]


def note_sizes(counts: Counts, sizes: Sequence[int]) -> None:
    """Let *sizes*, of entries that L2 gave, say how many the next look asks for."""
    if sizes:
        counts.size = max(sum(sizes) // len(sizes), counts.size // 4)


def _pays(asked: int, left: int) -> bool:
    """Whether a look for so many pays that leaves so many to the script."""
    return not left or asked - left >= PAYS + asked // 8
