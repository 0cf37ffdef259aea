"""A contest as results of the suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.results import Result, percentile
from bench.stampede.field import Contest
from tiercache.cli.stampede.judge import Verdict
from tiercache.cli.stampede.scenarios import Setup

COLUMNS = (
    *("", "loads", "wall, ms", "waited", "p50 over, ms", "p99 over, ms", "max over, ms"),
    *("requests", "errors", "old, ms", "wrong", "missing"),
)
READING = (
    "Medians over the rounds; loads and max are the worst, wrong and missing the sums. `old`: how long after "
    "the invalidation had returned its old value was given."
)
EXAMPLES, WIDTH = 2, 120  # of what was wrong or missing


def tables(contests: Iterable[Contest], setup: Setup, server: str) -> list[Result]:
    return [_table(seen, setup, server) for seen in contests]


def _table(seen: Contest, setup: Setup, server: str) -> Result:
    scenario = seen.scenario
    keys = f", {setup.keys} keys" if scenario.many_keys else ""
    size = f"{setup.processes} x {setup.callers} callers{keys}, {setup.load * 1000:g} ms"
    rounds = max((len(verdicts) for verdicts in seen.verdicts.values()), default=0)
    return Result(
        f"{scenario.name}: {scenario.what} ({size}, rounds: {rounds})",
        COLUMNS,
        [(label, *_row(verdicts)) for label, verdicts in seen.verdicts.items()],
        reading=" ".join([READING, f"On {server}.", *_faults(seen)]),
        unit="ms",
        samples={
            label: [over * 1000 for verdict in verdicts for over in verdict.over]
            for label, verdicts in seen.verdicts.items()
            if any(verdict.over for verdict in verdicts)
        },
        unable=seen.unable,
    )


def _row(verdicts: Sequence[Verdict]) -> list[str | int | float]:
    over = [verdict.over for verdict in verdicts if verdict.over]
    requests = [verdict.requests for verdict in verdicts if verdict.requests is not None]
    return [
        max(verdict.loads for verdict in verdicts),
        median(verdict.wall for verdict in verdicts) * 1000,
        round(median(len(verdict.over) for verdict in verdicts)),
        *(median(percentile(some, percent) for some in over) * 1000 if over else "-" for percent in (50, 99)),
        max(max(some) for some in over) * 1000 if over else "-",
        round(median(requests)) if requests else "-",
        round(median(verdict.errors for verdict in verdicts)),
        max(verdict.old_for for verdict in verdicts) * 1000,
        sum(len(verdict.wrong) for verdict in verdicts),
        sum(len(verdict.missing) for verdict in verdicts),
    ]


def _faults(seen: Contest) -> list[str]:
    """Examples of what was wrong or missing."""
    lines = []
    for label, verdicts in seen.verdicts.items():
        told = [text for verdict in verdicts for text in (*verdict.wrong, *verdict.missing)]
        lines += [f"{label}: {text[:WIDTH]}." for text in told[:EXAMPLES]]
    return lines
