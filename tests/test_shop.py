"""The example shop, a short form of it: four workers under load, every answer checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.shop.history import History

ROOT = Path(__file__).parent.parent


def load(*options: str) -> str:
    """What a short run prints; it found nothing wrong."""
    command = [sys.executable, "-m", "examples.shop.load", "--workers", "2", "--seconds", "1.5", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)  # four processes begin, twice
def test_the_shop_saves_queries_and_shows_nothing_that_is_too_old() -> None:
    assert re.search(r"^violations +0 +0$", load("--driver", "asyncpg"), re.MULTILINE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("driver", ["psycopg", "aiosqlite"])
def test_it_runs_on_another_driver(driver: str) -> None:
    assert re.search(r"^violations +0$", load("--driver", driver, "--cached-only"), re.MULTILINE)


def test_an_answer_that_is_too_old_is_a_violation() -> None:
    history = History()
    history.wrote("products/7", 1, begun=10.0, done=10.1)
    history.read("products/7", 0, sent=11.2, received=11.3)

    assert history.judge({"products/7": 1}, 1.0, 6.0).violations == [
        "products/7: version 0 was shown 1.100 s after 1"
    ]


def test_an_answer_may_be_as_old_as_the_bound_of_who_wrote_what_it_misses() -> None:
    history = History()
    history.wrote("products/7", 1, begun=10.0, done=10.1, outside=True)
    history.read("products/7", 0, sent=11.2, received=11.3)

    verdict = history.judge({"products/7": 1}, 1.0, 6.0)

    assert (verdict.violations, round(verdict.worst_outside, 3), verdict.worst) == ([], 1.1, 0.0)


def test_an_answer_from_before_its_write_is_a_violation() -> None:
    history = History()
    history.wrote("products/7", 1, begun=10.0, done=10.1)
    history.read("products/7", 1, sent=9.8, received=9.9)

    assert history.judge({"products/7": 1}, 1.0, 6.0).violations == [
        "products/7: version 1 was shown before anybody wrote it"
    ]


def test_a_write_that_nobody_logged_is_a_violation() -> None:
    assert History().judge({"products/7": 1}, 1.0, 6.0).violations == [
        "products/7: the log of writes misses some of 1 versions"
    ]
