"""Replies that something overtook on their way are not kept (coherence.md 3.3)."""

from __future__ import annotations

from typing import Any

from tests.core.hands import Node, bump
from tests.core.sim_server import SimServer
from tiercache._core.coherence import MAX_RECENT
from tiercache._core.commands import Clear, Read
from tiercache._core.records import Hint


def answer_in_flight(node: Node, key: str = "k", tags: tuple[str, ...] = ("t",)) -> Any:
    """A `get` whose hit is on its way, and not yet here."""
    Node(node.server, node.clock, "cc").synced().load(key, "old", tags)
    return node.read(key, call=None).execute()


def test_a_hit_that_a_hint_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    """R1, R13a: L2 answers; the record comes, with nothing to drop; the answer comes."""
    reading = answer_in_flight(a)
    a.hear(bump(server, "t"))

    assert reading.reply().result == "old"  # it was read before the record, and so was this read
    assert not a.in_l1("k")


def test_a_hit_that_a_record_on_something_else_overtook_is_kept(a: Node, server: SimServer) -> None:
    reading = answer_in_flight(a)
    a.hear(bump(server, "u"))
    reading.reply()

    assert a.in_l1("k")


def test_a_hit_that_a_sync_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    reading = answer_in_flight(a)
    bump(server, "t")
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_hit_that_an_own_invalidation_overtook_is_not_kept(a: Node) -> None:
    """R3, R40: no mark on the writer's side is needed, its own reply is a record like others."""
    reading = answer_in_flight(a)
    a.finish(a.invalidate("t"))
    reading.reply()

    assert not a.in_l1("k")


def test_a_load_that_an_own_invalidation_overtook_is_not_kept(a: Node) -> None:
    """R40"""
    reading = a.read("k", tags=["t"]).answer().reply("old").execute()
    a.finish(a.invalidate("t"))

    assert reading.reply().result == "old"
    assert not a.in_l1("k")


def test_a_hit_that_a_clear_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    """A sync that says FLUSH counts as a record on everything."""
    reading = answer_in_flight(a)
    server.perform(Clear())
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_sync_of_before_says_nothing_of_the_records_since(a: Node, server: SimServer) -> None:
    """A sync that names another dependency, or none, must not hide the record that overtook the hit."""
    reading = answer_in_flight(a)
    a.hear(bump(server, "t"))
    bump(server, "u")
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_hit_at_a_head_below_one_met_before_is_not_kept(a: Node, server: SimServer) -> None:
    """R42: what came between may be on it, and is not known yet."""
    reading = answer_in_flight(a)
    bump(server, "t")
    a.get("something else")
    reading.reply()

    assert not a.in_l1("k")


def test_a_hit_at_a_head_below_one_met_before_is_kept_when_a_sync_has_told_what_came_between(
    a: Node, server: SimServer
) -> None:
    reading = answer_in_flight(a)
    bump(server, "u")
    a.get("something else")
    a.synced()
    reading.reply()

    assert a.in_l1("k")


def test_a_forged_hint_does_not_tell_what_came_between(a: Node, server: SimServer) -> None:
    """`applied` may rest on a lie, `proved` does not."""
    reading = answer_in_flight(a)
    bump(server, "t")
    a.core.hear(Hint(a.core.epoch, a.core.applied + 1, ("x",)))
    a.get("something else")
    reading.reply()

    assert not a.in_l1("k")


def test_what_a_later_answer_superseded_does_not_come_back(a: Node, server: SimServer) -> None:
    """G6: a refresh was given the new value, which then could not be kept; L1 still had the old one."""
    a.load("k", "old", ["t"])
    bump(server, "t")

    refreshing = a.read("k", tags=["t"], renew=True).answer()
    while refreshing.at == ("Sync",):
        refreshing.lose()
    assert refreshing.reply("new").lose().result == "new"

    assert a.load("k", "new", ["t"]) == "new"


def test_records_beyond_the_cap_are_forgotten_and_older_replies_with_them(a: Node, server: SimServer) -> None:
    """3.11: a hung loader must not make `recent` grow for ever; an insert then needs a newer head."""
    reading = answer_in_flight(a)
    slow = a.read("slow").answer()
    for number in range(MAX_RECENT + 1):
        bump(server, f"n{number}")
        a.core.hear(server.hints[-1])
    assert len(a.core.recent) <= MAX_RECENT

    reading.reply()
    assert not a.in_l1("k")
    slow.reply("v").answer()
    assert a.in_l1("slow")  # its fill was accepted at the newest head


# ---- by an own record


def test_an_own_record_drops_what_was_vouched_for_before_it(a: Node) -> None:
    a.load("k", "old", ["t"])
    a.finish(a.invalidate("t"))

    assert a.load("k", "new", ["t"]) == "new"


def test_an_own_record_drops_what_was_kept_while_it_was_on_its_way(a: Node, b: Node) -> None:
    b.load("k", "old", ["t"])
    invalidating = a.invalidate("t")
    assert a.get("k") == "old"
    assert a.in_l1("k")

    invalidating.answer()

    assert not a.in_l1("k")


def test_an_own_record_leaves_what_is_newer(a: Node, server: SimServer) -> None:
    invalidating = a.invalidate("t").execute()
    a.load("k", "new", ["t"])

    invalidating.reply()

    assert a.in_l1("k")


def test_an_own_record_is_met(a: Node) -> None:
    """Else a server that lost it in a failover could answer this node's next read (G2)."""
    head = a.finish(a.invalidate("t")).token.number
    (command,) = a.read("k").commands

    assert isinstance(command, Read)
    assert command.seen == head
