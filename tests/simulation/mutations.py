"""Rules of the protocol switched off, one at a time: the simulator must notice each.

A mutation is a place in the code, and what stands there instead while it is on. It is made from
the source of the function as it is now, so the product has no switch for it, and where the code
has changed and no longer says what is to be replaced, that is an error and not a silence.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from tests.core import sim_server
from tests.simulation import process
from tiercache._core import barriers, coherence, flights, loads, reads, syncs, writes

PACKAGES = ("tiercache._core", "tests.core", "tests.simulation")


@dataclass(frozen=True, slots=True)
class Mutation:
    """In *function* of *module*, *old* becomes *new*; to be noticed within so many seeds."""

    name: str
    module: ModuleType
    function: str  # "name", or "Class.name"
    old: str
    new: str
    within: int = 300
    also: Mutation | None = None  # what else stands guard, and has to go as well

    @contextmanager
    def on(self) -> Iterator[None]:
        *path, name = self.function.split(".")
        owner: Any = getattr(self.module, path[0]) if path else self.module
        original = inspect.getattr_static(owner, name)
        changed = self._changed(original)
        places = [(owner, name)] if path else _places_of(original)
        try:
            for place, known_as in places:
                setattr(place, known_as, changed)
            with self.also.on() if self.also else nullcontext():
                yield
        finally:
            for place, known_as in places:
                setattr(place, known_as, original)

    def _changed(self, original: FunctionType) -> FunctionType:
        source = textwrap.dedent(inspect.getsource(original))
        found = source.count(self.old)
        if found != 1:
            raise LookupError(f"{self.name}: {self.old!r} stands {found} times in {self.function}, not once")
        made: dict[str, Any] = {}
        code = compile("from __future__ import annotations\n" + source.replace(self.old, self.new), self.name, "exec")
        exec(code, self.module.__dict__, made)
        changed: FunctionType = made[original.__name__]
        return changed


def _places_of(function: FunctionType) -> list[tuple[ModuleType, str]]:
    """Every module that knows *function*, and under which name."""
    return [
        (module, name)
        for title, module in list(sys.modules.items())
        if title.startswith(PACKAGES)
        for name, value in list(vars(module).items())
        if value is function
    ]


MUTATIONS = (
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
    ),
    Mutation(
        "a read inside a load takes from L1 what the load's token is ahead of",
        coherence,
        "Coherence.serve",
        "entry.vouched < ahead and self.proved < ahead",
        "False",
        also=Mutation("... nor syncs first", loads, "catch_up", "if tiers.core.proved < token:", "if False:"),
    ),
    Mutation(
        "the hit path does not heed running loads",
        coherence,
        "Coherence._fold",
        "self.lease if ahead <= self.proved else -inf",
        "self.lease",
        also=Mutation("... nor syncs first", loads, "catch_up", "if tiers.core.proved < token:", "if False:"),
    ),
    # ---- hints and syncs
    Mutation(
        "the lease counts from the reply", syncs, "_take", "core.prove(stand, synced, tiers.clock())",
        "core.prove(type(stand)(*(getattr(stand, n) for n in stand.__slots__[:-1]), tiers.clock()), synced, tiers.clock())",
    ),
    Mutation(
        "replay starts from what hints said",
        coherence,
        "Coherence.sync",
        "Sync(stand.epoch, stand.proved",
        "Sync(stand.epoch, stand.applied",
    ),
    Mutation(
        "replies count in whatever epoch and generation they come",
        coherence,
        "Coherence.prove",
        "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
        "if False:",
        also=Mutation(
            "... and those of reads and fills",
            coherence,
            "Coherence.meet",
            "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
            "if False:",
            also=Mutation(
                "... and are kept",
                coherence,
                "Coherence.insert",
                "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
                "if False:",
            ),
        ),
    ),
    Mutation(
        "a reply from before the node disowned its epoch counts",
        coherence,
        "Coherence.prove",
        "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
        "if self.epoch != stand.epoch:",
        also=Mutation(
            "... and those of reads and fills",
            coherence,
            "Coherence.meet",
            "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
            "if self.epoch != stand.epoch:",
            also=Mutation(
                "... and are kept",
                coherence,
                "Coherence.insert",
                "if (self.epoch, self.generation) != (stand.epoch, stand.generation):",
                "if self.epoch != stand.epoch:",
            ),
        ),
    ),
    Mutation(
        "a new epoch leaves L1 as it is",
        coherence,
        "Coherence.prove",
        "if reply.epoch != self.epoch:\n            self.l1.clear()",
        "if reply.epoch != self.epoch:",
    ),
    Mutation(
        "being too far behind leaves L1 as it is",
        coherence,
        "Coherence.prove",
        "if reply.records is None:\n                self.l1.clear()",
        "if reply.records is None:",
    ),
    Mutation(
        "being too far behind is not remembered against late replies",
        coherence,
        "Coherence.prove",
        "self._remember((EVERYTHING,), reply.head)",
        "pass",
        within=3_000,
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
        within=3_000,
    ),
    Mutation(
        "what L2 answered leaves an older value in L1",
        coherence,
        "Coherence.meet",
        "self.l1.drop_dependents(map(key_dep, keys), before=head)",
        "pass",
        within=3_000,
    ),
    # ---- asking L2
    Mutation(
        "no lease for answers of L2", loads, "ask_l2", "or stand.lease <= stand.at", ""
    ),
    Mutation(
        "a read does not say which head was met",
        loads,
        "ask_l2",
        "Read(stand.epoch, stand.seen, asks)",
        "Read(stand.epoch, 0, asks)",
        within=3_000,
    ),
    Mutation(
        "a read says what hints brought, not which head was met",
        loads,
        "ask_l2",
        "Read(stand.epoch, stand.seen, asks)",
        "Read(stand.epoch, stand.applied, asks)",
        within=3_000,
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
        within=3_000,
    ),
    Mutation(
        "an own record of another epoch changes nothing",
        coherence,
        "Coherence.own_record",
        "self.disown()\n",
        "pass\n",
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
        loads,
        "take_hit",
        "tiers.core.withheld(deps) or",
        "",
        also=Mutation("... and is asked first", loads, "ask_l2", "or core.pending or", "or"),
    ),
    Mutation(
        "L1 keeps what waits to be invalidated",
        coherence,
        "Coherence.insert",
        "or self.withheld(deps)",
        "",
    ),
    Mutation(
        "a sync goes before what waits to be invalidated",
        syncs,
        "_renew",
        "if core.pending and not (yield from send_pending(tiers)):",
        "if False:",
    ),
    Mutation(
        "what was asked for again counts as done",
        coherence,
        "Coherence.settle",
        "if self.pending.get(dep) == serial:",
        "if dep in self.pending:",
        within=3_000,
    ),
    # ---- loads
    Mutation(
        "a load ahead of the last sync does not sync first",
        loads,
        "catch_up",
        "if tiers.core.proved < token:",
        "if False:",
    ),
    Mutation(
        "a load without Redis takes its parts from the tiers",
        loads,
        "load_away",
        "flight, stand, inf)",
        "flight, stand, 0)",
        within=3_000,
    ),
    Mutation(
        "L1 alone is filled under an unproved head",
        loads,
        "proven",
        "or stand.proved < stand.seen",
        "",
        within=3_000,
    ),
    # ---- joins
    Mutation(
        "whoever waits takes what comes", flights, "may_take", "    deps = landing.deps\n",
        "    deps = landing.deps\n    return True\n",
    ),
    Mutation(
        "a join does not look at the epoch",
        flights,
        "may_take",
        "if not same or joined.epoch not in (0, core.epoch) or",
        "if",
        within=3_000,
    ),
    Mutation(
        "a join does not look at what waits to be invalidated",
        flights,
        "may_take",
        "or core.withheld(deps)",
        "",
        within=3_000,
    ),
    Mutation(
        "a join needs no lease",
        flights,
        "may_take",
        "if core.lease <= joined.at:",
        "if False:",
        within=3_000,
    ),
    Mutation(
        "a join under a lapsed lease asks for no more than what was met",
        flights,
        "may_take",
        "must_reflect = max(must_reflect, core.proved)",
        "pass",
        within=3_000,
    ),
    Mutation(
        "a join forgets an own invalidation that was pending",
        flights,
        "may_take",
        "if joined.own > landing.stand.own and not core.reflects(deps, vouched):",
        "if False:",
        within=3_000,
    ),
    Mutation(
        "a join trusts a proof without looking at the records",
        flights,
        "may_take",
        "core.proved >= must_reflect and core.reflects(deps, landing.token)",
        "core.proved >= must_reflect",
    ),
    Mutation(
        "a join looks at the records without a proof",
        flights,
        "may_take",
        "core.proved >= must_reflect and core.reflects(deps, landing.token)",
        "core.reflects(deps, landing.token)",
        within=3_000,
    ),
    Mutation(
        "without Redis an own invalidation does not part joins",
        flights,
        "may_take",
        "and landing.stand.own >= joined.own",
        "",
        within=3_000,
    ),
    Mutation(
        "without Redis a load is joined however old it is",
        flights,
        "may_take",
        "and landing.began > joined.at - core.max_staleness",
        "",
        within=3_000,
    ),
    Mutation(
        "without Redis what was met meanwhile does not part joins",
        flights,
        "may_take",
        "and landing.stand.seen >= joined.seen",
        "",
        within=3_000,
    ),
    Mutation(
        "every caller leads",
        flights,
        "Board.claim",
        "flight is None or afresh",
        "True or afresh",
    ),
    # ---- fences
    Mutation(
        "what is fenced is stored", sim_server, "SimServer._judge", "if state.fences and", "if False and"
    ),
    Mutation(
        "a fence makes no record",
        sim_server,
        "SimServer._fence",
        "return self._record(state, keys, command.deps, command.cap, command.key_cap)",
        "return Recorded(state.epoch, state.head)",
        within=3_000,
    ),
    Mutation(
        "a fence that runs out makes no record",
        sim_server,
        "SimServer._open",
        "self._record(state, keys, deps)",
        "pass",
        within=3_000,
    ),
    Mutation(
        "who lifts one fence lifts all on its dependencies",
        sim_server,
        "SimServer._lift",
        "if left <= 0:",
        "if True:",
        within=3_000,
    ),
    Mutation(
        "fences that were lost are not missed",
        sim_server,
        "SimServer._open",
        "or (lost and state.fences)",
        "",
        within=3_000,
    ),
    Mutation(
        "L1 alone keeps what is fenced",
        loads,
        "keep_local",
        "and not core.is_fenced(landing.deps)",
        "",
        within=3_000,
    ),
    Mutation(
        "what a fence refused is joined however old it is",
        flights,
        "may_take",
        "landing.head is None and landing.began <= joined.at - core.max_staleness",
        "False",
        within=3_000,
    ),
    # ---- barriers and causal reads
    Mutation(
        "a barrier does not wait for who is silent",
        barriers,
        "_have_all",
        'return behind.left_out == "0" and not asked.members.keys() & behind.members.keys()',
        "return True",
    ),
    Mutation(
        "a barrier waits for who is silent a tenth of a lease too short",
        barriers,
        "barrier",
        "give_up = since + patience",
        "give_up = since + 0.9 * patience",
        within=3_000,
    ),
    Mutation(
        "a barrier does not wait for leases of an older epoch",
        barriers,
        "_settled",
        "return -inf if behind.settled",
        "return -inf if True",
        within=3_000,
    ),
    Mutation(
        "a node acknowledges what it only heard of",
        barriers,
        "acknowledge",
        "core.proved < question.number:\n        yield from sync(tiers, blocking=True)",
        "core.proved < question.number:\n        pass",
        within=3_000,
    ),
    Mutation(
        "whoever acknowledges has applied all",
        sim_server,
        "SimServer._ack",
        "-command.proved",
        "-state.head",
        within=3_000,
    ),
    Mutation(
        "a sync counts as an acknowledgement of what it brings",
        sim_server,
        "SimServer._sync",
        "-float(min(command.proved, state.head)) if same else 0.0",
        "-float(state.head)",
        within=3_000,
    ),
    Mutation(
        "a barrier forgets who has only just synced",
        barriers,
        "_forget",
        "if behind.members.get(m) == mark",
        "",
        within=3_000,
    ),
    Mutation(
        "a token that cannot be proved changes nothing",
        barriers,
        "at_least",
        "core.lapse()",
        "pass",
        within=3_000,
    ),
    Mutation(
        "after a token that cannot be proved a load is joined all the same",
        barriers,
        "at_least",
        "core.begin_invalidation(())",
        "pass",
        within=3_000,
    ),
    Mutation(
        "a token of this epoch is not looked at",
        barriers,
        "at_least",
        "core.epoch == token.epoch and core.proved >= token.number",
        "core.epoch == token.epoch",
    ),
    # ---- forks
    Mutation(
        "a forked child waits for its parent's flights",
        process,
        "Process.fork",
        "self.tiers.forget()",
        "pass",
    ),
    # ---- the server
    Mutation(
        "a failover goes on in the same epoch",
        sim_server,
        "SimServer._open",
        "(tenure and state.tenure != tenure)",
        "False",
    ),
    Mutation(
        "the token is taken when storing",
        sim_server,
        "SimServer._fill",
        "    status, head = self._judge(command.epoch, command.token, command.key, command.tags)",
        "    from dataclasses import replace\n"
        "    command = replace(command, token=self.domain.state.head if self.domain.state else 0)\n"
        "    status, head = self._judge(command.epoch, command.token, command.key, command.tags)",
    ),
    Mutation(
        "a fill is not compared with the versions",
        sim_server,
        "SimServer._judge",
        'return "stale" if any(state.versions.get(d, 0) > token for d in deps) else "ok", state.head',
        'return "ok", state.head',
    ),
    Mutation(
        "an entry is not compared with the versions of its tags",
        sim_server,
        "SimServer._is_valid",
        "return all(state.versions.get(tag_dep(tag.decode()), 0) <= token for tag in tags)",
        "return True",
    ),
    Mutation(
        "an entry from below the floor is valid",
        sim_server,
        "SimServer._is_valid",
        "if not state.floor <= token <= state.head:",
        "if False:",
    ),
    Mutation(
        "an entry of another epoch is valid",
        sim_server,
        "SimServer._is_valid",
        'if header is None or header[1] != b"%d" % state.epoch:',
        "if header is None:",
    ),
    Mutation(
        "a fill from below the floor is taken",
        sim_server,
        "SimServer._judge",
        "if token < max(state.floor, known.floor):",
        "if False:",
    ),
    Mutation(
        "a fill from below the floor of the key versions is taken",
        sim_server,
        "SimServer._judge",
        "if token < max(state.floor, known.floor):",
        "if token < state.floor:",
        within=3_000,
    ),
    Mutation(
        "key versions that were lost count as none",
        sim_server,
        "SimServer._open",
        "keys = Table(state.epoch, floor=state.head)",
        "keys = Table(state.epoch, floor=0)",
        within=3_000,
    ),
    Mutation(
        "trimming raises no floor",
        sim_server,
        "Table.note",
        "self.floor = sorted(self.versions.values())[trimmed - 1]\n"
        "        self.versions = {dep: n for dep, n in self.versions.items() if n > self.floor}",
        "floor = sorted(self.versions.values())[trimmed - 1]\n"
        "        self.versions = {dep: n for dep, n in self.versions.items() if n > floor}",
    ),
    Mutation(
        "who is behind the floor is told the records that are left",
        sim_server,
        "SimServer._sync",
        "and command.proved >= max(state.floor, keys.floor)",
        "",
    ),
    Mutation(
        "clearing raises no floor", sim_server, "SimServer._clear", "table.floor = state.head", "pass"
    ),
    Mutation(
        "a read does not compare heads",
        sim_server,
        "SimServer._read",
        "or state.head < command.seen",
        "",
        within=3_000,
    ),
    Mutation(
        "a set makes no record",
        sim_server,
        "SimServer._set",
        "self._record(state, keys, (key_dep(command.key),), key_cap=command.key_cap)",
        "pass",
    ),
    Mutation(
        "a set with a token is not compared with the versions",
        sim_server,
        "SimServer._set",
        'if status != "ok":\n        return Recorded(state.epoch, state.head, status)',
        "pass",
    ),
)
