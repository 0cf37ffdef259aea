"""The proof: one sync at a time, and who gets no lease from it."""

from __future__ import annotations

import pytest

from tests.core.hands import Cancelled, Clock, D, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core import writes
from tiercache._core.commands import Sync, Synced
from tiercache._core.plan import Join, Plan
from tiercache._core.syncs import REFUSED_PAUSE
from tiercache._errors import L2Refused, L2Unavailable


class Blind(SimServer):
    """A server whose users may not read its tenure."""

    def perform(self, command: object, *, blind: bool = True) -> object:
        return super().perform(command, blind=blind)  # type: ignore[arg-type]  # any command is passed on


# ---- one at a time


def test_who_needs_a_sync_while_one_is_under_way_waits_for_that_one(a: Node, clock: Clock) -> None:
    a.load("k", "v")
    clock.advance(D)
    first, second = a.read("k", call=None), a.read("other", call=None)
    assert first.at == ("Sync", "Read")
    assert second.at == ("Join",)

    first.answer()

    assert first.result == "v"
    assert second.wake().at == ("Read",)


def test_who_waited_for_a_sync_that_failed_goes_without(a: Node, clock: Clock) -> None:
    clock.advance(D)
    first, second = a.read("k"), a.read("other")

    first.lose()

    assert first.at == second.wake().at == ("Call",)


def test_a_sync_is_not_waited_for_for_ever(a: Node, clock: Clock) -> None:
    clock.advance(D)
    first, second = a.read("k"), a.read("other")

    assert second.wake().at == ("Call",)
    clock.advance(a.tiers.sync_patience)
    assert a.read("third").at == first.at == ("Sync", "Read")


def test_who_waits_for_a_sync_is_still_there_when_redis_is_found_to_be_silent(a: Node, clock: Clock) -> None:
    """It would find the circuit closed, and be late by a timeout of its own."""
    clock.advance(D)
    leading = a.read("k")
    clock.advance(a.tiers.timeout)
    joining = a.read("other")

    assert leading.at == ("Sync", "Read")
    assert isinstance(joining.step, Join)
    assert joining.step.timeout > a.tiers.timeout


def test_who_waited_for_a_sync_takes_over_when_its_leader_is_cancelled(a: Node, clock: Clock) -> None:
    clock.advance(D)
    first, second, third = a.read("k"), a.read("other"), a.read("third")

    first.throw(Cancelled())

    assert second.wake().at == ("Sync", "Read")
    assert third.wake().at == ("Join",)
    assert second.answer().at == ("Call",)
    assert third.wake().at == ("Read",)


def test_two_syncs_cannot_bring_more_than_one_epoch(server: SimServer, clock: Clock) -> None:
    """Both were sent when no epoch was known; the second to arrive is of no use."""
    a = Node(server, clock, "a")
    (first, one), (second, other) = a.core.sync(clock()), a.core.sync(clock())
    replies = server.perform(first), server.perform(second)

    assert a.core.prove(one, replies[0], a.clock())
    assert not a.core.prove(other, replies[1], a.clock())


# ---- a server that gives no lease


def test_a_server_that_refuses_writes_gives_no_lease(a: Node, clock: Clock) -> None:
    """R21, R27, R28: a sync is a write, so READONLY, NOREPLICAS and a missing right all show in it."""
    a.load("k", "v")
    clock.advance(D)

    reading = a.read("k").throw(L2Refused("READONLY You can't write against a read only replica."))

    assert reading.at == ("Call",)
    assert a.read("other").at == ("Call",)
    assert a.tiers.refusal is not None


def test_a_server_that_gave_no_lease_is_asked_again_after_a_pause(a: Node, clock: Clock) -> None:
    clock.advance(D)
    a.sync().throw(L2Refused("READONLY"))
    assert a.sync().result == (False, None)

    clock.advance(REFUSED_PAUSE)

    assert a.finish(a.sync())[0]
    assert a.tiers.refusal is None


def test_a_node_that_cannot_read_the_tenure_gets_no_lease(clock: Clock) -> None:
    """3.12: a failover that lost records would go unnoticed."""
    a = Node(Blind(clock), clock, "a")

    assert a.finish(a.sync()) == (False, None)
    assert a.core.lease < clock()
    assert "assume_no_failover_loss" in str(a.tiers.refusal)


def test_a_node_that_cannot_read_the_tenure_gets_a_lease_if_its_user_accepts_that(clock: Clock) -> None:
    a = Node(Blind(clock), clock, "a", trust_tenure=True)

    assert a.finish(a.sync())[0]
    assert a.load("k", "v") == a.get("k") == "v"


def test_two_users_with_different_rights_do_not_flip_the_epoch(server: SimServer, clock: Clock) -> None:
    """3.12: the one who cannot read the tenure opens the state; the other does not trust it, once."""

    def sync(*, blind: bool) -> int:
        reply: Synced = server.perform(Sync(0, 0, "a"), blind=blind)
        return reply.epoch

    epochs = [sync(blind=blind) for blind in (True, True, False, True, False, True, False)]

    assert epochs[0] == epochs[1] != epochs[2]
    assert len(set(epochs[2:])) == 1


def test_a_state_opened_without_its_tenure_is_not_trusted_by_who_can_read_it(
    server: SimServer, clock: Clock
) -> None:
    """Nobody knows which failovers it went through: 1. opened blindly.  2. A record.  3. A failover loses it.
    4. The first sync of somebody who can read the tenure must not carry on."""
    server.perform(Sync(0, 0, "blind"), blind=True)
    copy = server.copy()
    bump(server, "t")
    server.fail_over(copy)

    assert server.perform(Sync(0, 0, "a")).epoch != 1001


# ---- tokens


def token(node: Node) -> Plan[writes.Token]:
    return writes.token(node.tiers, blocking=False)


def test_a_token_is_the_head_as_it_is_now(a: Node, server: SimServer) -> None:
    head = bump(server, "t")

    assert a.finish(a.start(token(a))) == (a.core.epoch, head)


def test_no_token_is_given_while_redis_is_away(a: Node) -> None:
    with pytest.raises(L2Unavailable, match="no token can be given"):
        _ = a.start(token(a)).lose().result
