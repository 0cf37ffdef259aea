"""What one node may serve: the rules that turn records, syncs and replies into orders for L1.

In one line: the versioned state in Redis is the truth, a message on the channel is a hint, the sync is the
proof, and the age of the proof is the lease. Theory, terms, R1 to R43: docs/explanation/coherence.md.

No I/O, no clock, no loop: instants and replies are handed in. Every method but `serve` takes
the lock; `serve` reads the lease first, then the entry, and the caller compares with the
clock last (R32). A change is made as a whole, or all is forgotten (whole.py). Numbers:

    epoch       name of the history the numbers belong to; 0: none known
    generation  grows when this node disowns its epoch; what was sent before counts for nothing
    proved      head of the last sync: all records up to it have been applied
    applied     last record heard of in order, by hint or by sync; only finds gaps
    seen        highest head met in any *reply* of this epoch; a hint never raises it
    answered    likewise, of those replies that gave somebody a value; an own record's is not among them
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from math import inf
from typing import Literal

from tiercache._core.commands import Recorded, Sync, Synced
from tiercache._core.l1 import L1, Entry, deps_of
from tiercache._core.records import EVERYTHING, Hint
from tiercache._core.sources import ANY_EPOCH
from tiercache._core.stand import Stand as Stand
from tiercache._core.told import Told
from tiercache._core.whole import whole

CLOCKS = (1 + 1e-3) / (1 - 1e-3)  # how much longer a second of one process may be than one of another
MAX_RECENT = 10_000  # records remembered against late replies; beyond it, late replies are not kept
MAX_PENDING = 10_000  # dependencies whose invalidation waits for Redis; beyond it they are a clear


class Coherence:
    """The coherence state of one node in one domain, and the L1 it rules over."""

    __slots__ = (  # but for the first two, where the compiled half finds them
        *("__dict__", "__weakref__", "open_until", "lease", "lock", "pending", "held"),
        *("epoch", "generation", "proved", "applied", "seen", "answered", "own"),
    )

    def __init__(self, l1: L1, *, max_staleness: float, node: str, trust_tenure: bool = False) -> None:
        self.l1, self.max_staleness, self.node = l1, max_staleness, node
        self.trust_tenure = trust_tenure  # a lease even where the server's tenure cannot be read
        self.lock, self.told = threading.RLock(), Told()
        self.is_changing = self.is_torn = False  # torn: cut short, and L1 is to be emptied (whole.py)
        # All under `lock`. `lease` and `open_until` are also read without it, each by itself.
        self.lease = self.open_until = -inf  # latter -inf while a running load may be ahead of L1, too
        self.epoch = self.generation = self.applied = self.proved = self.seen = self.answered = self.own = 0
        self.adopted = inf  # instant at which the epoch was learned
        self.fenced: frozenset[str] = frozenset()  # dependencies under a fence, as of `proved`
        self.tenure_known = self.has_left = False  # left the register: no barrier waits for a lease got since
        self.synced: Synced | None = None
        self.recent: dict[str, int] = {}  # dependency -> number of the last record applied on it
        self.recent_floor = 0
        self.pending: dict[str, int] = {}  # dependency -> value of `own` when it was asked for
        self.held: dict[str, int] = {}  # dependency -> `invalidating` blocks open on it
        self._loads: dict[object, tuple[int, float]] = {}  # running load, ahead of L1 -> epoch, token

    # ---- serving

    def serve(self, key: str, ahead: float = 0) -> tuple[Entry | None, float]:
        """The entry L1 has for *key*, and the instant before which it may be returned.

        *ahead* is the token of the load this read is part of. Such a read must reflect
        what its load's token promises, or an old part would be stored under a new token:
        1. W's record 2.  2. P, which has not heard it, gets leave with token 2 for `outer`.
        3. `outer` reads `inner` from L1: old.  4. fill(token 2) would be accepted. (model: Answers)
        """
        lease = self.lease
        entry = self.l1.entries.get(key)
        if self.l1.condemned:
            entry = self._unless_condemned(entry)
        if entry is None or (entry.vouched < ahead and self.proved < ahead):
            return None, -inf
        return entry, min(lease, entry.deadline)

    def stand(self, now: float) -> Stand:
        with self.lock:
            return Stand(
                self.epoch, self.generation, self.proved, self.applied, self.seen, self.own, self.lease, now
            )

    def withheld(self, deps: Iterable[str]) -> bool:
        """Whether an invalidation of *deps* is to be sent, so that L2 may not answer (model: Withheld)."""
        return bool(self.pending) and (EVERYTHING in self.pending or any(d in self.pending for d in deps))

    def bypassed(self, deps: Iterable[str]) -> bool:
        """Whether a write of the truth under *deps* is under way in this process."""
        return bool(self.held) and any(d in self.held for d in deps)

    def is_fenced(self, deps: Iterable[str]) -> bool:
        """Whether the last sync found a write of the truth under way on *deps*, anywhere.

        What a load without leave from the server brings is then not kept: nobody would refuse it, and no
        record may ever come, if the writer dies. A fence put up since has a record above `proved`.
        """
        return bool(self.fenced) and (EVERYTHING in self.fenced or any(d in self.fenced for d in deps))

    @property
    def lease_ms(self) -> int:
        return 0 if self.max_staleness == inf else round(self.max_staleness * 1000)

    def longest_lease(self) -> float:
        """D': seconds of this node's clock after which another's lease, as long as its own, is over."""
        return self.max_staleness * CLOCKS

    # ---- what comes in

    @whole
    def hear(self, hint: Hint) -> Literal["applied", "known", "gap", "foreign"]:
        """Apply *hint* if it is next; after a gap, or foreign, it asks for a sync (model: Hear)."""
        if hint.epoch != self.epoch:
            return "foreign"
        if hint.number != self.applied + 1:
            return "known" if hint.number <= self.applied else "gap"
        # Each once: 2,000 times "*", over a large L1, would be minutes under the lock.
        self._apply((EVERYTHING,) if EVERYTHING in hint.deps else dict.fromkeys(hint.deps), hint.number)
        self._fold()
        self.applied = hint.number
        return "applied"

    @whole
    def sync(self, now: float) -> tuple[Sync, Stand]:
        """The sync to send at *now*, the instant its lease will count from (R31; model: SyncRuns)."""
        stand = self.stand(now)
        settled = now >= self.adopted + self.longest_lease()
        return Sync(stand.epoch, stand.proved, self.node, self.lease_ms, settled), stand

    @whole
    def prove(self, stand: Stand, reply: Synced, now: float) -> bool:
        """Take in at *now* the *reply* to a sync sent at *stand*; False if it counts for nothing (R43)."""
        # (model: Prove)
        if (self.epoch, self.generation) != (stand.epoch, stand.generation):
            return False
        self.synced, self.tenure_known = reply, reply.tenure_known
        if reply.epoch != self.epoch or reply.head >= self.proved:  # else too old for all fences
            self.fenced = frozenset(reply.fenced)
        if reply.epoch != self.epoch:
            self.l1.clear()
            self.recent.clear()
            if owed := self.told.owed_to(reply.epoch):
                self._pend(owed, self.own + 1)
            self.told.adopt(reply.epoch)
            self.epoch, self.adopted = reply.epoch, now
            self.applied = self.proved = self.seen = self.answered = self.recent_floor = reply.head
        else:
            self.told.forget(stand.at)
            if reply.records is None:
                self.l1.clear()
                self._remember((EVERYTHING,), reply.head)
            else:
                for dep, number in reply.records:
                    self._apply((dep,), number)
            self.proved = max(self.proved, reply.head)
            self.seen = max(self.seen, reply.head)
            self.applied = max(self.applied, self.proved)
            if stand.applied > reply.head:
                # Hints that ran ahead of the server had lied. What they said would keep replies out of L1
                # until the head has come that far; true ones are all in what was met.
                self.applied = self.proved
                self.recent.clear()
                self.recent_floor = self.seen
        if (reply.tenure_known or self.trust_tenure) and not self.has_left:
            self.lease = max(self.lease, stand.at + self.max_staleness)
        self._fold()
        return True

    @whole
    def meet(self, stand: Stand, head: int, keys: Iterable[str] = ()) -> bool:
        """Note the *head* of a reply to what was sent at *stand*; False if the reply is void (R42, R43).

        What L1 has under the *keys* that were asked for is superseded by the answer, kept or not: who got
        a value as of *head* must not be given an older one later (G6). (model: Meet)
        """
        if (self.epoch, self.generation) != (stand.epoch, stand.generation):
            return False
        self.seen, self.answered = max(self.seen, head), max(self.answered, head)
        for key in keys:
            self.l1.drop_older(key, head)
        return True

    @whole
    def own_record(self, record: Recorded, deps: Iterable[str], now: float) -> bool:
        """Apply an own invalidation, as answered at *now*; False if it disowned the epoch (R43)."""
        # (model: OwnRecord)
        self.told.note(deps, record.epoch, now)
        if record.epoch != self.epoch:
            self.leave_epoch()
            return False
        self._apply(deps, record.number)
        self._fold()
        self.seen = max(self.seen, record.number)
        return True

    def lapse(self, *, for_good: bool = False) -> None:
        """End the lease now, and the one on its way: the clock they are told by may have stood still."""
        with self.lock:
            self.has_left = self.has_left or for_good
            self.generation += 1
            self.lease = self.open_until = -inf

    def leave_epoch(self) -> None:
        """Under the lock: forget epoch, lease and L1; every reply still under way is void (model: Disown)."""
        self.l1.clear()
        self.lease = self.open_until = -inf
        self.epoch = self.applied = self.proved = self.seen = self.answered = self.recent_floor = 0
        self.adopted = inf
        self.recent.clear()
        self.generation += 1

    disown = whole(leave_epoch)

    @whole
    def insert(self, entry: Entry, stand: Stand, now: float) -> bool:
        """Keep *entry*, vouched for in a reply to what was sent at *stand*, unless something overtook it.

        1. P reads L2: old.  2. W's record arrives: nothing in L1 to drop.  3. P's reply arrives. Without
        the look at `recent` it would put the old value back (R1). And a reply whose head is below one met
        before may come from a server that lost records (R42). (model: Insert)
        """
        head = entry.vouched
        if (self.epoch, self.generation) != (stand.epoch, stand.generation):
            return False
        deps = deps_of(entry.key, entry.deps)
        if not self._unheard(deps, head) or self.withheld(deps) or self.bypassed(deps):
            return False
        if head < self.seen and self.proved < self.seen:
            return False
        self.answered = max(self.answered, head)
        self.l1.put(entry, now)
        self._fold()
        return True

    # ---- invalidations of this node's own

    @whole
    def begin_invalidation(self, deps: Iterable[str]) -> int:
        """Count an invalidation of *deps* before it is sent; loads begun before it cannot be joined."""
        self.own += 1
        self._drop(deps)
        return self.own

    def _pend(self, deps: Iterable[str], serial: int) -> None:
        """Redis did not take it: until it does, *deps* are served from nowhere here (model: Pend)."""
        self.own += 1  # a flight that began after it was sent may bring what L2 had before it ran
        for dep in deps:
            self.pending[dep] = serial
        if len(self.pending) > MAX_PENDING:
            self.pending = {EVERYTHING: serial}
        self._drop(self.pending)

    pend = whole(_pend)

    @whole
    def settle(self, sent: dict[str, int]) -> None:
        """The pending invalidations *sent* are done; those asked for again since are not (model: Settle)."""
        for dep, serial in sent.items():
            if self.pending.get(dep) == serial:
                del self.pending[dep]

    @whole
    def hold(self, deps: Iterable[str]) -> None:
        """A write of the truth under *deps* begins: neither tier answers for them here until `release`."""
        self._drop(deps)
        for dep in deps:
            self.held[dep] = self.held.get(dep, 0) + 1

    @whole
    def release(self, deps: Iterable[str]) -> None:
        for dep in deps:
            if (holders := self.held.get(dep, 0)) > 1:  # none in a child that was forked inside the block
                self.held[dep] = holders - 1
            else:
                self.held.pop(dep, None)

    # ---- loads

    @whole
    def begin_load(self, epoch: int, token: float, load: object) -> None:
        """A load with *token* runs from now on: hits look twice while L1 may be behind it."""
        self.l1.sweep()
        if epoch != self.epoch or token > self.proved:  # else L1 is not behind it, and never will be
            self._loads[load] = epoch, token
        self._open()

    @whole
    def end_load(self, load: object) -> None:
        self.l1.sweep()
        self._loads.pop(load, None)
        self._open()

    @whole
    def forget_loads(self) -> None:
        """After a fork, in the child: those who ran them are gone with the parent's threads."""
        self._loads.clear()
        self._fold()

    def reflects(self, deps: Iterable[str], token: int) -> bool:
        """Whether no record applied here on *deps* came after *token* (model: Unheard)."""
        with self.lock:
            return self._unheard(deps, token)

    # ---- under the lock

    @whole
    def _unless_condemned(self, entry: Entry | None) -> Entry | None:
        self._fold()
        return None if entry is None or self.l1.is_condemned(entry) else entry

    def _unheard(self, deps: Iterable[str], number: int) -> bool:
        recent = self.recent
        if number < self.recent_floor or recent.get(EVERYTHING, 0) > number:
            return False
        return not recent or all(recent.get(dep, 0) <= number for dep in deps)

    def _apply(self, deps: Iterable[str], number: int) -> None:
        self._remember(deps, number)
        self.l1.condemn(deps, before=number)

    def _remember(self, deps: Iterable[str], number: int) -> None:
        for dep in deps:
            self.recent[dep] = max(self.recent.get(dep, 0), number)
        if len(self.recent) > MAX_RECENT:
            # A hung load must not make it grow for ever: forget, and keep no reply older than this.
            self.recent_floor = max(self.recent_floor, *self.recent.values())
            self.recent.clear()

    def _drop(self, deps: Iterable[str]) -> None:
        self.l1.condemn(deps)
        self._fold()

    def _fold(self) -> None:
        self.l1.sweep()
        self._open()

    def _open(self) -> None:
        """Open the hit path if nothing keeps it closed."""
        is_open = not self.l1.condemned
        if self._loads:
            here = (self.epoch, ANY_EPOCH)
            running = list(self._loads.values())  # a copy: the collector may end a forgotten load here
            is_open &= not any(token > self.proved and epoch in here for epoch, token in running)
        self.open_until = self.lease if is_open else -inf
