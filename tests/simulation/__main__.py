"""`python -m tests.simulation`: many seeds, one seed, or the rules switched off (docs/howto/simulate.md)."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.runs import be_quiet, failures, mutation_table, report, timeline
from tests.simulation.schedule import NAMES, schedule_of

MAX_SHOWN = 3  # failures that are shrunk and printed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument("--seed", type=int, help="run this one only; with --timeline, show all that happens")
    parser.add_argument("--timeline", action="store_true")
    parser.add_argument("--theme", choices=NAMES, default="", help="with --timeline: as if it had this one")
    parser.add_argument("--mutations", action="store_true", help="switch each rule off until it is noticed")
    parser.add_argument("--within", type=int, help="with --mutations: give up after so many seeds each")
    options = parser.parse_args()
    be_quiet()
    if options.mutations:
        return mutations(options.first, options.within, options.jobs)
    if options.seed is not None and options.timeline:
        lines = timeline(schedule_of(options.seed, options.theme))
        print("\n".join(lines))
        return int(lines[-1].startswith("broken"))
    first, seeds = (options.seed, 1) if options.seed is not None else (options.first, options.seeds)
    return many(first, seeds, options.jobs)


def many(first: int, seeds: int, jobs: int) -> int:
    begun, done, shown = time.monotonic(), 0, 0
    for count, failed in failures(first, seeds, jobs):
        done += count
        for failure in failed:
            shown += 1
            print(f"seed {failure.seed} breaks {failure.promise}", flush=True)
            if shown <= MAX_SHOWN:
                print(report(failure), flush=True)
    taken = time.monotonic() - begun
    print(f"{done} seeds from {first} on, {shown} of them broke a promise; {taken:.0f} s, {jobs} at a time")
    return int(shown > 0)


def mutations(first: int, within: int | None, jobs: int) -> int:
    missed = 0
    print("| switched off | breaks | seeds needed | within | of the theme |\n|---|---|---|---|---|")
    for mutation, found in mutation_table(first, within, jobs):
        missed += found is None
        count, promise = found or ("not found", "-")
        limit = within or mutation.within
        print(f"| {mutation.name} | {promise} | {count} | {limit} | {mutation.theme or 'any'} |", flush=True)
    return int(missed > 0)


sys.exit(main())
