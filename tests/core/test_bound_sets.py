"""A set is bound to a place in the history: what others wrote since, or a fence, refuses it (R30, G7)."""

from __future__ import annotations

from tests.core.hands import Node
from tests.core.sim_server import SimServer
from tiercache._core import writes
from tiercache._core.commands import Set
from tiercache._core.reads import MISS


def test_a_set_under_a_fence_stores_nothing_says_so_and_invalidates(a: Node, b: Node) -> None:
    b.finish(b.put("k", "old", tags=["t"]))
    a.block("t").open()

    written = b.finish(b.put("k", "maybe old", tags=["t"]))

    assert not written.stored
    assert written.token is not None
    assert a.get("k") is b.get("k") is MISS


def test_a_set_inside_the_writers_own_block_stores_nothing(a: Node, b: Node) -> None:
    block = a.block("t").open()
    assert not a.finish(a.put("k", "new", tags=["t"])).stored
    block.close()

    assert a.get("k") is b.get("k") is MISS


def test_a_set_that_others_came_before_is_sent_again_from_where_redis_is(a: Node, b: Node) -> None:
    """A hint raises nothing, so a node knows of others' records only what a reply told it."""
    b.finish(b.put("k", "v1"))
    putting = a.put("k", "v2")
    assert putting.answer().at == ("Set",)

    assert putting.answer().result.stored
    assert b.synced().get("k") == "v2"


def test_a_set_that_is_overtaken_at_every_turn_invalidates_and_says_so(a: Node, b: Node) -> None:
    putting = a.put("k", "mine")
    while putting.at == ("Set",):
        b.finish(b.put("k", "other"))
        putting.answer()
    assert putting.at == ("Invalidate",)

    written = putting.answer().result

    assert not written.stored
    assert a.tiers.events["set_refused"] == 1
    assert a.get("k") is b.synced().get("k") is MISS


def test_a_set_that_is_refused_for_its_token_is_not_sent_again(a: Node, b: Node) -> None:
    token = a.finish(a.invalidate("u")).token
    b.finish(b.put("k", "newer"))

    putting = a.put("k", "older", token=token).answer()

    assert not putting.result.stored
    assert b.get("k") == "newer"


def test_a_second_turn_that_runs_late_does_not_undo_a_newer_set(a: Node, b: Node, server: SimServer) -> None:
    """R30, for the set that was sent again."""
    b.finish(b.put("k", "v0"))
    stalled = a.put("k", "v1").answer()
    (late,) = stalled.commands
    stalled.lose()
    b.finish(b.put("k", "v2"))

    server.perform(late)

    assert b.synced().get("k") == "v2"


def test_of_sets_in_one_round_trip_only_those_that_were_refused_are_sent_again(a: Node, b: Node) -> None:
    b.finish(b.put("k1", "other"))
    items = [(a.want(key, call=None), "mine") for key in ("k0", "k1", "k2")]
    putting = a.start(writes.put(a.tiers, items, blocking=False)).answer()

    (again,) = putting.commands
    assert isinstance(again, Set)
    assert again.key == "k1"
    assert putting.answer().result.stored
    assert [b.synced().get(key) for key in ("k0", "k1", "k2")] == ["mine"] * 3
