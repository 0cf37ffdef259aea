"""Sums of the verdicts, the delays and the tiers: of one second, and of the whole run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tiercache.cli.demo.check import Verdict
from tiercache.cli.demo.messages import Batch, Tiers

NOTHING = Tiers(0, 0, 0, 0)


@dataclass(slots=True)
class Served:
    """By one worker."""

    reads: int = 0  # checked
    worst: float = 0.0  # staleness, in seconds
    tiers: Tiers = NOTHING


@dataclass(slots=True)
class Figures:
    workers: dict[str, Served]
    delays: list[float] = field(default_factory=list)  # while nobody was hurt, in seconds
    delays_under_fault: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, workers: Iterable[str]) -> Figures:
        return cls({name: Served() for name in workers})

    def add(
        self, worker: str, verdicts: list[Verdict], tiers: Tiers, sound: list[float], under_fault: list[float]
    ) -> None:
        served = self.workers[worker]
        served.reads += sum(verdict.run.reads for verdict in verdicts)
        served.worst = max([served.worst, *(verdict.staleness for verdict in verdicts)])
        served.tiers = Tiers(*map(sum, zip(served.tiers, tiers, strict=True)))
        self.delays += sound
        self.delays_under_fault += under_fault

    @property
    def reads(self) -> int:
        return sum(served.reads for served in self.workers.values())

    @property
    def queries(self) -> int:
        return sum(served.tiers.loaded for served in self.workers.values())

    @property
    def saved(self) -> int:
        """Reads that cost the database nothing."""
        return sum(sum(served.tiers) for served in self.workers.values()) - self.queries

    @property
    def worst(self) -> float:
        return max(served.worst for served in self.workers.values())


class Tally:
    """Both sums; *bound* is in seconds."""

    def __init__(self, workers: Iterable[str], bound: float) -> None:
        self._names = list(workers)
        self.bound = bound
        self.whole = Figures.of(self._names)
        self.second = Figures.of(self._names)
        self.breaches: list[Verdict] = []
        self.commits = 0
        self.subscriptions_lost = dict.fromkeys(self._names, 0)
        self._tiers = dict.fromkeys(self._names, NOTHING)

    def add(
        self, worker: str, batch: Batch, verdicts: list[Verdict], delays: tuple[list[float], list[float]]
    ) -> None:
        since = Tiers(*(now - then for now, then in zip(batch.tiers, self._tiers[worker], strict=True)))
        for figures in (self.whole, self.second):
            figures.add(worker, verdicts, since, *delays)
        self.breaches += [verdict for verdict in verdicts if verdict.staleness > self.bound]
        self._tiers[worker] = batch.tiers
        self.subscriptions_lost[worker] = batch.subscriptions_lost

    def take_second(self) -> Figures:
        """The figures since the last call."""
        second, self.second = self.second, Figures.of(self._names)
        return second
