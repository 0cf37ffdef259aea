"""What a question answers with: tables that keep the raw samples and say how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

SCALES = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0}


@dataclass(frozen=True)
class Result:
    """One table of results; cells are text or numbers.

    `samples` are the raw figures in `unit`, by contender or by "contender / case". `unable` says of each
    contender that is not in the table why it is not. A chart of "bars" draws the median of the samples
    with their range, "spread" every sample, "lines" the rows: the first column is x, the others are lines.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | int | float]]
    reading: str = ""
    unit: str = ""
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    unable: Mapping[str, str] = field(default_factory=dict)
    chart: Literal["bars", "spread", "lines", "none"] = "bars"
    log: bool = False

    def __str__(self) -> str:
        lines = [self.columns, *([shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        table = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        missing = [f"{name}: {why}" for name, why in self.unable.items()]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in [*table, *missing])])


def against(
    title: str,
    times: Mapping[str, Sequence[float]],
    *,
    calls: int,
    unit: str,
    base: str | None = None,
    **more: Any,
) -> Result:
    """A table of the *times*, in seconds for so many *calls* each, as multiples of the *base*'s.

    `base` None is the first contender. `x` is the median of the ratios within each round: what a busy
    machine does to one, it does to both. `more` goes to the Result as it is.
    """
    if not times:
        return Result(title, ("",), [], chart="none", **more)
    scale = SCALES[unit] / calls
    floor = times[base] if base is not None else next(iter(times.values()))
    samples = {name: [taken * scale for taken in some] for name, some in times.items()}
    rows = [
        (
            name,
            min(some),
            median(some),
            f"{significant(min(some))} to {significant(max(some))}",
            f"{median(own / other for own, other in zip(times[name], floor, strict=True)):.2f} x",
        )
        for name, some in samples.items()
    ]
    columns = ("", f"best, {unit}", f"median, {unit}", f"range, {unit}", "x")
    return Result(title, columns, rows, unit=unit, samples=samples, **more)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest of *values* that at least *percent* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def significant(number: float) -> str:
    """*number* with three digits that count, or all of those before the point."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    return f"{number:,.{max(0, 2 - math.floor(math.log10(abs(number))))}f}"


def shown(cell: str | int | float) -> str:
    """A cell as a person reads it."""
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else significant(cell)
