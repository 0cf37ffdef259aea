"""One plan under way in a process, and what must hold when it returns."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.core.hands import Hand
from tests.simulation.checker import NOTHING, Versions
from tests.simulation.process import Process
from tests.simulation.schedule import Mishap
from tiercache._core.plan import Plan


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of the simulation's own: time passes between two steps of a writer."""

    seconds: float


_NOBODY: Any = None  # a hand's server: here each request goes its own way


class Operation:
    """A plan, at its next step."""

    __slots__ = (
        "begun",
        "busy",
        "dice",
        "displaces",
        "due",
        "found",
        "given_up",
        "hand",
        "inside",
        "is_away",
        "is_counted",
        "is_known_inside",
        "is_probe",
        "is_prober",
        "is_renewal",
        "joined_away",
        "joined_unvouched",
        "joins",
        "keys",
        "life",
        "loading",
        "may_look_back",
        "met",
        "mishaps",
        "nested",
        "node",
        "number",
        "part",
        "points",
        "process",
        "returns",
        "rounds",
        "stamp",
        "stops",
        "then",
        "told_of",
        "tries",
        "unsure",
        "vouch",
        "vouched_due",
        "waited",
        "waited_for",
        "what",
    )

    def __init__(self, process: Process, number: int, what: str, dice: Random) -> None:
        self.process, self.number, self.what, self.dice = process, number, what, dice
        self.node, self.life = process.node, process.life  # a fork changes both
        self.hand: Hand = None  # type: ignore[assignment]  # set as soon as it has begun
        self.keys: frozenset[str] = frozenset()  # of a read
        self.displaces = False  # it may lead a flight although there is one
        self.is_counted = True  # G5: its loads are those that new callers join
        self.due: tuple[tuple[str, Versions], ...] = ()  # of a read: promise, versions
        self.vouched_due: dict[str, Versions] = {}  # G6
        self.vouch: dict[str, Versions] = {}  # of a read: what its answer was vouched for at, by key
        self.waited_for: Any = None  # the last future
        self.joined_away = False  # what it was given was loaded without Redis, by another
        self.joined_unvouched = False  # and Redis vouched for it neither before nor after
        self.then: Callable[[Any], None] | None = None  # of a write: with its result, once it has returned
        self.returns: Versions = NOTHING  # of a write: what it promises to later reads
        self.mishaps: tuple[Mishap, ...] = ()
        self.stops: dict[int, float] = {}  # at which look-up it is stopped, for how long
        self.points = 0  # look-ups so far
        self.rounds = 0  # round trips so far
        self.stamp = 0  # steps so far; what comes for an earlier one finds nobody
        self.busy = False  # in the middle of a step
        self.is_probe = False  # the listener's own sync
        self.is_prober = False  # sent by the listener, also where the circuit is open
        self.tries = False  # its request may show that the server is back
        self.is_renewal = False
        self.given_up = 0  # of those, by their leaders
        self.joins = 0  # flights of others it waited for
        self.told_of = b""  # the load of another process that its last answer was to wait for
        self.met: set[bytes] = set()  # all of which it was told
        self.waited: set[bytes] = set()  # those it did wait for
        self.inside: Operation | None = None  # whose loader it is part of
        self.is_known_inside = True  # by a context variable
        self.nested: Operation | None = None
        self.loading: tuple[str, ...] = ()  # G5: what it loads
        self.is_away = False  # it does so without leave from the server
        self.may_look_back = False  # its load reflects more than L1 does, which no sync could be sent for
        self.begun = 0.0
        self.found: dict[str, Versions] = {}  # what its loader has read of the source
        self.part: int | None = None  # what its nested read brought
        self.unsure: tuple[str, ...] = ()  # what its loader's value is not promised

    def begin(self, plan: Plan[Any], root: Context) -> None:
        self.stamp += 1
        inside = self.inside.hand if self.inside and self.is_known_inside else None
        self.hand = root.copy().run(Hand, plan, _NOBODY, inside)

    def __str__(self) -> str:
        return f"{self.node} #{self.number} {self.what}"
