"""The one history all processes are held against, and what each read must reflect.

As in tests/core/truth.py the source is a table of rows whose versions only grow, and a value is
the versions of its key's rows at one instant. Here it is kept so that a check costs a few
look-ups: values are numbers, and what is due is a dictionary that is never changed, only replaced,
so that a read keeps what was due when it was invoked by keeping a reference.

    G1  a read reflects every record older than D' when it was invoked
    G7  ... and every commit older than that, where it was made under a fence
    G2  ... and every invalidation that its own process had been given back by then
    G3  neither the server nor L1 holds as valid what a record they know of made invalid
    G4  ... and every invalidation that somebody had waited for
    G5  one load of a key at a time: in a process, and in all of them while nothing goes wrong
    G6  ... and every record that an earlier answer under the same key was vouched for at
    G8  ... and every invalidation whose token its process had been brought up to
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tests.core.truth import ALL_ROWS, ROWS, SET_ROW
from tests.simulation.schedule import BOUND
from tiercache._core.commands import Command, Set
from tiercache._core.records import EVERYTHING, Hint

Versions = Mapping[str, int]
NOTHING: Versions = {}


class Violation(AssertionError):
    """A promise was broken."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


def lifted(floor: Versions, to: Versions) -> Versions:
    """*floor*, raised to at least what *to* says."""
    if floor is to or not to:
        return floor
    return {**floor, **{row: v for row, v in to.items() if v > floor.get(row, 0)}}


class Records:
    """The records of one epoch, and what those up to a number make due together."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.due: list[Versions] = []
        self.together: list[Versions] = []

    def add(self, number: int, due: Versions) -> None:
        self.together.append(lifted(self.together[-1], due) if self.together else due)
        self.numbers.append(number)
        self.due.append(due)

    def up_to(self, number: int) -> Versions:
        place = bisect_right(self.numbers, number)
        return self.together[place - 1] if place else NOTHING

    def of(self, number: int) -> Versions:
        place = bisect_right(self.numbers, number) - 1
        return self.due[place] if place >= 0 and self.numbers[place] == number else NOTHING


class Times:
    """What became due when, and what all up to an instant make due together."""

    def __init__(self) -> None:
        self._events: list[tuple[float, Versions]] = []
        self._due, self._folded = NOTHING, 0

    def add(self, at: float, due: Versions) -> None:
        self._events.append((at, due))

    def until(self, at: float) -> Versions:
        """Asked for later and later instants."""
        while self._folded < len(self._events) and self._events[self._folded][0] <= at:
            self._due = lifted(self._due, self._events[self._folded][1])
            self._folded += 1
        return self._due


class History:
    """What was committed, which records ran, and what they make due."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(ALL_ROWS, 1)
        self.values: list[Versions] = []  # what each value, a number, consists of
        self.by_epoch: dict[int, Records] = defaultdict(Records)
        self.barred: Versions = NOTHING  # G4
        self._records, self._commits = Times(), Times()  # G1, G7

    def load(self, key: str) -> Versions:
        """What a loader of *key* finds now."""
        return {row: self.versions[row] for row in ROWS[key]}

    def value(self, versions: Versions) -> int:
        self.values.append(versions)
        return len(self.values) - 1

    def commit(self, rows: Iterable[str]) -> Versions:
        """Write *rows*; what an invalidation that begins now promises to who reads after it returned."""
        due = {}
        for row in rows:
            if row != SET_ROW:
                self.versions[row] += 1
            due[row] = self.versions[row] + (row == SET_ROW)
        return due

    def ran(self, hint: Hint, command: Command[object], at: float) -> None:
        """Note the record that *hint* tells of, made at *at*, most likely by *command*."""
        if isinstance(command, Set) and hint.deps == ("k:" + command.key,) != (SET_ROW,):
            return  # a value that was derived from the source, and changes nothing in it
        rows = ALL_ROWS if EVERYTHING in hint.deps else hint.deps
        if SET_ROW in rows:
            self.versions[SET_ROW] += 1
        due = {row: self.versions[row] for row in rows}
        if isinstance(command, Set) and hint.deps == (SET_ROW,):
            self.values[int(command.payload)] = due
        self._records.add(at, due)
        self.by_epoch[hint.epoch].add(hint.number, due)

    def commit_fenced(self, due: Versions, at: float) -> None:
        """Note a commit made under a fence that stands (G7)."""
        self._commits.add(at, due)

    def old(self, at: float) -> Versions:
        """What every record older than D' at *at* makes due; *at* never goes back."""
        return self._records.until(at - BOUND)

    def old_commits(self, at: float) -> Versions:
        return self._commits.until(at - BOUND)

    def demand(self, promise: str, who: object, key: str, value: int, due: Versions) -> None:
        """Fail unless *value* of *key* has the versions that are due."""
        versions = self.values[value]
        for row in ROWS[key]:
            if versions.get(row, 0) < due.get(row, 0):
                raise Violation(
                    promise, f"{who} has {key} = #{value} {dict(versions)}, but {row} = {due[row]} was due"
                )


class Knowledge:
    """What one process has been told by replies: records of its epoch, which its L1 must reflect (G3)."""

    def __init__(self) -> None:
        self.epoch = self._proved = 0
        self.due: Versions = NOTHING

    def learn(self, history: History, epoch: int, proved: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.due, self._proved = epoch, NOTHING, 0
        if proved > self._proved:
            self._proved = proved
            self.due = lifted(self.due, history.by_epoch[epoch].up_to(proved))

    def add(self, epoch: int, due: Versions) -> None:
        """An own record was answered."""
        if epoch == self.epoch:
            self.due = lifted(self.due, due)
