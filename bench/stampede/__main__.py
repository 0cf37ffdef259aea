"""`python -m bench.stampede`: every scenario, against every rival, in your own numbers.

Exit status: 0 tiercache was right; 1 an answer of it was wrong or missing, or it loaded a key too often;
2 the run could not be made, or not with tiercache. What a rival does is in the tables and changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict

from bench.runs import Run
from bench.servers import described
from bench.stampede import stage_at
from bench.stampede.field import Contest, contest
from bench.stampede.tables import tables
from tiercache import TierCacheError
from tiercache.cli import FAILED, INTERRUPTED
from tiercache.cli.stampede.command import LISTED, Filled, add_options, options_of
from tiercache.cli.stampede.orders import WORLDS
from tiercache.cli.stampede.run import Progress


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m bench.stampede",
        description=f"{__doc__}\n{LISTED}",
        formatter_class=Filled,
    )
    add_options(parser)
    options = options_of(parser.parse_args(argv))
    progress = Progress(sys.stderr)
    run = Run(quick=options.is_quick, redis=options.url, progress=progress)
    try:
        with closing(stage_at(options.url)) as stage:
            server = described(stage.url)
            contests = contest(run, stage, options.scenarios, options.setup, WORLDS)
    except TierCacheError as error:
        print(f"python -m bench.stampede: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        progress("")
    results = tables(contests, options.setup, server)
    print(*(f"{result}\n{result.reading}\n" for result in results), sep="\n")
    if options.samples is not None:
        options.samples.write_text(json.dumps([asdict(result) for result in results]) + "\n")
    return status(contests)


def status(contests: Sequence[Contest]) -> int:
    """The exit status, by what became of tiercache."""
    if not all(verdict.is_right for seen in contests for verdict in seen.ours):
        return 1
    return FAILED if any(seen.lacks_us for seen in contests) else 0


if __name__ == "__main__":  # not in the processes of callers, which import this module again
    sys.exit(main())
