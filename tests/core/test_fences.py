"""Fences: what others may keep while a write of the truth is under way, and after its writer died (G7)."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, cast

import pytest

from tests.core.hands import Clock, D, Hand, Node, begun
from tests.core.sim_server import SimServer

FENCE = 3 * D  # seconds, of every block here
MANY = [f"n{i}" for i in range(4001)]


def live(server: SimServer) -> int:
    """Fences that are up, as the state counts them."""
    assert server.domain.state is not None
    return server.domain.state.fences


# ---- a writer that dies between its commit and the end


@pytest.mark.parametrize("l2", [True, False])
def test_a_writer_that_dies_after_its_commit_leaves_misses_and_never_the_old_value(
    a: Node, b: Node, clock: Clock, l2: bool
) -> None:
    """R14, with a function of two tiers and with one of L1 alone, whose load began under the fence."""
    b.load("k", "old", ["t"], l2=l2)
    a.block("t").open()
    b.synced()
    before_the_commit = begun(b, l2=l2)
    b.finish(before_the_commit, "old")

    clock.advance(D)  # the commit, and A is no more

    assert b.load("k", "new", ["t"], l2=l2) == "new"
    assert not b.in_l1("k")


@pytest.mark.parametrize("l2", [True, False])
def test_a_load_from_before_a_fence_is_not_kept_under_it(a: Node, b: Node, l2: bool) -> None:
    loading = begun(b, l2=l2)
    a.block("t").open()

    b.finish(loading, "old")
    b.synced()

    assert b.load("k", "new", ["t"], l2=l2) == "new"


def test_a_load_under_a_fence_is_not_kept_after_it_ran_out(a: Node, b: Node, clock: Clock) -> None:
    """Its token is newer than the fence: without the record that the fence becomes, it would be good."""
    a.block("t").open()
    b.synced()
    loading = begun(b)
    clock.advance(FENCE)
    b.synced()

    b.finish(loading, "old")

    assert b.load("k", "new", ["t"]) == "new"


def test_nothing_is_kept_before_somebody_made_a_record_of_a_fence_that_ran_out(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """A fill settles no fence: it would move the head of a primary that lost its records."""
    a.block("t").open()
    b.synced()
    loading = begun(b)
    clock.advance(FENCE)

    loading.reply("old").answer()

    assert not server.holds("k")


@pytest.mark.parametrize("l2", [True, False])
def test_once_a_fence_ran_out_values_are_kept_again(a: Node, b: Node, clock: Clock, l2: bool) -> None:
    a.block("t").open()
    clock.advance(FENCE)
    b.synced()

    b.load("k", "new", ["t"], l2=l2)

    assert b.get("k") == "new"
    assert b.in_l1("k")


@pytest.mark.parametrize("act", ["sync", "invalidate", "set", "clear", "fence"])
def test_whoever_comes_first_makes_a_record_of_a_fence_that_ran_out(
    a: Node, b: Node, server: SimServer, clock: Clock, act: str
) -> None:
    a.block("t", keys=["k"]).open()
    clock.advance(FENCE)
    acts: dict[str, Callable[[], Hand]] = {
        "sync": b.sync,
        "invalidate": lambda: b.invalidate("u"),
        "set": lambda: b.put("l", 1),
        "clear": b.clear,
        "fence": lambda: b.fence("u"),
    }

    b.finish(acts[act]())

    assert ("t:t", "k:k") in [hint.deps for hint in server.hints[1:]]
    assert live(server) == (act == "fence")


def test_what_a_fence_refused_is_no_part_of_another_load(a: Node, b: Node, clock: Clock) -> None:
    """1. B loads a part, from before the commit.  2. A commits, and dies.  3. Nearly D later B loads the
    whole, and joins its part.  4. Nearly D after that somebody joins the whole: its part is older than D."""
    a.block("t").open()
    b.synced()
    part = begun(b, "part")
    clock.advance(D - 1)
    whole = begun(b, "whole")
    nested = b.read("part", tags=["t"], inside=whole)
    assert nested.at == ("Join",)

    b.finish(part, "old")
    nested.wake()

    assert b.finish(nested, "new") == "new"


def test_nobody_joins_a_load_from_before_the_commit_later_than_a_lease(
    a: Node, b: Node, clock: Clock
) -> None:
    """The same within one process, for a function of L1 alone."""
    a.block("t").open()
    b.synced()
    loading = begun(b, l2=False)
    clock.advance(D)
    b.synced()
    joining = b.read("k", tags=["t"], l2=False)
    assert joining.at == ("Join",)

    b.finish(loading, "old")

    assert b.finish(joining, "new") == "new"


def test_a_sync_that_arrives_late_does_not_lift_a_fence_that_a_newer_one_told_of(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    """1. B's first sync runs.  2. The fence.  3. B's second sync runs and is answered.  4. The first reply
    comes.  5. B loads for L1 alone: what it finds is from before the commit."""
    (first, stood), (second, stood_next) = b.core.sync(clock()), b.core.sync(clock())
    early = server.perform(first)
    a.block("t").open()
    assert b.core.prove(stood_next, server.perform(second), clock())
    b.core.prove(stood, early, clock())

    b.load("k", "old", ["t"], l2=False)

    assert not b.in_l1("k")


# ---- the block


def test_a_block_leaves_no_fence_and_what_is_loaded_after_it_is_kept(
    a: Node, b: Node, server: SimServer
) -> None:
    a.block("t", keys=["l"]).open().close()

    assert live(server) == 0
    assert (server.domain.fences, server.domain.fenced) == ({}, {})
    b.synced().load("k", "new", ["t"])
    assert b.in_l1("k")


def test_the_old_value_is_gone_from_the_beginning_of_a_block(a: Node, b: Node, server: SimServer) -> None:
    """Or D would count from its end."""
    b.load("k", "old", ["t"])

    a.block("t").open()

    b.hear(server.hints[-1].number)
    assert not server.holds("k")
    assert not b.in_l1("k")


def test_other_tags_are_kept_as_ever(a: Node, b: Node) -> None:
    a.block("t").open()

    b.synced().load("other", "v", ["u"])
    b.load("alone", "v", ["u"], l2=False)

    assert b.in_l1("other")
    assert b.in_l1("alone")


def test_a_write_that_did_not_happen_leaves_no_record_beyond_the_one_of_its_beginning(
    a: Node, b: Node, server: SimServer
) -> None:
    """R19"""
    block = a.block("t").open()
    hints = len(server.hints)
    b.synced()
    loading = begun(b)
    block.itself.discard()
    block.close()
    b.synced()

    b.finish(loading, "still true")

    assert len(server.hints) == hints
    assert b.get("k") == "still true"
    assert (block.itself.written, live(server)) == (None, 0)


def test_one_writers_end_does_not_lift_the_fence_of_another(a: Node, b: Node, server: SimServer) -> None:
    """R20"""
    one, other = a.block("t", "u").open(), b.block("t").open()
    one.close()
    reader = Node(server, a.clock, "c").synced()
    reader.load("k", "maybe old", ["t"])
    reader.load("l", "v", ["u"])
    assert [reader.in_l1(key) for key in "kl"] == [False, True]

    other.close()

    reader.synced().load("k", "new", ["t"])
    assert reader.in_l1("k")


def test_blocks_in_blocks_are_fences_of_their_own(a: Node, b: Node, server: SimServer) -> None:
    outer = a.block("t").open()
    inner = a.block("t").open()
    assert live(server) == 2
    inner.close()
    b.synced().load("k", "maybe old", ["t"])
    assert not b.in_l1("k")

    outer.close()

    assert live(server) == 0


def test_a_fence_that_is_sent_twice_is_one(a: Node, server: SimServer) -> None:
    beginning = a.block("t").begin()
    server.perform(beginning.commands[0])
    beginning.answer()

    assert live(server) == 1
    assert server.domain.fenced == {"t:t": 1}


def test_more_than_a_record_takes_is_fenced_and_let_go_in_slices(a: Node, b: Node, server: SimServer) -> None:
    block = a.block(*MANY, keys=["k"]).open()
    assert live(server) == 3
    b.synced().load("l", "maybe old", [MANY[-1]])
    assert not b.in_l1("l")

    block.close()

    assert live(server) == 0
    assert block.itself.written is not None
    assert block.itself.written.token == (a.core.epoch, a.core.seen)


def test_what_did_not_happen_is_let_go_in_slices_too(a: Node, server: SimServer) -> None:
    block = a.block(*MANY).open()
    block.itself.discard()
    block.close()

    assert live(server) == 0


@pytest.mark.parametrize("discards", [False, True])
def test_a_child_that_was_forked_inside_a_block_does_not_lift_its_parents_fence(
    a: Node, b: Node, server: SimServer, discards: bool
) -> None:
    block = a.block("t").open()
    child = Node(server, a.clock, "child")
    forked = copy(block.itself)
    forked._node = cast("Any", child)
    if discards:
        forked.discard()
    child.finish(child.start(forked._end()))
    assert live(server) == 1
    b.synced().load("k", "maybe old", ["t"])
    assert not b.in_l1("k")

    block.close()

    assert live(server) == 0
