"""Draws a Result: as SVG whose colours are CSS variables, so that it serves dark and light, or as PNG.

Ours is drawn in full in the accent, rivals paler in a colour that each keeps throughout, hand-written
bounds in grey.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bench.results import Result, percentile, shown
from bench.scales import GRID, make_room, scale_x, scale_y, with_unit

WIDTH = 4.8  # inches; it is shown as wide as its card: letters of 9 pixels on a phone, of 14 elsewhere
WIDE = 50  # a factor between medians beyond which a linear scale shows the greatest only
POINTS = 240  # of one contender in a "spread", at most
INK, MUTED, OURS = "#101112", "#626466", "#e0457b"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", OURS: "var(--ours)"}
HAND_WRITTEN, CASE = "#8a8f98", "#5f7fb0"
BY_HAND = (
    "bare ",
    "functools",
    "lru_cache",
    "redis-py GET",
    "raw ",
    "exact ",
    "one connection",
    "future ",
    "Belady",
)
FAMILIES = {
    **{"cachebox": "#4c8df6", "cachetools": "#f0883e", "theine": "#9b6df2", "async-lru": "#37b24d"},
    **{"cashews": "#0fa3a3", "aiocache": "#d9a514", "dogpile": "#b07d53"},
    **{"yokedcache": "#74a12e", "coredis": "#c264c9", "valkey-glide": "#5b7fa6", "py-cachify": "#cf6a5f"},
    **{"fastapi-cache2": "#4fb3bf", "redis-py": "#d1495b"},
}
OTHERS = ("#4c8df6", "#f0883e", "#37b24d", "#9b6df2", "#0fa3a3", "#d9a514", "#b07d53")

mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # letters stay letters, in the page's font
        "svg.hashsalt": "tiercache",  # the same ids each time
        "font.size": 8.5,
        "text.color": INK,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def is_ours(name: str) -> bool:
    return name.startswith("tiercache")


def is_a_rival(name: str) -> bool:
    return name.startswith(tuple(FAMILIES)) and not name.startswith(BY_HAND)


def is_a_contender(name: str) -> bool:
    """Ours, a rival or a bound, not a case of one: those keep their order."""
    return is_ours(name) or name.startswith((*BY_HAND, *FAMILIES))


def colour_of(name: str, place: int | None = None) -> str:
    """The colour that a contender has in every chart; *place* tells cases apart where lines cross."""
    if is_ours(name):
        return OURS
    if name.startswith(BY_HAND):
        return HAND_WRITTEN
    found = [colour for family, colour in FAMILIES.items() if name.startswith(family)]
    if found:
        return found[0]
    return CASE if place is None else OTHERS[place % len(OTHERS)]


def drawn(result: Result) -> Figure | None:
    """The chart that *result* asks for; None where there is nothing to draw."""
    if result.chart == "lines":
        return lines(result)
    samples = result.samples or first_figures(result)
    if result.chart == "none" or not any(samples.values()):
        return None
    names = [name for name, some in samples.items() if some]
    if any(map(is_a_contender, names)) and not all(map(is_ours, names)):
        names.sort(key=lambda name: median(samples[name]))
    figure = Figure(figsize=(WIDTH, 0.55 + 0.265 * len(names)), layout="constrained")
    axes: Axes = figure.subplots()
    middles = [median(samples[name]) for name in names]
    logarithmic = min(min(samples[name]) for name in names) > 0 and (
        result.log or max(middles) > WIDE * min(middles)
    )
    told = beside_of(result)
    for place, name in enumerate(reversed(names)):
        draw = spread if result.chart == "spread" else one_bar
        end = draw(axes, place, name, samples[name], logarithmic)
        parts = [with_unit(median(samples[name]), result.unit), *told.get(name, ())]
        write_beside(axes, place, end, name, " \N{MIDDLE DOT} ".join(parts))
    name_rows(axes, list(reversed(names)))
    figures = [value for name in names for value in samples[name]]
    scale_x(axes, figures, result.unit, logarithmic)
    make_room(figure, axes)
    return figure


def first_figures(result: Result) -> dict[str, list[float]]:
    """The first column of numbers, where a result has no samples."""
    for column in range(1, len(result.columns)):
        if all(isinstance(row[column], int | float) for row in result.rows):
            return {str(row[0]): [float(row[column])] for row in result.rows}
    return {}


def beside_of(result: Result) -> dict[str, list[str]]:
    """What is written beside a contender's median: its multiple, and whatever a table says after that."""
    if "x" not in result.columns:
        return {}
    column = result.columns.index("x")
    return {
        str(row[0]): [with_unit(multiple_of(row[column]), "x"), *map(shown, row[column + 1 :])]
        for row in result.rows
    }


def multiple_of(cell: str | int | float) -> float:
    """The number of a cell such as "4.45 x"."""
    return float(str(cell).removesuffix(" x").replace(",", ""))


def one_bar(axes: Axes, place: int, name: str, some: Sequence[float], logarithmic: bool) -> float:
    """The median and the range. On a logarithmic scale a dot: a bar's length would mean nothing there."""
    middle, low, high = median(some), percentile(some, 5), percentile(some, 95)
    colour = colour_of(name)
    if logarithmic:
        axes.hlines(place, low, high, color=colour, alpha=0.4, linewidth=5, clip_on=False)
        axes.plot([middle], [place], "o", color=colour, markersize=9 if is_ours(name) else 7, clip_on=False)
        return high
    axes.barh(place, middle, height=0.62, color=colour, alpha=1.0 if is_ours(name) else 0.8)
    if high > low:
        axes.hlines(place, low, high, color=INK, alpha=0.5, linewidth=1)
    return high


def spread(axes: Axes, place: int, name: str, some: Sequence[float], logarithmic: bool) -> float:
    """Every sample, or every n-th in order, with the median as a bar."""
    ordered, colour = sorted(some), colour_of(name)
    drawn_ones = ordered[:: max(1, len(ordered) // POINTS)]
    heights = [
        place + 0.26 * math.sin(7.3 * number) for number in range(len(drawn_ones))
    ]  # apart, not by chance
    axes.plot(drawn_ones, heights, "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
    axes.vlines(median(some), place - 0.36, place + 0.36, color=INK, linewidth=1.6)
    return drawn_ones[-1]


def write_beside(axes: Axes, place: int, end: float, name: str, text: str) -> None:
    axes.annotate(
        text,
        (end, place),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.8,
        color=OURS if is_ours(name) else MUTED,
        fontweight="bold" if is_ours(name) else "normal",
        in_layout=False,  # make_room() sees to it
    )


def lines(result: Result) -> Figure | None:
    """The first column is x; each other one a line."""
    rows = [row for row in result.rows if not isinstance(row[0], str)]
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes: Axes = figure.subplots()
    xs = [float(row[0]) for row in rows]
    ends: list[tuple[float, str, str]] = []  # the last y, the name, the colour
    for names, ys in alike(result.columns[1:], [row[1:] for row in rows]).items():
        name = names[0]
        colour, ours = colour_of(name, len(ends)), any(map(is_ours, names))
        axes.plot(
            xs,
            ys,
            color=OURS if ours else colour,
            linewidth=2.6 if ours else 1.5,
            marker="o",
            markersize=5 if ours else 3,
            zorder=3 if ours else 2,
            linestyle=(0, (4, 3)) if name.startswith(BY_HAND) and not ours else "solid",
        )
        ends.append((ys[-1], " = ".join(names), OURS if ours else colour))
    if max(xs) > 20 * max(min(xs), 1e-9):
        axes.set_xscale("log")
        axes.set_xticks(xs, [f"{x:,.0f}" for x in xs])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(result.columns[0])
    scale_y(axes, [y for y, _, _ in ends], result)
    legend(figure, ends)
    return figure


def alike(
    names: Sequence[str], rows: Sequence[Sequence[str | int | float]]
) -> dict[tuple[str, ...], list[float]]:
    """The columns of numbers; those that nowhere differ by more than a hundredth are one line."""
    found: list[tuple[list[str], list[float]]] = []
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        if any(isinstance(cell, str) for cell in column):
            continue
        ys = [float(cell) for cell in column]
        for others, theirs in found:
            if all(
                math.isclose(y, other, rel_tol=0.01, abs_tol=1e-9)
                for y, other in zip(ys, theirs, strict=True)
            ):
                others.append(name)
                break
        else:
            found.append(([name], ys))
    return {tuple(some): ys for some, ys in found}


def legend(figure: Figure, ends: Sequence[tuple[float, str, str]]) -> None:
    """The names in the order in which their lines end, the uppermost first."""
    from matplotlib.lines import Line2D

    ordered = sorted(ends, key=lambda end: -end[0])
    handles = [Line2D([], [], color=colour, linewidth=2.4) for _, _, colour in ordered]
    labels = [fill(name, 60) for _, name, _ in ordered]
    found = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=1 if any(" = " in label for label in labels) else 2,
        frameon=False,
        fontsize=7.8,
        handlelength=1.4,
    )
    for text in found.get_texts():
        if is_ours(text.get_text()):
            text.set(color=OURS, fontweight="bold")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for text, name in zip(axes.get_yticklabels(), names, strict=True):
        if is_ours(name):
            text.set(color=OURS, fontweight="bold")


def svg(figure: Figure) -> str:
    """An <svg> element to be put into a page that defines the colours as variables."""
    kept = io.StringIO()
    figure.savefig(kept, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = kept.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text))
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", text)


def png(figure: Figure, path: Path, title: str) -> None:
    """On white, with its title, at twice the size, for a README."""
    figure.suptitle(title, fontsize=9.5, fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


def result_of(stored: Mapping[str, Any]) -> Result:
    """A Result as it was before it became JSON."""
    return Result(**{**stored, "columns": tuple(stored["columns"])})
