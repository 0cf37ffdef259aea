"""The proof: one sync at a time, what it sends first, and what a server that lost something makes of it."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, D, Node, nodes
from tests.core.sim_server import SimServer
from tiercache._core import writes
from tiercache._core.commands import Clear, Invalidate, Recorded, Sync, Synced
from tiercache._core.plan import Plan
from tiercache._core.reads import MISS
from tiercache._core.syncs import REFUSED_PAUSE
from tiercache._errors import L2Refused, L2Unavailable

ROOM = 100_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> SimServer:
    return SimServer(clock)


@pytest.fixture
def a(server: SimServer, clock: Clock) -> Node:
    return Node(server, clock, "a").synced()


def bump(server: SimServer, *tags: str) -> Recorded:
    record: Recorded = server.perform(Invalidate(tags, (), ROOM, ROOM))
    return record


class Blind(SimServer):
    """A server whose users may not read its tenure."""

    def perform(self, command: object, *, blind: bool = True) -> object:
        return super().perform(command, blind=blind)  # type: ignore[arg-type]  # any command is passed on


class Cancelled(BaseException):
    pass


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


def test_a_sync_is_not_waited_for_longer_than_its_timeout(a: Node, clock: Clock) -> None:
    clock.advance(D)
    first, second = a.read("k"), a.read("other")

    assert second.wake().at == ("Call",)
    clock.advance(a.tiers.timeout)
    assert a.read("third").at == first.at == ("Sync", "Read")


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

    assert a.core.prove(one, replies[0])
    assert not a.core.prove(other, replies[1])


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


# ---- a server that lost something


def warm(server: SimServer, clock: Clock) -> tuple[Node, Node]:
    """Two nodes, and "k" under "t" in L2 and in both their L1."""
    a, b = nodes(server, clock)
    a.load("k", "old", ["t"])
    assert b.get("k") == "old"
    return a, b


def test_flushall_makes_l1_void_at_the_next_sync(server: SimServer, clock: Clock) -> None:
    """R22: counters restart, and the numbers that L1 holds are high."""
    a, b = warm(server, clock)
    for _ in range(5):
        bump(server, "u")
    a.synced()
    server.flush()
    b.finish(b.invalidate("t"))

    a.synced()

    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_an_evicted_state_is_a_new_epoch_and_old_entries_match_no_more(
    server: SimServer, clock: Clock
) -> None:
    """R24: a counter that starts from 0 again would reach the old entries' numbers."""
    a, b = warm(server, clock)
    bump(server, "t")
    server.domain.state = None

    for _ in range(3):
        b.finish(b.invalidate("u"))
    a.synced()

    assert "k" in server.domain.entries
    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_evicted_key_versions_let_no_load_of_before_in(server: SimServer, clock: Clock) -> None:
    """3.8: their floor is then the head."""
    a, b = warm(server, clock)
    loading = a.read("s").answer()
    b.finish(b.invalidate(keys=["s"]))
    server.domain.keys = None

    loading.reply("old").answer()

    assert b.get("s") is MISS
    assert not a.in_l1("s")


def test_evicted_key_versions_make_a_node_that_is_behind_empty_its_l1(
    server: SimServer, clock: Clock
) -> None:
    a, b = warm(server, clock)
    b.finish(b.invalidate(keys=["k"]))
    server.domain.keys = None

    a.synced()

    assert a.get("k") is MISS


def test_a_failover_that_lost_a_record_is_noticed_by_the_next_sync(server: SimServer, clock: Clock) -> None:
    """R23, R25, R29: entries and versions went back together, and the old value looks valid."""
    a, b = warm(server, clock)
    copy = server.copy()
    b.finish(b.invalidate("t"))
    assert not server.holds("k")
    server.fail_over(copy)
    assert server.holds("k")

    a.synced()

    assert a.get("k") is MISS
    assert not server.holds("k")


def test_until_then_who_met_the_lost_record_is_not_answered(server: SimServer, clock: Clock) -> None:
    """R25, R42: its reads ask for the head it has met."""
    _, b = warm(server, clock)
    copy = server.copy()
    b.finish(b.invalidate("t"))
    server.fail_over(copy)

    reading = b.read("k", tags=["t"]).answer()

    assert reading.at == ("Sync", "Read")
    assert b.tiers.events["resyncs"] == 1
    assert b.finish(reading, "new") == "new"


def test_numbers_that_are_used_twice_are_told_apart(server: SimServer, clock: Clock) -> None:
    """R26: "a" applied 2 and 3; they are lost; 2 and 3 come again, on other dependencies."""
    a, _ = warm(server, clock)
    copy = server.copy()
    bump(server, "u")
    a.hear(bump(server, "u").number - 1, bump(server, "u").number - 1)
    a.synced()
    server.fail_over(copy)
    bump(server, "t")
    bump(server, "t")

    a.synced()

    assert a.get("k") is MISS


def test_a_node_too_far_behind_empties_its_l1(a: Node, server: SimServer) -> None:
    a.load("k", "v")
    for number in range(1001):
        bump(server, f"n{number}")

    a.synced()

    assert not a.in_l1("k")
    assert a.core.proved == 1002


def test_a_node_that_missed_a_clear_empties_its_l1(a: Node, server: SimServer) -> None:
    a.load("k", "v")
    server.perform(Clear())

    a.synced()

    assert a.get("k") is MISS


# ---- what Redis has not been told


def test_a_pending_invalidation_goes_before_the_sync(a: Node, server: SimServer) -> None:
    """A lease got before Redis heard of it would vouch for what it names."""
    a.invalidate("t").lose()

    syncing = a.sync()

    assert syncing.at == ("Invalidate",)
    assert syncing.answer().at == ("Sync",)
    assert a.finish(syncing)[0]
    assert not a.core.pending


def test_no_lease_is_renewed_while_redis_has_not_been_told(a: Node, clock: Clock) -> None:
    a.invalidate("t").lose()
    clock.advance(1)
    lease = a.core.lease

    assert a.sync().lose().result == (False, None)
    assert a.core.lease == lease


def test_what_is_pending_is_sent_in_slices(a: Node, server: SimServer) -> None:
    for slice_ in range(3):
        a.invalidate(*(f"{slice_}:{i}" for i in range(1500)), keys=[f"k{slice_}"]).lose()

    syncing = a.sync()
    sent = []
    while syncing.at == ("Invalidate",):
        sent += [dep for command in syncing.commands for dep in command.deps]  # type: ignore[attr-defined]
        syncing.answer()

    assert len(sent) == len(set(sent)) == 3 * 1501
    assert not a.core.pending


def test_a_slice_that_was_sent_is_not_sent_again(a: Node) -> None:
    a.invalidate(*(f"n{i}" for i in range(2000)), keys=["k"]).lose()

    syncing = a.sync().answer()
    assert syncing.at == ("Invalidate",)
    syncing.lose()

    assert len(a.core.pending) == 1


def test_more_than_ten_thousand_pending_dependencies_become_a_clear(a: Node, server: SimServer) -> None:
    """3.11"""
    a.load("k", "v", ["t"])
    for slice_ in range(6):
        a.invalidate(*(f"{slice_}:{i}" for i in range(1999))).lose()
    assert not a.in_l1("k")

    syncing = a.sync()

    assert syncing.at == ("Clear",)
    assert a.finish(syncing)[0]
    assert not a.core.pending
    assert not server.holds("k")


def test_an_invalidation_that_fails_again_while_it_is_sent_stays_pending(a: Node) -> None:
    """The second was asked for after a second write; what was sent before that does not cover it."""
    a.invalidate("t").lose()
    syncing = a.sync().execute()
    a.invalidate("t").lose()

    syncing.reply()

    assert a.core.withheld(["t:t"])


def test_a_clear_that_fails_is_sent_again(a: Node, server: SimServer) -> None:
    a.load("k", "v")
    a.clear().lose()

    assert a.finish(a.sync())[0]

    assert not server.holds("k")


# ---- tokens


def token(node: Node) -> Plan[writes.Token]:
    return writes.token(node.tiers, blocking=False)


def test_a_token_is_the_head_as_it_is_now(a: Node, server: SimServer) -> None:
    record = bump(server, "t")

    assert a.finish(a.start(token(a))) == (record.epoch, record.number)


def test_no_token_is_given_while_redis_is_away(a: Node) -> None:
    with pytest.raises(L2Unavailable, match="no token can be given"):
        _ = a.start(token(a)).lose().result
