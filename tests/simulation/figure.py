"""Races that need several things to happen close together, in an order that chance rarely makes.

A figure is a handful of acts that stand where they race; who plays which part and how far apart they
are is drawn anew each time, so most of what comes out is a near miss. Times are seconds from the
beginning of the figure, unless another name is given to them. P is the process that may be given
something old, Q writes, R is the third. A lease is D = 10 seconds.

Each is told by the races of docs/explanation/coherence.md, by a counterexample of tests/model, or by a
script of tests/core.
"""

from __future__ import annotations

from random import Random
from typing import Any

Mishap = tuple[Any, ...]
Line = tuple[float, str, int, tuple[Any, ...], tuple[Mishap, ...]]
# What a write and a barrier are told: its tags, its keys, seconds from commit to record.
X = (("x",), (), 0.0)
KEY_A, KEY_B = ((), ("a",), 0.0), ((), ("b",), 0.0)
D = 10.0
FOREVER = 200.0  # seconds that a fence stands


class Figure:
    """The acts of one figure, as they are written down."""

    def __init__(self, draw: Random, start: float) -> None:
        self.draw, self.start, self.end = draw, start, start
        self.p, self.q, self.r = draw.sample(range(3), 3)
        self.lines: list[Line] = []

    def act(self, at: float, kind: str, who: int, *args: Any, wrong: Mishap = (), also: Mishap = ()) -> None:
        when = round(self.start + at, 6)
        self.lines.append((when, kind, who, args, tuple(x for x in (wrong, also) if x)))
        self.end = max(self.end, when)

    def some(self, low: float, high: float) -> float:
        return round(self.draw.uniform(low, high), 4)

    def poll(self, at: float, who: int, key: str, every: float, until: float, wrong: Mishap = ()) -> None:
        """Reads of *key* from *at* to *until*; as the hit path of a decorated function does it, or not."""
        times = max(1, int((until - at) / every))
        self.act(at, "poll", who, key, self.draw.random() < 0.6, every, times, wrong=wrong)
        self.end = max(self.end, self.start + until)

    def silence(self, at: float, what: str, until: float) -> None:
        """Nothing comes through between P and the server."""
        self.act(at, "silence", self.p, round(until - at, 4), what)
