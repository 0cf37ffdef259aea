"""`invalidating` blocks: a write of the truth under way in this process."""

from __future__ import annotations

from contextvars import copy_context

import pytest

from tests.core.hands import Cancelled, Hand, Node
from tiercache._core.flights import current_load, running_load
from tiercache._core.plan import Call
from tiercache._core.reads import MISS


def test_inside_a_block_reads_go_past_both_tiers(a: Node) -> None:
    a.load("k", "old", ["t"])
    a.core.hold(["t:t"])

    reading = a.read("k", tags=["t"])
    assert reading.at == ("Call",)
    assert reading.reply("mine").result == "mine"
    assert not a.in_l1("k")


def test_inside_a_block_a_hit_by_key_whose_tags_nobody_named_is_not_given(a: Node, b: Node) -> None:
    b.load("k", "old", ["t"])
    a.core.hold(["t:t"])

    assert a.get("k") is MISS


def test_a_load_from_before_a_block_is_not_kept_in_it_or_after_it(a: Node) -> None:
    loading = a.read("k", tags=["t"]).answer()
    a.core.hold(["t:t"])
    loading.reply("old").execute()
    a.finish(a.invalidate("t"))
    a.core.release(["t:t"])
    loading.reply()

    assert not a.in_l1("k")
    assert a.get("k") is MISS


def test_inside_a_block_nothing_is_kept(a: Node) -> None:
    loading = a.read("k", tags=["t"]).answer()
    a.core.hold(["t:t"])
    loading.reply("old").answer()

    assert loading.result == "old"
    assert not a.in_l1("k")


def test_blocks_on_one_tag_are_counted(a: Node) -> None:
    """R20, in one process: the end of one must not lift the other's."""
    a.core.hold(["t:t"])
    a.core.hold(["t:t"])
    a.core.release(["t:t"])
    assert a.core.bypassed(["t:t"])

    a.core.release(["t:t"])

    assert not a.core.bypassed(["t:t"])


@pytest.mark.parametrize("ask", ["single", "batch"])
def test_inside_a_block_no_part_from_l1_leads_a_read_behind_what_it_was_given(
    a: Node, b: Node, ask: str
) -> None:
    answered_anew(a, b)
    reading = past_both(a, ask)
    while reading.at == ("Sync",):
        reading.lose()

    assert a.read("part", tags=["x"], inside=reading).at == ("Read",)


@pytest.mark.parametrize("ask", ["single", "batch"])
def test_inside_a_block_no_part_from_l1_leads_a_read_behind_what_was_set(a: Node, b: Node, ask: str) -> None:
    """Who set it knew of the record that L1 has not heard of, and L1 has given it to others since."""
    a.load("part", "old", ["x"])
    b.finish(b.invalidate("x"))
    a.finish(a.put("k", "new", tags=["x", "y"]))
    assert a.read("k", tags=["x", "y"]).result == "new"
    reading = past_both(a, ask)
    while reading.at == ("Sync",):
        reading.lose()

    assert a.read("part", tags=["x"], inside=reading).at == ("Read",)


def test_inside_a_block_no_part_from_l1_leads_a_read_behind_what_a_glance_found(a: Node, b: Node) -> None:
    """Of a function that keeps nothing in L1."""
    a.load("part", "old", ["x"])
    b.finish(b.invalidate("x"))
    b.load("k", "new", ["x", "y"], print=0)
    a.counts.prospect = 1
    assert a.glance("k", tags=["x", "y"], print=0, l1=False).answer().result == "new"
    reading = past_both(a, "single")
    while reading.at == ("Sync",):
        reading.lose()

    assert a.read("part", tags=["x"], inside=reading).at == ("Look",)


@pytest.mark.parametrize("ask", ["single", "batch"])
def test_inside_a_block_l1_hears_first_of_what_was_met(a: Node, b: Node, ask: str) -> None:
    """The loader may read the cache in a thread that does not carry its context."""
    answered_anew(a, b)
    reading = past_both(a, ask).answer()

    assert reading.at == ("Call",)
    assert not a.in_l1("part")


def test_inside_a_block_the_parts_of_parts_are_as_new(a: Node, b: Node) -> None:
    """A load for L1 alone has what is proved for its token, which no sync got through to raise."""
    answered_anew(a, b)
    reading = past_both(a, "single")
    while reading.at == ("Sync",):
        reading.lose()
    middle = a.read("middle", l2=False, inside=reading)
    while middle.at == ("Sync",):
        middle.lose()

    assert middle.at == ("Call",)
    assert a.read("part", tags=["x"], inside=middle).at != ()


def test_inside_a_block_l1_answers_what_nobody_has_had_newer(a: Node) -> None:
    """The number of the block's own fence is newer than all that L1 has heard of, and was given to nobody."""
    a.load("part", "v", ["x"])
    block = a.block("y").open()
    reading = a.read("k", tags=["y"])
    assert reading.at == ("Call",)

    assert a.read("part", inside=reading).result == "v"
    block.close()


def test_inside_a_block_parts_are_loaded_once_for_all(a: Node) -> None:
    block = a.block("y").open()
    one, other = a.read("k", tags=["y"]), a.read("k", tags=["y"])
    leads = a.read("part", inside=one).lose()
    joins = a.read("part", inside=other)
    assert joins.at == ("Join",)

    leads.reply("v")

    assert joins.wake().result == "v"
    block.close()


def test_what_a_source_says_inside_a_block_is_for_the_load_around_it(a: Node) -> None:
    """That which may be of another cache, with numbers of its own."""
    around = a.read("around", tags=["x"]).answer()
    block = a.block("y").open()
    reading = a.read("k", tags=["y"], inside=around)

    assert isinstance(reading.step, Call)
    assert isinstance(around.step, Call)
    context = copy_context()
    context.run(current_load.set, reading.step.load)
    assert context.run(running_load) is around.step.load is not None
    block.close()


@pytest.mark.parametrize("ask", ["single", "batch"])
def test_a_call_inside_a_block_leaves_nothing_behind(a: Node, b: Node, ask: str) -> None:
    answered_anew(a, b)
    reading = past_both(a, ask)
    while reading.at == ("Sync",):
        reading.lose()
    assert a.core._loads

    reading.throw(Cancelled())

    assert not a.core._loads


def answered_anew(a: Node, b: Node) -> None:
    """*a* has an old "part", and was given a "k" that is newer."""
    a.load("part", "old", ["x"])
    b.finish(b.invalidate("x"))
    b.load("k", "new", ["x", "y"])
    assert a.read("k", tags=["x", "y"]).answer().result == "new"
    assert a.in_l1("part")


def past_both(a: Node, ask: str) -> Hand:
    """A read of "k" in a block."""
    a.core.hold(["t:y"])
    tags = ["x", "y"]
    return a.read("k", tags=tags) if ask == "single" else a.read_many("k", tags=tags)
