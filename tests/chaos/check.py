"""The verdict on a history: how stale each read was, and which guarantees were broken.

A read *may not* return a version from some instant on: G1, from D' after an invalidation of a
later one was done; G2, from the return of such an invalidation of its own process; and so on.
All but G5 and G8 are of this form, and differ in who says since when. Whatever is not known
for certain is taken in favour of the cache: an invalidation counts from its return, a read
from its invocation. So a violation found here is one.

    G1 bounded staleness   G2 own invalidations   G3 no stale fill survives in L2   G4 barrier
    G5 single flight       G6 no going back       G7 a write whose writer died      G8 causal reads
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

from tests.chaos.history import PAST_L1, History, Load, Run, Write
from tiercache._core.flights import MAX_JOINS

CLOCK_RATES = 1.002  # D' / D: two clocks that each run 0.1 % wrong at most
STORED = 0.5  # seconds after a load in which its value is stored, or given up


@dataclass(frozen=True)
class Terms:
    """What holds of the faults of a run, and so what is promised under them."""

    max_staleness: float  # D
    split: float = 0.0  # seconds two primaries may take writes at once (A3)
    one_side: bool = True  # and no two clients are at different ones
    keeps_history: bool = True  # no record that was made is ever lost
    answers: bool = True  # Redis can be reached all the time
    locks: bool = True  # and keeps the locks it gave
    lock: float = 10.0  # seconds a lock lives

    @property
    def bound(self) -> float:
        return self.max_staleness * CLOCK_RATES + self.split


class Violation(NamedTuple):
    guarantee: str
    late: float  # seconds after it should have been impossible
    words: str


@dataclass
class Verdict:
    bound: float
    reads: int = 0
    writes: int = 0  # that were committed
    worst: float = 0.0  # seconds between the end of an invalidation and the last read it should have changed
    checked: dict[str, int] = field(default_factory=dict)  # by guarantee: what there was to break it
    violations: list[Violation] = field(default_factory=list)

    def broken(self) -> dict[str, int]:
        """How often each guarantee was broken; empty if none was."""
        counts = defaultdict(int)
        for violation in self.violations:
            counts[violation.guarantee] += 1
        return dict(sorted(counts.items()))


class Since:
    """From which instant on a version of a row is not to be seen any more, if things are as told."""

    def __init__(self, told: Iterable[tuple[int, float]]) -> None:
        """*told* are versions with the instants from which on nothing below them is right."""
        steps = sorted(told)
        self._versions = [version for version, _ in steps]
        instants = [instant for _, instant in reversed(steps)]
        self._since = [*reversed(list(accumulate(instants, min))), inf]

    def __call__(self, version: int) -> float:
        return self._since[bisect_right(self._versions, version)]


def judge(history: History, terms: Terms) -> Verdict:
    verdict = Verdict(
        terms.bound, sum(run.count for run in history.runs), sum(len(w.versions) for w in history.writes)
    )
    _Judge(history, terms, verdict).judge()
    return verdict


class _Judge:
    def __init__(self, history: History, terms: Terms, verdict: Verdict) -> None:
        self._history, self._terms, self._verdict = history, terms, verdict

    def judge(self) -> None:
        history, terms = self._history, self._terms
        self._bounded("G1", history.runs, history.writes, lambda write: write.done, terms.bound)
        by_node = _grouped(history.writes, lambda write: write.node)
        for node, runs in _grouped(history.runs, lambda run: run.node).items():
            self._bounded("G2", runs, by_node.get(node, []), lambda write: write.returned, 0.0)
        past_l1 = [run for run in history.runs if run.node.endswith(PAST_L1)]
        exact = 0.0 if terms.keeps_history else terms.bound
        self._bounded("G3", past_l1, history.writes, lambda write: write.done, exact)
        barriers = [write for write in history.writes if write.waited]
        # Across a split nobody can wait for the other side; who changes sides may go back until it is told.
        reach = 0.0 if terms.one_side else terms.bound
        self._bounded("G4", history.runs, barriers, lambda write: write.returned, reach)
        self._single_flight()
        if terms.keeps_history:
            fenced = [write for write in history.writes if write.fenced]
            self._bounded("G7", history.runs, fenced, lambda write: write.committed, terms.bound)
        if terms.one_side:
            self._no_going_back()
            self._causal()

    def _bounded(
        self,
        guarantee: str,
        runs: Iterable[Run],
        writes: Iterable[Write],
        instant: Callable[[Write], float],
        bound: float,
    ) -> None:
        told: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for write in writes:
            for row, version in write.versions.items():
                told[row].append((version, instant(write)))
        since = {row: Since(steps) for row, steps in told.items()}
        runs = [run for run in runs if run.row in since]
        self._count(guarantee, sum(run.count for run in runs))
        for run in runs:
            stale = run.last_invoked - since[run.row](run.version)
            if guarantee == "G1":
                self._verdict.worst = max(self._verdict.worst, stale)
            if stale > bound:
                words = f"{_words(run)}; a later one had counted for {stale:.3f} s of {bound:.3f} s"
                self._break(guarantee, stale - bound, words)

    def _single_flight(self) -> None:
        """No two loads at once with one token: nothing had happened that would ask for the second."""
        if not self._terms.locks:
            return
        led = [load for load in self._history.loads.values() if load.token is not None]
        self._count("G5", len(led))
        of_row = _grouped(led, lambda load: load.row)
        # A lock is held until the value is stored, and only then is it given out.
        unlocked = {x: min(x.ended, x.asked + self._terms.lock) + STORED for x in led}
        for run in self._history.runs:
            load = self._history.loads.get(run.load)
            if load in unlocked:
                unlocked[load] = min(unlocked[load], run.first_returned)

        def met_many(load: Load) -> bool:
            """Whether its reader may have met more loads of others than one waits for."""
            met = (x for x in of_row[load.row] if x is not load and x.asked <= load.began)
            return sum(unlocked[x] >= load.asked for x in met) > MAX_JOINS

        for loads in _grouped(led, lambda load: (load.row, load.token)).values():
            loads.sort(key=lambda load: load.began)
            for first, second in pairwise(loads):
                ended = first.began if first.ended == inf else first.ended  # it died, who knows when
                late = min(ended, first.asked + self._terms.lock) - second.began
                if late > 0 and not (met_many(first) or met_many(second)):
                    words = f"row {first.row} was loaded twice at once, {late:.3f} s: {first} and {second}"
                    self._break("G5", late, words)

    def _no_going_back(self) -> None:
        """What a read reflected, every later one of the same node and row reflects."""
        proofs = {"by number": self._reflected_by_number()}
        if self._terms.answers and self._terms.keeps_history:
            proofs["by instant"] = self._reflected_by_instant()
        self._count("G6", sum(run.count for run in self._history.runs))
        for (node, row), runs in _grouped(self._history.runs, lambda run: (run.node, run.row)).items():
            for how, reflected in proofs.items():
                since = Since((reflected(run), run.first_returned) for run in runs)
                for run in runs:
                    late = run.last_invoked - since(run.version)
                    if late > 0:
                        words = (
                            f"{_words(run)}; {node} had seen later of row {row} {late:.3f} s before ({how})"
                        )
                        self._break("G6", late, words)

    def _reflected_by_number(self) -> Callable[[Run], int]:
        """The version that the records up to the token of a run's load stand for."""
        records: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for write in self._history.writes:
            if write.token is not None:
                epoch, number = write.token
                for row, version in write.versions.items():
                    records[row, epoch].append((number, version))
        steps = {which: _Highest(told) for which, told in records.items()}

        def reflected(run: Run) -> int:
            load = self._history.loads[run.load]
            if load.token is None or (run.row, load.token[0]) not in steps:
                return 0
            return steps[run.row, load.token[0]].up_to(load.token[1])

        return reflected

    def _reflected_by_instant(self) -> Callable[[Run], int]:
        """The version that the invalidations done before a run's load began stand for."""
        told: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for write in self._history.writes:
            for row, version in write.versions.items():
                told[row].append((write.done, version))
        steps = {row: _Highest(each) for row, each in told.items()}

        def reflected(run: Run) -> int:
            return steps[run.row].up_to(self._history.loads[run.load].began) if run.row in steps else 0

        return reflected

    def _causal(self) -> None:
        self._count("G8", len(self._history.causal))
        for read in self._history.causal:
            if read.version < read.required:
                words = f"{read.node} read {read.version} of row {read.row} after at_least({read.required})"
                self._break("G8", 0.0, words)

    def _count(self, guarantee: str, checked: int) -> None:
        self._verdict.checked[guarantee] = self._verdict.checked.get(guarantee, 0) + checked

    def _break(self, guarantee: str, late: float, words: str) -> None:
        self._verdict.violations.append(Violation(guarantee, late, words))


class _Highest:
    """The highest version told at or before a place."""

    def __init__(self, told: Iterable[tuple[float, int]]) -> None:
        steps = sorted(told)
        self._places = [place for place, _ in steps]
        self._highest = [0, *accumulate((version for _, version in steps), max)]

    def up_to(self, place: float) -> int:
        return self._highest[bisect_right(self._places, place)]


def _grouped(items, by):  # type: ignore[no-untyped-def]
    groups = defaultdict(list)
    for item in items:
        groups[by(item)].append(item)
    return groups


def _words(run: Run) -> str:
    return f"{run.node} read version {run.version} of row {run.row} (load {run.load})"
