"""What a node believes of the channel: nothing that would cost more than a reload (coherence.md 3.3)."""

from __future__ import annotations

import time
from math import inf

import pytest

from tests.core.hands import Clock, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core.l1 import Entry
from tiercache._core.reads import MISS
from tiercache._core.records import MAX_DEPS, Hint


def test_the_next_hint_drops_what_it_names_and_nothing_else(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    a.load("other", "v", ["u"])

    number = bump(server, "t")

    assert a.hear(number) == ["applied"]
    assert not a.in_l1("k")
    assert a.in_l1("other")


def test_a_hint_older_than_an_entry_leaves_it(a: Node, server: SimServer) -> None:
    """R13b: a fresh reply before the older message; dropping the entry would be a needless miss."""
    number = bump(server, "t")
    Node(server, a.clock, "b").synced().load("k", "new", ["t"])
    assert a.get("k") == "new"

    assert a.hear(number) == ["applied"]
    assert a.get("k") == "new"
    assert (a.counts.l2_hits, a.counts.l1_hits) == (1, 1)


def test_a_hint_that_comes_twice_is_known(a: Node, server: SimServer) -> None:
    """R12"""
    first, second = bump(server, "t"), bump(server, "u")
    assert a.hear(first, second) == ["applied", "applied"]

    assert a.hear(second, first) == ["known", "known"]
    assert a.core.applied == second


@pytest.mark.parametrize("order", [(3,), (3, 2), (4, 3)])
def test_a_hint_after_one_that_is_missing_asks_for_a_sync(
    a: Node, server: SimServer, order: tuple[int, ...]
) -> None:
    """R7 to R11: whatever lost it, numbers are one apart, so a hole shows."""
    for tag in ("t", "u", "v"):
        bump(server, tag)

    assert a.hear(*order)[0] == "gap"
    assert a.core.applied < order[0]


def test_what_no_hint_told_comes_with_the_next_sync(a: Node, server: SimServer) -> None:
    a.load("k", "old", ["t"])
    bump(server, "t")
    assert a.get("k") == "old"

    a.synced()

    assert a.get("k") is MISS


def test_a_hint_of_another_epoch_changes_nothing(a: Node) -> None:
    a.load("k", "v", ["t"])

    assert a.core.hear(Hint(a.core.epoch + 1, a.core.applied + 1, ("t",))) == "foreign"
    assert a.in_l1("k")


def test_a_forged_hint_never_raises_the_head_a_read_asks_for(a: Node, server: SimServer) -> None:
    """3.3, 3.12: else one forged number would make the server refuse every read until the next epoch."""
    head = bump(server, "u")
    a.synced()
    for ahead in range(1, 6):
        assert a.core.hear(Hint(a.core.epoch, head + ahead, ("x",))) == "applied"
    a.core.hear(Hint(a.core.epoch, 10**9, ("x",)))

    assert a.read("k", call=None).answer().result is MISS
    assert a.tiers.events["resyncs"] == 0


@pytest.mark.parametrize("dep", ["*", "t:all"])
def test_a_hint_that_names_one_dependency_again_and_again_costs_no_more_than_naming_it_once(
    server: SimServer, clock: Clock, dep: str
) -> None:
    """A message of 4 KB held the core's lock for 20 s before."""
    a = Node(server, clock, l1_maxsize=50_000).synced()
    for n in range(50_000):
        newer = a.core.applied + 9  # so that it stays, and is looked at each time
        a.core.l1.put(Entry(str(n), n, None, deadline=inf, deps=("t:all",), vouched=newer), 1.0)
    begun = time.process_time()

    assert a.core.hear(Hint(a.core.epoch, a.core.applied + 1, (dep,) * MAX_DEPS)) == "applied"
    assert time.process_time() - begun < 2.0


def test_a_record_whose_number_a_forged_hint_took_comes_with_the_next_sync(
    a: Node, server: SimServer
) -> None:
    """Replay starts from what is proved, and not from what was heard."""
    a.load("k", "old", ["t"])
    a.core.hear(Hint(a.core.epoch, a.core.applied + 1, ("x",)))
    number = bump(server, "t")
    assert a.hear(number) == ["known"]

    a.synced()

    assert not a.in_l1("k")


def test_after_a_sync_shows_that_a_hint_had_lied_true_ones_are_heard_again(
    a: Node, server: SimServer
) -> None:
    for ahead in range(1, 4):
        a.core.hear(Hint(a.core.epoch, 1 + ahead, ("x",)))
    a.synced()
    assert a.core.applied == a.core.proved == 1

    assert a.hear(bump(server, "t")) == ["applied"]


def test_after_a_sync_shows_that_hints_had_lied_l1_keeps_again_what_they_named(a: Node) -> None:
    """Else one burst of them would keep L1 empty until the head has come that far."""
    for ahead in range(1, 6):
        a.core.hear(Hint(a.core.epoch, 1 + ahead, ("*",)))
    a.load("k", "v")
    assert not a.in_l1("k")

    a.synced()
    a.load("k", "v")

    assert a.in_l1("k")


@pytest.mark.parametrize("how", ["hit", "own"])
def test_what_is_true_is_not_forgotten_with_what_was_a_lie(
    a: Node, b: Node, server: SimServer, how: str
) -> None:
    b.load("k", "old", ["t"])
    reading = a.read("k", call=None).execute()
    if how == "own":
        a.finish(a.invalidate("t"))
    else:
        a.hear(bump(server, "t"))
    for ahead in range(1, 6):
        a.core.hear(Hint(a.core.epoch, 2 + ahead, ("x",)))
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_hint_that_was_heard_while_a_sync_was_under_way_is_not_taken_for_a_lie(
    a: Node, server: SimServer
) -> None:
    sync = a.sync().execute()
    number = bump(server, "t")
    a.hear(number)

    sync.reply()

    assert a.core.applied == number
