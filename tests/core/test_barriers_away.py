"""Barriers after an epoch change, while Redis is away, and with loads from before them (G4)."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, D, Node, begun, joined, took
from tests.core.sim_server import SimServer
from tests.core.test_barriers import LEASE, SOON, answer, look, settle, state_of, wait_out
from tiercache._core import writes
from tiercache._core.barriers import reached
from tiercache._errors import L2Unavailable


@pytest.fixture(autouse=True)
def settled(a: Node, b: Node, clock: Clock) -> None:
    settle(clock, a, b)


# ---- the epoch


def test_after_an_epoch_change_a_barrier_waits_for_the_leases_of_the_one_before(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """FLUSHALL takes the register along: B is not on it, and has a lease."""
    b.load("k", "old", ["t"])
    server.flush()
    a.synced()
    clock.advance(SOON)

    waiting = a.reached("t").answer()
    assert not waiting.is_done
    assert b.get("k") == "old"

    assert wait_out(waiting, clock) == pytest.approx(LEASE - SOON)
    assert b.read("k", call=None).at == ("Sync", "Read"), "it has no lease left"


def test_once_somebody_saw_the_old_leases_end_nobody_waits_for_them(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    server.flush()
    a.synced()
    clock.advance(LEASE)
    a.synced()
    newcomer = Node(server, clock, "c").synced()
    a.synced()
    waiting = newcomer.reached("t").answer()
    answer(a, server)

    assert look(waiting).is_done


def test_a_node_that_learned_of_the_epoch_lately_does_not_say_that_old_leases_are_over(
    a: Node, server: SimServer, clock: Clock
) -> None:
    server.flush()
    a.synced()
    clock.advance(D / 2)
    a.synced()
    clock.advance(D / 2)
    a.synced()

    assert not state_of(server).settled


def test_a_cold_process_may_wait_for_everybody(a: Node, b: Node, server: SimServer, clock: Clock) -> None:
    cold = Node(server, clock, "c")
    waiting = cold.reached("t").answer()
    for node in (a, b):
        answer(node, server)

    assert look(waiting).is_done


def test_a_record_that_redis_lost_is_waited_for_as_long_as_a_lease(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """1. The record.  2. FLUSHALL.  3. Nobody can say who is behind it."""
    b.load("k", "old", ["t"])
    waiting = a.reached("t")
    server.flush()

    assert wait_out(waiting, clock) == pytest.approx(LEASE)
    assert b.read("k", call=None).at == ("Sync", "Read"), "it has no lease left"


# ---- Redis away


def test_when_redis_dies_during_the_wait_a_lease_is_waited_for(a: Node, b: Node, clock: Clock) -> None:
    b.load("k", "old", ["t"])
    waiting = a.reached("t")
    began = clock.now
    while not waiting.is_done:
        if waiting.at == ("Join",):
            clock.advance(waiting.step.timeout)  # type: ignore[union-attr]  # of a Join
            waiting.wake()
        else:
            waiting.lose()

    assert clock.now - began == pytest.approx(LEASE)
    assert b.read("k", call=None).at == ("Sync", "Read"), "it has no lease left"


def test_a_node_that_cannot_ask_redis_acknowledges_nothing(a: Node, b: Node, server: SimServer) -> None:
    waiting = a.reached("t").answer()

    acknowledging = b.acknowledge(server.questions[-1])
    while acknowledging.at == ("Sync",):
        acknowledging.lose()

    assert acknowledging.result is False
    assert not look(waiting).is_done


def test_a_write_that_is_pending_cannot_be_waited_for(a: Node) -> None:
    waiting = a.start(reached(a.tiers, writes.invalidate(a.tiers, ["t"], ()))).lose()

    with pytest.raises(L2Unavailable, match="pending"):
        _ = waiting.result
    assert a.core.pending


def test_an_invalidation_of_nothing_waits_for_nobody(a: Node) -> None:
    assert a.start(reached(a.tiers, writes.invalidate(a.tiers, [], ()))).is_done


# ---- joins


def test_after_a_barrier_nobody_is_given_what_a_load_from_before_it_brings(
    a: Node, b: Node, server: SimServer
) -> None:
    leading = begun(b)
    waiting = a.reached("t").answer()
    answer(b, server)
    assert look(waiting).is_done
    joining = joined(b)
    b.finish(leading, "old")

    assert not took(b, joining)


def test_after_a_barrier_that_gave_up_nobody_is_given_it_either(a: Node, b: Node, clock: Clock) -> None:
    leading = begun(b)
    wait_out(a.reached("t").answer(), clock)
    joining = joined(b)
    b.synced()
    b.finish(leading, "old")

    assert not took(b, joining)
