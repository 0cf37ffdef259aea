"""The table and the picture of a whole run, for the documents."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import tiercache
from tests.chaos.run import Result

BEGIN, END = "<!-- made by python -m tests.chaos: -->", "<!-- until here -->"
FLOOR = 0.001  # seconds: the left edge of the picture


@dataclass
class Report:
    seconds: float
    d: float
    results: list[Result]
    sabotaged: list[tuple[str, Result]]  # what was switched off

    def write(self, path: Path) -> None:
        """Put the tables between the marks of *path*, which is made if need be, and the picture beside it."""
        picture = path.with_suffix(".svg")
        text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        path.write_text(f"{before}{BEGIN}\n\n{self._tables(picture.name)}\n{END}{after}")
        self._draw(picture)

    def _tables(self, picture: str) -> str:
        versions = sorted({result.server for result in self.results})
        made = (
            f"{time.strftime('%Y-%m-%d', time.gmtime())}, {_machine()}, Python {platform.python_version()}, "
            f"{', '.join(versions)}, tiercache {tiercache.__version__}. "
            f"D = {self.d:g} s, {self.seconds:g} s a nemesis and more where one takes long."
        )
        table = [
            "| nemesis | what is done | strikes | reads | writes | worst staleness | bound | violations |",
            "|---|---|--:|--:|--:|--:|--:|---|",
            *(_row(result, _does(result)) for result in self.results),
        ]
        off = [
            "| switched off | nemesis | strikes | reads | writes | worst staleness | bound | violations |",
            "|---|---|--:|--:|--:|--:|--:|---|",
            *(_row(result, result.name, first=what) for what, result in self.sabotaged),
        ]
        image = f"![Worst staleness by nemesis, and the bound]({picture})"
        return "\n".join([made, "", image, "", *table, "", *off, ""])

    def _draw(self, path: Path) -> None:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        mpl.rcParams["svg.hashsalt"] = "tiercache"  # the same ids each time
        bars = [(r.name, r.verdict.worst, r.verdict.bound, "#1b7837") for r in self.results]
        bars += [
            (f"{what}, {r.name}", r.verdict.worst, r.verdict.bound, "#c51b1b") for what, r in self.sabotaged
        ]
        figure = Figure(figsize=(8.5, 0.8 + 0.27 * len(bars)), layout="constrained")
        axes = figure.subplots()
        for place, (_, worst, bound, colour) in enumerate(reversed(bars)):
            axes.plot(bound, place, "|", color="black", markersize=13, markeredgewidth=2)
            axes.hlines(place, FLOOR, max(worst, FLOOR), color=colour, linewidth=1)
            axes.plot(max(worst, FLOOR), place, "o", color=colour)
        axes.set_yticks(range(len(bars)), [name for name, *_ in reversed(bars)])
        axes.set_xscale("log")
        axes.set_xlim(FLOOR / 1.3, max(30.0, 2 * max(worst for _, worst, *_ in bars)))
        axes.set_xticks([0.001, 0.01, 0.1, 1, 10], ["1 ms or less", "10 ms", "0.1 s", "1 s", "10 s"])
        axes.set_xlabel("the stalest read (dot) and the bound (bar), after the return of an invalidation")
        axes.grid(axis="x", alpha=0.3)
        figure.savefig(path, metadata={"Date": None})


def line(result: Result) -> str:
    """One line for the terminal."""
    verdict = result.verdict
    words = "; ".join([*result.complaints(), violations(result)])
    return (
        f"{result.name:<17} {sum(result.strikes):>5} strikes {verdict.reads:>9,} reads "
        f"{verdict.writes:>5} writes   worst {verdict.worst:6.3f} s of {verdict.bound:.3f} s   {words}"
    )


def violations(result: Result) -> str:
    return ", ".join(f"{count} {name}" for name, count in result.verdict.broken().items()) or "none"


def _row(result: Result, *what: str, first: str = "") -> str:
    verdict = result.verdict
    fields = [
        first or result.name,
        *what,
        f"{sum(result.strikes):,}",
        f"{verdict.reads:,}",
        f"{verdict.writes:,}",
        f"{verdict.worst:.3f} s",
        f"{verdict.bound:.3f} s",
        violations(result),
    ]
    return f"| {' | '.join(fields)} |"


def _does(result: Result) -> str:
    return "; ".join(nemesis.does for nemesis in result.nemeses)


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(each.partition(": ")[2] for each in lines if each.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{os.cpu_count()} cores of {model}"
