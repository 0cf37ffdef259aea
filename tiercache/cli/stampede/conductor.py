"""Makes a scenario happen: opens the caches, warms them, gives the orders, and brings back what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tiercache.cli.stampede.crew import Callers, StampedeFailed
from tiercache.cli.stampede.orders import Begun, Close, Load, Order, Place, Share, World
from tiercache.cli.stampede.scenarios import Moment, Scenario, Setup
from tiercache.cli.stampede.stage import Stage
from tiercache.cli.stampede.subjects import MakeSubject, Open, Unfit

GRACE = 10.0  # seconds after its deadline within which a process must have told what it saw
A_KEY = 0.004  # seconds for each key that is to be hot, in all processes at once
READERS = 50  # keys that a process reads at once before they are hot


@dataclass(slots=True)
class Observed:
    """What was ordered in one round, and what everybody saw of it."""

    scenario: Scenario
    order: Order
    place: Place
    shares: dict[int, Share]  # by process; the first one wrote
    warm: list[Load] = field(default_factory=list)  # before the round
    lost: list[Load] = field(default_factory=list)  # in processes that were killed
    ran: tuple[dict[str, int], dict[str, int]] | None = None  # commands of the server, before and after


class Conductor:
    """Plays scenarios on what *make* makes; *run* is part of the name of every key."""

    def __init__(
        self,
        callers: Callers,
        stage: Stage,
        setup: Setup,
        make: MakeSubject,
        run: str,
        step: Callable[[str], None],
    ) -> None:
        self._callers, self._stage, self._setup, self._make = callers, stage, setup, make
        self._run, self._step = run, step

    def play(self, scenario: Scenario, world: World, rounds: Sequence[int]) -> Iterator[Observed]:
        """The rounds of those numbers, one after the other; Unfit where the cache cannot do it."""
        place = Place(
            self._stage.url,
            f"{self._run}-{scenario.name}-{world}",
            scenario.ttl(self._setup),
            scenario.load_timeout(self._setup),
            scenario.max_staleness,
            scenario.early_refresh,
        )
        try:
            self._open(place, world)
            for number in rounds:
                self._step(f"{scenario.name}, {world}, round {number + 1}")
                yield self._round(scenario, place, world, number)
        except Unfit:
            self._callers.ask(Close())
            raise
        self._callers.ask(Close())

    def _open(self, place: Place, world: World, among: list[int] | None = None) -> None:
        for ready in self._callers.ask(Open(self._make, place, world), among).values():
            if ready.unfit:
                raise Unfit(ready.unfit)

    def _round(self, scenario: Scenario, place: Place, world: World, number: int) -> Observed:
        count = self._setup.keys if scenario.many_keys else 1
        keys = tuple(f"{number}:{i}" for i in range(count))
        # Who has seen how long a load takes knows when it is time for the next.
        warm = (
            self._heat(keys, world, self._setup.load * bool(scenario.early_refresh))
            if scenario.is_hot
            else []
        )
        if scenario.forgets:
            self._stage.forget_all(place)
        filled = max((load.ended or 0.0 for load in warm), default=0.0)
        order = scenario.order(self._setup, Moment(world, keys, time.monotonic(), filled))
        observed = Observed(scenario, order, place, {}, warm)
        before = self._stage.commands()
        self._perform(observed, kills=scenario.kills_holder)
        after = self._stage.commands()
        observed.ran = (before, after) if before is not None and after is not None else None
        self._mend(observed, place, world)
        return observed

    def _heat(self, keys: tuple[str, ...], world: World, load: float) -> list[Load]:
        """Let the first process load *keys*, in *load* seconds, and then the others read them."""
        loads: list[Load] = []
        others = list(range(1, len(self._callers)))
        for among in ([0], others):
            now, patience = time.monotonic(), GRACE + A_KEY * len(keys)
            order = Order(world, min(READERS, len(keys)), keys, now, load=load, deadline=now + patience)
            for share in self._callers.ask(order, among, until=order.deadline + GRACE).values():
                loads += share.loads
                for call in share.calls:
                    if call.answer is None:
                        why = call.error or f"no answer within {patience:.0f} s"
                        raise StampedeFailed(f"{call.key} could not be read before the round: {why}")
        return loads

    def _perform(self, observed: Observed, *, kills: bool) -> None:
        order = observed.order
        others = replace(order, drop_at=None, renew_at=None)
        begun: list[tuple[int, Load]] = []

        def hear(number: int, news: Begun) -> None:
            begun.append((number, news.load))
            if kills and len(begun) == 1:
                time.sleep(order.load / 2)
                self._callers.kill(number)

        observed.shares = self._callers.ask(others, first=order, until=order.deadline + GRACE, begun=hear)
        observed.lost = [load for number, load in begun if number not in observed.shares]
        for share in observed.shares.values():
            if share.problem:
                raise Unfit(share.problem)

    def _mend(self, observed: Observed, place: Place, world: World) -> None:
        """Other processes in the place of those that died, or are stuck."""
        for number in range(len(self._callers)):
            share = observed.shares.get(number)
            if share is None or share.is_stuck:
                self._callers.replace(number)
                self._open(place, world, [number])
