"""`python -m tests.chaos`: real processes under real faults, every read judged.

    python -m tests.chaos                              every nemesis for 20 s, D = 1 s; a quarter of an hour
    python -m tests.chaos --short                      the same for 2 s, D = 0.5 s, several in one run
    python -m tests.chaos --only half-open --seconds 60
    python -m tests.chaos --out docs/explanation/chaos.md

Exit status: 0 no guarantee was broken, and the runs with a rule switched off did break one;
1 otherwise, or where a nemesis never struck, or too little was read or written to prove anything.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tests import servers
from tests.chaos import sabotage
from tests.chaos.nemeses import NEMESES
from tests.chaos.report import Report, line
from tests.chaos.run import Result, run
from tests.chaos.world import Nemesis

BY_NAME = {nemesis.name: nemesis for nemesis in NEMESES}
SABOTAGED: tuple[tuple[str, Callable[[], None], str], ...] = (
    ("lease off", sabotage.no_lease, "half-open"),
    ("tenure check off", sabotage.no_tenure, "old-snapshot"),
    ("token at store time", sabotage.token_at_store, "none"),
    ("fence off", sabotage.no_fence, "kill-writer"),
)
GUARANTEES = ("G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8")
ENOUGH = 4.0  # seconds after which what is switched off has shown
SHOWN = 5  # violations of a run that are told in words


def main() -> int:
    told = _arguments()
    report = Report(told.seconds, told.max_staleness, [], [])
    how: dict[str, Any] = {
        "seconds": told.seconds,
        "d": told.max_staleness,
        "seed": told.seed,
        "binary": servers.oldest_supported() if told.oldest else servers.newest(),
    }
    failures: list[str] = []
    for several in runs_of([BY_NAME[name] for name in told.only or BY_NAME], together=told.short):
        result = run(several, **how)
        print(line(result), flush=True)
        _tell(result)
        report.results.append(result)
        failures += result.complaints()
        failures += [f"{result.name}: {name} was broken" for name in result.verdict.broken()]
    if not told.only:
        failures += _unchecked(report.results)
    for what, off, name in SABOTAGED:
        if not told.only or name in told.only:
            longer = {**how, "seconds": max(told.seconds, ENOUGH)}
            result = run([BY_NAME[name]], sabotage=off, **longer)
            print(f"{what}: {line(result)}", flush=True)
            report.sabotaged.append((what, result))
            if not result.verdict.violations:
                failures.append(f"{what}: the checker did not notice")
    if told.out is not None:
        report.write(told.out)
    print("\n".join(["FAILED", *failures] if failures else ["all guarantees held"]))
    return 1 if failures else 0


def runs_of(nemeses: list[Nemesis], *, together: bool) -> Iterator[list[Nemesis]]:
    """Which nemeses make one run: each by itself, or *together* all that ask for the same."""
    if not together:
        yield from ([nemesis] for nemesis in nemeses)
        return

    def asks_for(nemesis: Nemesis) -> str:
        return repr((nemesis.site.__name__, nemesis.settings, nemesis.terms, nemesis.lock))

    for _, alike in groupby(sorted(nemeses, key=asks_for), asks_for):
        yield list(alike)


def _unchecked(results: list[Result]) -> list[str]:
    checked: Counter[str] = Counter()
    for result in results:
        checked.update(result.verdict.checked)
    return [f"nothing was there to break {name}" for name in GUARANTEES if not checked[name]]


def _tell(result: Result) -> None:
    for violation in sorted(result.verdict.violations, key=lambda each: -each.late)[:SHOWN]:
        print(f"  {violation.guarantee}: {violation.words}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, help="of each nemesis; 20, or 2 with --short")
    parser.add_argument("--max-staleness", type=float, metavar="D", help="seconds; 1, or 0.5 with --short")
    parser.add_argument("--only", action="append", choices=BY_NAME, metavar="NAME", help="may be given again")
    parser.add_argument(
        "--short", action="store_true", help="for CI: nemeses that ask for the same in one run"
    )
    parser.add_argument("--oldest", action="store_true", help="on a 6.2 instead of the newest server found")
    parser.add_argument("--seed", type=int, default=1, help="of what is chosen by chance (%(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="a .md file for the tables; a picture beside it"
    )
    told = parser.parse_args()
    told.seconds = told.seconds or (2.0 if told.short else 20.0)
    told.max_staleness = told.max_staleness or (0.5 if told.short else 1.0)
    return told


if __name__ == "__main__":
    sys.exit(main())
