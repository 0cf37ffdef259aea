"""`python -m bench [question ...]`: ask the questions, print the tables, keep every sample as JSON."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.contenders import every_contender
from bench.contenders.facade import version_of
from bench.runs import Run, silent
from tiercache import TierCache, embedded
from tiercache.cli import INTERRUPTED
from tiercache.cli.stampede.command import named, writable

QUESTIONS = (
    *("hit", "copies", "hit_rate", "audit", "l2", "steps", "stampede", "delay", "barrier", "fence", "faults"),
    *("memory", "stalls", "tags", "batch", "mixed", "start", "sqlalchemy_entities", "sqlalchemy_writes"),
)
FOLDER = Path("build/bench")
BESIDE = ("redis", "hiredis", "orjson", "anyio")  # what tiercache stands on


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare ratios, not times.")
    parser.add_argument("questions", nargs="*", metavar="question", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="a few rounds; all of them in under two minutes")
    parser.add_argument(
        "--save", type=writable, metavar="FILE", help="where the JSON goes; build/bench/<date>.json"
    )
    parser.add_argument(
        "--redis", type=named, metavar="URL", help="a server of yours; else each question starts its own"
    )
    arguments = parser.parse_args()
    for name in arguments.questions:
        if name not in QUESTIONS:
            parser.error(f"no question is called {name!r}; there are {', '.join(QUESTIONS)}")
    run = Run(quick=arguments.quick, redis=arguments.redis)
    try:
        found = ask(arguments.questions or QUESTIONS, run)
    except KeyboardInterrupt:  # before the first question
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    path = arguments.save or FOLDER / f"{found['machine']['date'].replace(':', '')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nsaved: {path}")
    if len(found["questions"]) < len(arguments.questions or QUESTIONS):
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    failed = [name for name, entry in found["questions"].items() if entry["error"]]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def ask(names: Sequence[str], run: Run) -> dict[str, Any]:
    """What the JSON holds: the machine, and by question its text, its seconds and its results.

    After Ctrl-C, of the questions that were answered until then.
    """
    here = {**machine(), "quick": run.quick, "seed": run.seed, "load before": load()}
    questions = {}
    with progress(names, run) as begin:
        for name in names:
            begin(name)
            try:
                questions[name] = answer(name, run)
            except KeyboardInterrupt:  # what was answered before has taken its time, and is kept
                break
            text = questions[name]["question"].splitlines()[0]
            print(
                f"\n{name}: {text}", *map("\n{}".format, questions[name].pop("shown")), sep="\n", flush=True
            )
    return {"machine": {**here, "load after": load()}, "questions": questions}


def answer(name: str, run: Run) -> dict[str, Any]:
    run.absent.clear()
    begun, results, error, text = time.perf_counter(), [], None, name
    try:
        module = importlib.import_module(f"bench.{name}")
        text = module.__doc__ or name
        results = module.measure(run)
    except Exception as failure:  # the other questions are asked all the same
        error = "".join(traceback.format_exception_only(failure)).strip()
        traceback.print_exc()
    return {
        "question": text,
        "seconds": round(time.perf_counter() - begun, 1),
        "results": [asdict(result) for result in results],
        "error": error,
        "shown": [str(result) for result in results] or [error],
    }


@contextmanager
def progress(names: Sequence[str], run: Run) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, where rich is installed; gives what to call as a question begins."""
    try:
        import rich.progress as bars
        from rich.console import Console
    except ImportError:
        yield silent
        return
    columns: tuple[bars.ProgressColumn, ...] = (
        bars.TextColumn("{task.description:<20}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.fields[step]}"),
    )
    with bars.Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=len(names), step="")
        run.progress = lambda text: bar.update(task, step=text)
        begun: list[str] = []

        def begin(name: str) -> None:
            bar.update(task, completed=len(begun), description=name, step="")
            begun.append(name)

        yield begin
        bar.update(task, completed=len(names), step="")


def machine() -> dict[str, Any]:
    """What the figures depend on: the machine and the versions."""
    with embedded.start() as server:
        redis_server = server.version
    rivals = {package for contender in every_contender() for package in contender.packages}
    versions = {name: version_of(name) for name in ("tiercache", *BESIDE, *sorted(rivals - {"tiercache"}))}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{processor()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "hit path": hit_path(),
        "server": f"{Path(embedded.find_binary()).name} {redis_server}",
        "settings": {
            contender.name: contender.setting for contender in every_contender() if contender.setting
        },
        "packages": {name: version for name, version in versions.items() if version is not None},
    }


def hit_path() -> str:
    """Which half of tiercache's hits is measured."""
    with TierCache("memory://", private=True).sync as cache:
        return cache.health().hit_path


def processor() -> str:
    """Its model, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next(
        (f" of {line.partition(':')[2].strip()}" for line in lines if line.startswith("model name")), ""
    )


def load() -> str:
    return "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg())


if __name__ == "__main__":
    main()
