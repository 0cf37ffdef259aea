"""A run from end to end; nothing of it is left, however it ends."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tiercache.cli.stampede import report
from tiercache.cli.stampede.conductor import Conductor
from tiercache.cli.stampede.crew import Callers
from tiercache.cli.stampede.judge import judge
from tiercache.cli.stampede.report import Played
from tiercache.cli.stampede.scenarios import SCENARIOS, Scenario, Setup
from tiercache.cli.stampede.stage import OwnStage, Stage
from tiercache.cli.stampede.subjects import Tiercache


@dataclass(frozen=True, slots=True)
class Options:
    setup: Setup = field(default_factory=Setup)
    url: str | None = None  # of the user's server; None: one of the run's own
    scenarios: tuple[Scenario, ...] = SCENARIOS
    is_quick: bool = False  # one round of each
    samples: Path | None = None  # where to write them, as JSON


class Progress:
    """One line on a terminal that changes, and none elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out if out.isatty() else None

    def __call__(self, text: str) -> None:
        if self._out is not None:
            print(f"\r\033[K{text}", end="", file=self._out, flush=True)


def run(options: Options, out: TextIO, progress: Progress) -> int:
    """The exit status: 0 if every answer was right, 1 if one was not, or a key was loaded too often."""
    setup = options.setup
    with ExitStack() as ends:
        stage = ends.enter_context(closing(OwnStage() if options.url is None else Stage(options.url)))
        print(report.opening(setup, stage.version, stage.shown), file=out, flush=True)
        ends.callback(progress, "")
        progress("starting the processes")
        name = run_name()
        ends.callback(stage.clear, name)
        callers = ends.enter_context(closing(Callers(setup.processes)))
        played = list(play(callers, stage, options, name, progress))
        progress("")
        texts = (report.notes(played), remarks(stage, options), report.verdict(played))
        print(report.table(played), report.reading(setup), sep="\n", file=out)
        print("", *(text for text in texts if text), sep="\n", file=out)
        if options.samples is not None:
            options.samples.write_text(json.dumps(report.samples(played, setup, stage.version)) + "\n")
        return 0 if all(one.is_right for one in played) else 1


def play(
    callers: Callers, stage: Stage, options: Options, name: str, step: Callable[[str], None]
) -> Iterator[Played]:
    """Every scenario in each of its worlds, whose keys have *name* in theirs."""
    conductor = Conductor(callers, stage, options.setup, Tiercache, name, step)
    for scenario in options.scenarios:
        rounds = range(1 if options.is_quick else scenario.rounds)
        for world in scenario.worlds:
            yield Played(scenario, world, [judge(seen) for seen in conductor.play(scenario, world, rounds)])


def run_name() -> str:
    """What is in the name of every key of one run, and of no other."""
    return f"tiercache-stampede-{secrets.token_hex(4)}"


def remarks(stage: Stage, options: Options) -> str:
    """What was done otherwise than one might think."""
    names = {scenario.name for scenario in options.scenarios}
    lines = []
    if "refresh" in names:
        lines.append(
            "In `refresh` one process calls the loader, and then `set` with a token, as a job would."
        )
    if "restart" in names and not stage.is_own:
        lines.append("In `restart` this server was not restarted: the run's own keys were deleted instead.")
    if not stage.is_own:
        lines.append("Requests are those of everybody who uses this server.")
    left_out = [scenario.name for scenario in SCENARIOS if scenario.is_long and scenario.name not in names]
    if options.is_quick and left_out:
        lines.append(
            f"Left out of a quick run, for they take as long as a lock lives: {', '.join(left_out)}."
        )
    return "\n".join(lines)
