"""Barriers: to return only when no process can serve the old value any more (G4), and causal reads (G8).

A node with a lease is on the register of the state since the sync that gave it, with the record up to
which it has applied all; a sync says so of the one before, and `Ack` of the last. So a record has
reached everybody once nobody on the register is behind it. The register goes with the epoch, hence
leases of the epoch before are waited out, unless somebody has seen them end. Whoever does not answer
is waited for as long as a lease lasts: then it has none that it got before the record, and one got
since has brought it. If it did not sync even then, it is taken off: nobody waits for the dead twice.

Forged questions on the channel cost a sync; an acknowledgement is a write to Redis, and its number is
what a sync proved, never what a hint said.
"""

from __future__ import annotations

import re
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from tiercache._core.coherence import CLOCKS, Coherence
from tiercache._core.commands import member_of
from tiercache._core.plan import Ask, Join, Plan, ask
from tiercache._core.scripts import ACK, BARRIER, FORGET, Names, Parts, fields_of, nonce
from tiercache._core.syncs import sync
from tiercache._core.tiers import Tiers
from tiercache._core.writes import Token, Written
from tiercache._errors import L2Unavailable

FIRST_LOOK = 0.01  # seconds; how soon a waiter looks again, twice as long each time: acknowledgements wake it
TRUE_RINGS = 3  # wake-ups that left somebody behind, and are no reason for doubt
MAX_LEASE_MS = 3_600_000  # as `max_staleness` may be; a longer one was planted
LAST_LOOK = 0.08  # seconds between two looks at most: many waiters of one node share their wake-ups
BELL = "barrier"
# Anything else on the register is nobody's, and no lease is longer.
_MEMBER = re.compile("[0-9A-Za-z]{1,64}:[0-9]{1,7}")


class Behind(NamedTuple):
    """Who has not applied a record yet: each member with its score, and how many a full register left out."""

    settled: bool  # leases of an older epoch are over
    left_out: str
    members: dict[str, str]


class Question(NamedTuple):
    """Asked on the channel: that everybody say when they have applied record *number* of *epoch*."""

    epoch: int
    number: int
    waiter: str


@dataclass(frozen=True, slots=True)
class Barrier:
    epoch: int
    number: int
    node: str  # who waits: it has applied its own record
    mark: str = ""  # a fraction from -1 to 0, to tell who synced since; "": only look

    def parts(self, names: Names) -> Parts:
        question = f"2|{self.epoch}|{self.number}|{self.node}"
        return Parts(
            BARRIER,
            (names.state,),
            (self.epoch, self.number, self.node, self.mark, names.channel, question),
        )

    def parse(self, raw: Any) -> Behind | None:
        """None: the server does not know the record, or not any more."""
        if not fields_of(raw):
            return None
        settled, left_out, *rest = (field.decode("utf-8", "replace") for field in raw)
        found = zip(rest[::2], rest[1::2], strict=True)
        return Behind(settled == "1", left_out, {m: score for m, score in found if _MEMBER.fullmatch(m)})


@dataclass(frozen=True, slots=True)
class Ack:
    epoch: int
    proved: int
    member: str
    number: int
    waiter: str

    def parts(self, names: Names) -> Parts:
        return Parts(
            ACK,
            (names.state,),
            (self.epoch, self.proved, self.member, self.number, self.waiter, names.wake),
        )

    def parse(self, raw: Any) -> bool:
        return int(raw) == 1


@dataclass(frozen=True, slots=True)
class Forget:
    """Takes off the register whoever has not synced since; *members* with "" for a score leave themselves."""

    members: tuple[tuple[str, str], ...]
    left_out: str = "0"

    def parts(self, names: Names) -> Parts:
        return Parts(
            FORGET, (names.state,), (self.left_out, *(part for pair in self.members for part in pair))
        )

    def parse(self, raw: Any) -> int:
        return int(raw)


def parse_question(raw: object) -> Question | None:
    """The question in *raw*, or None for anything else that somebody may have published."""
    if not isinstance(raw, bytes) or len(raw) > 100:
        return None
    fields = raw.split(b"|")
    if len(fields) != 4 or fields[0] != b"2" or len(fields[1]) > 16 or len(fields[2]) > 16:
        return None
    try:
        question = Question(int(fields[1]), int(fields[2]), fields[3].decode("ascii"))
    except ValueError:
        return None
    return question if question.number > 0 and question.waiter.isalnum() else None


def reached(tiers: Tiers, write: Plan[Written]) -> Plan[Written]:
    """Perform *write*, and return when it has reached everybody."""
    written = yield from write
    yield from reach(tiers, written)
    return written


def reach(tiers: Tiers, written: Written) -> Plan[None]:
    """Wait until what was *written* has reached everybody; L2Unavailable where it is still to be sent."""
    if written.pending:
        raise L2Unavailable(
            "the invalidation could not be sent and is pending: it is retried, and until it is done other "
            "processes may serve the old value"
        )
    if written.token is not None:
        yield from barrier(tiers, written.token)


def barrier(tiers: Tiers, token: Token) -> Plan[None]:
    """Return when every read that is invoked later, anywhere, reflects the record of *token*.

    A few round trips while all nodes answer, else the longest lease of those who do not. Reads in a process
    that is cut off from Redis may still join a load that began before, for one lease: they are outside of
    this, and within the bound of G1.
    """
    patience = tiers.core.longest_lease()
    asked, since, pause, rings, waited = None, inf, FIRST_LOOK, 0, 0.0
    while True:
        bell = tiers.bells.hang(BELL)
        try:
            # A mark of its own each time: a look that timed out may run late, after who bears it has synced.
            mark = f"-{(nonce() + 1) / 2.0**49!r}" if asked is None else ""
            behind = yield from _look(tiers, token, mark)
            since = min(since, tiers.clock())
            now = max(tiers.clock(), since + waited)  # a test's clock may stand while it waits
            if asked is None and behind is not None:
                asked, asked_at = behind, now
                patience = max([patience, *map(_longest, asked.members)])
            give_up = since + patience
            if asked is not None and behind is not None and _have_all(asked, behind):
                give_up = min(give_up, _settled(tiers.core, token, behind, now, patience))
            if now >= give_up:
                break
            # Woken for nothing again and again, it is deaf: each look is a round trip.
            wait = min(give_up - now, pause)
            yield Join(bell if rings <= TRUE_RINGS else Future(), wait)
            rings += bell.done()
            waited += 0.0 if bell.done() else wait
        finally:
            tiers.bells.take_down(BELL, bell)
        pause = min(2 * pause, LAST_LOOK)
    if asked is not None and behind is not None and now >= asked_at + patience:
        yield from _forget(tiers, asked, behind)


def _have_all(asked: Behind, behind: Behind) -> bool:
    """Whether all who were asked have answered; who came since got the record with the lease."""
    return behind.left_out == "0" and not asked.members.keys() & behind.members.keys()


def _settled(core: Coherence, token: Token, behind: Behind, now: float, patience: float) -> float:
    """An instant at which all leases of epochs before that of *token* are over."""
    if behind.settled:
        return -inf
    with core.lock:
        return (core.adopted if core.epoch == token.epoch else now) + patience


def _look(tiers: Tiers, token: Token, mark: str) -> Plan[Behind | None]:
    try:
        return (yield from ask(Barrier(token.epoch, token.number, tiers.core.node, mark)))
    except L2Unavailable:
        return None


def _forget(tiers: Tiers, asked: Behind, behind: Behind) -> Plan[None]:
    """Take off who still has the mark that it had when it was asked: it did not sync since."""
    silent = tuple((m, mark) for m, mark in asked.members.items() if behind.members.get(m) == mark)
    if silent or asked.left_out != "0":
        tiers.events["forgotten_nodes"] += len(silent)
        try:
            yield Ask((Forget(silent, asked.left_out),))
        except L2Unavailable:
            pass  # the next barrier waits for them once more


def _longest(member: str) -> float:
    _, _, lease_ms = member.rpartition(":")
    return min(int(lease_ms), MAX_LEASE_MS) / 1000 * CLOCKS


def acknowledge(tiers: Tiers, question: Question) -> Plan[bool]:
    """Tell whoever asked *question* that its record is applied here, after a sync if need be."""
    core, begun = tiers.core, tiers.clock()
    for _ in range(2):  # the first may be one that was under way before the record was made
        if core.epoch == question.epoch and core.proved < question.number:
            yield from sync(tiers, blocking=True)
        if core.lease >= begun + core.max_staleness:  # it was sent since
            break
    with core.lock:
        epoch, proved = core.epoch, core.proved
    if epoch != question.epoch or proved < question.number:
        return False
    member = member_of(core.node, core.lease_ms)
    yield Ask((Ack(epoch, proved, member, question.number, question.waiter),))
    return True


def at_least(tiers: Tiers, token: Token, *, blocking: bool) -> Plan[None]:
    """From now on this process reflects the record of *token*, and all before it.

    Nothing to ask where it was heard in a sync already, else one sync. An epoch that is not the token's
    is newer, once a sync says so: what is cached in it was loaded after it began. Where Redis cannot be
    asked the lease ends, and no load that is under way is joined: reads load anew.
    """
    core, begun = tiers.core, tiers.clock()
    for _ in range(2):  # the first may be one that was under way before
        with core.lock:
            if core.epoch == token.epoch and core.proved >= token.number:
                return
        good, _ = yield from sync(tiers, blocking=blocking)
        if not good:
            core.lapse()
            core.begin_invalidation(())
            return
        if core.lease >= begun + core.max_staleness:  # it was sent since
            return
