"""What anybody may say to those who wait at a barrier, and to those who are asked: nothing that does harm."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, Node
from tests.core.sim_server import SimServer
from tests.core.test_barriers import look, registered, settle, state_of
from tiercache._core.barriers import BELL, Ack, Barrier, Question, parse_question
from tiercache._core.commands import member_of
from tiercache._core.scripts import Names


@pytest.fixture(autouse=True)
def settled(a: Node, b: Node, clock: Clock) -> None:
    settle(clock, a, b)


@pytest.mark.parametrize("number", [10**15, 1])
def test_a_forged_question_costs_one_sync_and_nothing_else(b: Node, server: SimServer, number: int) -> None:
    b.load("k", "v", ["t"])
    before = b.tiers.events["syncs"]
    register = dict(state_of(server).register)

    told = b.finish(b.acknowledge(Question(b.core.epoch, number, "x")))

    assert told is (number == 1)
    assert b.tiers.events["syncs"] - before <= 1
    assert b.in_l1("k")
    assert set(state_of(server).register) == set(register)


def test_a_forged_question_of_another_epoch_costs_nothing(b: Node) -> None:
    assert b.acknowledge(Question(4711, 3, "x")).result is False


def test_a_forged_wake_up_only_makes_one_look_again(a: Node, b: Node) -> None:
    waiting = a.reached("t").answer()
    for _ in range(100):
        a.tiers.bells.ring(BELL)
        assert not look(waiting).is_done


def test_an_acknowledgement_of_another_epoch_counts_for_nothing(a: Node, b: Node, server: SimServer) -> None:
    waiting = a.reached("t").answer()
    server.perform(Ack(4711, 10**9, member_of("b", b.core.lease_ms), 1, "a"))

    assert not look(waiting).is_done


def test_an_acknowledgement_puts_nobody_on_the_register(server: SimServer) -> None:
    epoch = state_of(server).epoch
    server.perform(Ack(epoch, 1, "forged:10000", 1, "a"))

    assert registered(server) == {"a", "b"}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"2|",
        b"2|1|2",
        b"2|1|2|",
        b"2|1|2|a|",
        b"2|1|0|a",
        b"2|1|-3|a",
        b"2|x|2|a",
        b"2|1|x|a",
        b"1|1|2|a",
        b"2|1|2|a b",
        b"2|1|2|\xff",
        b"2|" + b"9" * 17 + b"|2|a",
        b"2|1|" + b"9" * 17 + b"|a",
        b"2|1|2|" + b"a" * 100,
    ],
    ids=repr,
)
def test_what_is_no_question_is_none(raw: object) -> None:
    assert parse_question(raw) is None


def test_a_question_is_what_who_waits_asked(a: Node) -> None:
    """The script publishes it as it is given."""
    asking = Barrier(5, 7, "a1b2")
    arguments = asking.parts(Names("shop", 0)).args

    assert parse_question(arguments[-1].encode()) == Question(5, 7, "a1b2")


def test_what_is_planted_on_the_register_is_waited_for_by_nobody() -> None:
    raw = [b"1", b"0", b"\xff:1", b"0", b"n:" + b"9" * 5000, b"0", b"n", b"0", b"b:10000", b"-3"]

    behind = Barrier(1, 5, "a").parse(raw)

    assert behind is not None
    assert behind.members == {"b:10000": "-3"}
