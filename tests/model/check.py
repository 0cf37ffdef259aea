"""Check the models: `python -m tests.model.check [--long] [--only NAME] [--trace] [--markdown]`.

Each configuration is run through TLC, and what comes of it is held against what must: with all its
rules the model holds, and with one of them switched off TLC finds the counterexample. Ends with status
1 if any of them says otherwise. Without a Java it says so and checks nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.model.configuration import Configuration
from tests.model.tlc import HERE, NoTLC, Outcome, TLCFailed, jar, java, run

LONG_MEMORY_MB = 8000
WORTH_AN_ARCHIVE = 4  # short runs; each is half a second shorter with one


def configurations() -> list[Configuration]:
    """All there are, of every module of this folder."""
    found: list[Configuration] = []
    for path in sorted(HERE.glob("configurations_*.py")):
        found += import_module(f"tests.model.{path.stem}").CONFIGURATIONS
    return found


def chosen(all_of_them: Iterable[Configuration], *, long: bool, only: str | None) -> list[Configuration]:
    """Those whose name or module has *only* in it, or all; the long ones if asked for, or named."""
    if only is None:
        return [c for c in all_of_them if c.long == long]
    exact = [c for c in all_of_them if c.name == only]
    return exact or [c for c in all_of_them if only in c.name or only == c.module]


def expected(configuration: Configuration) -> str:
    return f"breaks {configuration.breaks}" if configuration.breaks else "holds"


def found(result: Outcome | TLCFailed) -> str:
    if isinstance(result, TLCFailed):
        return "failed"
    return f"breaks {result.broke}" if result.broke else "holds"


def attempt(
    configuration: Configuration, workers: int, memory_mb: int, options: Sequence[str] = ()
) -> Outcome | TLCFailed:
    try:
        return run(configuration, workers=workers, memory_mb=memory_mb, options=options)
    except TLCFailed as error:
        return error


@contextmanager
def classes_of_tlc(wanted: Sequence[Configuration]) -> Iterator[Sequence[str]]:
    """Options by which Java has the classes of TLC as one run left them: the others begin sooner."""
    brief = next((c for c in wanted if c.breaks), None)
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "classes.jsa"
        if brief is not None and len(wanted) > WORTH_AN_ARCHIVE:
            attempt(brief, 1, 1500, [f"-XX:ArchiveClassesAtExit={archive}"])
        yield [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


def results(
    wanted: Sequence[Configuration], *, workers: int
) -> Iterator[tuple[Configuration, Outcome | TLCFailed]]:
    """Small ones side by side, a worker each, so that their numbers do not change; long ones in turn."""
    small = [c for c in wanted if not c.long]
    with ThreadPoolExecutor(workers) as pool, classes_of_tlc(small) as options:
        yield from zip(small, pool.map(lambda c: attempt(c, 1, 1500, options), small), strict=True)
    for configuration in wanted:
        if configuration.long:
            yield configuration, attempt(configuration, workers, LONG_MEMORY_MB)


def line(configuration: Configuration, result: Outcome | TLCFailed, *, markdown: bool) -> str:
    agreed = found(result) == expected(configuration)
    verdict = found(result) if agreed else f"{found(result)}, and not as it must: {expected(configuration)}"
    states, depth, seconds = (
        (result.states, result.depth, result.seconds) if isinstance(result, Outcome) else (0, 0, 0.0)
    )
    shown = f"{states:,}".replace(",", " ")
    if markdown:
        return f"| {configuration.name} | {verdict} | {shown} | {depth} | {seconds:.0f} s |"
    return f"{configuration.name:<48} {verdict:<24} {shown:>12} {depth:>6} {seconds:>7.1f} s"


def check(wanted: Sequence[Configuration], *, workers: int, trace: bool, markdown: bool) -> int:
    """Run them, print what came of each; how many disagree."""
    if not markdown:
        print(f"{'configuration':<48} {'outcome':<24} {'states':>12} {'depth':>6} {'time':>9}", flush=True)
    disagreed = 0
    for configuration, result in results(wanted, workers=workers):
        print(line(configuration, result, markdown=markdown), flush=True)
        agreed = found(result) == expected(configuration)
        disagreed += not agreed
        if isinstance(result, TLCFailed):
            print(result)
        elif result.trace and (trace or not agreed):
            print(result.trace)
    return disagreed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model.check", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long configurations, not the short ones")
    parser.add_argument("--only", metavar="NAME", help="those of this module, or with this in their name")
    parser.add_argument("--workers", type=int, default=2, help="cores to use (2)")
    parser.add_argument("--trace", action="store_true", help="print the states that lead to what breaks")
    parser.add_argument("--markdown", action="store_true", help="print the table as the docs have it")
    options = parser.parse_args(arguments)
    try:
        java(), jar()
    except NoTLC as error:
        print(f"model: skipped: {error}")
        return 0
    wanted = chosen(configurations(), long=options.long, only=options.only)
    if not wanted:
        print(f"model: no configuration is named {options.only!r}")
        return 1
    disagreed = check(wanted, workers=options.workers, trace=options.trace, markdown=options.markdown)
    print(f"model: {len(wanted) - disagreed} of {len(wanted)} as they must be")
    return 1 if disagreed else 0


if __name__ == "__main__":
    sys.exit(main())
