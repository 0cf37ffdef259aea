"""The rules of the core, each switched off."""

from __future__ import annotations

from tests.simulation import process
from tests.simulation.mutations import Mutation
from tiercache._core import asks, coherence, l2_hits, syncs

OF_THE_CORE = (
    # ---- L1: what may be served
    Mutation(
        "no lease for L1",
        coherence,
        "Coherence.serve",
        "return entry, min(lease, entry.deadline)",
        "return entry, entry.deadline",
    ),
    Mutation(
        "the lease is read after the entry",
        coherence,
        "Coherence.serve",
        "    return entry, min(lease, entry.deadline)",
        "    deadline = entry.deadline\n"
        "    self.l1.entries.get(key)  # here a thread may be stopped\n"
        "    return entry, min(self.lease, deadline)",
        theme="late",
    ),
    Mutation(
        "a read inside a load takes from L1 what the load's token is ahead of",
        coherence,
        "Coherence.serve",
        "entry.vouched < ahead and self.proved < ahead",
        "False",
        theme="cut off",
    ),
    Mutation(
        "the hit path does not heed running loads",
        coherence,
        "Coherence._open",
        "token > self.proved and epoch in here",
        "False",
        theme="cut off",
    ),
    Mutation(
        "what is condemned is served until it is swept",
        coherence,
        "Coherence.serve",
        "if self.l1.condemned:",
        "if False:",
        theme="cut off",
    ),
    Mutation(
        "the hit path does not heed what is condemned",
        coherence,
        "Coherence._open",
        "is_open = not self.l1.condemned",
        "is_open = True",
        theme="cut off",
    ),
    # ---- hints and syncs
    Mutation(
        "the lease counts from the reply",
        syncs,
        "_take",
        "core.prove(stand, synced, tiers.clock())",
        "core.prove(stand._replace(at=tiers.clock()), synced, tiers.clock())",
        theme="late",
    ),
    Mutation(
        "replay starts from what hints said",
        coherence,
        "Coherence.sync",
        "Sync(stand.epoch, stand.proved",
        "Sync(stand.epoch, stand.applied",
        theme="late",
    ),
    Mutation(
        "replies count in whatever epoch and generation they come",
        coherence,
        "Coherence.prove",
        "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
        "if False:",
        theme="cut off",
    ),
    Mutation(
        "a reply from before the node disowned its epoch counts",
        coherence,
        "Coherence.prove",
        "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
        "if self.epoch != stand.epoch:",
        theme="cut off",
    ),
    Mutation(
        "a new epoch leaves L1 as it is",
        coherence,
        "Coherence.prove",
        "if reply.epoch != self.epoch:\n        self.l1.clear()",
        "if reply.epoch != self.epoch:",
    ),
    Mutation(
        "being too far behind leaves L1 as it is",
        coherence,
        "Coherence.prove",
        "if reply.records is None:\n            self.l1.clear()",
        "if reply.records is None:",
    ),
    Mutation(
        "being too far behind is not remembered against late replies",
        coherence,
        "Coherence.prove",
        "self._remember((EVERYTHING,), reply.head)",
        "pass",
        theme="small",
    ),
    Mutation(
        "records of a sync are not applied",
        coherence,
        "Coherence.prove",
        "self._apply((dep,), number)",
        "pass",
    ),
    Mutation(
        "what a lying hint said is forgotten without a floor",
        coherence,
        "Coherence.prove",
        "self.recent_floor = self.seen",
        "pass",
        theme="late",
    ),
    # ---- what may be kept
    Mutation(
        "a reply that a record overtook is kept",
        coherence,
        "Coherence.insert",
        "if not self._unheard(deps, head) or",
        "if",
    ),
    Mutation(
        "a reply from before another epoch is kept",
        coherence,
        "Coherence.insert",
        "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
        "if False:",
    ),
    Mutation(
        "a reply of an older head than was met is kept",
        coherence,
        "Coherence.insert",
        "if head < self.seen and self.proved < self.seen:",
        "if False:",
        theme="late",
    ),
    Mutation(
        "what L2 answered leaves an older value in L1",
        coherence,
        "Coherence.meet",
        "self.l1.drop_older(key, head)",
        "pass",
        theme="late",
    ),
    # ---- asking L2
    Mutation(
        "no lease for answers of L2",
        asks,
        "ask_l2",
        "or stand.lease <= stand.at",
        "",
        theme="replaced",
    ),
    Mutation(
        "a read does not say which head was met",
        asks,
        "ask_l2",
        "Read(stand.epoch, stand.seen, asks[at : at + MAX_READ])",
        "Read(stand.epoch, 0, asks[at : at + MAX_READ])",
        theme="replaced",
    ),
    Mutation(
        "a read says what hints brought, not which head was met",
        asks,
        "ask_l2",
        "Read(stand.epoch, stand.seen, asks[at : at + MAX_READ])",
        "Read(stand.epoch, stand.applied, asks[at : at + MAX_READ])",
        theme="replaced",
    ),
    Mutation(
        "L2 is asked before what waits to be invalidated is sent",
        asks,
        "ask_l2",
        "or core.pending or",
        "or",
        theme="late",
    ),
    # ---- own invalidations
    Mutation(
        "an own record is not applied",
        coherence,
        "Coherence.own_record",
        "self._apply(deps, record.number)",
        "pass",
    ),
    Mutation(
        "an own record is not met",
        coherence,
        "Coherence.own_record",
        "self.seen = max(self.seen, record.number)",
        "pass",
        theme="replaced",
    ),
    Mutation(
        "an own record of another epoch changes nothing",
        coherence,
        "Coherence.own_record",
        "self.leave_epoch()\n",
        "pass\n",
        theme="replaced",
    ),
    Mutation(
        "what Redis did not take is forgotten",
        coherence,
        "Coherence.pend",
        "self.pending[dep] = serial",
        "pass",
    ),
    Mutation(
        "L2 answers for what waits to be invalidated",
        l2_hits,
        "take_stored",
        "core.withheld(deps) or",
        "",
        also=Mutation("... and is asked first", asks, "ask_l2", "or core.pending or", "or"),
        theme="late",
    ),
    Mutation(
        "L1 keeps what waits to be invalidated",
        coherence,
        "Coherence.insert",
        "or self.withheld(deps)",
        "",
        theme="causal",
    ),
    Mutation(
        "a sync goes before what waits to be invalidated, and the answers that come with it count",
        syncs,
        "_renew",
        "if core.pending and not (yield from send_pending(tiers)):\n"
        "            return False, None\n"
        "        for _ in range(MAX_VOID):\n"
        "            if core.has_left:  # it would be put on the register again, "
        "for a lease that it does not get\n"
        "                return False, None\n"
        "            command, stand = core.sync(tiers.clock())\n"
        '            tiers.events["syncs"] += 1\n'
        "            replies: list[Any] = yield Ask((command,) if read is None else (command, read))\n"
        "            good = _take(tiers, stand, replies[0])\n"
        "            if core.generation != stand.generation:\n"
        "                continue  # a write of our own met another epoch meanwhile, "
        "and the reply is void (R43)\n"
        "            if core.pending:  # what is owed to a new epoch; answers in it are from before\n"
        "                yield from send_pending(tiers)\n"
        "                return good, None\n",
        "for _ in range(MAX_VOID):\n"
        "            command, stand = core.sync(tiers.clock())\n"
        "            replies = yield Ask((command,) if read is None else (command, read))\n"
        "            good = _take(tiers, stand, replies[0])\n"
        "            if core.generation != stand.generation:\n"
        "                continue\n"
        "            if core.pending:\n"
        "                yield from send_pending(tiers)\n",
        theme="late",
    ),
    Mutation(
        "what was asked for again counts as done",
        coherence,
        "Coherence.settle",
        "if self.pending.get(dep) == serial:",
        "if dep in self.pending:",
        theme="late",
    ),
    # ---- forks
    Mutation(
        "a forked child waits for its parent's flights",
        process,
        "Process.fork",
        "self.tiers.forget()",
        "pass",
        theme="joins",
    ),
)
