"""When a read of L2 begins with a look, which saves a quarter of a round trip or costs a whole one."""

from __future__ import annotations

import random

import pytest

from tests.core.hands import Node, bump
from tiercache._core.looks import Look
from tiercache._core.reads import MISS
from tiercache._core.tiers import MAX_KNOWN, MAX_KNOWN_TAGS, MOST, REFUSED, KnownTags
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


# ---- by key: what the entry is tagged with was seen before, or not


def asked_for(a: Node, key: str = "k", **want: object) -> tuple[str, ...]:
    """The tags whose versions a read by key asks for, in its one round trip, that finds "v"."""
    a.core.l1.drop(key)
    reading = a.read(key, call=None, **want)
    (look,) = reading.commands
    assert isinstance(look, Look)
    assert reading.answer().result == "v"
    return look.tags


@pytest.fixture
def tagged(a: Node, b: Node) -> Node:
    """A node that has read "k" by key once, which has tags that such a read does not name."""
    b.load("k", "v", ["t", "u"])
    a.synced()
    assert a.read("k", call=None).at == ("Read",)
    assert a.get("k") == "v"
    return a


def test_a_read_by_key_asks_for_the_tags_that_the_last_one_found(tagged: Node) -> None:
    assert asked_for(tagged) == ("t", "u")
    assert asked_for(tagged, tags=["u", "w"]) == ("u", "w", "t")
    assert tagged.counts.l2_hits == 3


def test_of_another_key_it_says_nothing(tagged: Node, b: Node) -> None:
    b.load("other", "v", ["t", "u"])

    assert tagged.read("other", call=None).at == ("Read",)


def test_an_invalidation_of_such_a_tag_is_seen(tagged: Node) -> None:
    bump(tagged.server, "u")
    tagged.core.l1.drop("k")
    reading = tagged.read("k", call=None)

    assert reading.at == ("Look",)
    assert tagged.finish(reading) is MISS


def test_an_entry_that_has_got_another_tag_is_asked_of_the_script_and_then_looked_for(
    tagged: Node, b: Node
) -> None:
    b.finish(b.put("k", "v", tags=["w"]))
    tagged.core.l1.drop("k")
    reading = tagged.read("k", call=None)
    assert reading.at == ("Look",)
    assert reading.answer().at == ("Read",)
    assert reading.answer().result == "v"

    assert asked_for(tagged) == ("w",)


def test_after_a_look_in_vain_the_script_is_asked(tagged: Node) -> None:
    bump(tagged.server, "u")
    for first in ("Look", "Read", "Read"):
        tagged.core.l1.drop("k")
        reading = tagged.read("k", call=None)
        assert reading.at == (first,)
        assert tagged.finish(reading) is MISS


def trips(a: Node) -> int:
    """Round trips of one read by key past L1."""
    a.core.l1.drop("k")
    reading, number = a.read("k", call=None), 0
    while not reading.is_done:
        reading.answer()
        number += 1
    return number


def test_an_entry_with_other_tags_at_each_read_is_soon_left_to_the_script(tagged: Node, b: Node) -> None:
    """A list under the tags of its rows, say: each look would be a round trip in vain."""
    made = []
    for number in range(40):
        b.finish(b.put("k", "v", tags=[f"row {number}"]))
        made.append(trips(tagged))

    assert made == [2, 2] + [1] * 38


def test_an_entry_that_is_invalid_at_each_second_read_is_seldom_looked_for(tagged: Node, b: Node) -> None:
    made = []
    for _ in range(40):
        b.synced()
        b.load("k", "v", ["t"])
        made.append(trips(tagged))
        bump(tagged.server, "t")
        made.append(trips(tagged))

    assert sum(made) <= len(made) * 9 / 8 + 1


def test_after_two_looks_in_vain_it_takes_four_answers_with_the_same_tags_to_look_again(
    tagged: Node, b: Node
) -> None:
    for tag in ("w", "x"):
        b.finish(b.put("k", "v", tags=[tag]))
        assert trips(tagged) == 2
    first = []
    for _ in range(6):
        tagged.core.l1.drop("k")
        reading = tagged.read("k", call=None)
        first.extend(reading.at)
        assert reading.answer().result == "v"

    assert first == ["Read"] * 4 + ["Look"] * 2


def test_a_look_for_fewer_tags_says_nothing_against_those_that_are_known(tagged: Node) -> None:
    """A reader that began when nothing was known, or that cannot ask for more."""
    known, prospect = tagged.tiers.known_tags, tagged.counts.prospect
    assert not known.failed("k", {"t": 1})
    assert asked_for(tagged) == ("t", "u")
    assert tagged.counts.prospect == prospect


def test_a_load_by_key_whose_loader_names_tags_looks_as_well(tagged: Node) -> None:
    tagged.core.l1.drop("k")

    assert tagged.read("k").at == ("Look",)


def test_a_refused_look_is_not_tried_for_known_tags(tagged: Node) -> None:
    tagged.core.l1.drop("k")
    tagged.finish(tagged.read("k", call=None).throw(L2Refused("NOPERM")))
    tagged.core.l1.drop("k")

    assert tagged.read("k", call=None).at == ("Read",)


def test_that_there_is_no_entry_is_an_answer_to_a_read_by_key(stored: Node) -> None:
    stored.counts.prospect = MOST
    for number in range(20):
        reading = stored.read(f"nothing {number}", call=None)
        assert reading.at == ("Look",)
        assert reading.answer().result is MISS

    assert stored.counts.misses == 20


def test_reads_by_key_half_of_which_find_no_entry_go_on_looking(stored: Node) -> None:
    assert reads(stored, "-+" + "-+" * 20, call=None) == ["Read"] * 2 + ["Look"] * 40


def test_where_the_server_is_not_where_the_reader_has_been_no_entry_is_no_answer(
    tagged: Node, b: Node
) -> None:
    """R42: 1. It has met a record.  2. A failover loses it, and an entry of after it."""
    copy = tagged.server.copy()
    b.finish(b.put("new", "v"))
    assert tagged.get("new") == "v"
    tagged.counts.prospect = MOST
    tagged.server.fail_over(copy)
    tagged.core.l1.drop("new")

    reading = tagged.read("new", call=None)
    assert reading.at == ("Look",)
    assert reading.answer().at == ("Read",)
    assert reading.answer().at == ("Sync", "Read")


def test_what_is_known_of_tags_is_bounded_and_what_is_new_stays() -> None:
    known = KnownTags()
    for number in range(3 * MAX_KNOWN):
        known.learn(f"k{number}", ("t",))
        assert known.get(f"k{max(0, number - MAX_KNOWN // 2 + 1)}") == ("t",)

    held = [number for number in range(3 * MAX_KNOWN) if known.get(f"k{number}") is not None]
    assert len(held) <= MAX_KNOWN
    assert known.failed(f"k{held[-1]}", None)
    assert known.get(f"k{held[-1]}") is None
    assert not known.failed(f"k{held[-1]}", None)


def test_of_keys_with_many_tags_fewer_are_known() -> None:
    known, many = KnownTags(), 128
    for number in range(MAX_KNOWN):
        known.learn(f"k{number}", tuple(f"t{number}:{tag}" for tag in range(many)))
        assert known.get(f"k{number}") is not None

    held = [number for number in range(MAX_KNOWN) if known.get(f"k{number}") is not None]
    assert len(held) * many <= MAX_KNOWN_TAGS + 2 * many


def test_keys_that_are_learned_again_and_again_push_nobody_out() -> None:
    known = KnownTags()
    known.learn("other", ("t",))
    for number in range(MAX_KNOWN_TAGS):
        known.learn("k", ("t", f"row {number}"))

    assert known.get("other") == ("t",)
