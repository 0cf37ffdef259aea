"""Reads by the script: under a good lease, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from tiercache._core.coherence import Stand
from tiercache._core.commands import MAX_READ, Answer, Answers, KeyAsk, Read, Unlock
from tiercache._core.flights import ahead_of
from tiercache._core.plan import Ask, Plan
from tiercache._core.syncs import sync
from tiercache._core.tiers import Tiers
from tiercache._errors import L2Unavailable

Asked = tuple[Stand, int, tuple[Answer, ...]]


def ask_l2(tiers: Tiers, asks: tuple[KeyAsk, ...], *, blocking: bool) -> Plan[Asked | None]:
    """Where the node stood, the head, and an answer a key, under a good lease; None: load without caching.

    A lapsed lease costs no round trip more: the sync goes in front of the read. So it does while an
    invalidation of this node's own is still to be sent, and that before it: an answer from before would be
    taken for one that reflects it, if it were done by the time the answer is here.
    """
    core = tiers.core
    must_sync = False
    for _ in range(3):
        if ahead_of(core) == inf:
            break
        stand = core.stand(tiers.clock())
        reads = tuple(
            Read(stand.epoch, stand.seen, asks[at : at + MAX_READ]) for at in range(0, len(asks), MAX_READ)
        )
        answers: Answers | None
        if must_sync or core.pending or stand.lease <= stand.at:
            together = reads[0] if stand.epoch and len(reads) == 1 else None
            good, answers = yield from sync(tiers, blocking=blocking, read=together)
            if not good:
                _owe_locks(tiers, together.asks if together is not None else ())
                break
            must_sync = False
        else:
            try:
                answers = of_all((yield Ask(reads)))
            except L2Unavailable:
                _owe_locks(tiers, asks)
                break
            must_sync = answers.head is None
            if must_sync:
                tiers.events["resyncs"] += 1
        if answers is None or answers.head is None:
            continue
        if core.meet(stand, answers.newest or answers.head, (x.key for x in asks)):
            return stand, answers.head, answers.found
    lapsed(tiers)
    return None


def _owe_locks(tiers: Tiers, asks: Iterable[KeyAsk]) -> None:
    """Nobody knows whether *asks* have run, or still will."""
    tiers.owe(Unlock(x.key, x.owner) for x in asks if x.mode != "get")


def ask_for_one(tiers: Tiers, ask: KeyAsk, *, blocking: bool) -> Plan[tuple[Stand, int, Answer] | None]:
    """As `ask_l2`; again, as often as the answers to reads that went along left no room for this one."""
    while True:
        asked = yield from ask_l2(tiers, (ask,), blocking=blocking)
        if asked is None:
            return None
        stand, head, (answer,) = asked
        if answer != "again":
            return stand, head, answer


def of_all(replies: Sequence[Answers]) -> Answers:
    """What several reads were answered one after the other, as of the first of them."""
    if len(replies) == 1:
        return replies[0]
    heads = [answers.head for answers in replies if answers.head is not None]
    if len(heads) < len(replies):
        return Answers(None)
    return Answers(min(heads), tuple(found for answers in replies for found in answers.found), max(heads))


def lapsed(tiers: Tiers) -> None:
    """Count a read that goes to the source, or refuse it, as `on_lapse` says."""
    tiers.events["lapses"] += 1
    if tiers.raise_on_lapse:
        raise L2Unavailable("Redis cannot vouch for what is cached now, and on_lapse is 'raise'")
