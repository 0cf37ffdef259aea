"""Numbers belong to an epoch, and replies to the generation they were asked in (R43)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.hands import Clock, Node, bump, nodes
from tests.core.sim_server import SimServer
from tiercache._core.commands import Clear
from tiercache._core.reads import MISS
from tiercache._core.told import MAX_SPLIT


def answer_in_flight(node: Node, key: str = "k", tags: tuple[str, ...] = ("t",)) -> Any:
    """A `get` whose hit is on its way, and not yet here."""
    Node(node.server, node.clock, "cc").synced().load(key, "old", tags)
    return node.read(key, call=None).execute()


def test_a_new_epoch_empties_l1(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    server.flush()

    a.synced()

    assert not a.in_l1("k")


def test_an_answer_of_the_old_epoch_is_not_kept_in_the_new_one(a: Node, server: SimServer) -> None:
    reading = answer_in_flight(a)
    server.flush()
    a.synced()

    assert reading.reply().at == ("Read",)  # the answer is void, and asked for again
    assert reading.answer().result is MISS


def test_a_fill_of_the_old_epoch_is_not_kept_in_the_new_one(a: Node, server: SimServer) -> None:
    for _ in range(3):
        bump(server, "u")
    a.synced()
    filling = a.read("k").answer().reply("old").execute()
    server.flush()
    a.synced()
    filling.reply()

    assert not a.in_l1("k")


def test_what_was_applied_in_the_old_epoch_keeps_nothing_out_in_the_new_one(
    a: Node, server: SimServer
) -> None:
    a.hear(*(bump(server, "t") for _ in range(9)))
    server.flush()
    a.synced()

    a.load("k", "v", ["t"])

    assert a.in_l1("k")


def test_an_own_record_of_another_epoch_disowns_this_one(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    server.flush()

    a.finish(a.invalidate("u"))

    assert not a.in_l1("k")
    assert a.core.lease < a.clock()
    assert a.core.epoch == 0


def test_an_old_primary_met_again_serves_nothing_that_was_invalidated_on_the_new_one(
    a: Node, server: SimServer
) -> None:
    """A split, and a name that leads to the new primary and back: both take writes.

    1. a loads k on the old primary.
    2. It is led to the new one, and invalidates t there; the call returns.
    3. It is led back, and syncs: the epoch is another, so it is adopted, with a lease.
    4. It reads k: nobody has invalidated t here.
    """
    a.load("k", "old", ["t"])
    before, tenure = server.domain, server.tenure
    server.fail_over(server.copy())
    a.finish(a.invalidate("t"))
    a.synced()

    server.domain, server.tenure = before, tenure
    a.synced()

    assert a.finish(a.read("k", call=None)) is MISS


@pytest.mark.parametrize("splits", [1, 2])
def test_an_old_primary_met_again_serves_nothing_that_others_invalidated_on_the_new_one(
    a: Node, server: SimServer, splits: int
) -> None:
    """a has read there what they wrote, and would go back before it (G6); also from a third primary."""
    a.load("k", "old", ["t"])
    old = server.domain, server.tenure
    for _ in range(splits):
        server.fail_over(server.copy())
        b = Node(server, a.clock, "bb").synced()
        b.finish(b.invalidate("t"))
        assert a.synced().load("k", "new", ["t"]) == "new"

    server.domain, server.tenure = old
    a.synced()

    assert a.get("k") is MISS
    assert Node(server, a.clock, "cc").synced().get("k") is MISS, "it is told to all"


def test_an_epoch_that_is_adopted_again_and_was_not_left_is_not_cleared(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    a.core.disown()
    a.synced()

    assert a.get("k") == "v"


def test_an_invalidation_that_an_old_primary_took_during_a_split_is_not_lost(
    a: Node, server: SimServer
) -> None:
    """Both primaries take writes; a is late to find the new one, where b is.

    1. The new primary is promoted: its epoch begins with b's sync.  2. b loads k there: old.
    3. a commits new, and invalidates t on the old primary; the call returns.
    4. a finds the new primary, syncs, and reads k: old, stored after the epoch began.
    """
    a.synced()
    old = server.domain, server.tenure
    server.fail_over(server.copy())
    b = Node(server, a.clock, "bb").synced()
    b.load("k", "old", ["t"])
    new = server.domain, server.tenure
    server.domain, server.tenure = old
    a.finish(a.invalidate("t"))

    server.domain, server.tenure = new
    a.synced()

    assert a.finish(a.read("k", call=None)) is MISS
    b.synced()
    assert not b.in_l1("k")


@pytest.mark.parametrize(("later", "again"), [(MAX_SPLIT - 1, True), (MAX_SPLIT + 1, False)])
def test_what_was_told_before_any_split_that_may_be_is_not_told_again(
    a: Node, server: SimServer, clock: Clock, later: float, again: bool
) -> None:
    a.finish(a.invalidate("t"))
    clock.advance(later)
    a.synced()
    server.fail_over(server.copy())
    a.synced()

    assert (bump(server, "u") == 3) == again


def test_a_sync_sent_under_a_disowned_epoch_is_thrown_away(a: Node, server: SimServer) -> None:
    """R43: it would bring back a lease, and with it the old value, after the own invalidation returned."""
    copy = server.copy()
    sync = a.sync().execute()
    server.fail_over(copy)
    a.finish(a.invalidate("t"))

    sync.reply()

    assert a.core.epoch == 0
    assert a.core.lease < a.clock()
    assert sync.at == ("Sync",)  # it asks again, now the new primary


def test_a_sync_sent_before_the_first_epoch_was_disowned_is_thrown_away(
    server: SimServer, clock: Clock
) -> None:
    """No epoch, then none again: only the generation tells the two apart."""
    a = Node(server, clock, "a")
    sync = a.sync().execute()
    server.fail_over(server.copy())
    a.finish(a.invalidate("t"))
    sync.reply()

    assert a.core.epoch == 0
    assert a.finish(sync)[0]
    assert a.core.epoch == server.hints[-1].epoch


def test_an_answer_sent_under_a_disowned_generation_is_void(a: Node, server: SimServer) -> None:
    """The epoch is the same again, the numbers met in it are forgotten."""
    reading = answer_in_flight(a)
    a.finish(a.invalidate("t"))
    a.core.disown()
    a.synced()

    assert reading.reply().at == ("Read",)
    assert reading.answer().result is MISS


def test_a_fill_sent_under_a_disowned_generation_is_not_kept(a: Node, server: SimServer) -> None:
    filling = a.read("k", tags=["t"]).answer().reply("old").execute()
    a.finish(a.invalidate("t"))
    a.core.disown()
    a.synced()
    filling.reply()

    assert not a.in_l1("k")


# ---- syncs that overlap


def test_a_sync_that_says_flush_empties_l1_and_brings_a_lease(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    server.perform(Clear())
    a.synced()

    assert not a.in_l1("k")
    assert a.tiers.events["flushes"] == 1
    assert a.get("k") is MISS


@pytest.mark.parametrize("flushed", [False, True])
def test_a_sync_that_comes_late_takes_nothing_back(a: Node, server: SimServer, flushed: bool) -> None:
    """Within one epoch what was met only grows, and so does the lease."""
    if flushed:
        server.perform(Clear())
    early = a.core.sync(a.clock())
    reply = server.perform(early[0])
    a.clock.advance(1)
    head = bump(server, "t")
    a.synced()
    before = a.core.stand(a.clock())

    assert a.core.prove(early[1], reply, a.clock())

    after = a.core.stand(a.clock())
    assert (after.seen, after.proved, after.lease) == (head, head, before.lease)


def test_two_nodes_hear_of_each_other_by_hint_alone(server: SimServer, clock: Clock) -> None:
    a, b = nodes(server, clock)
    a.load("k", "old", ["t"])
    written = b.finish(b.invalidate("t"))

    a.hear(written.token.number)

    assert a.load("k", "new", ["t"]) == "new"
    assert b.get("k") == "new"
