"""`invalidating` blocks: a write of the truth under way in this process."""

from __future__ import annotations

from tests.core.hands import Node
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
