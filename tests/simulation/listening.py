"""What a process hears, and when it syncs: as `tiercache._transport.listener` does it, turn by turn."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.network import Host
from tests.simulation.operation import Operation
from tests.simulation.process import Process
from tests.simulation.schedule import D, mishap_on_the_way
from tiercache._core import syncs
from tiercache._core.barriers import Question, acknowledge
from tiercache._core.records import Hint
from tiercache._transport.breaker import PROBE_EVERY

if TYPE_CHECKING:
    from tests.simulation.engine import Engine

RECONNECT_EVERY = 0.25  # seconds between two attempts to subscribe


class Listeners:
    """The listeners of all processes of one world."""

    def __init__(self, world: Engine) -> None:
        self.world = world

    # ---- what is published

    def publish(self, op: Operation | None, host: Host) -> None:
        """Send on what *host* has just published, each message by a way of its own."""
        sim, world = host.sim, self.world
        if not (sim.hints or sim.wakes or sim.questions):
            return
        dice = op.dice if op is not None else world.dice
        for hint in sim.hints:
            for process in world.processes:
                self._send(process, dice, self._hear, hint)
        for question in sim.questions:
            for process in world.processes:
                self._send(process, dice, self._hear_question, question)
        for node, dep in sim.wakes:
            for process in world.processes:
                if process.node == node:
                    self._send(process, dice, self._ring, dep)
        sim.hints.clear()
        sim.wakes.clear()
        sim.questions.clear()

    def _send(self, process: Process, dice: Random, do: Any, message: Any) -> None:
        world, setting = self.world, self.world.setting
        times = 2 if dice.random() < setting.hint_twice else 1
        for _ in range(times):
            delay, is_lost = dice.uniform(*setting.hint_delay), dice.random() < setting.hint_loss
            deaf = not process.subscribed or world.now < max(process.silent_hints, process.reads_old_until)
            if not (deaf or (is_lost and not world.healed)):
                world.to(process, world.now + delay, do, process, message)

    def _hear(self, process: Process, hint: Hint) -> None:
        core = process.core
        made = core.hear(hint)
        if self.world.trace is not None:
            self.world.say(process.node, f"hears {hint.number} {hint.deps} of {hint.epoch}: {made}")
        spacing = {"gap": 0.01, "foreign": 0.1}.get(made)
        if spacing is not None:
            self.hurry(process, process.last_sync + spacing * D)

    def _hear_question(self, process: Process, question: Question) -> None:
        if question.waiter != process.node:
            dice = Random(process.dice.getrandbits(32))
            op = Operation(process, self.world.number(), f"answers {question.waiter}", dice)
            op.is_prober = True
            self.world.begin(op, acknowledge(process.tiers, question))

    def _ring(self, process: Process, dep: str) -> None:
        process.tiers.bells.ring(dep)

    # ---- syncs

    def start(self, process: Process) -> None:
        process.next_sync = process.last_sync = self.world.now
        self._subscribe_at(process, self.world.now)
        self._set_timer(process)

    def hurry(self, process: Process, when: float) -> None:
        """Sync by *when*, if that is sooner."""
        if when < process.next_sync:
            process.next_sync = max(when, self.world.now)
            self._set_timer(process)

    def _set_timer(self, process: Process) -> None:
        process.timer += 1
        self.world.to(process, process.next_sync, self._turn, process, process.timer)

    def _turn(self, process: Process, timer: int) -> None:
        if timer != process.timer or process.is_syncing:
            return
        world, now, tiers = self.world, self.world.now, process.tiers
        process.last_sync = now
        process.next_sync = now + D / 3 * process.dice.uniform(0.8, 1.0)
        served = process.counts.reads()
        if served != process.served:
            process.served, process.active = served, now
        self._ping(process)
        # Who served nothing for a while lets its lease lapse; what is pending is still sent.
        if now - process.active > D and not tiers.core.pending:
            self._set_timer(process)
            return
        process.is_syncing = True
        op = Operation(process, world.number(), "sync", Random(process.dice.getrandbits(32)))
        op.is_probe = op.is_prober = True
        if op.dice.random() < world.setting.rough_syncs and not world.healed:
            op.mishaps = (mishap_on_the_way(op.dice),)
        world.begin(op, syncs.sync(tiers, blocking=False))

    def synced(self, process: Process, is_good: bool) -> None:
        """A sync of the listener's own has ended."""
        process.is_syncing = False
        if not is_good or process.core.pending:
            process.next_sync = min(process.next_sync, self.world.now + PROBE_EVERY)
        self._set_timer(process)

    # ---- the subscription

    def _ping(self, process: Process) -> None:
        """One that was not answered by the sync after next is closed and made anew."""
        if not process.subscribed:
            return
        if self.world.now < process.silent_hints:
            process.unanswered += 1
        else:
            process.unanswered = 0
        if process.unanswered >= 2:
            self.lose(process)

    def lose(self, process: Process) -> None:
        """The subscription is gone; what is published until there is another is not heard."""
        process.subscribed = False
        process.tiers.bells.ring_all()
        self._subscribe_at(process, self.world.now + RECONNECT_EVERY)

    def _subscribe_at(self, process: Process, when: float) -> None:
        self.world.to(process, when, self._subscribe, process)

    def _subscribe(self, process: Process) -> None:
        world = self.world
        if world.now < max(process.silent_hints, world.requests.down_until):
            self._subscribe_at(process, world.now + RECONNECT_EVERY)
            return
        process.subscribed, process.unanswered = True, 0
        self.hurry(process, world.now)
        process.tiers.bells.ring_all()
