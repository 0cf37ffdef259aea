"""Many keys in one read: one look into L2, one call of the loader."""

from __future__ import annotations

import pytest

from tests.core.hands import Cancelled, LoaderFailed, Node, bump, joined
from tests.core.sim_server import SimServer
from tiercache._core import writes
from tiercache._core.commands import Fill, Read
from tiercache._core.flights import MAX_JOINS
from tiercache._core.plan import Call, Join
from tiercache._core.reads import MISS
from tiercache._core.records import check_of
from tiercache._errors import Unstorable


def test_keys_missing_in_both_tiers_are_loaded_by_one_call(a: Node, b: Node) -> None:
    b.load("l2", "in l2")
    a.load("l1", "in l1")
    reading = a.read_many("l1", "l2", "x", "y")
    (command,) = reading.commands
    assert isinstance(command, Read)
    assert [ask.key for ask in command.asks] == ["l2", "x", "y"]

    reading.answer()
    assert isinstance(reading.step, Call)
    assert reading.step.args == (["x", "y"],)
    assert reading.reply({"x": 1, "y": 2}).at == ("Fill", "Fill")

    assert reading.answer().result == {"l1": "in l1", "l2": "in l2", "x": 1, "y": 2}
    assert b.get("x") == 1


def test_a_batch_that_a_record_overtook_fills_neither_tier(a: Node, b: Node, server: SimServer) -> None:
    loading = a.read_many("x", "y", tags=["t"]).answer()
    bump(server, "t")

    loading.reply({"x": 1, "y": 2}).answer()

    assert a.get("x") is MISS
    assert b.get("y") is MISS


def test_what_the_loader_leaves_out_is_left_out_and_its_lock_freed(a: Node, b: Node) -> None:
    loading = a.read_many("x", "y").answer()

    assert loading.reply({"x": 1}).at == ("Unlock",)
    assert a.finish(loading) == {"x": 1}
    assert b.read("y").answer().at == ("Call",)


def test_that_a_loader_has_nothing_is_an_answer_to_the_batches_that_waited(a: Node) -> None:
    loading = a.read_many("x").answer()
    waiting = a.read_many("x")
    alone = joined(a, "x", tags=())

    assert a.finish(loading, {}) == {}
    assert waiting.wake().result == {}
    assert alone.wake().at == ("Read",), "its own loader may have something"


def test_that_a_loader_had_nothing_is_no_answer_to_who_came_after_an_invalidation(a: Node) -> None:
    loading = a.read_many("x", tags=["t"]).answer()
    a.finish(a.invalidate("t"))
    waiting = a.read_many("x", tags=["t"])

    assert a.finish(loading, {}) == {}
    assert waiting.wake().at == ("Read",)


def test_a_key_that_another_process_loads_is_waited_for_by_others_here_while_a_batch_loads(
    a: Node, b: Node
) -> None:
    elsewhere = b.read("y").answer()
    loading = a.read_many("x", "y").answer()
    assert (elsewhere.at, loading.at) == (("Call",), ("Call",))
    b.finish(elsewhere, "of b")

    assert a.finish(a.read("y")) == "of b"
    assert a.finish(loading, {"x": 1}) == {"x": 1, "y": "of b"}


def test_keys_that_wait_to_be_invalidated_are_loaded_by_one_call_where_redis_is_away(a: Node) -> None:
    a.invalidate("t").lose()
    reading = a.read_many("x", "y", "z", tags=["t"])
    assert reading.at == ("Invalidate",)

    reading.lose()

    assert isinstance(reading.step, Call)
    assert reading.step.args == (["x", "y", "z"],)
    assert a.finish(reading, {"x": 1, "y": 2, "z": 3}) == {"x": 1, "y": 2, "z": 3}
    assert a.counts.loads == 3


def test_keys_that_are_written_here_are_loaded_by_one_call(a: Node) -> None:
    with_block = a.block("t").open()
    reading = a.read_many("x", "y", tags=["t"])

    assert isinstance(reading.step, Call)
    assert reading.step.args == (["x", "y"],)
    assert a.finish(reading, {"x": 1, "y": 2}) == {"x": 1, "y": 2}
    with_block.close()


def test_of_keys_that_another_process_loads_one_is_waited_for_and_the_others_are_loaded_together(
    a: Node, b: Node
) -> None:
    elsewhere = b.read_many("x", "y", "z").answer()
    reading = a.read_many("x", "y", "z").answer().answer()
    assert reading.at == ("Join",)

    elsewhere.throw(LoaderFailed()).execute()
    a.tiers.bells.ring(*[dep for node, dep in a.server.wakes if node == "a"][:1])
    reading.wake().answer()
    assert isinstance(reading.step, Call)
    reading.reply(1).answer().answer()

    assert isinstance(reading.step, Call)
    assert reading.step.args == (["y", "z"],)
    assert a.finish(reading, {"y": 2, "z": 3}) == {"x": 1, "y": 2, "z": 3}


def test_a_batch_does_not_wait_for_one_process_after_the_other(a: Node, b: Node) -> None:
    keys = [f"k{number}" for number in range(9)]
    server_locks = a.server.domain.locks
    b.read_many(*keys).answer()
    reading, calls = a.read_many(*keys), 0
    while reading.step is not None:
        if isinstance(reading.step, Call):
            calls += 1
            given = reading.step.args[0] if isinstance(reading.step.args[0], list) else None
            reading.reply(dict.fromkeys(given, 1) if given else 1)
        elif isinstance(reading.step, Join):
            # The load ends with nothing, and b is sooner again.
            for lock in list(server_locks.values()):
                lock.owner = f"b:{calls}{lock.owner}"
            reading.wake()
        else:
            reading.answer()

    assert reading.result == dict.fromkeys(keys, 1)
    assert calls == MAX_JOINS + 1


def test_a_loader_of_many_keys_is_one_load_to_the_reads_inside(a: Node) -> None:
    keys = [f"k{number}" for number in range(300)]
    loading = a.read_many(*keys).answer()
    assert isinstance(loading.step, Call)
    assert loading.step.load is not None
    assert len(list(loading.step.load.chain())) == 1

    for key in (keys[0], keys[-1]):
        assert a.read(key, inside=loading).at == ("Read",), "it would wait for itself"


def test_a_load_of_many_keys_counts_for_each_it_was_asked_for(a: Node) -> None:
    a.finish(a.read_many("x", "y"), {"x": 1})
    with pytest.raises(ValueError, match="no"):
        a.finish(a.read_many("p", "q").answer().throw(ValueError("no")))

    assert a.counts.loads == 4
    assert "uncached" not in a.tiers.events


def test_a_batch_that_is_cancelled_frees_its_locks(a: Node, b: Node) -> None:
    loading = a.read_many("x", "y").answer()

    assert loading.throw(Cancelled()).at == ("Unlock", "Unlock")
    with pytest.raises(Cancelled):
        a.finish(loading)
    assert b.read("x").answer().at == ("Call",)


def test_a_batch_asks_for_a_thousand_keys_in_one_round_trip_a_hundred_a_script(a: Node) -> None:
    reading = a.read_many(*(f"k{i}" for i in range(1_050)))
    sizes = []
    while set(reading.at) == {"Read"}:
        sizes.append([len(command.asks) for command in reading.commands if isinstance(command, Read)])
        reading.answer()

    assert sizes == [[100] * 10, [50]]
    assert reading.at == ("Call",)


def test_a_thousand_loads_are_stored_in_one_round_trip(a: Node) -> None:
    keys = [f"k{i}" for i in range(1_000)]
    loading = a.read_many(*keys).answer()

    assert loading.reply(dict.fromkeys(keys, "v")).at == ("Fill",) * 1_000


def test_large_values_are_stored_a_few_megabytes_in_one_round_trip(a: Node) -> None:
    sizes = dict.fromkeys(("a", "b", "c"), 1_500_000) | {"d": 5_000_000, "e": 1, "f": 1}
    loading = a.read_many(*sizes).answer()
    loading.reply({key: "x" * size for key, size in sizes.items()})
    sent = []
    while set(loading.at) == {"Fill"}:
        sent.append(len(loading.at))
        loading.answer()

    assert sent == [2, 1, 1, 2]


def test_large_values_are_set_a_few_megabytes_in_one_round_trip(a: Node) -> None:
    items = [(a.want(f"k{n}", call=None), "x" * 1_500_000) for n in range(5)]
    setting = a.synced().start(writes.put(a.tiers, items, blocking=False))
    sent = []
    while set(setting.at) == {"Set"}:
        sent.append(len(setting.at))
        setting.answer()

    assert sent == [2, 2, 1]
    assert setting.result.stored


def test_what_several_reads_find_counts_as_of_the_first_of_them(a: Node, b: Node) -> None:
    """The others are as good as of later heads, which says less and no more than is true."""
    first = a.read_many(*(f"k{i}" for i in range(150)))
    b.load("k149", "v")
    first.execute()
    head = a.server.domain.state.head
    b.finish(b.invalidate("other"))
    first.reply()

    assert first.at == ("Call",)
    assert a.tiers.core.seen == head


def test_a_batch_is_not_larger_than_256_kilobytes_and_comes_whole_all_the_same(a: Node, b: Node) -> None:
    """3.12"""
    for key in "xyz":
        b.load(key, key * 150_000)
    reading = a.read_many("x", "y", "z")
    rounds = 0
    while reading.at == ("Read",):
        reading.answer()
        rounds += 1

    assert rounds == 3
    assert reading.result == {key: key * 150_000 for key in "xyz"}


def test_a_fill_names_the_tags_and_the_check_of_what_it_stores(a: Node) -> None:
    (command,) = a.read("k", tags=["t"], print=7).answer().reply("v").commands

    assert isinstance(command, Fill)
    assert (command.tags, command.print) == (("t",), 7)
    assert command.check == check_of("k", ("t",), command.payload)


def test_what_the_loader_does_to_its_list_of_keys_is_its_own_business(a: Node, b: Node) -> None:
    loading = a.read_many("c", "a", "b").answer()
    assert isinstance(loading.step, Call)
    loading.step.args[0].sort()

    found = a.finish(loading, {"a": "of a", "b": "of b", "c": "of c"})

    assert found == {"c": "of c", "a": "of a", "b": "of b"}
    assert [b.get(key) for key in "abc"] == ["of a", "of b", "of c"]


@pytest.mark.parametrize("key", ["x", "y", "z"])
def test_a_value_that_cannot_be_stored_fails_its_own_key_alone(
    a: Node, b: Node, server: SimServer, key: str
) -> None:
    """Of three, one of which the loader leaves out."""
    left_out = {"x": "y", "y": "z", "z": "x"}[key]
    loading = a.read_many("x", "y", "z").answer()
    joining = {name: a.read(name) for name in "xyz"}
    values = {name: "good" for name in "xyz" if name != left_out}

    with pytest.raises(Unstorable, match=f"under '{key}', value: object "):
        a.finish(loading, {**values, key: object()})

    for name, hand in joining.items():
        if name == key:
            with pytest.raises(Unstorable, match=f"under '{key}'"):
                _ = hand.wake().result
        elif name == left_out:
            assert hand.wake().at == ("Read",)
        else:
            assert hand.wake().result == b.get(name) == "good"
    assert not server.domain.locks
