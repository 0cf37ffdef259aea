"""Many seeds, in several processes; and how many each mutation takes."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation.checker import Violation
from tests.simulation.mutations import Mutation
from tests.simulation.off_elsewhere import OF_BARRIERS, OF_FENCES, OF_THE_SERVER
from tests.simulation.off_in_loads import OF_LOADS
from tests.simulation.off_in_looks import OF_LOOKS
from tests.simulation.off_in_the_core import OF_THE_CORE
from tests.simulation.schedule import Schedule, schedule_of
from tests.simulation.shrink import broken, shrunk
from tests.simulation.world import World

Found = tuple[int, str] | None  # how many seeds it took, and the promise that broke
MUTATIONS = (*OF_THE_CORE, *OF_LOADS, *OF_LOOKS, *OF_FENCES, *OF_BARRIERS, *OF_THE_SERVER)
BATCH = 50  # seeds a job takes at a time


@dataclass(frozen=True, slots=True)
class Failure:
    seed: int
    promise: str


def failures(first: int, seeds: int, jobs: int) -> Iterator[tuple[int, list[Failure]]]:
    """What breaks, batch by batch: how many seeds each had, and which of them failed."""
    starts = range(first, first + seeds, BATCH)
    batches = [(start, min(BATCH, first + seeds - start)) for start in starts]
    if jobs == 1:
        yield from map(_batch, batches)
        return
    with multiprocessing.get_context("fork").Pool(jobs, be_quiet) as pool:
        yield from pool.imap_unordered(_batch, batches)


def be_quiet() -> None:
    """In this process for good: nodes that are refused by a server say so in the log, again and again."""
    logging.getLogger("tiercache").setLevel(logging.CRITICAL)


def _batch(batch: tuple[int, int]) -> tuple[int, list[Failure]]:
    start, count = batch
    found = [(seed, broken(schedule_of(seed))) for seed in range(start, start + count)]
    return count, [Failure(seed, promise) for seed, promise in found if promise is not None]


def timeline(schedule: Schedule) -> list[str]:
    """What happens in *schedule*, line by line; the last line says what it breaks, if anything."""
    lines: list[str] = []
    promise = broken(schedule, lines)
    return [*lines, f"broken: {promise}" if promise else "all promises held"]


def digest(seed: int) -> str:
    """What tells one timeline from another."""
    return hashlib.sha256("\n".join(timeline(schedule_of(seed))).encode()).hexdigest()


def report(failure: Failure) -> str:
    """What to do about *failure*: the least that still fails, and how it goes."""
    whole = schedule_of(failure.seed)
    least = shrunk(whole, failure.promise)
    acts = "\n".join(f"    {act}" for act in least.acts)
    return (
        f"seed {failure.seed} breaks {failure.promise}; {len(least.acts)} of its {len(whole.acts)} acts do:\n"
        f"{acts}\n    {least.setting}\n\n" + "\n".join(timeline(least))
    )


def found_after(mutation: Mutation, first: int = 0, most: int | None = None) -> Found:
    """How many seeds it takes to notice *mutation*, and which promise it breaks; None: not within *most*.

    Any error but a broken promise is the mutation's own fault, and says nothing of the rule.
    """
    with mutation.on():
        for count in range(1, (most or mutation.within) + 1):
            try:
                World(schedule_of(first + count - 1, mutation.theme)).play()
            except Violation as violation:
                return count, violation.promise
    return None


def _found_after(job: tuple[int, int, int | None]) -> tuple[int, Found]:
    place, first, most = job
    return place, found_after(MUTATIONS[place], first, most)


def mutation_table(first: int, most: int | None, jobs: int) -> Iterator[tuple[Mutation, Found]]:
    work = [(place, first, most) for place in range(len(MUTATIONS))]
    with multiprocessing.get_context("fork").Pool(jobs, be_quiet) as pool:
        for place, found in pool.imap(_found_after, work):
            yield MUTATIONS[place], found
