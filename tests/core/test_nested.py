"""Reads that a loader makes: they must reflect what its load's token promises (coherence.md 3.9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.core.hands import Clock, Hand, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core.plan import Ask, Call
from tiercache._core.records import Hint
from tiercache._transport.memory import Memory


def ahead(node: Node, key: str = "outer", tags: Sequence[str] = ("t",)) -> Hand:
    """A load in its loader, with leave at the head as it is; the syncs in front of it, if any, were lost."""
    loading = node.read(key, tags=tags).answer()
    while loading.at == ("Sync",):
        loading.lose()
    assert loading.at == ("Call",)
    return loading


def overtaken(a: Node, server: SimServer) -> Hand:
    """A load with leave at a record that L1 has not been told of, and "inner" in L1 from before it."""
    a.load("inner", "old", ["t"])
    bump(server, "t")
    return ahead(a)


def test_before_a_load_l1_is_told_all_that_its_token_promises(a: Node, server: SimServer) -> None:
    """A loader may read the cache on a thread where nobody can tell that it is part of a load."""
    a.load("inner", "old", ["t"])
    bump(server, "t")

    loading = a.read("outer", tags=["t"]).answer()

    assert loading.at == ("Sync",)
    assert loading.answer().at == ("Call",)
    assert not a.in_l1("inner")


def test_a_load_whose_head_is_proved_needs_no_sync(a: Node) -> None:
    assert a.read("outer").answer().at == ("Call",)


def test_l1_does_not_answer_a_nested_read_with_what_the_load_must_be_newer_than(
    a: Node, b: Node, server: SimServer
) -> None:
    """1. W's record.  2. P, which has not heard it, has leave with that token.  3. The loader reads `inner`
    from L1: old.  4. Its caller would get an old part, though the write was told before it asked."""
    loading = overtaken(a, server)

    inner = a.read("inner", tags=["t"], inside=loading)

    assert inner.at == ("Read",)
    assert a.finish(inner, "new") == "new"
    assert loading.reply("of new").answer().result == "of new"


def test_a_load_whose_sync_failed_is_stored_where_nothing_it_names_has_changed(
    a: Node, b: Node, server: SimServer
) -> None:
    bump(server, "u")
    loading = a.read("outer", tags=["t"]).answer()
    while loading.at == ("Sync",):
        loading.lose()

    loading.reply("v").answer()

    assert b.synced().get("outer") == "v"


def test_outside_of_the_load_l1_answers_as_before(a: Node, server: SimServer) -> None:
    overtaken(a, server)

    assert a.get("inner") == "old"


def test_l1_answers_a_nested_read_with_what_was_vouched_for_since(
    a: Node, b: Node, server: SimServer
) -> None:
    bump(server, "t")
    b.synced().load("inner", "new", ["t"])
    assert a.get("inner") == "new"
    loading = ahead(a)

    assert a.read("inner", inside=loading).result == "new"


def test_l1_answers_a_nested_read_once_a_sync_has_told_what_the_load_must_reflect(
    a: Node, server: SimServer
) -> None:
    a.load("inner", "v", ["u"])
    bump(server, "t")
    loading = ahead(a)
    assert a.read("inner", tags=["u"], inside=loading).at == ("Read",)
    a.load("inner", "v", ["u"])

    a.synced()

    assert a.read("inner", inside=loading).result == "v"


def test_hints_do_not_tell_what_a_load_must_reflect(a: Node, server: SimServer) -> None:
    """A forged one has taken the number of the record."""
    a.load("inner", "old", ["t"])
    a.core.hear(Hint(a.core.epoch, a.core.applied + 1, ("x",)))
    bump(server, "t")
    loading = ahead(a)

    assert a.read("inner", tags=["t"], inside=loading).at == ("Read",)


def test_the_hit_path_looks_twice_while_a_load_is_ahead_of_l1(a: Node, server: SimServer) -> None:
    assert a.core.open_until == a.core.lease
    loading = overtaken(a, server)
    assert a.core.open_until < a.clock()

    a.synced()
    assert a.core.open_until == a.core.lease

    loading.reply("v").answer()
    assert a.core.open_until == a.core.lease


def test_the_hit_path_is_open_again_when_the_load_is_over(a: Node, server: SimServer) -> None:
    a.load("inner", "old", ["u"])
    bump(server, "t")
    one, other = ahead(a), ahead(a, "another")
    a.finish(one, "v")
    assert a.core.open_until < a.clock()

    a.finish(other, "v")

    assert a.core.open_until == a.core.lease


def test_a_load_of_an_epoch_that_is_over_holds_nobody_up(a: Node, server: SimServer) -> None:
    for _ in range(5):
        bump(server, "u")
    begun_before = ahead(a)
    server.flush()
    a.synced()

    assert a.core.open_until == a.core.lease
    assert begun_before.at == ("Call",)


def test_a_load_within_a_load_keeps_to_the_newer_token_of_both(a: Node, server: SimServer) -> None:
    a.load("inner", "old", ["t"])
    outer = ahead(a, "outer", ("u",))
    bump(server, "t")
    middle = a.read("middle", tags=["t"], inside=outer).answer()
    while middle.at == ("Sync",):
        middle.lose()

    assert a.read("inner", tags=["t"], inside=outer).result == "old"
    assert a.read("inner", tags=["t"], inside=middle).at == ("Read",)


def test_a_read_of_another_cache_is_no_part_of_the_load(a: Node, server: SimServer, clock: Clock) -> None:
    other = Node(SimServer(clock), clock, "c").synced()
    other.load("inner", "v", ["t"])
    loading = overtaken(a, server)

    assert other.read("inner", inside=loading).result == "v"


def test_a_read_that_outlives_the_load_it_was_made_in_is_no_part_of_it(a: Node, server: SimServer) -> None:
    """A task that the loader started and did not wait for."""
    loading = overtaken(a, server)
    call = loading.step
    assert isinstance(call, Call)
    loading.reply("v").lose()

    assert a.read("inner", inside=call).result == "old"


def test_a_nested_read_does_not_join_a_load_that_is_older_than_its_own(a: Node, server: SimServer) -> None:
    early = a.read("inner", tags=["t"]).answer()
    bump(server, "t")
    loading = ahead(a)
    nested = a.read("inner", tags=["t"], inside=loading)
    assert nested.at == ("Join",)
    early.reply("old").answer()

    assert a.finish(nested.wake(), "new") == "new"


def test_no_tier_answers_inside_of_a_load_without_redis(a: Node, server: SimServer, clock: Clock) -> None:
    """1. Its part comes from L1, nearly D old.  2. Later somebody joins it, who may have been given what is
    newer.  3. It lands: no token tells how old its parts are."""
    a.load("inner", "old", ["t"])
    clock.advance(1)
    bump(server, "t")
    clock.advance(8)
    outer = a.read("outer", tags=["t"]).lose()
    nested = a.read("inner", tags=["t"], inside=outer)

    assert nested.at == ("Call",)
    clock.advance(0.5)
    joining = a.read("outer", tags=["t"])
    assert joining.at == ("Join",)
    outer.reply(f"of {nested.reply('new').result}")
    assert joining.wake().result == "of new"


def test_a_batch_inside_of_a_load_without_redis_loads_its_parts(a: Node) -> None:
    a.load("inner", "old")
    outer = a.read("outer").lose()

    assert a.read_many("inner", inside=outer).at == ("Call",)


def test_the_parts_of_a_batch_keep_to_its_token(a: Node, server: SimServer) -> None:
    a.load("inner", "old", ["t"])
    bump(server, "t")
    loading = a.read_many("x", "y", tags=["t"]).answer()
    while loading.at == ("Sync",):
        loading.lose()
    assert isinstance(loading.step, Call)

    assert a.read("inner", tags=["t"], inside=loading).at == ("Read",)


def test_a_batch_in_two_epochs_keeps_to_the_token_of_each(a: Node, b: Node, server: SimServer) -> None:
    """1. The first thousand keys are answered.  2. FLUSHALL.  3. The rest is, in the next epoch, at a record
    that L1 has not been told of."""
    loading = a.read_many(*(f"k{i}" for i in range(1_050)), tags=["t"]).answer()
    server.flush()
    syncing = a.sync().execute()
    assert loading.answer().at == ("Join",)
    syncing.reply()
    a.load("inner", "old", ["t"])
    bump(server, "t")
    assert loading.wake().answer().at == ("Sync",)
    while loading.at == ("Sync",):
        loading.lose()

    assert loading.at == ("Call",)
    assert a.read("inner", tags=["t"], inside=loading).at == ("Read",)


class InMemory:
    """The ledger of memory://, as a hand's server."""

    def __init__(self) -> None:
        self._memory = Memory()

    def perform(self, command: Any) -> Any:
        return self._memory.perform(Ask((command,)))[0]


def test_in_one_process_too_a_part_is_as_new_as_its_load(clock: Clock) -> None:
    """1. A thread invalidates; its record is made, and not yet applied.  2. A load from before keeps `inner`.
    3. Another load begins at that record, and reads `inner`."""
    a = Node(InMemory(), clock, "a", max_staleness=float("inf")).synced()
    early = a.read("inner", tags=["t"], l2=False)
    invalidating = a.invalidate("t").execute()
    early.reply("old")
    a.synced()
    outer = a.read("outer", tags=["t"], l2=False)
    inner = a.read("inner", tags=["t"], l2=False, inside=outer)

    assert a.finish(inner, "new") == "new"
    a.finish(outer, "of new")
    invalidating.reply()


def test_a_load_whose_sync_fails_stores_no_old_part_that_another_thread_read(
    a: Node, server: SimServer
) -> None:
    """1. a has not heard of 2.  2. Its load of outer has token 2, and its sync fails.  3. In a thread of an
    executor, where nobody can tell, the loader reads inner from L1: old.  4. fill(token 2) is accepted."""
    a.load("inner", "old", ["u"])
    bump(server, "u")
    outer = a.read("outer", tags=["u"]).answer()
    while outer.at == ("Sync",):
        outer.lose()
    assert outer.at == ("Call",)

    part = a.load("inner", "new", ["u"])
    a.finish(outer, part)

    assert a.get("outer") != "old"
