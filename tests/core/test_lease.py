"""Until when a node may answer, told by one clock (coherence.md 3.3, 3.6)."""

from __future__ import annotations

from typing import Any

from tests.core.hands import Clock, D, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core.l1 import Entry
from tiercache._core.reads import MISS


def test_l1_answers_until_its_lease_ends_and_not_at_its_end(a: Node, clock: Clock) -> None:
    """R33, R34, R35, R37: a node that was stopped, or whose loop was blocked, finds its lease over."""
    a.load("k", "v", ["t"])
    clock.advance(D - 0.5)
    assert a.get("k") == "v"
    assert a.counts.l1_hits == 1

    clock.advance(0.5)

    assert a.read("k", call=None).at == ("Sync", "Read")


def test_the_lease_counts_from_when_the_sync_was_sent(a: Node, server: SimServer, clock: Clock) -> None:
    """R31: sent and run at 0, a record at 1, its reply read at 9: a lease until 19 would hide the record."""
    a.load("k", "old", ["t"])
    sync = a.sync().execute()
    bump(server, "t")
    clock.advance(9)
    sync.reply()

    assert a.get("k") == "old"
    clock.advance(1)
    assert a.get("k") is MISS


def test_a_record_that_comes_with_the_new_lease_is_seen_by_a_look_up_under_way(
    a: Node, server: SimServer, clock: Clock
) -> None:
    """R32: 1. a thread finds the entry, the lease is over.  2. A sync kills the entry, renews the lease.
    3. The thread compares with the clock."""
    a.load("k", "old", ["t"])
    clock.advance(D)
    bump(server, "t")

    syncs = [a.sync().execute()]

    class SyncInTheMiddle(dict[str, Entry]):
        def get(self, key: str, default: Any = None) -> Any:
            entry = super().get(key)
            while syncs:
                syncs.pop().reply()
            return entry

    a.core.l1.entries = SyncInTheMiddle(a.core.l1.entries)
    entry, until = a.core.serve("k")

    assert a.core.lease > clock()
    assert entry is not None
    assert clock() >= until


def test_without_a_lease_l2_is_not_asked_without_a_sync_in_front(a: Node, server: SimServer) -> None:
    """R28: an answer of L2 needs a lease as one of L1 does."""
    fresh = Node(server, a.clock, "b")
    a.load("k", "v", ["t"])

    reading = fresh.read("k", call=None)

    assert reading.at == ("Sync",)
    assert reading.answer().at == ("Read",)
    assert reading.answer().result == "v"


def test_a_lapsed_lease_is_renewed_and_l2_asked_in_one_round_trip(a: Node, clock: Clock) -> None:
    a.load("k", "v", ["t"])
    clock.advance(D)

    reading = a.read("k", call=None)

    assert reading.at == ("Sync", "Read")
    assert reading.answer().result == "v"


def test_clocks_an_hour_apart_do_not_matter(server: SimServer) -> None:
    """R37: versions are counters, and a lease is told by one clock."""
    here, there = Clock(1000.0), Clock(4600.0)
    a, b = Node(server, here, "a").synced(), Node(server, there, "b").synced()
    a.load("k", "old", ["t"])

    b.finish(b.invalidate("t"))
    a.synced()

    assert a.load("k", "new", ["t"]) == "new"
    assert b.load("k", "unasked for", ["t"]) == "new"


def test_a_server_that_does_not_answer_ends_the_lease_by_not_renewing_it(a: Node, clock: Clock) -> None:
    """R8, R30: nothing is known to have happened, and yet L1 falls silent in time."""
    a.load("k", "v", ["t"])
    clock.advance(D / 2)
    a.sync().lose()
    assert a.get("k") == "v"

    clock.advance(D / 2)

    assert a.read("k", call=None).lose().result is MISS


def test_a_forked_child_has_neither_lease_nor_l1_and_waits_for_no_flight_of_its_parent(a: Node) -> None:
    """R36"""
    a.load("k", "v")
    parents = a.read("other").answer()

    a.core.disown()
    a.tiers.forget()

    assert not a.in_l1("k")
    assert a.read("other").at == ("Sync",)
    assert parents.at == ("Call",)


def test_after_the_clock_stood_still_no_lease_from_before_counts(a: Node, clock: Clock) -> None:
    """A1: neither the one that is held, nor the one on its way."""
    a.load("k", "v", ["t"])
    clock.advance(1)
    sync = a.sync().execute()

    a.core.lapse()
    assert a.core.lease < clock()
    sync.reply()

    assert a.core.lease < clock()
