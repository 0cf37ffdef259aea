"""What a source says of itself: a snapshot, what is not committed, what else a value depends on."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from tests.core.hands import Clock, D, Hand, Node, begun, bump, joined, took
from tests.core.sim_server import SimServer
from tiercache._core.flights import running_load
from tiercache._core.sources import ANY_EPOCH, Moment, Writing, is_writing, uncommitted


def moment(node: Node) -> Moment:
    return Moment([node.core])


def say(loading: Hand, what: Callable[[Any], object]) -> None:
    """Inside the loader of *loading*, of each load it is part of, as `tiercache.source` does."""
    load = loading.step.load  # type: ignore[union-attr]  # it stands at its Call
    for each in load.chain():
        what(each)


def as_of(loading: Hand, then: Moment) -> None:
    say(loading, lambda load: load.found.lower(load.epoch, then.of(load.core)))


def not_committed(loading: Hand) -> None:
    say(loading, lambda load: setattr(load.found, "is_committed", False))


# ---- snapshots


def test_a_load_from_a_snapshot_older_than_a_record_is_not_kept(a: Node, b: Node, server: SimServer) -> None:
    """R16: 1. A's snapshot begins.  2. B commits, invalidates.  3. A misses, and reads the old value."""
    snapshot = moment(a)
    b.finish(b.invalidate("t"))
    loading = begun(a)
    as_of(loading, snapshot)

    assert a.finish(loading, "old") == "old"
    assert not a.in_l1("k")
    assert b.load("k", "new", ["t"]) == "new"


def test_a_load_from_a_snapshot_is_kept_where_nothing_changed_since(a: Node, b: Node) -> None:
    snapshot = moment(a)
    b.finish(b.invalidate("u"))
    loading = begun(a)
    as_of(loading, snapshot)
    a.finish(loading, "v1")

    assert b.load("k", "unasked for", ["t"]) == "v1"


def test_a_snapshot_shows_what_its_own_process_has_invalidated_before_it(a: Node, b: Node) -> None:
    a.finish(a.invalidate("t"))  # and no sync since
    loading = begun(a)
    as_of(loading, moment(a))
    a.finish(loading, "new")

    assert b.load("k", "unasked for", ["t"]) == "new"


def test_what_hints_said_does_not_make_a_snapshot_any_newer(a: Node, b: Node, server: SimServer) -> None:
    """They may be forged, and their numbers run ahead of what has run."""
    assert a.hear(bump(server, "t")) == ["applied"]
    snapshot = moment(a)
    loading = begun(a)
    as_of(loading, snapshot)
    a.finish(loading, "old")

    assert b.load("k", "new", ["t"]) == "new"


def test_a_follower_that_knows_of_a_record_does_not_take_what_a_snapshot_gave(a: Node, b: Node) -> None:
    snapshot = moment(a)
    loading = begun(a)
    as_of(loading, snapshot)
    a.finish(a.invalidate("t"))
    follower = a.read("k", tags=["t"])
    a.finish(loading, "old")

    assert a.finish(follower, "new") == "new"


def test_a_snapshot_of_another_epoch_brings_nothing_that_is_kept(a: Node, server: SimServer) -> None:
    snapshot = moment(a)
    server.flush()
    a.core.disown()
    a.synced()
    loading = begun(a)
    as_of(loading, snapshot)
    a.finish(loading, "old")

    assert not a.in_l1("k")
    assert a.load("k", "new", ["t"]) == "new"


def test_a_snapshot_of_before_the_cache_was_there_brings_nothing_that_is_kept(a: Node) -> None:
    loading = begun(a)
    as_of(loading, Moment([]))
    a.finish(loading, "old")

    assert not a.in_l1("k")


def test_a_snapshot_lowers_the_token_of_a_load_for_l1_alone(a: Node, b: Node) -> None:
    snapshot = moment(a)
    b.finish(b.invalidate("t"))
    a.synced()
    loading = begun(a, l2=False)
    as_of(loading, snapshot)
    a.finish(loading, "old")

    assert not a.in_l1("k")


def test_a_snapshot_lowers_the_tokens_of_a_batch(a: Node, b: Node) -> None:
    snapshot = moment(a)
    b.finish(b.invalidate("t"))
    loading = a.read_many("j", "k", tags=["t"])
    while loading.at != ("Call",):
        loading.answer()
    as_of(loading, snapshot)
    a.finish(loading, {"j": "old", "k": "old"})

    assert not a.in_l1("j")
    assert b.load("k", "new", ["t"]) == "new"


def test_without_redis_nobody_joins_a_load_from_a_snapshot(a: Node, clock: Clock) -> None:
    """How old the snapshot is nobody could tell: its load may have begun just now."""
    clock.advance(2 * D)
    loading = a.read("k", tags=["t"])
    while loading.at != ("Call",):
        loading.lose()
    as_of(loading, moment(a))
    follower = joined(a)
    loading.reply("old")

    assert not took(a, follower)


def test_without_redis_nobody_joins_a_batch_from_a_snapshot(a: Node, clock: Clock) -> None:
    clock.advance(2 * D)
    loading = a.read_many("k", tags=["t"])
    while loading.at != ("Call",):
        loading.lose()
    as_of(loading, moment(a))
    follower = joined(a)
    loading.reply({"k": "old"})

    assert not took(a, follower)


# ---- what is not committed


def test_what_is_not_committed_is_stored_in_neither_tier(a: Node, b: Node) -> None:
    loading = begun(a)
    not_committed(loading)

    assert a.finish(loading, "dirty") == "dirty"
    assert not a.in_l1("k")
    assert b.load("k", "clean", ["t"]) == "clean"


def test_who_waits_for_what_is_not_committed_loads_for_himself(a: Node) -> None:
    loading = begun(a)
    not_committed(loading)
    follower = joined(a)
    a.finish(loading, "dirty")

    assert a.finish(follower, "clean") == "clean"


def test_who_waits_in_another_process_is_woken_at_once(a: Node, b: Node) -> None:
    """The lock is given back: nobody waits for its end."""
    loading = begun(a)
    not_committed(loading)
    a.finish(loading, "dirty")
    reading = b.read("k", tags=["t"]).answer()

    assert reading.at == ("Call",)


def test_what_is_not_committed_reaches_the_load_around_it(a: Node, b: Node) -> None:
    outer = begun(a, "outer", ["o"])
    inner = a.read("inner", tags=["i"], inside=outer)
    while inner.at != ("Call",):
        inner.answer()
    not_committed(inner)
    a.finish(inner, "dirty")
    a.finish(outer, "made of it")

    assert b.load("outer", "clean", ["o"]) == "clean"


def test_what_is_not_committed_may_be_what_cannot_be_stored(a: Node) -> None:
    loading = begun(a)
    not_committed(loading)
    value = object()

    assert a.finish(loading, value) is value


def test_of_a_batch_that_is_not_committed_nothing_is_stored(a: Node) -> None:
    loading = a.read_many("j", "k", tags=["t"])
    while loading.at != ("Call",):
        loading.answer()
    not_committed(loading)

    assert a.finish(loading, {"j": "dirty", "k": "dirty"}) == {"j": "dirty", "k": "dirty"}
    assert a.load("j", "clean", ["t"]) == "clean"
    assert a.load("k", "clean", ["t"]) == "clean"


# ---- what else it depends on


def test_a_value_goes_with_what_its_source_named(a: Node, b: Node) -> None:
    loading = begun(a)
    say(loading, lambda load: load.found.depend(["found"]))
    a.finish(loading, "v1")
    assert b.load("k", "unasked for", ["t"]) == "v1"

    b.finish(b.invalidate("found"))
    a.synced()

    assert not a.in_l1("k")
    assert a.load("k", "v2", ["t"]) == "v2"


def test_a_record_during_the_load_on_what_its_source_named_keeps_it_out(
    a: Node, b: Node, server: SimServer
) -> None:
    loading = begun(a)
    say(loading, lambda load: load.found.depend("found"))
    bump(server, "found")
    a.finish(loading, "old")

    assert b.load("k", "new", ["t"]) == "new"


def test_more_tags_than_an_entry_may_have_are_an_error(a: Node) -> None:
    loading = begun(a)
    say(loading, lambda load: load.found.depend(f"tag {n}" for n in range(128)))

    with pytest.raises(ValueError, match=r"at most 128 tags.*129"):
        a.finish(loading, "v1")
    assert a.load("k", "v2", ["t"]) == "v2"  # and the lock is free


# ---- reads inside a transaction that wrote


def writing(node: Node, *tags: str) -> Writing:
    made = Writing(lambda: [node.core])
    made.add(tags)
    return made


def inside(run: Callable[[], None]) -> None:
    """In a context of its own, as a task or thread has."""
    copy_context().run(run)


def test_a_transaction_is_not_answered_with_what_it_has_changed(a: Node) -> None:
    a.load("k", "old", ["t"])

    def transaction() -> None:
        mine = writing(a, "t")
        assert a.load("k", "mine", ["t"]) == "mine"
        mine.end()
        assert a.load("k", "unasked for", ["t"]) == "old"

    inside(transaction)


def test_others_are_answered_meanwhile(a: Node) -> None:
    a.load("k", "old", ["t"])
    kept: list[Writing] = []
    inside(lambda: kept.append(writing(a, "t")))

    assert a.load("k", "unasked for", ["t"]) == "old"


def test_a_transaction_is_answered_with_what_it_has_not_changed(a: Node) -> None:
    a.load("k", "v1", ["t"])

    def transaction() -> None:
        mine = writing(a, "u")
        assert a.load("k", "unasked for", ["t"]) == "v1"
        assert mine.is_open

    inside(transaction)


def test_what_only_the_entry_knows_that_it_depends_on_counts_in_both_tiers(a: Node, b: Node) -> None:
    loading = begun(a, tags=[])
    say(loading, lambda load: load.found.depend("found"))
    a.finish(loading, "old")

    def transaction() -> None:
        mine = Writing(lambda: [a.core, b.core])
        mine.add("found")
        assert a.load("k", "mine") == "mine"
        assert b.load("k", "mine") == "mine"

    inside(transaction)


def test_a_transaction_that_wrote_nobody_knows_what_is_answered_by_no_tier(a: Node) -> None:
    a.load("k", "old", ["t"])

    def transaction() -> None:
        mine = Writing(lambda: [a.core])
        mine.everything()
        assert a.load("k", "mine", ["t"]) == "mine"
        batch = a.read_many("k", tags=["t"])
        assert batch.at == ("Call",)
        assert a.finish(batch, {"k": "mine"}) == {"k": "mine"}

    inside(transaction)


def test_another_context_may_join_a_transaction(a: Node) -> None:
    a.load("k", "old", ["t"])
    kept: list[Writing] = []
    inside(lambda: kept.append(writing(a, "t")))

    assert a.load("k", "unasked for", ["t"]) == "old"

    def participant() -> None:
        kept[0].join()
        assert a.load("k", "mine", ["t"]) == "mine"
        kept[0].end()
        kept[0].join()
        assert not is_writing()

    inside(participant)


def test_a_transaction_does_not_take_from_a_load_what_it_has_changed(a: Node) -> None:
    loading = begun(a, tags=[])
    say(loading, lambda load: load.found.depend("found"))

    def transaction() -> None:
        mine = writing(a, "found")
        follower = joined(a, tags=[])
        a.finish(loading, "old")
        assert a.finish(follower, "mine") == "mine"
        assert mine.is_open

    inside(transaction)


def test_the_quickest_way_of_hits_is_closed_while_a_transaction_has_written(a: Node) -> None:
    first, second = writing(a, "t"), writing(a, "u")
    assert a.core.open_until < a.clock()
    first.end()
    first.end()
    assert a.core.open_until < a.clock()
    second.end()

    assert a.core.open_until == a.core.lease


def test_a_transaction_that_is_forgotten_closes_nothing_for_ever(a: Node) -> None:
    mine = writing(a, "t")
    assert is_writing()
    del mine

    assert a.core.open_until == a.core.lease
    assert not is_writing()
    assert not uncommitted(["t:t"])


def test_a_transaction_that_has_ended_takes_no_more(a: Node) -> None:
    mine = writing(a, "t")
    mine.end()

    with pytest.raises(RuntimeError, match="has ended"):
        mine.add("u")
    assert not mine.touches(["t"])


def test_outside_of_loads_there_is_nobody_to_tell() -> None:
    assert running_load() is None
    assert ANY_EPOCH < 0
