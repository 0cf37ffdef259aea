"""A server that lost something: its memory, a table, its last records, its turn as primary."""

from __future__ import annotations

import pytest

from tests.core.hands import Node, bump
from tests.core.sim_server import SimServer
from tiercache._core.commands import Clear
from tiercache._core.reads import MISS


@pytest.fixture(autouse=True)
def warm(a: Node, b: Node) -> None:
    """ "k" under "t" is in L2 and in both nodes' L1."""
    a.load("k", "old", ["t"])
    assert b.get("k") == "old"


def test_flushall_makes_l1_void_at_the_next_sync(a: Node, b: Node, server: SimServer) -> None:
    """R22: counters restart, and the numbers that L1 holds are high."""
    for _ in range(5):
        bump(server, "u")
    a.synced()
    server.flush()
    b.finish(b.invalidate("t"))

    a.synced()

    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_an_evicted_state_is_a_new_epoch_and_old_entries_match_no_more(
    a: Node, b: Node, server: SimServer
) -> None:
    """R24: a counter that starts from 0 again would reach the old entries' numbers."""
    bump(server, "t")
    server.domain.state = None

    for _ in range(3):
        b.finish(b.invalidate("u"))
    a.synced()

    assert "k" in server.domain.entries
    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_evicted_key_versions_let_no_load_of_before_in(a: Node, b: Node, server: SimServer) -> None:
    """3.8: their floor is then the head."""
    loading = a.read("s").answer()
    b.finish(b.invalidate(keys=["s"]))
    server.domain.keys = None

    loading.reply("old").answer()

    assert b.get("s") is MISS
    assert not a.in_l1("s")


def test_evicted_key_versions_make_a_node_that_is_behind_empty_its_l1(
    a: Node, b: Node, server: SimServer
) -> None:
    b.finish(b.invalidate(keys=["k"]))
    server.domain.keys = None

    a.synced()

    assert a.get("k") is MISS


def test_a_failover_that_lost_a_record_is_noticed_by_the_next_sync(
    a: Node, b: Node, server: SimServer
) -> None:
    """R23, R25, R29: entries and versions went back together, and the old value looks valid."""
    copy = server.copy()
    b.finish(b.invalidate("t"))
    assert not server.holds("k")
    server.fail_over(copy)
    assert server.holds("k")

    a.synced()

    assert a.get("k") is MISS
    assert not server.holds("k")


def test_until_then_who_met_the_lost_record_is_not_answered(a: Node, b: Node, server: SimServer) -> None:
    """R25, R42: its reads ask for the head it has met."""
    copy = server.copy()
    b.finish(b.invalidate("t"))
    server.fail_over(copy)

    reading = b.read("k", tags=["t"])
    assert reading.at == ("Look",)
    assert reading.answer().at == ("Read",)

    assert reading.answer().at == ("Sync", "Read")
    assert b.tiers.events["resyncs"] == 1
    assert b.finish(reading, "new") == "new"


def test_a_node_is_not_led_back_behind_what_it_was_given(a: Node, server: SimServer) -> None:
    """R42, G6: 1. Its fill is accepted at a record.  2. A failover loses it.  3. It reads again, past L1."""
    copy = server.copy()
    bump(server, "t")
    assert a.synced().load("k", "new", ["t"]) == "new"
    server.fail_over(copy)
    a.core.l1.drop("k")

    assert a.load("k", "new", ["t"]) == "new"


def test_numbers_that_are_used_twice_are_told_apart(a: Node, b: Node, server: SimServer) -> None:
    """R26: "a" applied 2 and 3; they are lost; 2 and 3 come again, on other dependencies."""
    copy = server.copy()
    a.hear(bump(server, "u"), bump(server, "u"))
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
