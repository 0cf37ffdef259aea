"""The axes of a chart: how far they go, where their ticks are, and what a figure is called."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bench.results import Result

GRID = "#d2d4d6"
SLACK = 1.05  # the width of letters in another font than the one that was measured with
UNITS = ("ns", "us", "ms", "s")
TIMES = "\N{MULTIPLICATION SIGN}"


def scale_x(axes: Axes, figures: Sequence[float], unit: str, logarithmic: bool) -> None:
    low, high = min(figures), max(figures)
    if logarithmic:
        axes.set_xscale("log")
        span = max(high / low, 3.0)
        axes.set_xlim(low / span**0.05, low * span**1.05)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, (high or 1.0) * 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, unit, plain=True)))
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.tick_params(axis="x", length=0, which="both")
    axes.set_axisbelow(True)


def make_room(figure: Figure, axes: Axes) -> None:
    """Let the axis go on to the right until what is written beside the figures is inside, with all of it."""
    figure.draw_without_rendering()  # so that the axes have the width that the names leave them
    forth, back = (math.log10, lambda place: 10**place) if axes.get_xscale() == "log" else (float, float)
    width, (low, high) = axes.bbox.width, map(forth, axes.get_xlim())
    for text in axes.texts:
        assert isinstance(text, Annotation)
        value = float(text.xy[0])
        taken = text.get_window_extent().x1 - axes.transData.transform((value, 0.0))[0]
        left = max(0.1 * width, width - SLACK * taken)
        high = max(high, low + (forth(value) - low) * width / left)
    axes.set_xlim(right=back(high))
    decades = high - low if axes.get_xscale() == "log" else 0.0
    if decades < 0.8:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if decades > 1.5 else (1.0, 2.0, 5.0)))


def scale_y(axes: Axes, figures: Sequence[float], result: Result) -> None:
    if result.log and figures and min(figures) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, result.unit, plain=True)))
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)


def with_unit(value: float, unit: str, *, plain: bool = False) -> str:
    """*value* as a person says it: 1,500 us is 1.5 ms. *plain* leaves out zeros, for the ticks of an axis."""
    if unit in UNITS:
        place = UNITS.index(unit)
        while abs(value) >= 1000 and place < len(UNITS) - 1:
            value, place = value / 1000, place + 1
        while 0 < abs(value) < 1 and place > 0:
            value, place = value * 1000, place - 1
        unit = UNITS[place].replace("us", "µs")
    digits = f"{value:,.10g}" if plain else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
    return f"{digits} {TIMES if unit == 'x' else unit}".strip()
