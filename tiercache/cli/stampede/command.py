"""`tiercache bench stampede` as a command: its options, and what they may be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

from tiercache.cli.demo.command import within
from tiercache.cli.stampede.crew import StampedeFailed
from tiercache.cli.stampede.run import Options, Progress, run
from tiercache.cli.stampede.scenarios import SCENARIOS, Setup
from tiercache.cli.stampede.subjects import Unfit

DESCRIPTION = """\
Let many callers in several processes want one thing at once, while it is cold, expires, is
invalidated, or its loader fails, hangs or is killed. Count the loads and the requests, measure
how long the callers wait, and check every answer.

Without --redis the run has a server of its own. With it, nothing is touched on that server but
keys of the run's own, which are deleted at the end; scenarios with a restart delete them, too.

Exit status: 0 every answer was right, and no key was loaded more often than its scenario allows;
1 one was wrong or missing, or loaded too often; 2 the run could not be made.
"""
LISTED = "\n".join(["Scenarios:", *(f"  {scenario.name:9} {scenario.what}" for scenario in SCENARIOS)])


HANGING = 12  # columns before what is said of a scenario


class Filled(argparse.HelpFormatter):
    """A description's paragraphs and items, those that begin with two spaces, as wide as the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            fill(part, width, subsequent_indent=" " * HANGING if part.startswith("  ") else "")
            for part in _parts(text)
        )


def _parts(text: str) -> Iterator[str]:
    """Each paragraph on one line, each item, and "" for what is between two of them."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if paragraph and (not line or line.startswith("  ")):
            yield " ".join(paragraph)
            paragraph.clear()
        if not line or line.startswith("  "):
            yield line
        else:
            paragraph.append(line)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser("bench", help="measure what your own servers do")
    questions = bench.add_subparsers(required=True, metavar="QUESTION")
    parser = questions.add_parser(
        "stampede",
        help="what happens when everybody wants at once what nobody has",
        description=f"{DESCRIPTION}\n{LISTED}",
        formatter_class=Filled,
    )
    add_options(parser)
    parser.set_defaults(run=_run)


def add_options(parser: argparse.ArgumentParser) -> None:
    size, names = Setup(), [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--redis", type=named, metavar="URL", help="your server; else one is started")
    parser.add_argument(
        "--processes", type=within(1, 64, int), help=f"how many; 64 at most ({size.processes}; quick: 4)"
    )
    parser.add_argument(
        "--callers",
        type=within(1, 1000, int),
        help=f"in each process; 1000 at most ({size.callers}; quick: 25)",
    )
    parser.add_argument(
        "--keys", type=within(1, 100_000, int), help=f"at a restart ({size.keys}; quick: 100)"
    )
    parser.add_argument(
        "--load",
        type=within(0.01, 5, float),
        metavar="SECONDS",
        help=f"what the loader takes; 0.01 to 5 ({size.load:g}; quick: 0.1)",
    )
    parser.add_argument(
        "--scenario",
        nargs="+",
        choices=names,
        metavar="NAME",
        help="these and no others, of those above; else all",
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller, one round, no scenario that takes long"
    )
    parser.add_argument("--json", type=writable, metavar="FILE", help="write every sample there")


def named(text: str) -> str:
    """A server's URL, which the variable that stands for it in a script did have."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; without --redis a server of the run's own is started")
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes of the command line
        raise argparse.ArgumentTypeError("it has characters that this locale does not read; set LANG=C.UTF-8")
    if text.partition(":")[0] == "memory":
        raise argparse.ArgumentTypeError(
            "memory:// is no server; without --redis one of the run's own is started"
        )
    return text


def writable(text: str) -> Path:
    """A file that samples can go to, which shows before minutes are spent on them; it is there afterwards."""
    path = Path(text)
    try:
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return path


def options_of(args: argparse.Namespace) -> Options:
    standard = Setup(processes=4, callers=25, keys=100, load=0.1) if args.quick else Setup()
    setup = Setup(
        args.processes or standard.processes,
        args.callers or standard.callers,
        args.keys or standard.keys,
        args.load or standard.load,
    )
    scenarios = [
        scenario
        for scenario in SCENARIOS
        if (scenario.name in args.scenario if args.scenario else not (args.quick and scenario.is_long))
    ]
    return Options(setup, args.redis, tuple(scenarios), args.quick, args.json)


def _run(args: argparse.Namespace) -> int:
    try:
        return run(options_of(args), sys.stdout, Progress(sys.stderr))
    except (StampedeFailed, Unfit) as error:
        print(f"tiercache bench stampede: {error}", file=sys.stderr)
        return 2
