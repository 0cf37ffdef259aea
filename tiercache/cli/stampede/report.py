"""The table that a person reads, and the samples that a program does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tiercache.cli.stampede.judge import Verdict
from tiercache.cli.stampede.orders import World
from tiercache.cli.stampede.scenarios import Scenario, Setup

OPENING = """\
Stampede: {processes} processes x {callers} callers, a loader of {load:g} ms; Redis {version} at {url}
"""

READING = """
Callers are tasks of an event loop, threads, or half of each; every answer is checked.

  loads     runs of the loader; 1 is the least, {keys:,} for the keys of a restart
  wall      ms until the last of those who waited had an answer
  waited    callers who had to wait for a load
  over      ms they waited beyond the time of one load, p50, p99 and max; their start-up is in it
  requests  to Redis, as it counts them: a script call is one, and so is a pipeline; connecting,
            loading scripts and the syncs that come with time are not in it
  errors    callers who got the loader's error, or a timeout where it hung: rightly
  wrong     answers that were of another key, older than promised, or made up
  missing   callers with no answer, or an error where a value was due
Medians over the rounds; loads and max are the worst."""

HEADINGS = (
    "",
    "callers",
    "loads",
    "wall",
    "waited",
    "p50",
    "p99",
    "max",
    "requests",
    "errors",
    "wrong",
    "missing",
)
EXAMPLES = 3  # of what went wrong


@dataclass(slots=True)
class Played:
    """The rounds of a scenario in one world."""

    scenario: Scenario
    world: World
    rounds: list[Verdict]

    @property
    def is_right(self) -> bool:
        return all(verdict.is_right for verdict in self.rounds)


def opening(setup: Setup, version: str, url: str) -> str:
    return OPENING.format(
        processes=setup.processes, callers=setup.callers, load=setup.load * 1000, version=version, url=url
    )


def table(played: Iterable[Played]) -> str:
    """One line a scenario and world, what the scenario is above its lines, and what is to be said below."""
    rows: list[Sequence[str] | str] = [HEADINGS]
    last = None
    for one in played:
        if one.scenario is not last:
            rows.append(f"{one.scenario.name}: {one.scenario.what}")
            last = one.scenario
        rows.append(_row(one))
    lines = [row for row in rows if not isinstance(row, str)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(HEADINGS))]
    return "\n".join(
        row
        if isinstance(row, str)
        else "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def reading(setup: Setup) -> str:
    return READING.format(keys=setup.keys)


def notes(played: Sequence[Played]) -> str:
    """What the table has no column for."""
    changed = [one for one in played if one.scenario.event == "change"]
    if not changed:
        return ""
    old = max(verdict.old_for for one in changed for verdict in one.rounds)
    return (
        f"After the invalidation had returned, other processes gave the old value for {old * 1000:.1f} ms at "
        f"most; {changed[0].scenario.max_staleness:g} s are promised."
    )


def verdict(played: Sequence[Played]) -> str:
    """The last sentence."""
    rounds = [verdict for one in played for verdict in one.rounds]
    wrong, missing = sum(len(v.wrong) for v in rounds), sum(len(v.missing) for v in rounds)
    excess = sum(len(v.excess) for v in rounds)
    if not (wrong or missing or excess):
        return "No answer was wrong, none is missing, and no key was loaded too often."
    lines = [
        f"{wrong} answers were WRONG, {missing} are MISSING, {excess} keys were loaded TOO OFTEN, as when"
    ]
    for one in played:
        told = [text for v in one.rounds for text in (*v.wrong, *v.missing, *v.excess)]
        lines += [f"  {one.scenario.name}, {one.world}: {text}" for text in told[:EXAMPLES]]
    return "\n".join(lines)


def samples(played: Iterable[Played], setup: Setup, version: str) -> dict[str, Any]:
    """Everything in seconds, each round by itself."""
    return {
        "processes": setup.processes,
        "callers": setup.callers,
        "keys": setup.keys,
        "load": setup.load,
        "redis": version,
        "played": [
            {
                "scenario": one.scenario.name,
                "callers": one.world,
                "rounds": [
                    {name: getattr(verdict, name) for name in Verdict.__slots__} for verdict in one.rounds
                ],
            }
            for one in played
        ],
    }


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest of *values* that at least *percent* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _row(one: Played) -> Sequence[str]:
    rounds = one.rounds
    over = [
        _ms([percentile(verdict.over, percent) for verdict in rounds if verdict.over]) for percent in (50, 99)
    ]
    worst = max((max(verdict.over) for verdict in rounds if verdict.over), default=None)
    requests = [verdict.requests for verdict in rounds if verdict.requests is not None]
    return (
        "",
        one.world,
        f"{max(verdict.loads for verdict in rounds):,}",
        _ms([verdict.wall for verdict in rounds]),
        f"{median(len(verdict.over) for verdict in rounds):,.0f}",
        *over,
        "-" if worst is None else f"{worst * 1000:,.1f}",
        f"{median(requests):,.0f}" if requests else "-",
        f"{median(verdict.errors for verdict in rounds):,.0f}",
        f"{sum(len(verdict.wrong) for verdict in rounds)}",
        f"{sum(len(verdict.missing) for verdict in rounds)}",
    )


def _ms(seconds: Sequence[float]) -> str:
    return f"{median(seconds) * 1000:,.1f}" if seconds else "-"
