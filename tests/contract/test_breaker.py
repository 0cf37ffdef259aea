"""The circuit by itself: instants in, leave to try out."""

from __future__ import annotations

import logging

import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as BrokenConnection

from tiercache._transport.breaker import CALLER_GRACE, HEARD_LATELY, LOST_AFTER, PROBE_EVERY, Breaker
from tiercache._transport.replies import SilentlyLost


@pytest.fixture
def opened() -> Breaker:
    """A circuit that opened at the instant 100."""
    breaker = Breaker()
    breaker.failed(100.0, TimeoutError("no answer"))
    return breaker


def test_a_closed_circuit_admits_everybody() -> None:
    breaker = Breaker()

    assert not breaker.is_open
    assert all(breaker.admits(0.0, prober=prober) for prober in (True, False) * 3)


def test_an_open_circuit_knows_why(opened: Breaker) -> None:
    assert opened.is_open
    assert opened.reason == "TimeoutError: no answer"


@pytest.mark.parametrize("prober", [True, False])
def test_an_open_circuit_admits_nobody_at_first(opened: Breaker, prober: bool) -> None:
    assert not opened.admits(100.0 + PROBE_EVERY - 0.001, prober=prober)


def test_the_prober_tries_first(opened: Breaker) -> None:
    now = 100.0 + PROBE_EVERY

    assert not opened.admits(now, prober=False)
    assert opened.admits(now, prober=True)


def test_a_caller_tries_when_no_prober_has(opened: Breaker) -> None:
    now = 100.0 + PROBE_EVERY + CALLER_GRACE

    assert not opened.admits(now - 0.001, prober=False)
    assert opened.admits(now, prober=False)


def test_one_tries_at_a_time(opened: Breaker) -> None:
    now = 100.0 + PROBE_EVERY
    assert opened.admits(now, prober=True)

    assert not opened.admits(now, prober=True)
    assert not opened.admits(now, prober=False)
    opened.tried(now)
    assert opened.admits(now + PROBE_EVERY, prober=True)


@pytest.mark.parametrize("prober", [True, False])
def test_nobody_tries_while_another_try_takes_its_whole_timeout(opened: Breaker, prober: bool) -> None:
    now = 100.0 + PROBE_EVERY + CALLER_GRACE
    assert opened.admits(now, prober=prober)

    assert not any(opened.admits(now + 5.0, prober=prober) for prober in (True, False))
    opened.failed(now + 5.0, TimeoutError("no answer"))
    opened.tried(now + 5.0)
    assert not opened.admits(now + 5.0 + PROBE_EVERY, prober=False)
    assert opened.admits(now + 5.0 + PROBE_EVERY, prober=True)


def test_a_request_of_the_prober_that_was_under_way_when_the_circuit_opened_is_a_try() -> None:
    breaker = Breaker()
    assert breaker.admits(100.0, prober=True)
    breaker.failed(101.0, TimeoutError("no answer"))

    assert not breaker.admits(104.0, prober=False)


def test_one_that_was_sent_before_and_fails_during_a_try_does_not_end_it(opened: Breaker) -> None:
    now = 100.0 + PROBE_EVERY
    assert opened.admits(now, prober=True)
    opened.failed(now + 0.1, TimeoutError("no answer"))

    assert not opened.admits(now + 0.1 + PROBE_EVERY + CALLER_GRACE, prober=False)


def test_a_try_that_nobody_ended_shuts_out_the_others_for_a_while_only(opened: Breaker) -> None:
    now = 100.0 + PROBE_EVERY
    assert opened.admits(now, prober=True)

    assert opened.admits(now + LOST_AFTER, prober=True)


def test_callers_leave_a_prober_that_tries_alone(opened: Breaker) -> None:
    for n in range(1, 20):
        now = 100.0 + n * PROBE_EVERY
        assert opened.admits(now, prober=True)
        opened.tried(now)
        assert not opened.admits(now + 0.9 * PROBE_EVERY, prober=False)


def test_an_answer_closes_it(opened: Breaker) -> None:
    opened.answered()

    assert not opened.is_open
    assert opened.admits(100.0, prober=False)


def test_another_failure_opens_it_for_another_while(opened: Breaker) -> None:
    opened.failed(200.0, ConnectionError("refused"))

    assert opened.reason == "ConnectionError: refused"
    assert not opened.admits(200.0, prober=True)


@pytest.mark.parametrize(
    "error", [AuthenticationError("invalid password"), BrokenConnection("max number of clients reached")]
)
def test_a_new_connection_that_is_turned_away_opens_it_only_where_no_other_one_is_answered(
    error: Exception,
) -> None:
    breaker = Breaker()
    breaker.heard = 100.0

    breaker.failed(100.0 + HEARD_LATELY - 0.001, error)
    assert not breaker.is_open
    breaker.failed(100.0 + HEARD_LATELY, error)
    assert breaker.is_open


def test_what_opens_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker()
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            breaker.failed(100.0, ConnectionError(f"no answer within {n} s"))
            breaker.answered()

    assert caplog.messages == ["tiercache goes without Redis until it answers: no answer within 0 s"]


def test_what_turns_new_connections_away_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker()
    breaker.heard = 100.0
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            breaker.failed(100.0, AuthenticationError("invalid password"))

    (message,) = caplog.messages
    assert message.endswith("it goes on): invalid password")


def test_an_idle_connection_that_is_dead_opens_it_only_where_no_other_one_was_answered_meanwhile() -> None:
    breaker = Breaker()
    breaker.heard = 100.0

    breaker.failed(100.4, SilentlyLost(0.5, 0.0))
    assert not breaker.is_open
    breaker.failed(100.6, SilentlyLost(0.5, 0.0))
    assert breaker.is_open


def test_after_an_idle_connection_was_dead_the_prober_tries_its_own_at_once() -> None:
    breaker = Breaker()
    breaker.failed(100.0, SilentlyLost(0.5, 0.0))

    assert not breaker.admits(100.0, prober=False)
    assert breaker.admits(100.0, prober=True)
