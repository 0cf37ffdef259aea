"""`tiercache demo` as a command: its options, and what they may be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tiercache.cli.demo.crew import DemoFailed
from tiercache.cli.demo.run import Options, run

DESCRIPTION = """\
Run a small shop on several processes over SQLite and a Redis of its own: workers serve pages
through the cache, a writer changes rows and invalidates. One worker loses its subscription for
a while, another is stopped. Every read is checked for staleness.
Exit status: 0 no read broke the promise; 1 one did; 2 the demo could not be run."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="see processes agree while things break",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=within(3, 3600, float), default=15.0, help="how long; 3 at least (%(default)g)"
    )
    parser.add_argument(
        "--workers", type=within(2, 32, int), default=4, help="how many; 2 at least (%(default)s)"
    )
    parser.add_argument(
        "--max-staleness",
        type=within(0.2, 60, float),
        default=2.0,
        metavar="SECONDS",
        help="the promise; 0.2 at least (%(default)g)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        return run(Options(args.seconds, args.workers, args.max_staleness), sys.stdout)
    except DemoFailed as error:
        print(f"tiercache demo: {error}", file=sys.stderr)
        return 2


def within(least: float, most: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    """Reads a number of that kind between the two, for argparse."""

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            a_number = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {a_number} from {least:g} to {most:g}, not {text!r}")
        return number

    return parse
