"""`python -m bench.report [JSON]`: draws what a run measured as one page that needs nothing else.

It measures nothing: the same JSON gives the same page. Where none is named, the newest whole run of
build/bench, or the newest of all where none is whole.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bench.__main__ import FOLDER, QUESTIONS
from bench.charts import drawn, is_a_rival, is_ours, multiple_of, png, result_of, svg
from bench.results import Result, shown
from bench.scales import TIMES, with_unit

PAGE = Path(__file__).with_name("report.html")
CSS = Path(__file__).with_name("report.css")
# (question, how its title begins) -> the name of its PNG, for the README and the documents.
PICTURES = {
    ("hit", "hit, def, one int"): "hit",
    ("hit", "hit, async def, one int"): "hit-async",
    ("hit_rate", "Zipf 1.0, "): "hit-rate",
    ("l2", "L2 hit, async def, one caller"): "l2",
    ("l2", "L2 hits, 200 tasks"): "l2-tasks",
    ("stampede", "cold"): "stampede",
    ("delay", "write here to new value there, reader sleeping"): "delay",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("json", nargs="*", type=Path, help="what `python -m bench` saved; of many, one page")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; bench/report.html")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="draw the chosen charts as PNG, too")
    arguments = parser.parse_args()
    sources = arguments.json or [newest(FOLDER)]
    found = together([json.loads(source.read_text()) for source in sources])
    arguments.out.write_text(page(found))
    print(f"{arguments.out}: {arguments.out.stat().st_size // 1000} kB, from {', '.join(map(str, sources))}")
    if arguments.png is not None:
        for path in pictures(found, arguments.png):
            print(path)


def newest(folder: Path) -> Path:
    """The newest run of all questions that was not quick; else the newest. Says what else there was."""
    files = sorted(folder.glob("*.json"), reverse=True)
    if not files:
        raise SystemExit("nothing to draw: `python -m bench` measures first")
    for place, file in enumerate(files):
        if is_whole(json.loads(file.read_text())):
            if place:
                newer = ", ".join(map(str, files[:place]))
                print(f"the newest whole run; newer, but quick or of some questions only: {newer}")
            return file
    print("the newest run; none is of all questions and not quick")
    return files[0]


def is_whole(run: Mapping[str, Any]) -> bool:
    return not run["machine"].get("quick") and run["questions"].keys() >= set(QUESTIONS)


def together(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Runs of some questions each as one; of those that ask the same, the last.

    Each question keeps the machine of its run. That of the last run is the page's.
    """
    found = {
        name: {**entry, "machine": run["machine"]} for run in runs for name, entry in run["questions"].items()
    }
    questions = {name: found[name] for name in QUESTIONS if name in found} | found
    return {"machine": runs[-1]["machine"], "questions": questions}


def page(found: Mapping[str, Any]) -> str:
    """The whole page as text."""
    machine, questions = found["machine"], found["questions"]
    links = "".join(f'<li><a href="#{name}">{escape(name)}</a></li>' for name in questions)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>tiercache, measured</title><style>{CSS.read_text()}</style></head><body>",
            *head(machine, questions),
            f'<nav aria-label="Questions"><ul>{links}</ul></nav><main>',
            *at_a_glance(questions),
            *(line for name, entry in questions.items() for line in section(name, entry, machine)),
            "</main>",
            *foot(machine),
            "</body></html>\n",
        ]
    )


def head(machine: Mapping[str, Any], questions: Mapping[str, Any]) -> Iterator[str]:
    yield "<header><h1>tiercache, measured</h1>"
    yield (
        "<p>Every contender at its best documented setting, in turn, round by round, in one run. "
        "<strong>Compare ratios, not times:</strong> <code>x</code> is the median of the ratios within a "
        "round, so what slows the machine down slows both sides. Dots and bars are medians, their lines "
        "reach from the 5th to the 95th percentile; the tables give the whole range.</p>"
    )
    if machine.get("quick"):
        yield '<p class="failed">A quick run: a few rounds, to see that it works. Its figures are rough.</p>'
    elsewhere = [name for name, entry in questions.items() if otherwise(entry, machine)]
    if elsewhere:
        yield f'<p class="failed">Of several runs, each of which says so: {escape(", ".join(elsewhere))}.</p>'
    facts = facts_of(machine)
    yield f'<dl class="facts">{"".join(map(fact, facts, facts.values()))}</dl>'
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield f'<p class="small">{escape(versions)}</p></header>'


def facts_of(machine: Mapping[str, Any]) -> dict[str, str]:
    return {
        "measured": machine["date"][:16].replace("T", " "),
        "machine": machine["machine"],
        "Python": machine["python"],
        "server": machine["server"],
        "tiercache's hits": machine.get("hit path", "compiled where a compiler was, not noted"),
        "load before / after": f"{machine['load before']} / {machine['load after']}",
    }


def otherwise(entry: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """What is otherwise in the run of this question than at the head of the page; "" if it is that run."""
    own = entry.get("machine", machine)
    if own == machine:
        return ""
    differing = [
        f"{name} {value}" for name, value in facts_of(own).items() if facts_of(machine)[name] != value
    ]
    packages = machine["packages"].items()
    differing += [f"{name} {version}" for name, version in sorted(own["packages"].items() - packages)]
    if own.get("quick") and not machine.get("quick"):
        differing.append("a quick run, whose figures are rough")
    return ", ".join(differing)


def fact(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def at_a_glance(questions: Mapping[str, Any]) -> Iterator[str]:
    """Ours and the nearest rival, wherever a table has multiples and both."""
    rows = [
        (name, result.title, *compared)
        for name, entry in questions.items()
        for result in map(result_of, entry["results"])
        if (compared := ours_and_nearest(result))
    ]
    if not rows:
        return
    yield '<section id="glance"><h2>At a glance</h2>'
    yield "<p>tiercache and the rival nearest to it, as multiples of what is named last. Less is better.</p>"
    yield '<article><div class="scroll"><table><tr><th>what</th><th>tiercache</th><th>nearest rival</th>'
    yield f"<th>its multiple</th><th>1 {TIMES}</th></tr>"
    for name, title, ours, rival, theirs, base in rows:
        won = ' class="won"' if ours <= theirs else ""
        yield f'<tr><td><a href="#{name}">{escape(title)}</a></td><td{won}>{with_unit(ours, "x")}</td>'
        yield f"<td>{escape(rival)}</td><td>{with_unit(theirs, 'x')}</td><td>{escape(base)}</td></tr>"
    yield "</table></div></article></section>"


def ours_and_nearest(result: Result) -> tuple[float, str, float, str] | None:
    """Our multiple, the least rival and its multiple, and what they are multiples of."""
    if "x" not in result.columns:
        return None
    column = result.columns.index("x")
    multiples = {str(row[0]): multiple_of(row[column]) for row in result.rows}
    base = next((name for name, multiple in multiples.items() if multiple == 1.0), "tiercache")
    ours = next((name for name in multiples if is_ours(name)), None)
    rivals = {name: some for name, some in multiples.items() if is_a_rival(name)}
    if is_ours(base) or ours is None or not rivals:
        return None
    nearest = min(rivals, key=lambda name: rivals[name])
    return multiples[ours], nearest, rivals[nearest], base


def section(name: str, entry: Mapping[str, Any], machine: Mapping[str, Any]) -> Iterator[str]:
    question, *paragraphs = [part.strip() for part in entry["question"].strip().split("\n\n")]
    yield f'<section id="{name}"><h2>{code(escape(question))}</h2>'
    yield from map(prose, paragraphs)
    if entry["error"]:
        yield f'<p class="failed">It did not run to its end: {escape(entry["error"])}</p>'
    if other := otherwise(entry, machine):
        yield f'<p class="failed">Of another run: {escape(other)}.</p>'
    yield '<div class="grid">'
    for stored in entry["results"]:
        yield from card(result_of(stored))
    yield f'</div><p class="small">{name}: {entry["seconds"]} s</p></section>'


def prose(paragraph: str) -> str:
    """A paragraph of a docstring; where its lines begin with a dash, a list."""
    text = code(escape(paragraph))
    if not text.startswith("- "):
        return f'<p class="muted">{text}</p>'
    items = "".join(f"<li>{item}</li>" for item in text.removeprefix("- ").split("\n- "))
    return f'<ul class="muted">{items}</ul>'


def code(text: str) -> str:
    """Marks what stands between backquotes."""
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def card(result: Result) -> Iterator[str]:
    figure = drawn(result)
    wide = ' class="wide"' if figure is None and len(result.columns) > 4 else ""
    yield f"<article{wide}><h3>{escape(result.title)}</h3>"
    if result.reading:
        yield f'<p class="reading">{code(escape(result.reading))}</p>'
    if figure is not None:
        yield f'<figure role="img" aria-label="{escape(result.title)}">{svg(figure)}</figure>'
    yield from table(result, folded=figure is not None)
    if result.unable:
        reasons = "".join(
            f"<li><b>{escape(n)}</b>: {code(escape(why))}</li>" for n, why in result.unable.items()
        )
        yield f'<ul class="unable">{reasons}</ul>'
    yield "</article>"


def table(result: Result, *, folded: bool) -> Iterator[str]:
    if not result.rows:
        return
    yield "<details><summary>the figures</summary>" if folded else ""
    cells = "".join(f"<th>{escape(column)}</th>" for column in result.columns)
    yield f'<div class="scroll"><table><tr>{cells}</tr>'
    for row in result.rows:
        ours = ' class="ours"' if is_ours(str(row[0])) else ""
        cells = "".join(f"<td>{escape(shown(cell))}</td>" for cell in row)
        yield f"<tr{ours}>{cells}</tr>"
    yield "</table></div>"
    yield "</details>" if folded else ""


def foot(machine: Mapping[str, Any]) -> Iterator[str]:
    yield "<footer><details><summary>how each contender was set</summary><ul>"
    for name, setting in sorted(machine.get("settings", {}).items()):
        yield f"<li><b>{escape(name)}</b>: <code>{escape(setting)}</code></li>"
    yield "</ul></details><p>Made by <code>make bench</code>; every sample is in build/bench.</p></footer>"


def pictures(found: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    for (name, start), file in PICTURES.items():
        for stored in found["questions"].get(name, {"results": ()})["results"]:
            if stored["title"].startswith(start) and (figure := drawn(result_of(stored))) is not None:
                path = folder / f"bench-{file}.png"
                png(figure, path, stored["title"])
                yield path


if __name__ == "__main__":
    main()
