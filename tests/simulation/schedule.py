"""What a seed decides: the world it plays in, and when who does what or suffers what.

A schedule is a value. It can be written down, replayed, and replayed with parts left out: each
act carries the number that its own smaller decisions follow from (`dice`: latencies, load times,
the fate of its hints), so without one act the others do what they did. What goes wrong on the way
of one act (`mishaps`) is listed with it, and can be left out as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from tests.core.truth import TAGS
from tests.simulation.figure import Figure
from tests.simulation.figures import FIGURES

RHO = 1e-3  # how far a clock may be from its rate
D = 10.0  # `max_staleness`, by a process' own clock
BOUND = D * (1 + RHO) / (1 - RHO)  # D' of coherence.md: what D is by any other clock
PROCESSES = 3
LOADED = tuple(key for key in TAGS if key != "s")

Mishap = tuple[Any, ...]
Args = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """At *at*, process *who* does *kind*, or that happens to it."""

    at: float
    kind: str
    who: int
    args: Args
    dice: int
    mishaps: tuple[Mishap, ...] = ()

    def __str__(self) -> str:
        words = " ".join(str(x) for x in self.args if x != ())
        wrong = "".join(f" [{' '.join(map(str, m))}]" for m in self.mishaps)
        return f"{self.at:8.3f}  {self.who}  {self.kind} {words}{wrong}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds from beginning to end."""

    rates: tuple[float, ...] = (1.0,) * PROCESSES  # of the clocks
    starts: tuple[float, ...] = (0.0,) * PROCESSES  # what each shows at the beginning
    latency: tuple[float, float] = (0.01, 0.01)  # seconds, of a request and of a reply
    loads: tuple[float, float] = (0.5, 0.5)  # seconds
    hint_delay: tuple[float, float] = (0.02, 0.02)
    hint_loss: float = 0.0
    hint_twice: float = 0.0
    cap: int = 100_000  # tags the server remembers
    key_cap: int = 10_000
    l1_size: int = 10
    rough_syncs: float = 0.0  # how many of the listeners' syncs meet with something
    looks: float | None = None  # how often a look is tried; None: where the last answer of L2 was a hit
    large: bool = False  # all entries are such as the script does not give, but leaves to a look
    names_tags: bool = False  # the source of "b" says that it depends on "y", and its function does not
    early: float | None = None  # seconds that what is loaded lives, and is loaded anew before; None: it stays


@dataclass(frozen=True, slots=True)
class Schedule:
    seed: int
    setting: Setting
    acts: tuple[Act, ...]

    @property
    def is_calm(self) -> bool:
        """Whether nothing at all goes wrong."""
        return (
            self.setting.hint_loss == self.setting.rough_syncs == 0
            and not any(act.mishaps for act in self.acts)
            and all(act.kind in OPERATIONS for act in self.acts)
        )


# How often each is drawn, before a seed makes its own choice among them.
OPERATIONS = {
    "read": 36.0,
    "poll": 4.0,
    "write": 14.0,
    "get": 3.0,
    "load_many": 3.0,
    "set": 3.0,
    "derive": 2.5,
    "get_many": 1.0,
    "refresh": 1.5,
    "touch": 1.0,
    "clear": 1.0,
    "block": 3.0,
    "barrier": 2.0,
    "causal": 2.0,
    "sync": 0.5,
}
FAULTS = {
    "silence": 1.5,
    "pause": 1.0,
    "cut": 0.6,
    "slow": 1.0,
    "stall": 0.6,
    "crash": 0.5,
    "fork": 0.5,
    "evict": 1.5,
    "flush": 0.4,
    "replicate": 2.5,
    "fail_over": 1.5,
    "restart": 0.4,
    "full": 0.4,
    "forge": 1.0,
    "lapse": 0.5,
    "drop_l1": 2.0,
}
ALWAYS = ("read", "write")
# Half of all seeds keep to one of these: what a theme does not name is rare in it.
THEMES: dict[str, dict[str, float]] = {
    "lapse": {"poll": 10, "write": 8, "read": 4, "silence": 6, "pause": 2, "slow": 2, "drop_l1": 1},
    "nested": {"read": 24, "write": 10, "poll": 3, "silence": 3, "drop_l1": 2, "cut": 1, "slow": 2},
    "failover": {
        **{"poll": 10, "read": 10, "write": 10, "get": 3, "set": 2, "causal": 1, "load_many": 1},
        **{"replicate": 8, "fail_over": 7, "restart": 2, "drop_l1": 4, "flush": 0.5, "silence": 1},
    },
    "joins": {
        **{"read": 24, "write": 8, "refresh": 1, "load_many": 2, "poll": 3, "clear": 0.5},
        **{"stall": 3, "silence": 3, "cut": 2, "lapse": 2, "flush": 1, "fork": 2, "slow": 2},
    },
    "fences": {"block": 3, "read": 14, "poll": 3, "write": 0.3, "evict": 2, "silence": 2, "crash": 0.5},
    "barriers": {
        **{"barrier": 8, "poll": 8, "write": 3, "read": 4, "block": 1},
        **{"silence": 6, "pause": 3, "fail_over": 2, "flush": 2, "slow": 1, "crash": 1, "replicate": 1},
    },
    "causal": {"causal": 10, "poll": 6, "read": 10, "silence": 4, "cut": 2, "stall": 3, "fail_over": 1},
    "small": {
        **{"read": 20, "write": 8, "set": 5, "derive": 5, "get": 5, "clear": 1, "barrier": 1},
        **{"evict": 6, "drop_l1": 4, "silence": 3, "cut": 1},
    },
}
LONG_LOADS = ("fences", "joins")
EARLY = (None, None, 0.4 * D, 2.0 * D)
NAMES = (*THEMES, *FIGURES)  # of all themes; those of figures are made of them
CALM = 0.05  # the part of all seeds in which nothing goes wrong
EVICTED = ("state", "key versions", "locks", "members", "fences", "fenced", *LOADED, "s")


def schedule_of(seed: int, theme: str = "") -> Schedule:
    """All that *seed* decides; with a *theme*, as if it had chosen that one."""
    return _Drawing(seed, theme).schedule()


class _Drawing:
    def __init__(self, seed: int, theme: str) -> None:
        self.seed = seed
        draw = self.draw = Random(seed)
        self.calm = draw.random() < CALM
        chosen = draw.choice([*NAMES, *[""] * len(NAMES)])
        self.theme = theme or chosen
        self.keys = draw.sample(LOADED, draw.choice([1, 1, 2, 4]))
        self.keys = ["o", "o", "a"] if self.theme == "nested" else self.keys
        self.tags: list[tuple[str, ...]] = draw.choice(
            [[("x",)], [("x",), ("y",)], [("x",), ("y",), ("x", "y"), ()]]
        )
        self.named: list[tuple[str, ...]] = draw.choice([[()], [(), (), ("a",), ("o",), ("s",)]])
        self.tempo = draw.choice([0.03, 0.1, 0.3, 0.3, 0.8])  # seconds between two acts
        self.quiet = draw.choice([0.0, 0.05, 0.1])  # how often nothing happens for a while
        self.favours = draw.choice([None, None, 0, 1])  # who does most of the reading
        self.rough = 0.0 if self.calm else draw.choice([0.05, 0.15, 0.3])  # operations with a mishap
        self.preempted = 0.0 if self.calm else draw.choice([0.0, 0.1, 0.4])
        self.tempo = draw.choice([0.03, 0.1, 0.3]) if self.theme == "failover" else self.tempo

    def schedule(self) -> Schedule:
        if self.theme in FIGURES and not self.calm:
            return Schedule(self.seed, self.setting_of_figures(), self.figures())
        draw, setting = self.draw, self.setting()
        faults = 0 if self.calm else draw.choice([2, 5, 9, 14, 20])
        kinds = self.kinds(OPERATIONS, draw.randint(35, 75)) + self.kinds(FAULTS, faults)
        draw.shuffle(kinds)
        acts, at = [], 0.0
        for kind in kinds:
            at += draw.expovariate(1 / self.tempo)
            if draw.random() < self.quiet:
                at += draw.choice([0.3, 0.6, 1.1]) * D
            acts.append(self.act(round(at, 6), kind))
        return Schedule(self.seed, setting, tuple(acts))

    def setting(self) -> Setting:
        draw = self.draw
        low = draw.choice([0.001, 0.02])
        late = draw.choice([0.1, 0.5, 1.5, 4.0])
        return Setting(
            rates=tuple(draw.choice([1 - RHO, 1.0, 1 + RHO]) for _ in range(PROCESSES)),
            starts=tuple(float(draw.randrange(100_000)) for _ in range(PROCESSES)),
            latency=(low, low + draw.choice([0.002, 0.05, 0.2, 0.45])),
            loads=(0.01, draw.choice([3.0, 5.0] if self.theme in LONG_LOADS else [0.3, 1.0, 3.0, 5.0])),
            hint_delay=(low, low + late),
            hint_loss=0.0 if self.calm else draw.choice([0.0, 0.2, 0.6, 1.0]),
            hint_twice=draw.choice([0.0, 0.2]),
            cap=draw.choice([1, 1, 100_000] if self.theme == "small" else [100_000, 100_000, 1]),
            key_cap=draw.choice([1, 2, 10_000] if self.theme == "small" else [10_000, 10_000, 1]),
            l1_size=1 if self.theme == "failover" else draw.choice([1, 2, 10]),
            rough_syncs=0.0 if self.calm else draw.choice([0.0, 0.0, 0.2, 0.5]),
            looks=draw.choice([None, None, 0.3, 1.0]),
            large=draw.random() < 0.2,
            names_tags=draw.random() < 0.3,
            early=None if self.theme in FIGURES else Random(f"early {self.seed}").choice(EARLY),
        )

    def figures(self) -> tuple[Act, ...]:
        """A few figures, one after another, and now and then a few acts between theirs."""
        draw, acts, end = self.draw, [], 0.0
        for _ in range(3):
            figure = Figure(draw, end + draw.uniform(0.5, 3.0))
            draw.choice(FIGURES[self.theme])(figure)
            acts += [
                Act(at, kind, who, args, draw.getrandbits(32), wrong)
                for at, kind, who, args, wrong in figure.lines
            ]
            end = figure.end
        more = draw.choice([0, 0, 4, 12])
        acts += [
            self.act(round(draw.uniform(0.0, end), 6), kind) for kind in self.kinds(OPERATIONS | FAULTS, more)
        ]
        return tuple(sorted(acts, key=lambda act: act.at))

    def setting_of_figures(self) -> Setting:
        """Fast, so that what stands in its order happens in it; and what is lost, a figure loses."""
        draw = self.draw
        low = draw.choice([0.001, 0.01])
        return replace(
            self.setting(),
            latency=(low, low + draw.choice([0.002, 0.01])),
            loads=(0.01, draw.choice([0.05, 0.2])),
            hint_delay=(low, low + draw.choice([0.02, 0.1, 0.5])),
            hint_loss=draw.choice([0.0, 0.0, 0.5]),
            cap=100_000,
            key_cap=draw.choice([1, 2, 10_000]) if self.theme == "trimmed" else 10_000,
            l1_size=10,
            rough_syncs=0.0,
            looks=1.0 if self.theme == "looks" else 0.0,
        )

    def kinds(self, weights: dict[str, float], count: int) -> list[str]:
        """*count* of them, in this seed's own mixture."""
        draw = self.draw
        named = THEMES.get(self.theme, weights)
        own = [
            named.get(kind, 0.1 * weight) * draw.choice([0.5, 1, 2] if kind in ALWAYS else [0, 0.3, 1, 1, 3])
            for kind, weight in weights.items()
        ]
        return draw.choices(list(weights), own if any(own) else list(weights.values()), k=count)

    def act(self, at: float, kind: str) -> Act:
        draw = self.draw
        who = draw.randrange(PROCESSES)
        if self.favours is not None and kind == "read" and draw.random() < 0.8:
            who = self.favours
        args = self.args(kind)
        mishaps = self.mishaps() if kind in OPERATIONS else ()
        return Act(at, kind, who, args, draw.getrandbits(32), mishaps)

    def args(self, kind: str) -> Args:
        draw = self.draw
        some: dict[str, Callable[[], Args]] = {
            "read": lambda: (draw.choice(self.keys), draw.random() < 0.4),
            "poll": lambda: (
                draw.choice(self.keys),
                draw.random() < 0.7,
                draw.choice([0.05, 0.05, 0.5] if self.theme == "failover" else [0.05, 0.2, 0.5]),
                draw.choice([8, 20, 30]),
            ),
            "get": lambda: (draw.choice(["a", "b", "s", "s"]),),
            "refresh": lambda: (draw.choice(self.keys),),
            "touch": lambda: (draw.choice(["a", "b", "s"]),),
            "write": self._write,
            "barrier": self._write,
            "causal": lambda: (draw.choice("xy"), draw.randrange(PROCESSES), draw.choice([0.0, 0.1, 1.0])),
            "block": self._block,
            "silence": lambda: (round(draw.uniform(0.5, 1.5 * D), 3), draw.choice(["both", "hints", "data"])),
            "pause": lambda: (round(draw.uniform(0.5, 1.5 * D), 3),),
            "slow": lambda: (round(draw.uniform(0.5, D), 3), draw.choice([0.5, 1.5])),
            "stall": lambda: (round(draw.choice([1.0, 3.0, 12.0]) * draw.random(), 3),),
            "cut": lambda: (draw.choice(["both", "hints"]),),
            "crash": lambda: (round(draw.uniform(0.0, 3.0), 3),),
            "evict": lambda: (draw.choice(EVICTED),),
            "replicate": lambda: (draw.random() < 0.3,),
            "fail_over": lambda: (
                draw.choice([0.0, 0.0, 2.0]),
                draw.choice([(), (), (0,), (1,), (0, 1)]),
                draw.random() < 0.5,
            ),
            "restart": lambda: (draw.choice([0.1, 2.0, 11.0]),),
            "full": lambda: (round(draw.uniform(0.5, 5.0), 3),),
            "forge": lambda: (draw.choice([1, 1, 2, 50]), draw.choice(["t:x", "t:z", "*"])),
            "drop_l1": lambda: (draw.choice(LOADED),),
        }
        return some[kind]() if kind in some else ()

    def _write(self) -> Args:
        """What is written, and how long its writer takes from commit to invalidation."""
        draw = self.draw
        tags, keys = draw.choice(self.tags), draw.choice(self.named)
        gap = draw.choice([0.0, 0.0, 0.01, 0.5])
        return (tags, keys, gap) if tags or keys else (("x",), (), gap)

    def _block(self) -> Args:
        """The tag, how long the block takes, how long its fence stands, whether it waits, how it ends."""
        draw = self.draw
        seconds = round(draw.uniform(0.1, 3.0), 3)
        ends = ["well", "well", "discards"] + ([] if self.calm else ["dies", "dies"])
        stands = draw.choice([1.0, 2.0, 4.0, 25.0, 200.0])
        return draw.choice("xxy"), seconds, stands, draw.random() < 0.2, draw.choice(ends)

    def mishaps(self) -> tuple[Mishap, ...]:
        draw = self.draw
        found: list[Mishap] = []
        if draw.random() < self.rough:
            found.append(mishap_on_the_way(draw) if draw.random() < 0.75 else self._mishap_of_a_plan())
        if draw.random() < self.preempted:
            point = 1 + int(draw.expovariate(0.2))
            found.append(("preempted", point, round(draw.choice([0.05, 0.5, 3.0, D]) * draw.random(), 3)))
        return tuple(found)

    def _mishap_of_a_plan(self) -> Mishap:
        return self.draw.choice([("cancelled", round(self.draw.expovariate(1.0), 3)), ("fails",)])


def mishap_on_the_way(draw: Random) -> Mishap:
    """What goes wrong with one of the first round trips of an operation."""
    turn = int(draw.expovariate(1.0))
    return draw.choice(
        [
            ("lost", turn),
            *[("unanswered", turn)] * 2,
            ("late", turn, round(draw.uniform(0.5, 5.0), 3)),
            *[("slow reply", turn, round(draw.uniform(0.1, 0.95), 3))] * 2,
            ("refused", turn),
            ("split", turn, round(draw.uniform(0.05, 0.9), 3), draw.randint(1, 3)),
        ]
    )


def simpler(setting: Setting) -> list[Setting]:
    """*setting* with one thing less to wonder about, in the order in which they are tried."""
    made = (replace(setting, **{x.name: getattr(Setting(), x.name)}) for x in fields(setting))
    return [other for other in made if other != setting]
