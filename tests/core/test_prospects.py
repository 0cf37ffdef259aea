"""When a read of L2 begins with a look, which saves a quarter of a round trip or costs a whole one."""

from __future__ import annotations

import random

import pytest

from tests.core.hands import Node
from tiercache._core.tiers import MOST, REFUSED
from tiercache._errors import L2Refused


def reads(a: Node, hits: str, **want: object) -> list[str]:
    """What each read of *hits* asked first: "+" finds the key in L2, "-" finds a new one nowhere."""
    asked = []
    for number, hit in enumerate(hits):
        key = "k" if hit == "+" else f"new {number} {random.random()}"
        a.core.l1.drop(key)
        reading = a.read(key, **want)
        asked.extend(reading.at)
        a.finish(reading, loaded="v")
    return asked


@pytest.fixture
def stored(a: Node) -> Node:
    """A node that has found nothing yet, beside a key that L2 has."""
    a.load("k", "v")
    a.counts.prospect = 0
    return a


def test_after_a_hit_a_read_looks_first(stored: Node) -> None:
    assert reads(stored, "+++") == ["Read", "Look", "Look"]


def test_a_read_by_key_looks_as_well(stored: Node) -> None:
    assert reads(stored, "+++-", call=None) == ["Read", "Look", "Look", "Look"]


def test_hits_with_one_miss_in_nine_go_on_looking(stored: Node) -> None:
    asked = reads(stored, "++++++++-" * 20)
    assert asked[20:].count("Look") == len(asked) - 20


def test_where_half_of_the_reads_find_nothing_next_to_none_look(stored: Node) -> None:
    asked = reads(stored, "+-" * 50)
    assert asked.count("Look") <= 2


def test_after_a_run_of_hits_no_more_than_two_looks_in_a_row_are_in_vain(stored: Node) -> None:
    assert reads(stored, "+" * 40 + "-" * 10)[40:] == ["Look"] * 2 + ["Read"] * 8


def test_after_a_run_of_misses_nine_hits_bring_the_looks_back(stored: Node) -> None:
    assert reads(stored, "-" * 100 + "+" * (MOST + 2))[100:] == ["Read"] * (MOST + 1) + ["Look"]


def test_a_refused_look_is_not_tried_again_soon(stored: Node) -> None:
    reads(stored, "+")
    stored.core.l1.drop("k")
    looking = stored.read("k")
    assert looking.at == ("Look",)
    stored.finish(looking.throw(L2Refused("NOPERM")))

    assert reads(stored, "+" * 100) == ["Read"] * 100
    assert stored.counts.prospect > REFUSED
    assert stored.tiers.events["look_refused"] == 1


def test_what_l1_has_is_superseded_by_what_a_look_found(a: Node, b: Node) -> None:
    """G6: whoever was given the newer value is not given the older one after it."""
    a.load("k", "old")
    b.finish(b.put("k", "new"))
    a.counts.prospect = 1
    looking = a.read("k", l1=False)
    assert looking.at == ("Look",)
    assert a.finish(looking) == "new"

    assert a.finish(a.read("k")) == "new"


def test_within_a_load_without_redis_nothing_is_looked_for(a: Node) -> None:
    """Who joins it could not tell how old its parts are."""
    a.synced()
    a.counts.prospect = 1
    outer = a.read("outer")
    while outer.at != ("Call",):
        outer.lose()
    a.counts.prospect = 1

    assert a.read("part", inside=outer).at == ("Call",)
