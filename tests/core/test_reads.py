"""How a read goes down the tiers and fills them on its way back (coherence.md 3.2, 3.4, 8)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.hands import Clock, D, Node, nodes
from tests.core.sim_server import SimServer
from tiercache._core import batches, reads
from tiercache._core.commands import LOCK_MS, Clear, Fill, Invalidate, Read
from tiercache._core.plan import Join
from tiercache._core.reads import MISS, patience_for
from tiercache._core.records import check_of, key_dep
from tiercache._errors import L2Unavailable, LoadTimeout, Unstorable

ROOM = 100_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> SimServer:
    return SimServer(clock)


@pytest.fixture
def pair(server: SimServer, clock: Clock) -> list[Node]:
    return nodes(server, clock)


@pytest.fixture
def a(pair: list[Node]) -> Node:
    return pair[0]


@pytest.fixture
def b(pair: list[Node]) -> Node:
    return pair[1]


def bump(server: SimServer, *tags: str) -> int:
    number: int = server.perform(Invalidate(tags, (), ROOM, ROOM)).number
    return number


class LoaderFailed(Exception):
    pass


class Cancelled(BaseException):
    pass


# ---- down the tiers


def test_a_miss_is_loaded_and_kept_in_both_tiers(a: Node, b: Node) -> None:
    reading = a.read("k", tags=["t"])
    assert reading.at == ("Read",)
    assert reading.answer().at == ("Call",)
    assert reading.reply("v").at == ("Fill",)
    assert reading.answer().result == "v"

    assert a.get("k") == b.get("k") == "v"
    assert (a.counts.loads, a.counts.l1_hits, b.counts.l2_hits) == (1, 1, 1)


def test_a_hit_of_l2_is_kept_in_l1(a: Node, b: Node) -> None:
    a.load("k", "v")
    assert b.get("k") == "v"

    assert b.read("k", call=None).result == "v"


def test_none_is_a_value(a: Node, b: Node) -> None:
    assert a.load("k", None) is None
    assert a.get("k") is None
    assert b.get("k") is None


def test_what_one_caller_changes_the_next_does_not_see(a: Node) -> None:
    a.load("k", [1])

    a.get("k").append(2)

    assert a.get("k") == [1]


def test_an_entry_is_kept_in_l1_no_longer_than_in_l2(a: Node, b: Node, server: SimServer) -> None:
    """3.11: counted from before the request, so it is never too long."""
    a.load("k", "v", ttl=5.0)
    a.clock.advance(1)
    reading = b.read("k", call=None)
    a.clock.advance(1)
    reading.execute()
    a.clock.advance(1)
    reading.reply()

    assert server.domain.ends["k"] == 1005_000
    assert b.core.l1.entries["k"].deadline == 1004.0


def test_l1_may_be_told_to_keep_an_entry_for_less(a: Node) -> None:
    a.load("k", "v", ttl=5.0, l1_ttl=2.0)
    assert a.core.l1.entries["k"].deadline == 1002.0

    a.clock.advance(2)

    assert a.read("k", call=None).at == ("Read",)


def test_an_expired_entry_is_loaded_again(a: Node) -> None:
    a.load("k", "old", ttl=5.0)
    a.clock.advance(5)

    assert a.load("k", "new") == "new"


# ---- what a load that took long may store


def test_a_load_that_a_record_overtook_fills_neither_tier(a: Node, b: Node, server: SimServer) -> None:
    """R2: the token of the miss, and not of the store, decides."""
    loading = a.read("k", tags=["t"]).answer()
    bump(server, "t")

    loading.reply("old").answer()

    assert loading.result == "old"
    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_a_load_whose_head_was_met_meanwhile_keeps_its_own_token(a: Node, server: SimServer) -> None:
    """Other reads of its node have met the record; that does not make the load newer."""
    loading = a.read("k", tags=["t"]).answer()
    bump(server, "t")
    a.load("other", "v")

    loading.reply("old").answer()

    assert not server.holds("k")
    assert not a.in_l1("k")


def test_a_load_that_a_clear_overtook_fills_neither_tier(a: Node, b: Node, server: SimServer) -> None:
    loading = a.read("k").answer()
    server.perform(Clear())

    loading.reply("old").answer()

    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_a_load_of_an_epoch_that_is_over_fills_neither_tier(a: Node, b: Node, server: SimServer) -> None:
    loading = a.read("k").answer()
    server.flush()
    b.synced()

    loading.reply("old").answer()

    assert a.synced().get("k") is MISS
    assert b.get("k") is MISS


def test_a_raw_set_of_old_bytes_is_not_valid(a: Node, b: Node, server: SimServer) -> None:
    """R2, G3: read refuses the token again, whatever put the entry there."""
    a.load("k", "old", ["t"])
    raw = server.domain.entries["k"]
    bump(server, "t")
    a.load("k", "new", ["t"])
    server.domain.entries["k"] = raw

    assert b.get("k") is MISS


def test_of_two_loads_the_one_with_the_newer_token_stays(a: Node, b: Node, server: SimServer) -> None:
    """R4: 1. P loads v1, pauses.  2. Its lock runs out.  3. Q loads v2, fills.  4. P fills."""
    early = a.read("k", tags=["t"]).answer()
    a.clock.advance(LOCK_MS / 1000)
    bump(server, "u")
    b.synced().load("k", "newer", ["t"])

    early.reply("older").answer()

    assert a.tiers.events["fill_older"] == 1
    assert a.synced().get("k") == "newer"


def test_a_holder_that_paused_past_its_lock_stores_nothing_old(a: Node, b: Node, server: SimServer) -> None:
    """R39: the lock is efficiency; epoch and token are the fence."""
    paused = a.read("k", tags=["t"]).answer()
    a.clock.advance(LOCK_MS / 1000)
    bump(server, "t")
    assert b.synced().load("k", "new", ["t"]) == "new"

    paused.reply("old").answer()

    assert b.synced().get("k") == "new"


def test_a_fill_without_an_answer_is_not_kept_in_l1(a: Node) -> None:
    """Nobody has vouched for it."""
    reading = a.read("k").answer().reply("v").lose()

    assert reading.result == "v"
    assert not a.in_l1("k")
    assert a.tiers.events["unfilled"] == 1


def test_without_room_on_the_server_l1_keeps_the_value(a: Node, b: Node, server: SimServer) -> None:
    """R21: a hit stays a hit."""
    server.is_full = True

    assert a.load("k", "v", ["t"]) == "v"

    assert a.get("k") == "v"
    assert b.get("k") is MISS
    a.hear(bump(server, "t"))
    assert a.get("k") is MISS


# ---- a read that L2 cannot answer


def test_redis_away_costs_a_load_and_keeps_nothing(a: Node, clock: Clock) -> None:
    clock.advance(D)

    reading = a.read("k").lose()

    assert reading.at == ("Call",)
    assert reading.reply("v").result == "v"
    assert not a.in_l1("k")


def test_on_lapse_raise_no_read_goes_to_the_source(server: SimServer, clock: Clock) -> None:
    a = Node(server, clock, "a", raise_on_lapse=True).synced()
    a.load("k", "v")
    clock.advance(D)

    with pytest.raises(L2Unavailable, match="on_lapse"):
        a.finish(a.read("k").lose())


def test_a_read_that_is_told_to_sync_again_and_again_is_loaded_without_caching(
    a: Node, server: SimServer
) -> None:
    """3.3: a server whose head stays below what this node has met answers nothing."""
    for _ in range(3):
        bump(server, "t")
    copy = server.copy()
    a.synced()
    reading = a.read("k")
    for _ in range(10):
        if reading.at == ("Call",):
            break
        reading.execute()
        copy.state = server.domain.state
        server.flush()
        reading.reply()

    assert reading.at == ("Call",)
    reading.reply("v")
    assert not a.in_l1("k")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"1|2|3",
        b"1|%d|1|9|00000000|0|0|torn",
        b"1|%d|1|9|zz|0|0|",
        b"1|%d|1|9|00000000|0|40|t",
        b"1|%d|1|9|00000000|0|2000|" + b"t\0" * 1000,
    ],
)
def test_bytes_of_others_are_a_miss_and_the_next_fill_overwrites_them(
    a: Node, b: Node, server: SimServer, raw: bytes
) -> None:
    """3.12"""
    server.domain.entries["k"] = raw.replace(b"%d", b"%d" % a.core.epoch)

    assert a.get("k") is MISS
    assert a.load("k", "v") == "v"
    assert b.get("k") == "v"


def test_an_entry_moved_under_another_key_is_a_miss(a: Node, b: Node, server: SimServer) -> None:
    a.load("k", "v")
    server.domain.entries["l"] = server.domain.entries["k"]

    assert b.get("l") is MISS
    assert b.tiers.events["unreadable"] == 1


def test_an_entry_of_a_release_with_other_tags_is_a_miss(a: Node, b: Node) -> None:
    """3.10: it would escape the tag that the new release has added."""
    a.load("k", "old release", ["t"], print=1)

    assert b.load("k", "new release", ["t", "u"], print=2) == "new release"
    assert b.tiers.events["retagged"] == 1
    b.finish(b.invalidate("u"))
    assert b.get("k") is MISS


def test_nor_is_it_served_when_a_read_by_its_key_has_put_it_into_l1(a: Node, b: Node) -> None:
    a.load("k", "old release", ["t"], print=1)
    assert b.get("k") == "old release"

    assert b.load("k", "new release", ["t", "u"], print=2) == "new release"


# ---- the loader


def test_what_the_loader_raises_reaches_its_caller_and_nothing_is_kept(a: Node, b: Node) -> None:
    loading = a.read("k").answer()

    assert loading.throw(LoaderFailed()).at == ("Unlock",)
    with pytest.raises(LoaderFailed):
        a.finish(loading)
    assert b.read("k").answer().at == ("Call",)


def test_a_value_that_cannot_be_stored_is_the_callers_error_and_frees_the_lock(a: Node, b: Node) -> None:
    loading = a.read("k").answer()

    assert loading.reply(object()).at == ("Unlock",)
    with pytest.raises(Unstorable):
        a.finish(loading)
    assert b.read("k").answer().at == ("Call",)


def test_an_error_of_the_transport_after_the_load_is_the_one_that_is_raised(a: Node) -> None:
    """The value was there by then, and those who waited have it."""
    loading = a.read("k").answer()
    joining = a.read("k")
    loading.reply("v").throw(RuntimeError("the loop is closed"))

    with pytest.raises(RuntimeError, match="the loop is closed"):
        a.finish(loading)
    assert joining.wake().result == "v"


# ---- another process loads


def test_who_finds_another_process_loading_waits_and_takes_what_it_stored(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer().answer()  # the bell hangs before the read that finds the lock still there
    assert waiting.at == ("Join",)

    leading.reply("v").answer()
    b.tiers.bells.ring(*[dep for node, dep in a.server.wakes if node == "b"])

    assert b.finish(waiting.wake()) == "v"
    assert b.counts.l2_hits == 1


def test_a_wake_up_between_the_two_looks_is_not_missed(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    leading.reply("v").answer()
    b.tiers.bells.ring(key_dep("k"))

    assert b.finish(waiting) == "v"


def test_a_lock_whose_holder_died_runs_out_and_the_waiter_leads(a: Node, b: Node) -> None:
    """R38"""
    dead = a.read("k").answer()
    waiting = b.read("k").answer().answer()
    a.clock.advance(LOCK_MS / 1000)

    assert waiting.wake().answer().at == ("Call",)
    assert dead.at == ("Call",)


def test_a_failed_load_wakes_the_waiters_and_one_of_them_leads(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer().answer()

    leading.throw(LoaderFailed()).execute()

    assert a.server.wakes == [("b", "k:k")]
    assert waiting.wake().answer().at == ("Call",)


def test_who_waits_looks_again_at_a_quarter_and_a_half_of_what_is_left(
    server: SimServer, clock: Clock
) -> None:
    """Section 8: a lost wake-up costs the rest of the lock at most."""
    a, b = nodes(server, clock, wakes_arrive=lambda: True)
    leading = a.read("k").answer()
    waiting = b.read("k").answer().answer()
    patience = []
    for _ in range(3):
        assert isinstance(waiting.step, Join)
        patience.append(waiting.step.timeout)
        waiting.wake().answer()

    assert patience == pytest.approx([2.5, 5.0, 10.0], abs=0.01)
    assert leading.at == ("Call",)


def test_where_no_wake_up_can_arrive_a_waiter_looks_soon_and_then_less_often(a: Node) -> None:
    looks = [patience_for(a.tiers, 10.0, look) for look in range(12)]

    assert looks[:3] == [0.02, 0.04, 0.08]
    assert max(looks) == pytest.approx(10.0, abs=0.01)


def test_who_waits_for_other_processes_gives_up_after_load_timeout(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    began = b.clock()
    while waiting.at != ("Unlock",):
        a.server.domain.locks["k"].ends = b.clock() * 1000 + LOCK_MS
        if isinstance(waiting.step, Join):
            b.clock.advance(waiting.step.timeout)
            waiting.wake()
        else:
            waiting.answer()

    with pytest.raises(LoadTimeout, match="load_timeout"):
        b.finish(waiting)
    assert b.clock() - began == pytest.approx(b.tiers.load_timeout)
    assert leading.at == ("Call",)


# ---- L1 alone


def test_without_l2_a_value_lives_in_l1_and_no_round_trip_is_made(a: Node) -> None:
    reading = a.read("k", l2=False)
    assert reading.at == ("Call",)
    assert reading.reply("v").result == "v"

    assert a.get("k") == "v"


def test_without_l2_a_load_that_a_record_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    loading = a.read("k", tags=["t"], l2=False)
    a.hear(bump(server, "t"))
    loading.reply("old")

    assert not a.in_l1("k")


def test_without_l2_a_load_whose_head_is_not_proved_is_not_kept_before_a_sync(
    a: Node, server: SimServer
) -> None:
    """Another read of the node has met a record that nobody here has been told of."""
    loading = a.read("k", tags=["t"], l2=False)
    bump(server, "t")
    a.get("other")

    assert loading.reply("old").at == ("Sync",)
    assert a.finish(loading) == "old"
    assert not a.in_l1("k")


def test_without_l2_a_load_begins_with_all_that_was_met_proved(a: Node, server: SimServer) -> None:
    bump(server, "t")
    a.get("other")

    reading = a.read("k", tags=["t"], l2=False)

    assert reading.at == ("Sync",)
    assert a.finish(reading, "v") == "v"
    assert a.in_l1("k")


def test_without_l2_a_record_reaches_it_as_any_other(a: Node, b: Node) -> None:
    a.load("k", "old", ["t"], l2=False)
    b.finish(b.invalidate("t"))
    a.synced()

    assert a.load("k", "new", ["t"], l2=False) == "new"


# ---- touch


def test_a_touched_entry_lives_longer_in_l2(a: Node, b: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"], ttl=5.0)
    touching = a.start(reads.touch(a.tiers, a.want("k", ttl=60.0), blocking=False))

    assert a.finish(touching) is True
    assert server.domain.ends["k"] == 1060_000
    a.clock.advance(9)
    assert b.get("k") == "v"


def test_a_touch_does_not_bring_back_what_was_invalidated_meanwhile(a: Node, b: Node) -> None:
    a.load("k", "old", ["t"])
    touching = a.start(reads.touch(a.tiers, a.want("k", ttl=60.0), blocking=False)).answer()
    b.finish(b.invalidate("t"))

    a.finish(touching)

    assert a.get("k") is MISS
    assert b.get("k") is MISS


def test_what_is_not_there_cannot_be_touched(a: Node) -> None:
    assert a.finish(a.start(reads.touch(a.tiers, a.want("k", ttl=60.0), blocking=False))) is False


# ---- many keys


def many(node: Node, *keys: str, tags: tuple[str, ...] = ()) -> Any:
    wants = [node.want(key, call=None, tags=tags) for key in keys]
    plan = batches.get_or_load_many(node.tiers, wants, dict, {k: k for k in keys}, blocking=False)
    return node.start(plan)


def test_keys_missing_in_both_tiers_are_loaded_by_one_call(a: Node, b: Node) -> None:
    b.load("l2", "in l2")
    a.load("l1", "in l1")
    reading = many(a, "l1", "l2", "x", "y")
    (command,) = reading.commands
    assert isinstance(command, Read)
    assert [ask.key for ask in command.asks] == ["l2", "x", "y"]

    assert reading.answer().step.args == (["x", "y"],)
    assert reading.reply({"x": 1, "y": 2}).at == ("Fill", "Fill")

    assert reading.answer().result == {"l1": "in l1", "l2": "in l2", "x": 1, "y": 2}
    assert b.get("x") == 1


def test_a_batch_that_a_record_overtook_fills_neither_tier(a: Node, b: Node, server: SimServer) -> None:
    loading = many(a, "x", "y", tags=("t",)).answer()
    bump(server, "t")

    loading.reply({"x": 1, "y": 2}).answer()

    assert a.get("x") is MISS
    assert b.get("y") is MISS


def test_what_the_loader_leaves_out_is_left_out_and_its_lock_freed(a: Node, b: Node) -> None:
    loading = many(a, "x", "y").answer()

    assert loading.reply({"x": 1}).at == ("Unlock",)
    assert a.finish(loading) == {"x": 1}
    assert b.read("y").answer().at == ("Call",)


def test_a_batch_that_is_cancelled_frees_its_locks(a: Node, b: Node) -> None:
    loading = many(a, "x", "y").answer()

    assert loading.throw(Cancelled()).at == ("Unlock", "Unlock")
    with pytest.raises(Cancelled):
        a.finish(loading)
    assert b.read("x").answer().at == ("Call",)


def test_a_batch_asks_for_a_hundred_keys_at_a_time(a: Node) -> None:
    reading = many(a, *(f"k{i}" for i in range(250)))
    sizes = []
    while reading.at == ("Read",):
        (command,) = reading.commands
        assert isinstance(command, Read)
        sizes.append(len(command.asks))
        reading.answer()

    assert sizes == [100, 100, 50]
    assert reading.at == ("Call",)


def test_a_batch_is_not_larger_than_256_kilobytes_and_comes_whole_all_the_same(a: Node, b: Node) -> None:
    """3.12"""
    for key in "xyz":
        b.load(key, key * 150_000)
    reading = many(a, "x", "y", "z")
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
