"""Who may take what a load brought that Redis could not be asked about (coherence.md 3.9)."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, D, Hand, Node, bump, joined, took
from tests.core.sim_server import SimServer
from tiercache._core.commands import KeyAsk, Read


def meet(node: Node) -> None:
    """Have *node* meet the head as it is, in an answer that tells nothing of what came before it."""
    command = Read(node.core.epoch, 0, (KeyAsk("nothing", "get", ""),))
    assert node.core.meet(node.core.stand(node.clock()), node.server.perform(command).head)


def away(node: Node, key: str = "k") -> Hand:
    """A load that Redis could not be asked about."""
    loading = node.read(key, tags=["t"]).lose()
    assert loading.at == ("Call",)
    return loading


def test_without_redis_a_load_is_shared(a: Node, clock: Clock) -> None:
    clock.advance(D)
    leading = away(a)
    joining = joined(a)
    leading.reply("v")

    assert took(a, joining)


def test_without_redis_a_load_from_before_an_own_invalidation_is_not_taken(a: Node) -> None:
    leading = away(a)
    a.invalidate("t").lose()
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)


def test_without_redis_nor_is_one_from_before_an_own_invalidation_on_its_way(a: Node) -> None:
    """ "Sent or pending": it counts from its beginning."""
    leading = away(a)
    invalidating = a.invalidate("t")
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)
    assert invalidating.at == ("Invalidate",)


@pytest.mark.parametrize(("late", "is_taken"), [(D - 0.5, True), (D, False)])
def test_without_redis_a_load_is_joined_for_as_long_as_max_staleness(
    a: Node, clock: Clock, late: float, is_taken: bool
) -> None:
    leading = away(a)
    clock.advance(late)
    joining = joined(a)
    leading.reply("v")

    assert took(a, joining) is is_taken


def test_without_redis_a_load_from_before_what_was_met_since_is_not_taken(a: Node, server: SimServer) -> None:
    """G6: a read in between may have been given the newer value."""
    leading = away(a)
    bump(server, "t")
    meet(a)
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)


def test_without_redis_a_load_of_another_epoch_is_not_taken(a: Node, server: SimServer) -> None:
    """The numbers met in it say nothing of those met since."""
    for _ in range(9):
        bump(server, "u")
    a.synced()
    leading = away(a)
    server.flush()
    a.synced()
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)


def test_without_redis_a_load_from_before_the_epoch_was_disowned_is_not_taken(a: Node) -> None:
    leading = away(a)
    a.core.disown()
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)


def test_without_redis_a_load_from_before_the_clock_stood_still_is_not_taken(a: Node) -> None:
    """How long ago it began nobody can tell."""
    leading = away(a)
    a.core.lapse()
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)


def test_without_redis_a_nested_read_takes_no_load_of_others(a: Node) -> None:
    leading = away(a, "inner")
    outer = a.read("outer").answer()
    nested = a.read("inner", tags=["t"], inside=outer)
    assert nested.at == ("Join",)
    leading.reply("v")

    assert not took(a, nested)


def test_without_redis_a_load_that_began_under_a_lease_is_not_taken_after_it(
    a: Node, server: SimServer, clock: Clock
) -> None:
    """Its loader may have read a part of it in a thread where nobody can tell, which L1 answers."""
    a.load("part", "old", ["t"])
    bump(server, "t")
    clock.advance(D - 2)
    leading = away(a)
    clock.advance(1)
    assert a.load("part", "new", ["t"]) == "old", "its lease is good for a second"
    clock.advance(2)
    joining = joined(a)
    leading.reply("made of what is old")

    assert not took(a, joining)


def test_without_redis_a_load_is_not_taken_where_a_lease_was_got_since_it_began(
    a: Node, server: SimServer, clock: Clock
) -> None:
    """The sync may have run before the load began, and L1 have given it a part of that age."""
    clock.advance(D + 1)
    syncing = a.sync().execute()
    clock.advance(0.5)
    leading = a.read("k", tags=["t"]).wake()
    assert leading.at == ("Call",), "the sync under way is waited for in vain"
    syncing.reply()
    joining = joined(a)
    leading.reply("old")

    assert not took(a, joining)
