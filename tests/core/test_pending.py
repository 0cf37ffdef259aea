"""Invalidations that Redis has not taken: who reads what meanwhile, and how they are sent (3.11)."""

from __future__ import annotations

import pytest

from tests.core.hands import Cancelled, Clock, Hand, Node
from tests.core.sim_server import SimServer
from tiercache._core import writes
from tiercache._core.reads import MISS
from tiercache._errors import L2Refused, L2Unavailable

MANY = [f"n{i}" for i in range(4001)]


# ---- reads of the same process


def pend(node: Node, *tags: str) -> None:
    written = node.invalidate(*tags).lose().result
    assert written.pending
    assert written.token is None


def test_a_pending_invalidation_drops_what_it_names(a: Node) -> None:
    a.load("k", "old", ["t"])
    a.load("other", "v", ["u"])

    pend(a, "t")

    assert not a.in_l1("k")
    assert a.in_l1("other")


def test_until_it_is_done_no_read_asks_l2_before_it_was_sent_again(a: Node) -> None:
    """Else: 1. It fails.  2. A read asks L2: old.  3. It is sent again, and done.  4. The answer comes, and
    nothing is pending any more."""
    a.load("k", "old", ["t"])
    pend(a, "t")

    reading = a.read("k", tags=["t"])

    assert reading.at == ("Invalidate",)
    assert reading.lose().at == ("Call",)
    assert reading.reply("new").result == "new"
    assert not a.in_l1("k")


def test_an_answer_on_its_way_when_it_fails_is_ignored(a: Node, b: Node) -> None:
    b.load("k", "old", ["t"])
    reading = a.read("k", tags=["t"]).execute()
    pend(a, "t")

    assert a.finish(reading.reply(), "new") == "new"


def test_a_load_that_began_before_it_does_not_stay(a: Node) -> None:
    loading = a.read("k", tags=["t"]).answer()
    pend(a, "t")

    loading.reply("old").answer()

    assert not a.in_l1("k")


def test_a_load_that_began_before_it_is_not_joined_by_who_reads_after_it(a: Node) -> None:
    """Not even when it was done by the time the load landed: a joiner of before has no number to ask for."""
    loading = a.read("k", tags=["t"]).answer()
    pend(a, "t")
    reading = a.read("k", tags=["t"])
    assert reading.at == ("Join",)
    a.synced()
    loading.reply("old").answer()

    assert a.finish(reading.wake(), "new") == "new"


def test_an_answer_asked_for_while_it_was_failing_is_not_joined_by_who_reads_after_it(
    a: Node, b: Node
) -> None:
    """1. An invalidation is sent.  2. A reads, and L2 answers: old.  3. The invalidation fails, and its call
    returns.  4. B reads, and joins A's flight.  5. What was pending is done.  6. A's answer arrives."""
    b.load("k", "old", ["t"])
    failing = a.invalidate("t")
    leading = a.read("k", tags=["t"]).execute()
    failing.lose()
    joining = a.read("k", tags=["t"])
    assert joining.at == ("Join",)
    a.synced()
    assert not a.core.pending
    leading.reply()

    assert a.finish(joining, "new") == "new"


def test_it_is_done_by_the_next_sync_that_gets_through(a: Node, b: Node) -> None:
    a.load("k", "old", ["t"])
    assert b.get("k") == "old"
    pend(a, "t")

    a.synced()
    b.synced()

    assert a.get("k") is MISS
    assert b.get("k") is MISS
    assert a.load("k", "new", ["t"]) == "new"
    assert a.in_l1("k")


def test_who_asked_for_an_error_gets_it_and_it_is_pending_all_the_same(a: Node) -> None:
    invalidating = a.start(writes.invalidate(a.tiers, ["t"], [], raise_if_away=True))

    with pytest.raises(L2Unavailable):
        _ = invalidating.lose().result
    assert a.core.withheld(["t:t"])


@pytest.mark.parametrize("error", [L2Refused("READONLY"), L2Unavailable("lost")], ids=["refused", "lost"])
def test_a_refused_invalidation_is_pending_as_a_lost_one_is(a: Node, error: Exception) -> None:
    """R18: whether it ran is not known; it does no harm twice."""
    assert a.invalidate("t").throw(error).result.pending


def test_an_invalidation_that_was_cut_short_is_pending(a: Node) -> None:
    invalidating = a.invalidate("t")

    with pytest.raises(Cancelled):
        _ = invalidating.throw(Cancelled()).result
    assert a.core.withheld(["t:t"])


def test_of_an_invalidation_in_slices_only_those_not_taken_are_pending(a: Node) -> None:
    a.invalidate(*MANY).answer().lose()

    assert len(a.core.pending) == len(MANY) - 2000


def cut_short(putting: Hand, how: str) -> None:
    if how == "lost":
        assert putting.lose().result == writes.Written(None, pending=True, stored=False)
    else:
        with pytest.raises(Cancelled):
            _ = putting.throw(Cancelled()).result


@pytest.mark.parametrize("how", ["lost", "cancelled"])
def test_the_old_value_of_a_set_that_was_lost_counts_as_invalidated(a: Node, b: Node, how: str) -> None:
    b.finish(b.put("k", "old"))
    assert a.get("k") == "old"

    cut_short(a.put("k", "new"), how)

    assert a.read("k", call=None).at == ("Invalidate",)
    assert a.get("k") is MISS


# ---- how they are sent


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
