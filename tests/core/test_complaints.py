"""What the log is told of troubles: which are one, and when one is told again."""

from __future__ import annotations

import logging
import weakref

import pytest

from tiercache._core.complaints import AGAIN, MOST, Complaints
from tiercache.testing import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def complaints(clock: Clock, caplog: pytest.LogCaptureFixture) -> Complaints:
    caplog.set_level(logging.WARNING)
    return Complaints(clock)


def test_causes_that_differ_in_what_they_quote_are_one(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        complaints.warn("trouble: %s", f"unknown command 'EVALSHA', with args beginning with: 'arg {n}'")

    assert len(caplog.messages) == 1


def test_causes_that_differ_in_numbers_are_one(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        complaints.warn("trouble: %s", TimeoutError(f"no answer within {n}.{n} s"))

    assert len(caplog.messages) == 1


def test_causes_that_alternate_are_told_once_each(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        complaints.warn("trouble: %s", ConnectionError("reset"))
        complaints.warn("trouble: %s", ConnectionError("closed"))

    assert caplog.messages == ["trouble: reset", "trouble: closed"]


def test_causes_of_two_classes_are_two(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.warn("trouble: %s", ConnectionError("lost"))
    complaints.warn("trouble: %s", TimeoutError("lost"))

    assert len(caplog.messages) == 2


def test_a_cause_that_goes_on_is_told_again_after_a_while(
    complaints: Complaints, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        complaints.warn("trouble: %s", "reset")
        clock.advance(AGAIN - 1)
        complaints.warn("trouble: %s", "reset")
        clock.advance(1)

    assert len(caplog.messages) == 2


def test_no_more_than_so_many_causes_are_told_at_once(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(2 * MOST):
        complaints.warn("trouble: %s", "x" * n)

    assert len(caplog.messages) == MOST


def test_what_is_logged_keeps_no_error_nor_what_its_traceback_has(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket, say; a handler may keep its records for long."""

    class Silence(TimeoutError):
        pass

    def meet() -> weakref.ref[Silence]:
        error = Silence("no answer")
        complaints.warn("trouble: %s", error)
        return weakref.ref(error)

    assert meet()() is None
    assert caplog.messages == ["trouble: no answer"]
