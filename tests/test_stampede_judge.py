"""The judge of the stampede suite, on histories made by hand: it must be able to find fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiercache.cli.stampede.conductor import Observed
from tiercache.cli.stampede.judge import Verdict, judge
from tiercache.cli.stampede.orders import GAVE_UP, LOADER, TIMEOUT, Call, Load, Order, Place, Share, Write
from tiercache.cli.stampede.scenarios import SCENARIOS, Scenario
from tiercache.cli.stampede.stage import requests

LOAD = 0.2
START = 100.0
LOADED = Load("k", 0, START, START + LOAD)
NAMED = {scenario.name: scenario for scenario in SCENARIOS}


def called(
    answer: str | None = LOADED.value(),
    *,
    at: float = START,
    took: float | None = LOAD + 0.01,
    error: str = "",
    key: str = "k",
) -> Call:
    return Call(key, at, None if took is None else at + took, answer, error)


def seen(
    *calls: Call,
    loads: tuple[Load, ...] = (LOADED,),
    scenario: Scenario = NAMED["cold"],
    order: Order | None = None,
    elsewhere: Share | None = None,
    ttl: float = 600.0,
) -> Observed:
    """One round of two processes, of which the first saw *calls* and *loads*."""
    order = order or Order("tasks", 1, ("k",), instant=START, load=LOAD, deadline=START + 10)
    place = Place("redis://", "ns", ttl=ttl, load_timeout=30.0, max_staleness=1.0, early_refresh=0.0)
    shares = {0: Share(calls=list(calls), loads=list(loads)), 1: elsewhere or Share()}
    return Observed(scenario, order, place, shares)


def faults(observed: Observed) -> tuple[int, int]:
    verdict = judge(observed)
    return len(verdict.wrong), len(verdict.missing)


def test_callers_who_all_get_the_one_load_are_right_and_waited_for_what_was_over() -> None:
    verdict = judge(seen(called(took=0.21), called(took=0.25)))

    assert (verdict.loads, verdict.wrong, verdict.missing) == (1, [], [])
    assert verdict.over == [pytest.approx(0.01), pytest.approx(0.05)]
    assert verdict.wall == pytest.approx(0.25)


def test_a_caller_without_an_answer_is_missing() -> None:
    assert faults(seen(called(), called(None, took=None))) == (0, 1)


def test_an_error_where_a_value_was_due_is_missing() -> None:
    assert faults(seen(called(None, error="ConnectionError: no"))) == (0, 1)


def test_a_value_that_no_loader_returned_is_wrong() -> None:
    assert faults(seen(called("k\n0\n99.0"))) == (1, 0)


def test_the_value_of_another_key_is_wrong() -> None:
    other = Load("other", 0, START, START + LOAD)
    assert faults(seen(called(other.value()), loads=(LOADED, other))) == (1, 0)


def test_a_value_that_had_expired_is_wrong() -> None:
    late = called(at=START + 10, took=0.0)
    assert faults(seen(late, ttl=5.0)) == (1, 0)
    assert faults(seen(late, ttl=15.0)) == (0, 0)


def failing() -> Order:
    return Order("tasks", 1, ("k",), instant=START, load=LOAD, deadline=START + 10, outcome="error")


def test_the_error_of_a_loader_that_fails_is_right_and_a_value_then_is_wrong() -> None:
    right = judge(seen(called(None, error=LOADER), order=failing()))

    assert (right.errors, right.wrong, right.missing) == (1, [], [])
    assert faults(seen(called(), order=failing())) == (1, 0)
    assert faults(seen(called(None, error=TIMEOUT), order=failing())) == (0, 1)


def test_a_timeout_is_right_only_where_the_loader_hangs() -> None:
    timeout = called(None, error=TIMEOUT)
    hanging = replace(failing(), outcome="hang")

    assert faults(seen(timeout, order=hanging)) == (0, 0)
    assert faults(seen(timeout)) == (0, 1)


def test_only_those_may_give_up_who_were_to() -> None:
    leaving = Order("tasks", 2, ("k",), instant=START, load=LOAD, deadline=START + 10, give_up=LOAD / 2)
    verdict = judge(seen(called(None, error=GAVE_UP, took=0.1), called(), order=leaving))

    assert (verdict.left, len(verdict.over)) == (1, 1)
    assert faults(seen(called(None, error=GAVE_UP))) == (0, 1)


CHANGED = START + 1.0


def after_a_change(age: float, *, in_writer: bool) -> Verdict:
    """An old value, given so long after the invalidation had returned."""
    order = Order(
        "tasks", 1, ("k",), instant=START, load=LOAD, deadline=START + 10, changes=(CHANGED,), drop_at=CHANGED
    )
    write = Write(CHANGED, CHANGED + 0.001)
    call = called(at=write.returned + age, took=0.0)
    observed = seen(call if in_writer else called(), scenario=NAMED["tag"], order=order)
    observed.shares[0].writes.append(write)
    if not in_writer:
        observed.shares[1].calls.append(call)
    return judge(observed)


def test_an_old_value_is_wrong_beyond_the_promise_and_at_once_where_the_invalidation_was_called() -> None:
    assert after_a_change(0.5, in_writer=False).wrong == []
    assert len(after_a_change(1.5, in_writer=False).wrong) == 1
    assert len(after_a_change(0.5, in_writer=True).wrong) == 1
    assert after_a_change(-0.0005, in_writer=True).wrong == [], (
        "it began before the invalidation had returned"
    )


def test_it_tells_for_how_long_an_old_value_was_given() -> None:
    assert after_a_change(0.5, in_writer=False).old_for == pytest.approx(0.5)


def test_those_who_did_not_wait_are_not_among_the_waits() -> None:
    verdict = judge(seen(called(), called(at=START + LOAD + 0.1, took=0.001)))

    assert len(verdict.over) == 1


def test_a_load_in_a_process_that_was_killed_counts() -> None:
    observed = seen(called())
    observed.lost.append(Load("k", 0, START - 0.1, None))

    assert judge(observed).loads == 2


def test_more_loads_of_a_key_than_its_scenario_allows_are_not_right() -> None:
    twice = (LOADED, Load("k", 0, START + 0.05, START + 0.3))

    assert judge(seen(called(), loads=twice)).excess == ["k: 2 loads, not 1 at most"]
    assert not judge(seen(called(), loads=twice)).is_right
    assert judge(seen(called(), loads=twice, scenario=NAMED["killed"])).is_right, "another took over"
    assert judge(seen(called(), loads=(*twice, *twice), scenario=NAMED["give-up"])).is_right


def test_a_script_call_is_one_request_and_connecting_is_none() -> None:
    before = {"get": 5, "evalsha": 10}
    after = {"get": 9, "evalsha": 14, "eval": 1, "hello": 3, "publish": 2, "zmscore": 3, "mget": 2}

    assert requests(before, after, counted="round trips") == 4 + 2, (
        "the EVAL came after an EVALSHA that failed"
    )
    assert requests(before, after, counted="commands") == 4 + 4 + 2 + 3 + 2
