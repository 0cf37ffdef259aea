"""How each fault of a schedule is brought about."""

from __future__ import annotations

from tests.core.sim_server import Domain
from tests.simulation.engine import Engine
from tests.simulation.process import Process
from tests.simulation.schedule import Schedule
from tiercache._core.records import Hint

LAG = 1e-6  # seconds; what cannot happen in the middle of a step happens just after it


class Faults(Engine):
    """A world in which things go wrong."""

    def __init__(self, schedule: Schedule, trace: list[str] | None = None) -> None:
        super().__init__(schedule, trace)
        self.copy = self.snapshot = Domain()  # what a replica has, and a file

    # ---- of the paths

    def suffer_silence(self, process: Process, seconds: float, what: str) -> None:
        """A half-open path: what is sent on it is gone, and nobody is told."""
        if what != "data":
            process.silent_hints = self.now + seconds
        if what != "hints":
            process.silent_data = self.now + seconds

    def suffer_cut(self, process: Process, what: str) -> None:
        """Connections break, and both ends know it at once."""
        if process.subscribed:
            self.listeners.lose(process)
        if what == "both":
            self.requests.cut(list(process.running.values()))

    def suffer_slow(self, process: Process, seconds: float, by: float) -> None:
        process.slow_until, process.slowness = self.now + seconds, by

    # ---- of a process

    def suffer_pause(self, process: Process, seconds: float) -> None:
        """It is stopped, and its clock goes on."""
        process.resumes = self.now + seconds

    def suffer_crash(self, process: Process, seconds: float) -> None:
        """It is gone, and after a while there is another in its place."""
        if self._is_in_a_step(process):
            self.at(self.until + LAG, self.suffer_crash, process, seconds)
            return
        process.end()
        self.graveyard.append(process)
        self.processes[process.slot] = self.new_process(process.slot, self.now + seconds)

    def suffer_fork(self, process: Process) -> None:
        """The parent is seen no more; the child goes on with its memory and none of its threads."""
        if self._is_in_a_step(process):
            self.at(self.until + LAG, self.suffer_fork, process)
            return
        process.fork(self.new_name(process.slot))
        self.listeners.start(process)

    def suffer_lapse(self, process: Process) -> None:
        """The machine slept, as far as the listener can tell."""
        process.core.lapse()
        self.listeners.hurry(process, self.now)

    def suffer_drop_l1(self, process: Process, key: str) -> None:
        with process.core.lock:
            process.core.l1.drop(key)

    def suffer_forge(self, process: Process, ahead: int, dep: str) -> None:
        """Somebody publishes a hint of a record that there is not."""
        core = process.core
        core.hear(Hint(core.epoch, core.applied + ahead, (dep,)))

    def _is_in_a_step(self, process: Process) -> bool:
        return any(op.busy for op in process.running.values())

    # ---- of the server

    def suffer_stall(self, process: Process, seconds: float) -> None:
        """It does nothing, and later all that has come in meanwhile."""
        self.requests.stalled_until = self.now + seconds

    def suffer_full(self, process: Process, seconds: float) -> None:
        self.primary.sim.is_full = True
        self.at(self.now + seconds, self._has_room)

    def _has_room(self) -> None:
        self.primary.sim.is_full = False

    def suffer_evict(self, process: Process, what: str) -> None:
        domain = self.primary.sim.domain
        match what:
            case "state":
                domain.state = None
            case "key versions":
                domain.keys = None
            case "locks":
                domain.locks.clear()
            case "members":
                domain.members.clear()
            case "fences":
                domain.fences.clear()
            case "fenced":
                domain.fenced.clear()
            case key:
                domain.entries.pop(key, None)
                domain.ends.pop(key, None)

    def suffer_flush(self, process: Process) -> None:
        self.primary.sim.flush()

    def suffer_replicate(self, process: Process, saves: bool) -> None:
        """A replica has caught up; now and then it *saves* a file, too."""
        self.copy = self.primary.sim.copy()
        if saves:
            self.snapshot = self.copy

    def suffer_fail_over(
        self, process: Process, seconds: float, behind: tuple[int, ...], is_noticed: bool
    ) -> None:
        """A replica takes over, without the records it has not seen; some stay with the old one for a while.

        Behind a proxy nobody need notice: the subscriptions stay.
        """
        self.demoted = self.primary.fail_over(self.copy)
        self.requests.down_until = self.now + seconds
        for slot in behind:
            self.processes[slot].reads_old_until = self.now + 25.0
        if is_noticed:
            self._all_lose_their_subscription(but=behind)

    def suffer_restart(self, process: Process, seconds: float) -> None:
        """It is down for a while, and comes back with what its file holds."""
        self.primary.fail_over(self.snapshot)
        self.requests.down_until = self.now + seconds
        self._all_lose_their_subscription()

    def _all_lose_their_subscription(self, but: tuple[int, ...] = ()) -> None:
        for process in self.processes:
            if process.slot not in but:
                self.requests.cut(list(process.running.values()))
                if process.subscribed:
                    self.listeners.lose(process)
