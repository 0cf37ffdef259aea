"""Two nodes under many random scripts, each with its own mixture of what goes wrong.

What tests/core/test_two_nodes.py does in breadth this does in depth: a script that loses much and
never fails over finds what one with a little of everything does not. Each run takes new seeds; a
failure names its seed, and the fewest acts that still fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.core.two_nodes import BY_KEY, LOADED, TwoNodes

SEEDS = 2_000
ACTS = 100
Act = tuple[Any, ...]

# How often an act is drawn, before each script makes its own choice among them.
WEIGHTS = {
    "go": 40.0,
    "read": 14.0,
    "invalidate": 6.0,
    "hear": 5.0,
    "tick": 5.0,
    "sync": 4.5,
    "execute": 4.0,
    "lose": 3.5,
    "evict_from_l1": 2.5,
    "get": 2.0,
    "arrive": 1.5,
    "evict": 1.5,
    "set": 1.5,
    "end_block": 1.0,
    "load_many": 1.0,
    "replicate": 1.0,
    "ring": 1.0,
    "set_with_token": 1.0,
    "fail_over": 0.8,
    "cancel": 0.7,
    "begin_block": 0.5,
    "clear": 0.5,
    "fail": 0.5,
    "forge": 0.5,
    "refresh": 0.5,
    "touch": 0.5,
    "get_many": 0.4,
    "refuse": 0.4,
    "flush": 0.3,
    "lapse": 0.2,
}
ALWAYS = ("go", "read", "invalidate")


class Script:
    """The acts of one seed."""

    def __init__(self, seed: int) -> None:
        draw = self._draw = random.Random(seed)
        self._keys = draw.sample(LOADED, draw.choice([1, 2, 4]))
        self._tags: list[tuple[str, ...]] = draw.choice(
            [[("x",)], [("x",), ("y",)], [("x",), ("y",), ("x", "y"), ()]]
        )
        self._named: list[tuple[str, ...]] = draw.choice([[()], [(), (), ("a",), ("o",), ("s",)]])
        self._ticks = draw.choice([[0.5, 1.0], [3.0, 5.0, 9.0], [0.5, 1.0, 3.0, 5.0, 9.0, 11.0]])
        self._favours_one = draw.random() < 0.3
        weights = [
            weight * draw.choice([0.5, 1, 2] if name in ALWAYS else [0, 0.3, 1, 1, 3])
            for name, weight in WEIGHTS.items()
        ]
        self.acts = [self._act(name) for name in draw.choices(list(WEIGHTS), weights, k=ACTS)]

    def _act(self, name: str) -> Act:
        draw = self._draw
        who, which = draw.randrange(2), draw.randrange(8)
        arguments: dict[str, Callable[[], Act]] = {
            "go": lambda: (which, draw.choice([1, 1, 1, 2, 3, 6])),
            "read": lambda: (self._reader(who), draw.choice(self._keys), draw.random() < 0.5),
            "lose": lambda: (which, draw.random() < 0.5),
            "refresh": lambda: (who, draw.choice(self._keys)),
            "evict_from_l1": lambda: (who, draw.choice(LOADED)),
            "get": lambda: (who, draw.choice(BY_KEY)),
            "touch": lambda: (who, draw.choice(BY_KEY)),
            "invalidate": lambda: (who, draw.choice(self._tags), draw.choice(self._named)),
            "begin_block": lambda: (who, draw.choice("xy")),
            "forge": lambda: (who, draw.choice([1, 1, 2, 50]), draw.choice(["t:x", "t:z", "*"])),
            "hear": lambda: (who, which if draw.random() < 0.2 else -1 - draw.randrange(4)),
            "tick": lambda: (draw.choice(self._ticks),),
            "evict": lambda: (draw.choice(["state", "key versions", "locks", "s", *2 * LOADED]),),
        }
        if name in arguments:
            return name, *arguments[name]()
        if name in ("execute", "arrive", "refuse", "fail", "cancel", "ring"):
            return name, which
        return (name,) if name in ("flush", "replicate", "fail_over") else (name, who)

    def _reader(self, who: int) -> int:
        return int(self._draw.random() < 0.15) if self._favours_one else who


def play(acts: list[Act]) -> None:
    world = TwoNodes()
    for act in acts:
        world.act(*act)
        world.check()
    world.drain()
    world.check()


def fails(acts: list[Act]) -> bool:
    try:
        play(acts)
    except Exception:
        return True
    return False


def fewest(acts: list[Act]) -> list[Act]:
    """As few of *acts*, which fail, as still do."""
    size = len(acts) // 2
    while size:
        for start in range(len(acts) - size, -1, -size):
            fewer = acts[:start] + acts[start + size :]
            if fails(fewer):
                acts = fewer
        size //= 2
    return acts


def test_no_script_breaks_a_promise() -> None:
    first = random.SystemRandom().randrange(2**32)
    for seed in range(first, first + SEEDS):
        acts = Script(seed).acts
        try:
            play(acts)
        except Exception as error:
            error.add_note("\n".join([f"seed {seed}, and of its acts", *map(repr, fewest(acts))]))
            raise
