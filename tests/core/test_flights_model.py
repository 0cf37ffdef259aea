"""Whatever loads claim of several boards, at least one of those that wait is waiting for one that runs."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tiercache._core.coherence import Coherence
from tiercache._core.flights import Board, Flight, Load
from tiercache._core.l1 import L1

CORE = Coherence(L1(1), max_staleness=inf, node="n")
KEYS = st.sampled_from("abc")
BOARDS = st.integers(0, 1)
NUMBERS = st.integers(0, 3)


class Caller:
    """A task: the loads it is inside of, innermost last, and the flight it waits for."""

    def __init__(self) -> None:
        self.leads: list[list[tuple[int, Load]]] = []  # a batch leads several flights at one level
        self.left: set[int] = set()  # levels that a batch has left already
        self.waits: tuple[int, Flight] | None = None

    @property
    def inside(self) -> Load | None:
        return self.leads[-1][-1][1] if self.leads else None

    @property
    def is_waiting(self) -> bool:
        return self.waits is not None and not self.waits[1].future.done()


class Callers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.boards = (Board(inf), Board(inf))
        self.callers = [Caller() for _ in range(4)]

    @rule(number=NUMBERS, board=BOARDS, key=KEYS)
    def read(self, number: int, board: int, key: str) -> None:
        caller = self._awake(number)
        if caller is None:
            return
        inside = caller.inside
        flight, role = self.boards[board].claim(key, 0.0, inside, blocking=False)
        if role == "follow":
            caller.waits = board, flight
        else:
            caller.leads.append([(board, Load(CORE, 1, 1, flight, inside))])

    @rule(number=NUMBERS, board=BOARDS, keys=st.frozensets(KEYS, min_size=2))
    def read_many(self, number: int, board: int, keys: frozenset[str]) -> None:
        """As `get_or_load_many`: leads what it can, and waits for nobody before it has landed that."""
        caller = self._awake(number)
        if caller is None:
            return
        outer = inside = caller.inside
        led = []
        for key in sorted(keys):
            flight, role = self.boards[board].claim(key, 0.0, outer, blocking=False)
            self.boards[board].leave(flight, outer, role)
            if role == "lead":
                inside = Load(CORE, 1, 1, flight, inside)
                led.append((board, inside))
        if led:
            caller.left.add(len(caller.leads))
            caller.leads.append(led)

    @rule(number=NUMBERS, cancelled=st.booleans())
    def end(self, number: int, cancelled: bool) -> None:
        caller = self._awake(number)
        if caller is None or not caller.leads:
            return
        level = caller.leads.pop()
        left = len(caller.leads) in caller.left
        caller.left.discard(len(caller.leads))
        for board, load in level:
            if cancelled:
                self.boards[board].abandon(load.flight)
            else:
                self.boards[board].land(load.flight, None)
            if not left:
                self.boards[board].leave(load.flight, load.outer, "lead")

    def _awake(self, number: int) -> Caller | None:
        caller = self.callers[number]
        if caller.is_waiting:
            return None
        if caller.waits is not None:
            board, flight = caller.waits
            self.boards[board].leave(flight, caller.inside, "follow")
            caller.waits = None
        return caller

    @invariant()
    def everybody_who_waits_waits_for_somebody_who_runs(self) -> None:
        leader = {
            id(load.flight): caller for caller in self.callers for level in caller.leads for _, load in level
        }
        for caller in self.callers:
            met = []
            while caller.is_waiting:
                assert caller not in met, "a circle of waits"
                met.append(caller)
                assert caller.waits is not None
                caller = leader[id(caller.waits[1])]


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
