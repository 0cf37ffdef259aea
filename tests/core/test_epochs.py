"""Numbers belong to an epoch, and replies to the generation they were asked in (R43)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.hands import Clock, Node, bump, nodes
from tests.core.sim_server import SimServer
from tiercache._core.commands import Clear
from tiercache._core.reads import MISS


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
