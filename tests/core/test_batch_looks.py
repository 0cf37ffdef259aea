"""Batches that look first: what a look answers, what it leaves to the script, and what comes in between."""

from __future__ import annotations

import pytest

from tests.core.hands import Cancelled, Hand, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core import batches
from tiercache._core.commands import MAX_SENT, Fill, Read
from tiercache._core.looks import Look
from tiercache._core.plan import Call, Join
from tiercache._core.reads import MISS
from tiercache._core.records import MAX_DEPS
from tiercache._core.tiers import MOST
from tiercache._core.writes import BYTES_SENT
from tiercache._errors import L2Refused


@pytest.fixture
def looks(a: Node) -> Node:
    """A node whose reads look first, with small entries in L2."""
    a.synced()
    a.counts.prospect, a.counts.size = MOST, 100
    return a


def fill(b: Node, *keys: str, tags: tuple[str, ...] = (), value: object = "v") -> None:
    for key in keys:
        b.load(key, value, tags)


def asked(hand: Hand) -> tuple[str, ...]:
    """The keys that the look or the read before *hand* asks for."""
    (command,) = hand.commands
    if isinstance(command, Look):
        return command.keys
    assert isinstance(command, Read)
    return tuple(ask.key for ask in command.asks)


# ---- how many round trips


def test_a_batch_that_l2_has_whole_is_one_look(looks: Node, b: Node) -> None:
    fill(b, "x", "y")
    reading = looks.read_many("x", "y")
    assert (reading.at, asked(reading)) == (("Look",), ("x", "y"))

    assert reading.answer().result == {"x": "v", "y": "v"}
    assert looks.in_l1("x")
    assert looks.in_l1("y")
    assert looks.counts.l2_hits == 2


def test_what_a_look_finds_is_not_asked_of_the_script(looks: Node, b: Node) -> None:
    fill(b, "x")
    reading = looks.read_many("x", "y").answer()
    assert (reading.at, asked(reading)) == (("Read",), ("y",))

    reading.answer()
    assert isinstance(reading.step, Call)
    assert reading.step.args == (["y"],)
    assert looks.finish(reading, {"y": 1}) == {"x": "v", "y": 1}


def test_to_who_loads_nothing_no_entry_is_an_answer(looks: Node, b: Node) -> None:
    fill(b, "x")

    assert looks.get_many("x", "y").answer().result == {"x": "v"}
    assert looks.counts.misses == 1


def test_an_entry_with_tags_that_are_not_declared_is_asked_of_the_script(looks: Node, b: Node) -> None:
    fill(b, "x", tags=("t",))
    fill(b, "y")
    reading = looks.get_many("x", "y").answer()
    assert (reading.at, asked(reading)) == (("Read",), ("x",))

    assert reading.answer().result == {"x": "v", "y": "v"}


def test_keys_with_tags_of_their_own_are_one_look(looks: Node, b: Node) -> None:
    fill(b, "x", "y", tags=("t",))
    reading = looks.read_many("x", "y", tags=("t",))
    (look,) = reading.commands
    assert isinstance(look, Look)
    assert look.tags == ("t",)
    bump(looks.server, "t")

    assert reading.answer().at == ("Read",)


def test_a_look_asks_for_no_more_versions_than_a_record_may_have(looks: Node) -> None:
    tags = [f"t{n}" for n in range(128)]
    wants = [looks.want(f"k{n}", call=None, tags=[f"{t}:{n}" for t in tags]) for n in range(50)]
    reading = looks.start(batches.get_many(looks.tiers, wants, blocking=False))
    sizes = []
    while reading.at == ("Look",):
        (look,) = reading.commands
        assert isinstance(look, Look)
        sizes.append(len(look.tags))
        reading.answer()

    assert sum(sizes) == 50 * 128
    assert max(sizes) < MAX_DEPS + 128


def test_a_batch_of_keys_whose_tags_were_seen_asks_for_these(a: Node, b: Node) -> None:
    fill(b, "x", "y", tags=("t",))
    a.synced()
    first = a.get_many("x", "y")
    assert first.at == ("Read",)
    assert first.answer().result == {"x": "v", "y": "v"}
    assert a.get_many("x", "y").is_done

    for key in "xy":
        a.core.l1.drop(key)
    second = a.get_many("x", "y")
    assert second.at == ("Look",)
    assert second.answer().result == {"x": "v", "y": "v"}
    assert a.counts.prospect <= 0  # of keys that are new it says nothing


def test_a_batch_of_seen_keys_whose_tag_was_invalidated_is_looked_for_once_in_vain(a: Node, b: Node) -> None:
    fill(b, "x", "y", tags=("t",))
    a.synced()
    a.finish(a.get_many("x", "y"))
    bump(a.server, "t")
    for first in ("Look", "Read"):
        for key in "xy":
            a.core.l1.drop(key)
        reading = a.get_many("x", "y")
        assert reading.at == (first,)
        assert a.finish(reading) == {}


# ---- when it pays


def test_after_a_warm_batch_the_next_looks(a: Node, b: Node) -> None:
    fill(b, *"xyz")
    a.synced()
    first = a.read_many("x", "y")
    assert first.at == ("Read",)
    a.finish(first)

    assert a.read_many("z").at == ("Look",)


def test_batches_that_l2_has_nothing_of_soon_ask_the_script_at_once(looks: Node) -> None:
    seen = []
    for n in range(6):
        keys = [f"{n}:{m}" for m in range(50)]
        reading = looks.read_many(*keys)
        seen.append(reading.at)
        looks.finish(reading, dict.fromkeys(keys, 1))

    assert seen == [("Look",)] * 2 + [("Read",)] * 4


def test_batches_half_of_which_l2_has_go_on_looking(looks: Node, b: Node) -> None:
    for n in range(10):
        keys = [f"{n}:{m}" for m in range(50)]
        fill(b, *keys[::2])
        reading = looks.read_many(*keys)
        assert reading.at == ("Look",)
        looks.finish(reading, dict.fromkeys(keys, 1))


def test_batches_of_entries_with_other_tags_stop_looking(looks: Node, b: Node) -> None:
    seen = []
    for n in range(6):
        keys = [f"{n}:{m}" for m in range(3)]
        fill(b, *keys, tags=("t",))
        reading = looks.get_many(*keys)
        seen.append(reading.at)
        looks.finish(reading)

    assert seen == [("Look",)] * 2 + [("Read",)] * 4


def test_a_batch_of_nothing_says_nothing_of_the_reads_that_load(looks: Node) -> None:
    looks.counts.prospect = 1
    for n in range(5):
        looks.finish(looks.get_many(f"{n}", f"{n}'"))

    assert looks.counts.prospect == 1


def test_a_batch_whose_look_is_refused_is_asked_of_the_script(looks: Node, b: Node) -> None:
    fill(b, "x")

    assert looks.finish(looks.get_many("x").throw(L2Refused("NOPERM"))) == {"x": "v"}
    assert looks.counts.prospect < -MOST
    assert looks.tiers.events["look_refused"] == 1


# ---- how much comes at once


def test_a_look_asks_for_a_thousand_keys(looks: Node) -> None:
    reading = looks.get_many(*(f"k{n}" for n in range(MAX_SENT + 1)))

    assert len(asked(reading)) == MAX_SENT
    assert len(asked(reading.answer())) == 1


def test_before_it_is_known_how_long_entries_are_a_look_asks_for_a_hundred(looks: Node, b: Node) -> None:
    keys = [f"k{n}" for n in range(600)]
    fill(b, *keys)
    looks.counts.size = type(looks.counts)().size
    reading = looks.get_many(*keys)
    sizes = []
    while reading.at == ("Look",):
        sizes.append(len(asked(reading)))
        reading.answer()

    assert sizes[0] == 100
    assert sizes[1] > 350
    assert len(sizes) == 3


def test_the_longer_entries_are_the_fewer_a_look_asks_for(looks: Node, b: Node) -> None:
    keys = [f"k{n}" for n in range(40)]
    fill(b, *keys, value="x" * 200_000)
    looks.finish(looks.get_many(*keys[:20]))
    reading = looks.get_many(*keys[20:])

    assert len(asked(reading)) == BYTES_SENT // looks.counts.size == 19


@pytest.mark.parametrize("loads", [True, False])
def test_large_entries_are_looked_for_some_megabytes_at_a_time(a: Node, b: Node, loads: bool) -> None:
    keys = [f"k{n}" for n in range(30)]
    fill(b, *keys[:20], value="x" * 300_000)
    fill(b, *keys[20:25], value="x" * 1_500_000)
    fill(b, *keys[25:], value="x" * 5_000_000)
    reading = a.synced().read_many(*keys) if loads else a.synced().get_many(*keys)
    assert reading.at == ("Read",)
    reading.answer()
    sizes = []
    while reading.at == ("Look",):
        sizes.append(len(asked(reading)))
        reading.answer()

    assert sizes == [13, 7 + 1, 2, 2, 1, 1, 1, 1, 1]
    assert list(reading.result) == keys


def test_a_large_entry_that_goes_before_its_look_is_loaded(a: Node, b: Node, server: SimServer) -> None:
    fill(b, "x", "y", value="x" * 300_000)
    reading = a.synced().read_many("x", "y").answer()
    b.finish(b.invalidate(keys=["x"]))

    assert a.finish(reading.answer(), "new") == {"x": "new", "y": "x" * 300_000}


# ---- what comes in between


def test_a_record_between_look_and_script_is_in_what_is_loaded_after_it(
    looks: Node, b: Node, server: SimServer
) -> None:
    """And what the look found is kept until that record is heard of, as any other hit."""
    fill(b, "x", tags=("t",))
    reading = looks.read_many("x", "y", tags=("t",)).answer()
    vouched = looks.core.l1.entries["x"].vouched
    number = bump(server, "t")
    reading.answer()
    while reading.at == ("Sync",):  # the loader must see what its token promises
        reading.answer()
    assert not looks.in_l1("x")
    assert vouched < number

    reading.reply({"y": "new"})
    (filled,) = reading.commands
    assert isinstance(filled, Fill)
    assert filled.token == number
    assert reading.answer().result == {"x": "v", "y": "new"}


def test_a_record_that_is_heard_amid_a_look_keeps_its_value_out_of_l1(
    looks: Node, b: Node, server: SimServer
) -> None:
    fill(b, "x", tags=("t",))
    reading = looks.read_many("x", tags=("t",)).execute()
    looks.hear(bump(server, "t"))

    assert reading.reply().result == {"x": "v"}
    assert not looks.in_l1("x")


def test_an_epoch_that_ends_between_look_and_script_takes_away_what_the_look_found(
    looks: Node, b: Node, server: SimServer
) -> None:
    fill(b, "x")
    reading = looks.read_many("x", "y").answer()
    assert looks.in_l1("x")
    server.flush()
    b.synced()
    while reading.at != ("Call",):
        reading.answer()

    assert not looks.in_l1("x")
    assert looks.finish(reading, {"y": 1}) == {"x": "v", "y": 1}


def test_an_epoch_that_ends_amid_a_look_makes_it_void(looks: Node, b: Node, server: SimServer) -> None:
    fill(b, "x")
    reading = looks.get_many("x").execute()
    looks.core.disown()

    assert reading.reply().at == ("Sync",)


def test_an_invalidation_that_begins_to_wait_amid_a_look_withholds_what_it_names(
    looks: Node, b: Node
) -> None:
    fill(b, "x", "y", tags=("t",))
    fill(b, "z")
    reading = looks.read_many("x", "z", tags=("t",)).execute()
    looks.invalidate("t").lose()
    assert reading.reply().at == ("Invalidate",)

    assert looks.finish(reading, {"x": "new"}) == {"x": "new", "z": "v"}


def test_a_batch_does_not_look_while_an_invalidation_waits(looks: Node, b: Node) -> None:
    fill(b, "x")
    looks.invalidate("other").lose()

    assert looks.get_many("x").at == ("Invalidate",)


def test_a_batch_does_not_look_under_a_lapsed_lease(looks: Node, b: Node) -> None:
    fill(b, "x")
    looks.core.lapse()

    assert looks.read_many("x").at == ("Sync", "Read")


def test_within_a_load_without_redis_a_batch_does_not_look(looks: Node) -> None:
    outer = looks.read("outer")
    while outer.at != ("Call",):
        outer.lose()
    looks.counts.prospect = MOST

    assert looks.read_many("part", inside=outer).at == ("Call",)


def test_who_joined_has_what_a_look_found_before_the_script_is_asked(looks: Node, b: Node) -> None:
    fill(b, "x")
    reading = looks.read_many("x", "y")
    joining = looks.read("x")
    assert isinstance(joining.step, Join)
    reading.answer()

    assert joining.wake().result == "v"
    assert reading.at == ("Read",)


def test_a_batch_that_is_cancelled_amid_its_look_leaves_no_lock_and_no_flight(looks: Node, b: Node) -> None:
    reading = looks.read_many("x", "y")
    joining = looks.read("x")
    with pytest.raises(Cancelled):
        _ = reading.throw(Cancelled()).result

    assert joining.wake().at == ("Read",)
    assert not looks.tiers.board.has("y")


def test_a_batch_that_is_cancelled_frees_the_locks_of_what_its_look_did_not_find(
    looks: Node, b: Node
) -> None:
    fill(b, "x")
    reading = looks.read_many("x", "y").answer()

    assert reading.throw(Cancelled()).at == ("Unlock",)


def test_what_l1_has_is_superseded_by_the_look_of_a_batch(looks: Node, b: Node) -> None:
    """G6: whoever was told that there is no entry any more is not given the one before."""
    looks.load("x", "old")
    b.finish(b.invalidate(keys=["x"]))
    looks.counts.prospect = MOST
    looks.core.l1.entries["x"].deadline, deadline = 0.0, looks.core.l1.entries["x"].deadline
    reading = looks.get_many("x")
    looks.core.l1.entries["x"].deadline = deadline

    assert reading.answer().result == {}
    assert looks.get("x") is MISS
