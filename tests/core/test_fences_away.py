"""Blocks that are cut short, outlive their fence, or find no Redis: what holds all the same, and counts."""

from __future__ import annotations

import pytest

from tests.core.hands import Cancelled, Clock, Node, begun
from tests.core.sim_server import SimServer
from tests.core.test_fences import FENCE, MANY, live
from tiercache._core.fences import Unfence
from tiercache._core.reads import MISS
from tiercache._core.syncs import _let_go
from tiercache._errors import L2Refused, L2Unavailable

# ---- cut short


@pytest.mark.parametrize("runs", [True, False])
def test_a_task_that_is_cancelled_while_it_fences_leaves_no_fence(
    a: Node, b: Node, server: SimServer, runs: bool
) -> None:
    beginning = a.block("t").begin()
    if runs:
        beginning.execute()
    beginning.throw(Cancelled())
    assert beginning.at == ("Unfence",)
    assert not a.core.bypassed(["t:t"])
    beginning.answer()

    with pytest.raises(Cancelled):
        _ = beginning.result
    assert live(server) == 0
    b.synced().load("k", "v", ["t"])
    assert b.in_l1("k")


def test_a_slice_that_is_refused_takes_the_fences_of_those_before_it_along(
    a: Node, server: SimServer
) -> None:
    beginning = a.block(*MANY, on_outage="abort").begin().answer()
    assert live(server) == 1

    beginning.throw(L2Refused("OOM")).answer()

    with pytest.raises(L2Refused):
        _ = beginning.result
    assert live(server) == 0


def test_an_end_that_is_cut_short_is_pending_and_its_fence_runs_out(
    a: Node, b: Node, server: SimServer, clock: Clock
) -> None:
    block = a.block("t").open()
    block.end().throw(Cancelled())
    assert not a.core.bypassed(["t:t"])
    b.synced().load("k", "maybe old", ["t"])
    assert not b.in_l1("k")

    a.synced()
    assert a.core.pending == {}
    clock.advance(FENCE)
    b.synced().load("k", "new", ["t"])

    assert live(server) == 0
    assert b.in_l1("k")


def test_a_fence_that_redis_did_not_answer_to_may_stand_and_runs_out(
    a: Node, server: SimServer, clock: Clock
) -> None:
    a.block("t", on_outage="abort").begin().execute().lose().reply()  # nor does it hear the end of it
    assert live(server) == 1
    clock.advance(FENCE)

    a.synced()

    assert live(server) == 0


# ---- Redis away


def test_without_redis_a_write_goes_on_unfenced_and_that_is_counted(a: Node, b: Node) -> None:
    block = a.block("t")
    block.begin().lose()
    assert not block.itself.fenced
    assert a.tiers.events["guarantee_suspended"] == 1
    assert a.core.bypassed(["t:t"])

    block.end().lose()

    assert block.itself.written is not None
    assert block.itself.written.pending
    b.load("k", "old", ["t"])
    a.synced()
    assert b.synced().get("k") is MISS


def test_without_redis_a_write_that_must_not_go_on_unfenced_is_stopped_before_it_begins(a: Node) -> None:
    beginning = a.block("t", on_outage="abort").begin().lose().reply()

    with pytest.raises(L2Unavailable):
        _ = beginning.result
    assert not a.core.bypassed(["t:t"])
    assert a.tiers.events["guarantee_suspended"] == 0
    assert a.core.pending == {}


def test_a_write_that_took_longer_than_its_fence_says_so(a: Node, clock: Clock) -> None:
    block = a.block("t").open()
    assert block.itself.fenced
    clock.advance(FENCE)

    block.close()

    assert not block.itself.fenced
    assert a.tiers.events["guarantee_suspended"] == 1


def test_a_write_whose_fence_redis_lost_says_so(a: Node, server: SimServer) -> None:
    """1. The fence.  2. FLUSHALL, or a failover.  3. The commit: somebody may have kept what is old."""
    block = a.block("t").open()
    server.flush()

    block.close()

    assert not block.itself.fenced
    assert a.tiers.events["guarantee_suspended"] == 1


def test_a_write_that_redis_heard_all_of_suspends_nothing(a: Node) -> None:
    block = a.block("t", *MANY).open()
    block.close()

    assert block.itself.fenced
    assert a.tiers.events["guarantee_suspended"] == 0


def test_a_fence_that_cannot_be_lifted_is_counted_and_lifted_with_the_next_sync(
    a: Node, server: SimServer
) -> None:
    block = a.block("t").open()
    block.itself.discard()
    ending = block.end()
    assert isinstance(ending.commands[0], Unfence)

    ending.lose()

    assert ending.result is None
    assert a.tiers.events["fences_left"] == 1
    assert live(server) == 1
    assert not a.core.bypassed(["t:t"])

    a.synced()

    assert live(server) == 0


def test_the_fence_of_a_block_whose_end_got_lost_goes_after_its_invalidation(
    a: Node, b: Node, server: SimServer
) -> None:
    block = a.block("t").open()
    block.end().lose()
    assert live(server) == 1

    renewing = a.sync()
    seen = []
    while renewing.step is not None:
        seen += renewing.at
        renewing.answer()

    assert seen == ["Invalidate", "Sync", "Unfence"]
    assert live(server) == 0
    b.load("k", "new", ["t"])
    assert b.in_l1("k")


def test_a_fence_that_is_owed_since_a_moment_waits_for_its_invalidation(a: Node, server: SimServer) -> None:
    """1. A sync has found nothing pending, and something owed.  2. A block's end gets lost in a thread."""
    block = a.block("t").open()
    block.end().lose()

    assert a.start(_let_go(a.tiers)).step is None
    assert (live(server), len(a.tiers.owed)) == (1, 1)


def test_a_fence_is_not_lifted_while_its_invalidation_waits_again(a: Node, server: SimServer) -> None:
    """1. A sync has sent what was pending, and is answered.  2. Meanwhile another block's end got lost."""
    block = a.block("t").open()
    renewing = a.sync().execute()
    block.end().lose()

    assert renewing.reply().at != ("Unfence",)
    a.finish(renewing)
    assert live(server) == 1
    a.synced()
    assert live(server) == 0


@pytest.mark.parametrize("what", ["fences", "fenced"])
def test_fences_that_redis_evicted_take_the_epoch_along(
    a: Node, b: Node, server: SimServer, what: str
) -> None:
    """Whoever was to be held back by them cannot be told: nothing of before is good."""
    b.load("other", "v", ["u"])
    a.block("t").open()
    loading = begun(b.synced())
    getattr(server.domain, what).clear()

    b.finish(loading, "old")
    b.synced()

    assert not server.holds("k")
    assert b.get("k") is b.get("other") is MISS
