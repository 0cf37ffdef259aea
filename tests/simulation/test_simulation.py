"""The simulator itself: one seed plays one way, a failure is shrunk, a rule switched off is noticed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.mutations import Mutation
from tests.simulation.runs import MUTATIONS, Failure, digest, found_after, report
from tests.simulation.schedule import schedule_of
from tests.simulation.shrink import broken, shrunk
from tiercache._core import asks, loads

ROOT = Path(__file__).parents[2]
SEEDS = 100  # the first of those that `make simulate` plays
DIGESTS = "from tests.simulation.runs import digest; print(*map(digest, range(20)))"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nodes that are refused by a server say so in the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_seed_breaks_a_promise() -> None:
    broke = {seed: promise for seed in range(SEEDS) if (promise := broken(schedule_of(seed)))}

    assert broke == {}


def test_a_seed_plays_the_same_way_twice() -> None:
    assert [digest(seed) for seed in range(20)] == [digest(seed) for seed in range(20)]


def test_a_seed_plays_the_same_way_whatever_the_hashes_of_strings() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(outputs) == 1


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_rule_switched_off_is_noticed(mutation: Mutation) -> None:
    assert found_after(mutation) is not None, f"not within {mutation.within} seeds"


def of_name(name: str) -> Mutation:
    return next(m for m in MUTATIONS if m.name == name)


def test_a_mutation_leaves_nothing_behind() -> None:
    mutation = of_name("a fill is not compared with the versions")
    seed = found_after(mutation)

    assert seed is not None
    assert broken(schedule_of(seed[0] - 1)) is None


def test_a_mutation_of_what_the_code_no_longer_says_is_an_error() -> None:
    mutation = of_name("no lease for L1")
    gone = Mutation("gone", mutation.module, mutation.function, "no such line", "pass")

    with pytest.raises(LookupError, match="no such line"), gone.on():
        pass


def test_a_mutation_that_cannot_run_is_an_error_and_no_proof() -> None:
    broken_code = Mutation("fails", asks, "ask_l2", "core = tiers.core", "core = tiers.core.no_such")
    elsewhere = Mutation("elsewhere", loads, "ask_l2", "or core.pending or", "or")

    with pytest.raises(AttributeError, match="no_such"):
        found_after(broken_code)
    with pytest.raises(LookupError, match="not of"), elsewhere.on():
        pass


def test_a_failing_schedule_shrinks_to_few_acts_that_still_fail() -> None:
    mutation = of_name("a fill is not compared with the versions")
    found = found_after(mutation)
    assert found is not None
    count, promise = found

    with mutation.on():
        least = shrunk(schedule_of(count - 1), promise)
        still = broken(least)
        said = report(Failure(count - 1, promise))

    assert still == promise
    assert len(least.acts) <= 6
    assert broken(least) is None  # with the rule back in its place
    assert f"broken: {promise}" in said
