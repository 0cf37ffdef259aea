"""What the benchmarks share: candidates timed in turn, and tables of what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Table:
    """One table of results; cells are text or numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | int | float]]

    def __str__(self) -> str:
        lines = [self.columns, *([_shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        # The first column holds names, the others numbers.
        shown = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in shown)])


def against(title: str, times: Mapping[str, Sequence[float]], *, calls: int, unit: str) -> Table:
    """A table of the *times*, in seconds for so many *calls* each, as multiples of the first candidate's.

    `x` is the median of the ratios within each round: what a busy machine does to one, it does to both.
    """
    scale = {"ns": 1e9, "us": 1e6}[unit] / calls
    base = next(iter(times.values()))
    rows = [
        (
            name,
            min(seconds) * scale,
            median(seconds) * scale,
            f"{min(seconds) / min(base):.2f} x",
            f"{median(own / other for own, other in zip(seconds, base, strict=True)):.2f} x",
        )
        for name, seconds in times.items()
    ]
    return Table(title, ("", f"best, {unit}", f"median, {unit}", "best", "x"), rows)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest of *values* that at least *percent* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _shown(cell: str | int | float) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)
