"""One process: the real core, a clock of its own, and a listener that does what the real one does."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any

from tests.simulation.checker import NOTHING, Knowledge, Versions
from tests.simulation.network import Codec
from tests.simulation.schedule import D, Setting
from tiercache._core.coherence import Coherence
from tiercache._core.l1 import L1, SLICE
from tiercache._core.tiers import Counts, Tiers
from tiercache._transport.breaker import Breaker

TIMEOUT = 1.0  # seconds a caller waits for Redis
LOAD_TIMEOUT = 30.0

Hook = Callable[[], None]


class Turns:
    """In place of the core's lock: whoever takes it may have to let another thread go first."""

    __slots__ = ("depth", "process")

    def __init__(self, process: Process) -> None:
        self.process, self.depth = process, 0

    def __enter__(self) -> None:
        if self.depth == 0 and self.process.preempt is not None:
            self.process.preempt()
        self.depth += 1

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.depth -= 1


class Entries(dict[str, Any]):
    """In place of L1's table: a thread may be stopped when it looks into it without the lock."""

    __slots__ = ("process",)
    process: Process

    def get(self, key: str, default: Any = None) -> Any:
        process = self.process
        if process.preempt is not None and process.turns.depth == 0:
            process.preempt()
        return dict.get(self, key, default)


class Process:
    """What runs in one place; after a crash another one does, under a new name."""

    def __init__(
        self, slot: int, name: str, setting: Setting, now: Callable[[], float], dice: Random
    ) -> None:
        self.slot, self.node, self.dice, self._now = slot, name, dice, now
        self._rate, self._start = setting.rates[slot], setting.starts[slot]
        self.preempt: Hook | None = None  # of the operation that is moving, if it is to be stopped
        self.turns = Turns(self)
        core = Coherence(L1(setting.l1_size), max_staleness=D, node=name)
        core.lock = self.turns  # type: ignore[assignment]  # it has no more to do than this
        core.l1.entries = entries = Entries()
        core.l1.slice_size = (1, SLICE)[slot % 2]
        entries.process = self
        self.core = core
        self.breaker = Breaker()
        self.tiers = Tiers(
            core,
            Codec(),
            self.clock,
            load_timeout=LOAD_TIMEOUT,
            timeout=TIMEOUT,
            cap=setting.cap,
            key_cap=setting.key_cap,
            is_cut_off=lambda: self.breaker.is_open,
            wakes_arrive=lambda: self.subscribed,
        )
        self.counts = Counts()
        self.own: Versions = NOTHING  # G2: of its invalidations that returned
        self.told: Versions = NOTHING  # G8: of tokens it has been brought up to
        self.vouched: dict[str, Versions] = {}  # G6: by key, of the answers it was given
        self.knowledge = Knowledge()  # G3
        self.running: dict[int, Any] = {}  # operations, by number
        self.loading: dict[str, Any] = {}  # G5: key -> the operation that loads it
        self.dead: list[Any] = []  # operations; collected, a plan would clean up after itself
        self.life = 0  # grows when all that ran here is gone
        self.resumes = 0.0  # until then it is stopped
        # The paths to the server.
        self.silent_hints = self.silent_data = self.slow_until = 0.0
        self.slowness = 0.0
        self.reads_old_until = 0.0  # it is still connected to a demoted primary
        # The listener.
        self.subscribed = False
        self.next_sync = self.last_sync = self.active = 0.0
        self.served = -1
        self.unanswered = 0
        self.is_syncing = False
        self.timer = 0

    @property
    def process(self) -> Process:
        return self

    def clock(self) -> float:
        if self.preempt is not None and self.turns.depth == 0:
            self.preempt()
        return self._start + self._now() * self._rate

    def end(self) -> None:
        """All that ran here is gone."""
        self.life += 1
        self.dead += self.running.values()
        self.running.clear()
        self.loading.clear()
        self.is_syncing = self.subscribed = False
        self.unanswered = 0

    def fork(self, name: str) -> None:
        """Go on as the child, as `Node.after_fork_in_child` lets it."""
        self.end()
        self.node = self.core.node = name
        self.core.disown()
        self.core.held.clear()
        self.core.told.clear()
        self.tiers.forget()
        self.breaker = Breaker()
        self.served = -1
