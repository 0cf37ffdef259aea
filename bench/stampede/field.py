"""Who plays, and the rounds in which they take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.contenders.aiocache_on_redis import Aiocache
from bench.contenders.async_lru import AsyncLru
from bench.contenders.cachebox import Cachebox, CacheboxLater
from bench.contenders.cachetools import CachetoolsCondition, CachetoolsLater
from bench.contenders.cashews_on_redis import CashewsEarly, CashewsLocked
from bench.contenders.coredis_tracking import Coredis
from bench.contenders.dogpile_on_redis import Dogpile, DogpileEarly
from bench.contenders.facade import Contender
from bench.contenders.fastapi_cache_on_redis import FastapiCache
from bench.contenders.glide_client_side import Glide
from bench.contenders.hand_redis import HandRedis, HandRedisAsync, HandWake
from bench.contenders.lru_cache import LruCache, LruCacheLater
from bench.contenders.py_cachify_on_redis import PyCachifyLocked, PyCachifyLockedAsync
from bench.contenders.redis_py_client_side import RedisPyClientSide
from bench.contenders.theine import Theine, TheineLater
from bench.contenders.yokedcache_on_redis import Yokedcache, YokedcacheEarly
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
    *(HandWake, HandRedisAsync, HandRedis),  # the bounds: what is possible, and no protection at all
    *(CashewsLocked, Aiocache, PyCachifyLockedAsync, Yokedcache, FastapiCache, Coredis, Glide),
    *(Dogpile, PyCachifyLocked, RedisPyClientSide),
    *(AsyncLru, CacheboxLater, TheineLater, LruCacheLater, CachetoolsLater),
    *(Cachebox, Theine, CachetoolsCondition, LruCache),
)
# Who plays instead where what is hot is to be loaded before it expires; the others have nothing for that.
EARLY: dict[type[Contender], type[Contender]] = {
    CashewsLocked: CashewsEarly,
    Dogpile: DogpileEarly,
    Yokedcache: YokedcacheEarly,
}


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

    def unable(self, scenario: Scenario, *, quick: bool) -> str:
        """Why it cannot play *scenario*; "" if it may try."""
        if self.world not in scenario.worlds:
            early = "tasks and threads have a function each, which learns nothing of the other's loads"
            return early if scenario.early_refresh else "a thread that waits cannot give up"
        if self.kind is None:
            return ""
        if quick and self.kind is RedisPyClientSide:
            return "not in a quick run: its threads that miss one key together wait for its timeout of 5 s"
        if scenario.early_refresh and self.kind not in EARLY.values():
            return "no early refresh"
        return unable(self.kind, scenario)


@dataclass
class Contest:
    """What came of one scenario: verdicts by label, and why there are none."""

    scenario: Scenario
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)  # left callers without an answer, and plays no more

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


def entrants(run: Run, worlds: Sequence[World], *, early: bool) -> list[Entrant]:
    rivals = [
        Entrant(kind.name, "tasks" if kind.is_async else "threads", Made(kind), "commands", kind)
        for kind in run.only(EARLY.get(kind, kind) if early else kind for kind in RIVALS)
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
    with ExitStack() as ends:
        ends.callback(stage.clear, run.prefix)
        crew = Crew(run, stage, setup)
        ends.callback(crew.close)
        return [
            crew.play(scenario, entrants(run, worlds, early=bool(scenario.early_refresh)))
            for scenario in scenarios
        ]


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
            if reason := one.unable(scenario, quick=self._run.quick):
                seen.unable[one.label] = reason
        able = [one for one in field if one.label not in seen.unable]
        rounds = 1 if self._run.quick or self._run.tiny else scenario.rounds
        for number, turn in enumerate(self._run.turns(able, rounds, scenario.name)):
            for one in turn:
                if one.label not in seen.unable and one.label not in seen.given_up:
                    self._take_turn(scenario, one, number, seen)
        return seen

    def _take_turn(self, scenario: Scenario, one: Entrant, number: int, seen: Contest) -> None:
        label = f"{self._run.prefix}-{''.join(c for c in one.name if c.isalnum())}"
        conductor = Conductor(self._callers, self._stage, self._setup, one.make, label, self._step(one))
        try:
            for observed in conductor.play(scenario, one.world, [number]):
                verdict = judge(observed, counted=one.counted)
                seen.verdicts.setdefault(one.label, []).append(verdict)
                if verdict.missing:
                    seen.given_up.add(one.label)
        except Unfit as reason:
            seen.unable[one.label] = str(reason)
        except StampedeFailed as failure:
            seen.unable[one.label] = str(failure).strip().splitlines()[-1]
            self._callers.close()
            self._callers = Callers(self._setup.processes)

    def _step(self, one: Entrant) -> Callable[[str], None]:
        return lambda text: self._run.step(f"{one.name}: {text}")
