"""`python -m bench.stampede`: every scenario, against every rival, in your own numbers."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import asdict

from bench.runs import Run
from bench.stampede.field import contest
from bench.stampede.tables import tables
from tiercache.cli.stampede.command import add_options, options_of
from tiercache.cli.stampede.orders import WORLDS
from tiercache.cli.stampede.run import Progress
from tiercache.cli.stampede.stage import OwnStage, Stage


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.stampede", description=__doc__)
    add_options(parser)
    options = options_of(parser.parse_args())
    progress = Progress(sys.stderr)
    run = Run(quick=options.is_quick, redis=options.url, progress=progress)
    with closing(Stage(options.url) if options.url else OwnStage()) as stage:
        results = tables(contest(run, stage, options.scenarios, options.setup, WORLDS), options.setup)
    progress("")
    print(*(f"{result}\n{result.reading}\n" for result in results), sep="\n")
    if options.samples is not None:
        options.samples.write_text(json.dumps([asdict(result) for result in results]) + "\n")
    return 0


if __name__ == "__main__":  # not in the processes of callers, which import this module again
    sys.exit(main())
