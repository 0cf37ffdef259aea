"""Functions whose values stay out of L2: exact, and without a round trip."""

from __future__ import annotations

from tests.core.hands import Node, bump
from tests.core.sim_server import SimServer


def test_without_l2_a_value_lives_in_l1_and_no_round_trip_is_made(a: Node) -> None:
    reading = a.read("k", l2=False)
    assert reading.at == ("Call",)
    assert reading.reply("v").result == "v"

    assert a.get("k") == "v"


def test_without_l2_a_load_that_a_record_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    loading = a.read("k", tags=["t"], l2=False)
    a.hear(bump(server, "t"))
    loading.reply("old")

    assert not a.in_l1("k")


def test_without_l2_a_load_whose_head_is_not_proved_is_not_kept_before_a_sync(
    a: Node, server: SimServer
) -> None:
    """Another read of the node has met a record that nobody here has been told of."""
    loading = a.read("k", tags=["t"], l2=False)
    bump(server, "t")
    a.get("other")

    assert loading.reply("old").at == ("Sync",)
    assert a.finish(loading) == "old"
    assert not a.in_l1("k")


def test_without_l2_a_load_begins_with_all_that_was_met_proved(a: Node, server: SimServer) -> None:
    bump(server, "t")
    a.get("other")

    reading = a.read("k", tags=["t"], l2=False)

    assert reading.at == ("Sync",)
    assert a.finish(reading, "v") == "v"
    assert a.in_l1("k")


def test_without_l2_a_load_of_an_epoch_that_is_over_is_not_kept(a: Node, server: SimServer) -> None:
    """Its token is high, and would outlive the first records of the next one."""
    for _ in range(9):
        bump(server, "u")
    a.synced()
    loading = a.read("k", tags=["t"], l2=False)
    server.flush()
    a.synced()
    loading.reply("old")

    assert not a.in_l1("k")


def test_without_l2_a_record_reaches_it_as_any_other(a: Node, b: Node) -> None:
    a.load("k", "old", ["t"], l2=False)
    b.finish(b.invalidate("t"))
    a.synced()

    assert a.load("k", "new", ["t"], l2=False) == "new"
