"""An entry that is about to end is loaded anew, once, beside those whom it still serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.core.hands import Cancelled, Clock, Hand, LoaderFailed, Node, nodes
from tests.core.sim_server import SimServer
from tiercache._core.early import MOST
from tiercache._core.loads import load_anew
from tiercache._core.tiers import MOST as MOST_PROSPECT
from tiercache._core.tiers import Early, Want

TTL, TOOK = 100.0, 4.0


@dataclass
class Beside:
    """What is begun beside the readers, for a test to carry on with."""

    node: Node
    has_room: bool = True
    begun: list[Hand] = field(default_factory=list)

    def start(self, want: Want, seen: int) -> bool:
        if self.has_room:
            self.begun.append(self.node.start(load_anew(self.node.tiers, want, seen, blocking=False)))
        return self.has_room


@pytest.fixture
def a(a: Node) -> Node:
    a.counts.took = TOOK
    return a


@pytest.fixture
def beside(a: Node) -> Beside:
    return Beside(a)


def read(node: Node, beside: Beside, beta: float = 1.0, **want: Any) -> Hand:
    return node.read("k", ttl=TTL, early=Early(beta, beside.start), **want)


def load(node: Node, beside: Beside, value: str = "old", **want: Any) -> None:
    node.finish(read(node, beside, **want), value)
    node.counts.took = TOOK  # the clock of a test stands still while it loads


def until_due(node: Node, beside: Beside, clock: Clock, **want: Any) -> int:
    """Read each second until something is begun; that many seconds before the end, 0 if nothing is."""
    for left in range(int(TTL) - 1, 0, -1):
        clock.advance(1.0)
        assert node.finish(read(node, beside, **want)) == "old"
        if beside.begun:
            return left
    return 0


@pytest.mark.parametrize("tiers", ["both", "L2 alone"])
def test_one_load_begins_before_the_end_while_the_old_value_is_served(
    a: Node, beside: Beside, clock: Clock, tiers: str
) -> None:
    want = {"l1": tiers == "both"}
    load(a, beside, **want)
    left = until_due(a, beside, clock, **want)
    assert TOOK - 1 <= left <= TTL * MOST

    (beginning,) = beside.begun
    leading = beginning.answer()
    assert leading.at == ("Call",)
    for _ in range(3):
        assert a.finish(read(a, beside, **want)) == "old", "and nobody waits"
    leading.reply("new").answer()

    assert a.finish(read(a, beside, **want)) == "new"
    assert len(beside.begun) == 1
    assert a.tiers.events["early_refreshes"] == 1
    assert a.counts.loads == 2


def test_the_drawn_instants_differ_from_process_to_process_and_by_beta(
    server: SimServer, clock: Clock
) -> None:
    lefts: dict[float, set[int]] = {}
    for beta in (0.5, 5.0):
        for node in nodes(server, clock, "abcdefgh"):
            node.counts.took = TOOK
            beside = Beside(node)
            node.finish(node.invalidate(keys=["k"]))
            load(node, beside, beta=beta)
            lefts.setdefault(beta, set()).add(until_due(node, beside, clock, beta=beta))
    assert len(lefts[5.0]) > 3
    assert max(lefts[0.5]) < max(lefts[5.0])


def test_who_finds_that_another_process_was_sooner_takes_its_value_and_begins_nothing(
    a: Node, beside: Beside, b: Node, clock: Clock
) -> None:
    load(a, beside)
    b.counts.took = TOOK
    other = Beside(b)
    assert b.finish(read(b, other)) == "old"
    clock.advance(TTL - 5 * TOOK)
    a.core.l1.drop("k")
    a.finish(a.read("k", ttl=TTL, renew=True), "new")

    seen = set()
    for _ in range(int(5 * TOOK) - 1):
        clock.advance(1.0)
        seen.add(b.finish(read(b, other)))
    assert "new" in seen, "sooner than the old one ends"
    assert other.begun == []


def test_one_that_somebody_else_loads_by_now_is_left_to_him(
    a: Node, beside: Beside, b: Node, clock: Clock
) -> None:
    load(a, beside)
    until_due(a, beside, clock)
    leading = b.read("k", ttl=TTL, renew=True)
    while leading.at != ("Call",):
        leading.answer()

    (beginning,) = beside.begun
    assert beginning.answer().result is None
    assert a.counts.loads == 1


def test_one_that_somebody_else_has_loaded_by_now_is_not_loaded_again(
    a: Node, beside: Beside, b: Node, clock: Clock
) -> None:
    """1. A looks, and finds it due.  2. B has loaded it anew, and unlocks.  3. A is given the lock."""
    load(a, beside)
    until_due(a, beside, clock)
    b.finish(b.read("k", ttl=TTL, renew=True), "new")

    (beginning,) = beside.begun
    while not beginning.is_done:
        assert beginning.at != ("Call",)
        beginning.answer()
    assert a.counts.loads == 1
    assert a.finish(a.read("k", ttl=TTL)) == "new"
    assert b.finish(b.read("k", ttl=TTL, renew=True), "newer") == "newer", "and no lock is left"


@pytest.mark.parametrize("looks", [True, False])
def test_one_that_is_over_before_its_reader_goes_on_is_not_undone_by_him(
    a: Node, clock: Clock, looks: bool
) -> None:
    """As on another thread:  1. A reads the old value, begins.  2. The new one is in L1.  3. A goes on."""
    at_once: list[Hand] = []

    def start(want: Want, seen: int) -> bool:
        at_once.append(a.start(load_anew(a.tiers, want, seen, blocking=False)))
        a.finish(at_once[-1], "new")
        return True

    a.finish(a.read("k", ttl=TTL, early=Early(1.0, start)), "old")
    a.counts.took = TOOK
    while not at_once:
        clock.advance(1.0)
        a.core.l1.drop("k")
        a.counts.prospect = MOST_PROSPECT if looks else -MOST_PROSPECT
        assert a.finish(a.read("k", ttl=TTL, early=Early(1.0, start))) == "old"
    assert a.finish(a.read("k", ttl=TTL, early=Early(1.0, start))) == "new"


def test_a_failed_load_leaves_the_old_value_and_is_not_begun_again_for_it(
    a: Node, beside: Beside, b: Node, clock: Clock
) -> None:
    load(a, beside)
    left = until_due(a, beside, clock)
    (beginning,) = beside.begun
    failed = beginning.answer().throw(LoaderFailed())
    assert failed.at == ("Unlock",)
    failed.answer()
    with pytest.raises(LoaderFailed):
        _ = failed.result

    for _ in range(left - 1):
        clock.advance(1.0)
        assert a.finish(read(a, beside)) == "old"
    assert len(beside.begun) == 1


def test_where_there_is_no_room_a_later_read_begins_it(a: Node, beside: Beside, clock: Clock) -> None:
    beside.has_room = False
    load(a, beside, l1=False)
    clock.advance(TTL - 1)
    assert a.finish(read(a, beside, l1=False)) == "old"
    assert beside.begun == []

    beside.has_room = True
    assert a.finish(read(a, beside, l1=False)) == "old"
    assert len(beside.begun) == 1


def test_an_invalidation_during_an_early_load_is_not_undone_by_it(
    a: Node, beside: Beside, clock: Clock
) -> None:
    load(a, beside, tags=("t",))
    until_due(a, beside, clock, tags=("t",))
    (beginning,) = beside.begun
    leading = beginning.answer()
    a.finish(a.invalidate("t"))
    leading.reply("of before").answer()

    assert a.finish(read(a, beside, tags=("t",)), "of now") == "of now"


def test_one_that_is_cancelled_while_it_asks_leaves_no_lock(a: Node, beside: Beside, clock: Clock) -> None:
    load(a, beside)
    until_due(a, beside, clock)
    (beginning,) = beside.begun
    beginning.execute()  # and the server has given it the lock

    assert beginning.throw(Cancelled()).at == ("Unlock",)


def test_a_shorter_life_in_l1_is_not_made_shorter_still(a: Node, beside: Beside, clock: Clock) -> None:
    leading = read(a, beside, beta=1e9, l1_ttl=2.0)
    while leading.at != ("Call",):
        leading.answer()
    clock.advance(TOOK)
    a.finish(leading.reply("old"))
    assert a.counts.took == TOOK

    clock.advance(1.9)
    assert a.finish(read(a, beside, beta=1e9, l1_ttl=2.0)) == "old"
    assert a.counts.l1_hits == 1


def test_without_a_load_in_this_process_nothing_is_early(a: Node, beside: Beside, clock: Clock) -> None:
    load(a, beside)
    a.counts.took = 0.0
    assert until_due(a, beside, clock, l1=False) == 0
