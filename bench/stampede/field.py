"""Who plays, and the rounds in which they take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.contenders.aiocache_on_redis import Aiocache
from bench.contenders.async_lru import AsyncLru
from bench.contenders.cachebox import Cachebox, CacheboxLater
from bench.contenders.cashews_on_redis import CashewsLocked
from bench.contenders.dogpile_on_redis import Dogpile
from bench.contenders.facade import Contender
from bench.contenders.fastapi_cache_on_redis import FastapiCache
from bench.contenders.hand_redis import HandWake
from bench.contenders.py_cachify_on_redis import PyCachify, PyCachifyAsync
from bench.contenders.yokedcache_on_redis import Yokedcache
from bench.runs import Run
from bench.stampede.rivals import Made, unable
from tiercache.cli.stampede.conductor import Conductor
from tiercache.cli.stampede.crew import Callers, StampedeFailed
from tiercache.cli.stampede.judge import Verdict, judge
from tiercache.cli.stampede.orders import WORLDS, World
from tiercache.cli.stampede.scenarios import Scenario, Setup
from tiercache.cli.stampede.stage import Counted, Stage
from tiercache.cli.stampede.subjects import MakeSubject, Tiercache, Unfit

RIVALS: tuple[type[Contender], ...] = (
    *(HandWake, CashewsLocked, Aiocache, Dogpile, PyCachify, PyCachifyAsync),
    *(Yokedcache, FastapiCache, AsyncLru, CacheboxLater, Cachebox),
)


@dataclass(frozen=True)
class Entrant:
    """A contender in one world."""

    name: str
    world: World
    make: MakeSubject
    counted: Counted
    kind: type[Contender] | None = None  # of a rival

    @property
    def label(self) -> str:
        return f"{self.name}, {self.world}"

    def unable(self, scenario: Scenario) -> str:
        """Why it cannot play *scenario*; "" if it may try."""
        if self.world not in scenario.worlds:
            return "a thread that waits cannot give up"
        return unable(self.kind, scenario) if self.kind is not None else ""


@dataclass
class Contest:
    """What came of one scenario: verdicts by label, and why there are none."""

    scenario: Scenario
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> list[Verdict]:
        """Those on tiercache."""
        return [one for label in self._labels() for one in self.verdicts.get(label, ())]

    @property
    def lacks_us(self) -> bool:
        """Whether tiercache should have played, and did not to the end."""
        return any(label in self.unable for label in self._labels())

    def _labels(self) -> list[str]:
        return [one.label for one in own(WORLDS) if one.world in self.scenario.worlds]


def own(worlds: Sequence[World]) -> list[Entrant]:
    return [Entrant("tiercache", world, Tiercache, "round trips") for world in worlds]


def entrants(run: Run, worlds: Sequence[World]) -> list[Entrant]:
    rivals = [
        Entrant(kind.name, "tasks" if kind.is_async else "threads", Made(kind), "commands", kind)
        for kind in run.only(RIVALS)
    ]
    return [*own(worlds), *rivals]


def contest(
    run: Run,
    stage: Stage,
    scenarios: Iterable[Scenario],
    setup: Setup,
    worlds: Sequence[World] = ("tasks", "threads"),
) -> list[Contest]:
    """All entrants in all scenarios; in each round they take turns, in the same processes."""
    field = entrants(run, worlds)
    with ExitStack() as ends:
        ends.callback(stage.clear, run.prefix)
        crew = Crew(run, stage, setup)
        ends.callback(crew.close)
        return [crew.play(scenario, field) for scenario in scenarios]


class Crew:
    """The processes, made anew where a contender has spoiled them."""

    def __init__(self, run: Run, stage: Stage, setup: Setup) -> None:
        self._run, self._stage, self._setup = run, stage, setup
        self._callers = Callers(setup.processes)

    def close(self) -> None:
        self._callers.close()

    def play(self, scenario: Scenario, field: Sequence[Entrant]) -> Contest:
        seen = Contest(scenario, unable=dict(self._run.absent))
        for one in field:
            if reason := one.unable(scenario):
                seen.unable[one.label] = reason
        able = [one for one in field if one.label not in seen.unable]
        rounds = 1 if self._run.quick or self._run.tiny else scenario.rounds
        for number, turn in enumerate(self._run.turns(able, rounds, scenario.name)):
            for one in turn:
                if one.label not in seen.unable:
                    self._take_turn(scenario, one, number, seen)
        return seen

    def _take_turn(self, scenario: Scenario, one: Entrant, number: int, seen: Contest) -> None:
        label = f"{self._run.prefix}-{''.join(c for c in one.name if c.isalnum())}"
        conductor = Conductor(self._callers, self._stage, self._setup, one.make, label, self._step(one))
        try:
            for observed in conductor.play(scenario, one.world, [number]):
                verdict = judge(observed, counted=one.counted)
                seen.verdicts.setdefault(one.label, []).append(verdict)
        except Unfit as reason:
            seen.unable[one.label] = str(reason)
        except StampedeFailed as failure:
            seen.unable[one.label] = str(failure).strip().splitlines()[-1]
            self._callers.close()
            self._callers = Callers(self._setup.processes)

    def _step(self, one: Entrant) -> Callable[[str], None]:
        return lambda text: self._run.step(f"{one.name}: {text}")
