"""Everything two nodes may do, and everything that may go wrong between them, an act at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.core.hands import Cancelled, LoaderFailed, loader, loader_of_many
from tests.core.playing import Playing, Process, Running
from tests.core.truth import ALL_ROWS, lift
from tiercache._core import batches, reads, syncs, writes
from tiercache._core.commands import Command, Set
from tiercache._core.plan import Ask, Call, Join, Plan, Tell
from tiercache._core.records import Hint
from tiercache._errors import L2Refused, L2Unavailable

LOADED = ("a", "b", "o", "p")  # the keys with a loader
BY_KEY = ("a", "b", "s")  # the keys of L2 that a `get` may ask for
MANY = ("a", "b")


class TwoNodes(Playing):
    """The world. Every act has no effect where it does not apply."""

    def __init__(self) -> None:
        super().__init__()
        self.copy = self.server.copy()
        self.late: list[Command[Any]] = []  # given up by whoever sent them, but still on their way

    def act(self, name: str, *arguments: Any) -> None:
        """The act of this name."""
        getattr(self, name)(*arguments)

    # ---- what nodes do

    def read(self, who: int, key: str, by_hand: bool = False, renew: bool = False) -> None:
        """*by_hand*: first as the hit path of a decorated function does it."""
        self.begin_read(self.processes[who], key, by_hand=by_hand, renew=renew)

    def refresh(self, who: int, key: str) -> None:
        self.read(who, key, renew=True)

    def get(self, who: int, key: str) -> None:
        process = self.processes[who]
        plan = reads.read(process.node.tiers, self.want(process, key, call=None), blocking=False)
        self.start(process, plan, keys=(key,))

    def get_many(self, who: int) -> None:
        process = self.processes[who]
        wants = [self.want(process, key, call=None) for key in MANY]
        self.start(process, batches.get_many(process.node.tiers, wants, blocking=False), keys=MANY)

    def load_many(self, who: int) -> None:
        process = self.processes[who]
        wants = [self.want(process, key, call=None) for key in MANY]
        spelled = {key: key for key in MANY}
        plan = batches.get_or_load_many(process.node.tiers, wants, loader_of_many, spelled, blocking=False)
        self.start(process, plan, keys=MANY)

    def touch(self, who: int, key: str) -> None:
        process = self.processes[who]
        self.start(process, reads.touch(process.node.tiers, self.want(process, key), blocking=False))

    def invalidate(self, who: int, tags: tuple[str, ...], keys: tuple[str, ...]) -> None:
        """Commit, then invalidate."""
        rows = (*(f"t:{tag}" for tag in tags), *(f"k:{key}" for key in keys))
        if rows:
            process = self.processes[who]
            due = self.truth.commit(rows)
            self.start(process, writes.invalidate(process.node.tiers, tags, keys), returns=due)

    def clear(self, who: int) -> None:
        process = self.processes[who]
        self.start(process, writes.clear(process.node.tiers), returns=self.truth.commit(ALL_ROWS))

    def set(self, who: int) -> None:
        process = self.processes[who]
        value, due = self.truth.new_set()
        item = self.want(process, "s", call=None), value
        self.start(process, writes.put(process.node.tiers, [item], blocking=False), returns=due)

    def set_with_token(self, who: int) -> None:
        """Take a token, read the source, set what came of it."""
        process = self.processes[who]
        self.start(process, self._derive(process))

    def begin_block(self, who: int, tag: str) -> None:
        """Open an `invalidating` block, and commit inside it."""
        process = self.processes[who]
        if process.block is None:
            process.block = (f"t:{tag}",)
            process.node.core.hold(process.block)
            lift(process.own, self.truth.commit(process.block))

    def end_block(self, who: int) -> None:
        process = self.processes[who]
        if process.block is not None:
            self.start(process, self._end(process, process.block))
            process.block = None

    def sync(self, who: int) -> None:
        process = self.processes[who]
        self.start(process, syncs.sync(process.node.tiers, blocking=False))

    # ---- how their plans go on

    def go(self, which: int, steps: int) -> None:
        """The next *steps* of a plan, all going well."""
        for one in self._at(which, Ask, Tell, Call, Join):
            for _ in range(steps):
                if one.hand.is_done or not self.step(one):
                    return

    def execute(self, which: int) -> None:
        """The server runs what a plan asks; the reply is still on its way."""
        for one in self._at(which, Ask):
            if one.hand.replies is None:
                one.hand.execute()

    def lose(self, which: int, arrives: bool = False) -> None:
        """No reply comes; what was asked *arrives* all the same, later, unless it has run already."""
        for one in self._at(which, Ask):
            if arrives and one.hand.replies is None:
                # Not so a set: it is taken at its word when it runs, be it after a newer one.
                self.late += [command for command in one.hand.commands if not isinstance(command, Set)]
            self.throw(one, L2Unavailable("lost"))

    def arrive(self, which: int) -> None:
        if self.late:
            self.perform(self.late.pop(which % len(self.late)))

    def refuse(self, which: int) -> None:
        for one in self._at(which, Ask):
            self.throw(one, L2Refused("refused"))

    def fail(self, which: int) -> None:
        for one in self._at(which, Call):
            if one.nested is None:
                self.throw(one, LoaderFailed())

    def cancel(self, which: int) -> None:
        for one in self._at(which, Ask, Call, Join):
            if one.nested is None:
                self.throw(one, Cancelled())

    # ---- what happens to them

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def hear(self, who: int, which: int) -> None:
        """Any hint ever published, again, late, or in another order."""
        if self.server.hints:
            self.processes[who].node.core.hear(self.server.hints[which % len(self.server.hints)])

    def forge(self, who: int, ahead: int, dep: str) -> None:
        core = self.processes[who].node.core
        core.hear(Hint(core.epoch, core.applied + ahead, (dep,)))

    def ring(self, which: int) -> None:
        if self.server.wakes:
            name, dep = self.server.wakes.pop(which % len(self.server.wakes))
            for process in self.processes:
                if process.node.name == name:
                    process.node.tiers.bells.ring(dep)

    def lapse(self, who: int) -> None:
        """The machine slept, as far as anybody can tell."""
        self.processes[who].node.core.lapse()

    def evict_from_l1(self, who: int, key: str) -> None:
        core = self.processes[who].node.core
        with core.lock:
            core.l1.drop(key)

    def evict(self, what: str) -> None:
        domain = self.server.domain
        match what:
            case "state":
                domain.state = None
            case "key versions":
                domain.keys = None
            case "locks":
                domain.locks.clear()
            case key:
                domain.entries.pop(key, None)

    def flush(self) -> None:
        self.server.flush()

    def replicate(self) -> None:
        self.copy = self.server.copy()

    def fail_over(self) -> None:
        self.server.fail_over(self.copy)

    # ---- inside

    def _at(self, which: int, *kinds: type) -> Iterator[Running]:
        """The plan meant, of those that stand at a step of one of these *kinds*."""
        there = [one for one in self.running if isinstance(one.hand.step, kinds)]
        if there:
            yield there[which % len(there)]

    def _derive(self, process: Process) -> Plan[writes.Written]:
        tiers = process.node.tiers
        token = yield from writes.token(tiers, blocking=False)
        value = yield Call(loader, ("a",))
        return (
            yield from writes.put(tiers, [(self.want(process, "a", call=None), value)], token, blocking=False)
        )

    def _end(self, process: Process, rows: tuple[str, ...]) -> Plan[Any]:
        try:
            tags = [row.removeprefix("t:") for row in rows]
            return (yield from writes.invalidate(process.node.tiers, tags, ()))
        finally:
            process.node.core.release(rows)
