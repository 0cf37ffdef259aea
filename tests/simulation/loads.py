"""The loaders of a world: what they read of the source, and how many run at once (G5)."""

from __future__ import annotations

from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from tests.core.hands import LoaderFailed
from tests.simulation.checker import Versions, Violation
from tests.simulation.operation import Operation
from tests.simulation.process import LOAD_TIMEOUT
from tiercache._core.commands import LOCK_MS
from tiercache._core.flights import MAX_JOINS, Load, running_load
from tiercache._core.loads import load_anew
from tiercache._core.plan import Call
from tiercache._core.reads import MISS
from tiercache._core.sources import is_writing
from tiercache._core.tiers import Want

if TYPE_CHECKING:
    from tests.simulation.engine import Engine

LOCK = 0.8 * LOCK_MS / 1000  # seconds, as is the other; a little less, as clocks differ
PATIENCE = 0.9 * LOAD_TIMEOUT


class Loads:
    def __init__(self, world: Engine) -> None:
        self.world = world
        # Values with a part that was read where nobody could tell, and what is not promised of those
        # (docs/explanation/limits.md).
        self.unsure: dict[int, tuple[str, ...]] = {}

    def begin(self, op: Operation, args: tuple[Any, ...]) -> None:
        """A load begins, and reads the source at once: later would only be newer."""
        world = self.world
        keys = tuple(args[0]) if isinstance(args[0], list) else (args[-1],)
        op.found, op.part = {key: world.history.load(key) for key in keys}, None
        self._count(op, keys)
        step = op.hand.step
        assert isinstance(step, Call)
        if step.load is not None:
            op.may_look_back = step.load.token == inf or self._has_no_sync(op, step.load)
            if world.setting.names_tags and keys == ("b",):
                step.load.found.depend("y")
        seconds = self._takes(op)
        if world.trace is not None:
            world.say(op, f"loads {' '.join(keys)} for {seconds:.3f} s: {op.found}")
        if ("fails",) in op.mishaps:
            world.to(op, world.now + seconds / 2, world.throw, op, op.stamp, LoaderFailed())
        elif keys == ("o",):
            world.to(op, world.now + seconds / 2, world.nest, op, op.stamp)
        else:
            world.to(op, world.now + seconds, self._ends, op, op.stamp)

    def begin_early(self, op: Operation, want: Want, seen: int) -> bool:
        """What *op* has read is to be loaded anew beside it, as `Refreshes.begin` has it."""
        if running_load() is not None or is_writing():
            return False
        world, dice = self.world, Random(op.dice.getrandbits(32))
        early = Operation(op.process, world.number(), f"loads {want.key} before its end", dice)
        early.is_renewal = True
        plan = load_anew(op.process.tiers, want, seen, blocking=False)
        world.to(op.process, world.now, world.begin, early, plan)
        return True

    def go_on(self, op: Operation, nested: Operation, part: Any) -> None:
        """The read that a loader made, *nested*, has returned *part*, and the loader goes on."""
        world, step = self.world, op.hand.step
        op.part = None if part is MISS else part
        assert isinstance(step, Call)
        if step.load is not None and not nested.is_known_inside:
            joined = ("G1", "G7") if nested.joined_unvouched else ()
            op.unsure = (*joined, "G6") if op.may_look_back else joined
        seconds = self._takes(op) / 2
        world.to(op, world.now + seconds, self._ends, op, op.stamp)

    def _takes(self, op: Operation) -> float:
        drawn = op.dice.uniform(*self.world.setting.loads)
        return next((m[1] for m in op.mishaps if m[0] == "slow load"), drawn)

    def _ends(self, op: Operation, stamp: int) -> None:
        if op.stamp != stamp or op.busy:
            return
        world, step = self.world, op.hand.step
        assert isinstance(step, Call)
        values: dict[str, int] = {}
        for key, versions in op.found.items():
            values[key] = value = world.history.value(self._with_part(op, key, versions))
            if op.unsure:
                self.unsure[value] = op.unsure
        if world.trace is not None:
            world.say(op, f"has loaded {', '.join(f'{key} = #{value}' for key, value in values.items())}")
        world.go_on(op, stamp, values if isinstance(step.args[0], list) else next(iter(values.values())))

    def _with_part(self, op: Operation, key: str, versions: Versions) -> Versions:
        if key != "o" or op.part is None:
            return versions
        return {**versions, "t:x": self.world.history.values[op.part]["t:x"]}

    def _count(self, op: Operation, keys: tuple[str, ...]) -> None:
        """G5. A refresh, a nested read and who joined in vain twice may load beside others."""
        step, process = op.hand.step, op.process
        assert isinstance(step, Call)
        in_vain = op.joins >= MAX_JOINS or len(op.met) > MAX_JOINS
        if step.load is None or not op.is_counted or op.is_renewal or op.inside is not None or in_vain:
            return
        if step.load.is_past:
            return  # every caller has its own
        flights = process.tiers.board._flights
        if self.world.now - op.begun > PATIENCE and step.load.flight not in flights.values():
            return  # it took so long to get here that its flight was given up, and another one flies
        op.loading = keys
        for key in keys:
            # Without leave from the server a process loads for itself; and "p" is no business of Redis.
            is_alone = not self.world.calm or key == "p" or step.load.token == inf
            others = [process] if is_alone else self.world.processes
            for other in (p.loading[key] for p in others if key in p.loading):
                # A load that takes too long is waited for no more, and its lock may have run out.
                takes = self.world.now - other.begun
                if takes < PATIENCE and (other.process is process or not (other.is_away or takes > LOCK)):
                    raise Violation("G5", f"{op} loads {key}, which {other} is loading")
            op.is_away = step.load.token == inf
            process.loading[key] = op

    def _has_no_sync(self, op: Operation, load: Load) -> bool:
        """Whether it is past the tiers, and no sync got through to it that it asked for."""
        process = op.process
        was_cut_off = op.rounds > 0 or process.breaker.is_open
        return load.is_past and load.token > process.core.proved and was_cut_off

    def displaced(self, op: Operation) -> None:
        """*op* may lead a flight beside another's, which then is not the one that new callers join."""
        for other in op.process.running.values():
            if other is not op and not other.keys.isdisjoint(op.keys):
                other.is_counted = False
                self.ended(other)

    def ended(self, op: Operation) -> None:
        for key in op.loading:
            if op.process.loading.get(key) is op:
                del op.process.loading[key]
        op.loading = ()
