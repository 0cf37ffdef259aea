"""Processes, a server and the paths between them, in one thread and one heap of events.

Time is the world's; each process has a clock of its own. Whatever happens is an event, and events
of one instant go in the order in which they were made: the same schedule plays the same way.

A process can be stopped between any two steps of a plan, and where an operation is to be
`preempted`, between any two look-ups of one step as well: the events of the time it is stopped for
happen in the middle of it, as if another thread had been given the interpreter.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from random import Random
from typing import Any

from tests.core.hands import Cancelled, LoaderFailed
from tests.core.truth import ROWS
from tests.simulation.checker import NOTHING, History, Violation, lifted
from tests.simulation.listening import Listeners
from tests.simulation.loads import Loads
from tests.simulation.network import Host
from tests.simulation.operation import Operation, Pause
from tests.simulation.process import Process
from tests.simulation.requests import Requests
from tests.simulation.schedule import PROCESSES, Schedule
from tiercache._core.commands import Read
from tiercache._core.flights import ABANDONED, MAX_JOINS, Landing
from tiercache._core.large import LARGE
from tiercache._core.looks import Look
from tiercache._core.plan import Ask, Call, Join, Plan, Tell
from tiercache._core.reads import MISS
from tiercache._errors import LoadTimeout, TierCacheError

MAX_DEPTH = 3  # operations stopped in the middle of a step, one inside the other
MAX_EVENTS = 60_000


class Engine:
    """Events, and the operations they move."""

    def __init__(self, schedule: Schedule, trace: list[str] | None = None) -> None:
        self.schedule, self.setting, self.trace = schedule, schedule.setting, trace
        self.now = 0.0
        self.until = 0.0  # how long the operation that is stopped in the middle of a step stays so
        self.healed = False  # from here on nothing goes wrong any more
        self.calm = schedule.is_calm
        self.history = History()
        self.primary = Host(self.history, self.clock, 0 if self.setting.large else LARGE)
        self.demoted: Host | None = None
        self.dice = Random(schedule.seed)
        self.listeners, self.requests, self.loads = Listeners(self), Requests(self), Loads(self)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._events = self._numbers = self._names = self._depth = 0
        self._root = copy_context()
        self.graveyard: list[Process] = []  # kept: a plan that is collected cleans up after itself
        self.processes: list[Process] = []
        for slot in range(PROCESSES):
            self.processes.append(self.new_process(slot))

    def clock(self) -> float:
        return self.now

    def new_process(self, slot: int, since: float = 0.0) -> Process:
        dice = Random(self.dice.getrandbits(32))
        process = Process(slot, self.new_name(slot), self.setting, self.clock, dice)
        process.resumes = since
        self.listeners.start(process)
        return process

    def new_name(self, slot: int) -> str:
        """A node's name is hexadecimal: its place, and how many there were."""
        self._names += 1
        return f"{'abcdef'[slot]}{self._names:02d}"

    def say(self, who: object, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now:9.4f}  {'    ' * self._depth}{who}: {what}")

    # ---- events

    def at(self, when: float, do: Callable[..., None], *args: Any) -> None:
        self._events += 1
        heapq.heappush(self._heap, (when, self._events, do, args))

    def run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, do, args = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            do(*args)
            if self._events > MAX_EVENTS:
                raise Violation("progress", f"{MAX_EVENTS} events and no end")
        self.now = max(self.now, end)

    def to(self, whom: Process | Operation, when: float, do: Callable[..., None], *args: Any) -> None:
        """As `at`, for what happens inside a process: not while it is stopped, and never once it is gone.

        An operation is gone with the process that it began in, also for what comes after a fork.
        """
        self.at(when, self._inside, whom.process, whom.life, do, args)

    def _inside(self, process: Process, life: int, do: Callable[..., None], args: tuple[Any, ...]) -> None:
        if process.life != life:
            return
        if self.now < process.resumes:
            self.at(process.resumes, self._inside, process, life, do, args)
        else:
            do(*args)

    # ---- operations

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def begin(self, op: Operation, plan: Plan[Any]) -> None:
        op.process.running[op.number] = op
        self.say(op, "begins")
        self.move(op, lambda: op.begin(plan, self._root))

    def go_on(self, op: Operation, stamp: int, value: Any = None) -> None:
        if op.stamp == stamp:
            self.move(op, lambda: op.hand.reply(value))

    def throw(self, op: Operation, stamp: int, error: BaseException) -> None:
        if op.stamp == stamp and not op.busy and not op.hand.is_done:
            self.say(op, f"meets {error!r}")
            step = op.hand.step
            if not (isinstance(step, Ask) and not any(isinstance(c, (Read, Look)) for c in step.commands)):
                op.vouch = {}  # else it goes on with the leave that it had
            self.move(op, lambda: op.hand.throw(error))

    def cancel(self, op: Operation) -> None:
        if op.nested is None:
            self.throw(op, op.stamp, Cancelled())

    def move(self, op: Operation, move: Callable[[], Any]) -> None:
        """Have the plan go to its next step, and see to what that step asks for."""
        process = op.process
        if op.loading:
            self.loads.ended(op)
        self.requests.ended(op)
        op.stamp += 1
        op.busy = True
        outer, process.preempt = process.preempt, (lambda: self._look(op)) if op.stops else None
        try:
            move()
        finally:
            process.preempt, op.busy = outer, False
        if op.displaces:
            self.loads.displaced(op)
        self._arrived(op)
        self.check_l1(process)

    def _look(self, op: Operation) -> None:
        """A thread looks something up: here it may be stopped, and others go on."""
        op.points += 1
        seconds = op.stops.pop(op.points, 0.0)
        if seconds and self._depth < MAX_DEPTH:
            process = op.process
            self.say(op, f"is stopped for {seconds} s")
            hook, process.preempt = process.preempt, None
            until, self.until = self.until, self.now + seconds
            self._depth += 1
            self.run_until(self.until)
            self._depth -= 1
            process.preempt, self.until = hook, until
            self.say(op, "goes on")

    def nest(self, outer: Operation, stamp: int) -> None:
        """The loader of *outer* reads through the cache."""
        raise NotImplementedError

    def _arrived(self, op: Operation) -> None:
        step, process = op.hand.step, op.process
        match step:
            case None:
                process.running.pop(op.number, None)
                self._ended(op)
            case Ask(commands):
                self.requests.ask(op, commands)
            case Tell():
                self.requests.tell(op, step)
                self.to(op, self.now, self.go_on, op, op.stamp)
            case Call(_, args):
                self.loads.begin(op, args)
            case Join(future, timeout):
                self._waits(op, future)
                stamp = op.stamp
                future.add_done_callback(lambda _: self.to(op, self.now, self._wake, op, stamp))
                self.to(op, self.now + timeout, self._wake, op, stamp)
            case Pause(seconds):
                self.to(op, self.now + seconds, self.go_on, op, op.stamp)

    def _waits(self, op: Operation, future: object) -> None:
        """For a flight of its own process, or by a bell for the load elsewhere that it was told of."""
        if op.told_of and isinstance(future, Future):
            op.waited.add(op.told_of)
        if len(op.waited) > MAX_JOINS * max(1, len(op.keys)):
            raise Violation("progress", f"{op} waits for one load after the other")

    def _wake(self, op: Operation, stamp: int) -> None:
        if op.stamp != stamp:
            return
        assert isinstance(op.hand.step, Join)
        future = op.hand.step.future
        landed = future.result() if future.done() and future.exception() is None else None
        op.vouch, op.joined_away, op.joined_unvouched, op.waited_for = {}, False, False, future
        if isinstance(landed, Landing):
            op.joined_unvouched = landed.head is None
            op.joined_away = landed.token is None and landed.head is None
            op.joins += 1
            op.displaces = op.displaces or op.joins > 1
            head = max(landed.head or 0, landed.token or 0)
            op.vouch[landed.entry.key] = self.history.by_epoch[landed.stand.epoch].up_to(head)
        elif landed is ABANDONED:
            op.given_up += 1
            op.displaces = op.displaces or op.given_up >= MAX_JOINS
        self.say(op, "has waited" if future.done() else "has waited in vain")
        self.move(op, op.hand.wake)

    # ---- what returns

    def _ended(self, op: Operation) -> None:
        outer = op.inside
        if outer is not None:
            outer.nested = None
        try:
            result = op.hand.result
        except (Cancelled, LoaderFailed, TierCacheError) as error:
            self.say(op, f"raises {error!r}")
            if isinstance(error, LoadTimeout):
                self._check_timeout(op)
            if outer is not None:
                self.throw(outer, outer.stamp, error)
            result = None
        else:
            self.say(op, f"returns {result!r}")
            op.process.own = lifted(op.process.own, op.returns)  # G2
            if op.then is not None:
                op.then(result)
            if op.keys:
                self._given(op, result if isinstance(result, dict) else dict.fromkeys(op.keys, result))
            if outer is not None:
                self.loads.go_on(outer, op, result)
        if op.is_probe:
            self.listeners.synced(op.process, result is not None and result[0])

    def _check_timeout(self, op: Operation) -> None:
        """A flight that is waited for in vain is somebody's, who does not wait for it."""
        boarded = [flight.future for flight in op.process.tiers.board._flights.values()]
        if op.waited_for in boarded and not any(
            not other.keys.isdisjoint(op.keys) and not _waits_for(other, op.waited_for)
            for other in op.process.running.values()
        ):
            raise Violation("progress", f"{op} waited for a load that nobody makes")

    def _given(self, op: Operation, answers: dict[str, Any]) -> None:
        """A read has been given *answers*: as new as was promised; and later ones must be no older."""
        process = op.process
        for key, value in answers.items():
            if value is MISS:
                continue
            unsure = self.loads.unsure.get(value, ())
            for promise, due in (*op.due, ("G6", op.vouched_due.get(key, NOTHING))):
                # Who is cut off from Redis may still join a load that began before.
                if promise not in unsure and not (promise == "G4" and op.joined_away):
                    self.history.demand(promise, op, key, value, due)
            held = op.vouch.get(key)
            if held:
                rows = {row: held[row] for row in ROWS[key] if row in held}
                process.vouched = {
                    **process.vouched,
                    key: lifted(process.vouched.get(key, NOTHING), rows),
                }

    def check_l1(self, process: Process) -> None:
        """G3: L1 holds nothing that a record it knows of made invalid."""
        core = process.core
        process.knowledge.learn(self.history, core.epoch, core.proved)
        due = process.knowledge.due
        if due:
            for key, entry in core.l1.entries.items():
                if not core.l1.is_condemned(entry):
                    self.history.demand("G3", f"L1 of {process.node}", key, entry.value, due)


def _waits_for(op: Operation, future: object) -> bool:
    step = op.hand.step if op.hand is not None else None  # one that has not begun is at no step
    return op.waited_for is future or (isinstance(step, Join) and step.future is future)
