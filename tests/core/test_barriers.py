"""Barriers: nobody is given the old value after one returned, and no longer than a lease is waited (G4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.core.hands import Clock, D, Hand, Node, bump
from tests.core.sim_server import SimServer, State
from tiercache._core.barriers import BELL, FIRST_LOOK, LAST_LOOK, Forget, Question
from tiercache._core.coherence import CLOCKS
from tiercache._core.commands import member_of
from tiercache._core.plan import Join
from tiercache._core.reads import MISS
from tiercache._core.writes import Token

LEASE = D * CLOCKS  # D': how long a lease of D may live by another's clock
SOON = D / 100


def state_of(server: SimServer) -> State:
    assert server.domain.state is not None
    return server.domain.state


def registered(server: SimServer) -> set[str]:
    """The nodes on the register."""
    return {member.partition(":")[0] for member in state_of(server).register}


def settle(clock: Clock, *nodes: Node) -> None:
    """Let the epoch outlive every lease of another, and all *nodes* sync."""
    clock.advance(LEASE)
    for node in nodes:
        node.synced()


@pytest.fixture(autouse=True)
def settled(a: Node, b: Node, clock: Clock) -> None:
    settle(clock, a, b)


def asked(server: SimServer) -> Question:
    return server.questions[-1]


def answer(node: Node, server: SimServer) -> None:
    """Have *node* hear the last question and acknowledge."""
    node.finish(node.acknowledge(asked(server)))


def look(waiting: Hand) -> Hand:
    """Wake who waits at a barrier, and let it look once more."""
    assert waiting.at == ("Join",)
    waiting.wake()
    while waiting.at == ("Barrier",):
        waiting.answer()
    return waiting


def wait_out(waiting: Hand, clock: Clock) -> float:
    """Seconds until it returns by itself."""
    begun = clock.now
    while not waiting.is_done:
        step = waiting.step
        if waiting.at == ("Join",):
            clock.advance(step.timeout)  # type: ignore[union-attr]  # of a Join
            waiting.wake()
        else:
            waiting.answer()
    return clock.now - begun


# ---- while all nodes answer


def test_a_barrier_waits_until_the_last_node_has_applied_the_record(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    c = Node(server, clock, "c").synced()
    for node in (b, c):
        node.load("k", "old", ["t"])
    waiting = a.reached("t").answer()

    answer(b, server)
    assert not look(waiting).is_done
    answer(c, server)

    assert look(waiting).is_done
    assert b.get("k") is c.get("k") is MISS
    assert waiting.result.token == Token(state_of(server).epoch, state_of(server).head)


def test_a_barrier_that_finds_nobody_behind_returns_at_once(a: Node, b: Node, server: SimServer) -> None:
    number = bump(server, "t")
    b.synced()
    b.synced()  # says of the sync before that it brought the record

    waiting = a.barrier(Token(state_of(server).epoch, number)).answer()

    assert waiting.is_done
    assert server.questions == []


def test_a_sync_is_no_acknowledgement_of_what_it_brings(a: Node, b: Node, server: SimServer) -> None:
    """1. B's sync runs.  2. Its reply is under way, and L1 answers from the lease before."""
    b.load("k", "old", ["t"])
    waiting = a.reached("t").answer()
    syncing = b.sync().execute()

    assert not look(waiting).is_done
    assert b.get("k") == "old"

    syncing.reply()
    assert b.get("k") is MISS
    b.finish(b.sync())
    assert look(waiting).is_done


def test_nobody_waits_for_itself(a: Node, server: SimServer, clock: Clock) -> None:
    state_of(server).register = {m: s for m, s in state_of(server).register.items() if m[0] == "a"}

    assert a.reached("t").answer().is_done


def test_the_last_acknowledgement_wakes_who_waits(a: Node, b: Node, server: SimServer, clock: Clock) -> None:
    c = Node(server, clock, "c").synced()
    waiting = a.reached("t").answer()
    answer(b, server)
    assert server.wakes == []

    answer(c, server)

    assert server.wakes == [("a", BELL)]
    a.tiers.bells.ring(BELL)
    assert look(waiting).is_done


def test_who_waits_looks_again_by_itself_where_no_wake_up_arrives(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    waiting = a.reached("t").answer()
    answer(b, server)

    assert wait_out(waiting, clock) == pytest.approx(FIRST_LOOK)


def test_a_node_that_joined_a_sync_of_before_the_record_syncs_once_more_to_acknowledge(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """1. B's sync runs.  2. The record.  3. B is asked, and waits for the sync that is under way."""
    with ThreadPoolExecutor(1) as another_thread:
        syncing = another_thread.submit(lambda: b.sync().execute()).result()
    clock.advance(SOON)
    waiting = a.reached("t").answer()
    acknowledging = b.acknowledge(asked(server))
    assert acknowledging.at == ("Join",)
    syncing.reply()

    assert b.finish(acknowledging.wake())
    assert look(waiting).is_done


def test_a_node_that_has_applied_the_record_already_only_says_so(a: Node, b: Node, server: SimServer) -> None:
    waiting = a.reached("t").answer()
    b.synced()

    acknowledging = b.acknowledge(asked(server))

    assert acknowledging.at == ("Ack",)
    b.finish(acknowledging)
    assert look(waiting).is_done


def test_two_who_wait_at_once_are_both_told(a: Node, b: Node, server: SimServer, clock: Clock) -> None:
    c = Node(server, clock, "c").synced()
    c.load("k", "old", ["t"])
    first, second = a.reached("t"), b.reached("u")
    first.answer()
    second.answer()
    for question in server.questions[:]:
        for node in (a, b, c):
            if question.waiter != node.name:
                node.finish(node.acknowledge(question))

    assert look(first).is_done
    assert look(second).is_done
    assert c.get("k") is MISS


def test_who_comes_later_got_the_record_with_its_lease_and_is_not_waited_for(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    waiting = a.reached("t").answer()
    Node(server, clock, "c").synced()  # on the register with nothing applied, as one of a new epoch
    answer(b, server)

    assert look(waiting).is_done


def test_whom_a_full_register_left_out_is_waited_for_as_long_as_a_lease(
    a: Node, server: SimServer, clock: Clock
) -> None:
    state = state_of(server)
    state.register = {member: score for member, score in state.register.items() if member[0] == "a"}
    state.left_out = 3

    assert wait_out(a.reached("t").answer(), clock) == pytest.approx(LEASE)
    assert state.left_out == 0
    a.synced()
    assert a.reached("t").answer().is_done


def test_a_block_may_wait_for_everybody(a: Node, b: Node, server: SimServer) -> None:
    b.load("k", "old", ["t"])
    block = a.block("t", wait=True).open()
    block.close()
    reaching = a.start(block.itself._reach()).answer()
    assert not reaching.is_done
    answer(b, server)

    assert look(reaching).is_done
    assert b.get("k") is MISS


# ---- who does not answer


def test_a_node_that_does_not_answer_is_waited_for_as_long_as_a_lease_and_no_longer(
    a: Node, b: Node, clock: Clock
) -> None:
    b.load("k", "old", ["t"])
    waiting = a.reached("t").answer()
    clock.advance(LEASE - D / 1000)
    assert not look(waiting).is_done

    clock.advance(D / 999)
    waiting.wake()

    assert a.finish(waiting).token is not None
    reading = b.read("k", tags=["t"])
    assert reading.at == ("Sync", "Read"), "it has no lease left"
    assert b.finish(reading, "new") == "new"


def test_who_did_not_answer_is_not_waited_for_again(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    wait_out(a.reached("t").answer(), clock)
    assert registered(server) == {"a"}
    assert a.tiers.events["forgotten_nodes"] == 1
    a.synced()

    assert a.reached("u").answer().is_done


def test_who_was_forgotten_is_back_on_the_register_with_its_next_lease(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    wait_out(a.reached("t").answer(), clock)
    b.synced()
    b.load("k", "old", ["t"])

    waiting = a.reached("t").answer()
    assert not waiting.is_done
    answer(b, server)
    assert look(waiting).is_done


def test_who_synced_meanwhile_is_not_forgotten_though_it_never_answered(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    waiting = a.reached("t").answer()
    clock.advance(LEASE / 2)
    b.synced()
    wait_out(waiting, clock)

    assert registered(server) == {"a", "b"}
    assert a.tiers.events["forgotten_nodes"] == 0


def test_who_synced_after_the_last_look_is_not_forgotten(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """It has a lease from that sync: off the register, nobody would wait for it."""
    waiting = a.reached("t").answer()
    clock.advance(LEASE)
    waiting.wake().answer()
    assert waiting.at == ("Forget",)
    b.synced()

    waiting.answer()

    assert waiting.is_done
    assert registered(server) == {"a", "b"}


def test_a_barrier_does_not_forget_who_was_asked_by_another_a_moment_ago(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """With one mark for all, B, which synced in between, would bear it again at the end of the first."""
    c = Node(server, clock, "c").synced()
    first = a.reached("t").answer()
    clock.advance(LEASE - SOON)
    b.synced()
    c.reached("u").answer()
    clock.advance(SOON)
    first.wake()
    a.finish(first)

    assert "b" in registered(server)


def test_the_longest_lease_of_those_behind_is_waited_for(a: Node, server: SimServer, clock: Clock) -> None:
    slow = Node(server, clock, "c", max_staleness=3 * D).synced()
    slow.load("k", "old", ["t"])

    waited = wait_out(a.reached("t").answer(), clock)

    assert waited == pytest.approx(3 * LEASE)


def test_a_node_without_a_subscription_is_waited_for_until_its_lease_is_over(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """It hears no question; its next sync but one says that it has applied the record."""
    b.load("k", "old", ["t"])
    waiting = a.reached("t").answer()
    b.synced()
    assert not look(waiting).is_done
    b.synced()

    assert look(waiting).is_done
    assert b.get("k") is MISS


def test_a_node_that_left_is_not_waited_for(a: Node, b: Node, server: SimServer) -> None:
    waiting = a.reached("t").answer()
    b.core.lapse(for_good=True)
    server.perform(Forget(((member_of("b", b.core.lease_ms), ""),)))

    assert look(waiting).is_done
    assert b.read("k", call=None).result is MISS


def test_a_node_that_leaves_takes_no_lease_from_a_sync_that_ran_before_it_was_off_the_register(
    a: Node, b: Node, server: SimServer
) -> None:
    """1. A daemon thread of B syncs.  2. B ends its lease.  3. B is off the register.  4. The reply."""
    syncing = b.sync().execute()
    b.core.lapse(for_good=True)
    server.perform(Forget(((member_of("b", b.core.lease_ms), ""),)))
    syncing.reply()

    assert a.reached("t").answer().is_done
    assert syncing.result == (False, None)
    assert b.read("k", call=None).result is MISS, "it has no lease"


def test_who_waits_looks_again_soon_however_long_it_has_waited(a: Node, b: Node) -> None:
    """Wake-ups are shared by all who wait in a process, and may be lost: none may cost a waiter seconds."""
    waiting, pauses = a.reached("t").answer(), []
    for _ in range(8):
        assert isinstance(waiting.step, Join)
        pauses.append(waiting.step.timeout)
        look(waiting)

    assert pauses[0] == FIRST_LOOK
    assert max(pauses) == LAST_LOOK


def test_a_node_that_has_left_registers_no_more_and_still_sends_what_is_pending(a: Node, b: Node) -> None:
    """A read that goes on after a close gets no lease: a barrier would wait for its whole length."""
    b.finish(b.invalidate("t").lose())
    b.core.lapse(for_good=True)
    reading = b.read("k", tags=["t"])
    asked = []
    while not reading.is_done:
        asked.extend(reading.at)
        reading.reply("v") if reading.at == ("Call",) else reading.answer()

    assert reading.result == "v"
    assert asked == ["Invalidate", "Call"]
    assert not b.core.pending
