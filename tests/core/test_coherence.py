"""The rules of one node: what it serves, what it believes, what it keeps (coherence.md 3.3).

Node "a" reads; "b", or the server itself, stands for the rest of the world.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.hands import Clock, D, Node, nodes
from tests.core.sim_server import SimServer
from tiercache._core.coherence import MAX_RECENT
from tiercache._core.commands import Clear, Invalidate
from tiercache._core.l1 import Entry
from tiercache._core.reads import MISS
from tiercache._core.records import Hint

ROOM = 100_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> SimServer:
    return SimServer(clock)


@pytest.fixture
def a(server: SimServer, clock: Clock) -> Node:
    return Node(server, clock, "a").synced()


def bump(server: SimServer, *tags: str) -> int:
    """A record that some other process makes; its number."""
    number: int = server.perform(Invalidate(tags, (), ROOM, ROOM)).number
    return number


def answer_in_flight(node: Node, key: str = "k", tags: tuple[str, ...] = ("t",)) -> Any:
    """A `get` whose hit is on its way, and not yet here."""
    Node(node.server, node.clock, "cc").synced().load(key, "old", tags)
    return node.read(key, call=None).execute()


# ---- the lease


def test_l1_answers_until_its_lease_ends_and_not_at_its_end(a: Node, clock: Clock) -> None:
    """R33, R34, R35, R37: a node that was stopped, or whose loop was blocked, finds its lease over."""
    a.load("k", "v", ["t"])
    clock.advance(D - 0.5)
    assert a.get("k") == "v"
    assert a.counts.l1_hits == 1

    clock.advance(0.5)

    assert a.read("k", call=None).at == ("Sync", "Read")


def test_the_lease_counts_from_when_the_sync_was_sent(a: Node, server: SimServer, clock: Clock) -> None:
    """R31: sent and run at 0, a record at 1, its reply read at 9: a lease until 19 would hide the record."""
    a.load("k", "old", ["t"])
    sync = a.sync().execute()
    bump(server, "t")
    clock.advance(9)
    sync.reply()

    assert a.get("k") == "old"
    clock.advance(1)
    assert a.get("k") is MISS


def test_a_record_that_comes_with_the_new_lease_is_seen_by_a_look_up_under_way(
    a: Node, server: SimServer, clock: Clock
) -> None:
    """R32: 1. a thread finds the entry, the lease is over.  2. A sync kills the entry, renews the lease.
    3. The thread compares with the clock."""
    a.load("k", "old", ["t"])
    clock.advance(D)
    bump(server, "t")

    syncs = [a.sync().execute()]

    class SyncInTheMiddle(dict[str, Entry]):
        def get(self, key: str, default: Any = None) -> Any:
            entry = super().get(key)
            while syncs:
                syncs.pop().reply()
            return entry

    a.core.l1.entries = SyncInTheMiddle(a.core.l1.entries)
    entry, until = a.core.serve("k")

    assert a.core.lease > clock()
    assert entry is not None
    assert clock() >= until


def test_without_a_lease_l2_is_not_asked_without_a_sync_in_front(a: Node, server: SimServer) -> None:
    """R28: an answer of L2 needs a lease as one of L1 does."""
    fresh = Node(server, a.clock, "b")
    a.load("k", "v", ["t"])

    reading = fresh.read("k", call=None)

    assert reading.at == ("Sync",)
    assert reading.answer().at == ("Read",)
    assert reading.answer().result == "v"


def test_a_lapsed_lease_is_renewed_and_l2_asked_in_one_round_trip(a: Node, clock: Clock) -> None:
    a.load("k", "v", ["t"])
    clock.advance(D)

    reading = a.read("k", call=None)

    assert reading.at == ("Sync", "Read")
    assert reading.answer().result == "v"


def test_clocks_an_hour_apart_do_not_matter(server: SimServer) -> None:
    """R37: versions are counters, and a lease is told by one clock."""
    here, there = Clock(1000.0), Clock(4600.0)
    a, b = Node(server, here, "a").synced(), Node(server, there, "b").synced()
    a.load("k", "old", ["t"])

    b.finish(b.invalidate("t"))
    a.synced()

    assert a.load("k", "new", ["t"]) == "new"
    assert b.load("k", "unasked for", ["t"]) == "new"


def test_a_server_that_does_not_answer_ends_the_lease_by_not_renewing_it(a: Node, clock: Clock) -> None:
    """R8, R30: nothing is known to have happened, and yet L1 falls silent in time."""
    a.load("k", "v", ["t"])
    clock.advance(D / 2)
    a.sync().lose()
    assert a.get("k") == "v"

    clock.advance(D / 2)

    assert a.read("k", call=None).lose().result is MISS


def test_after_the_clock_stood_still_no_lease_from_before_counts(a: Node, clock: Clock) -> None:
    """A1: neither the one that is held, nor the one on its way."""
    a.load("k", "v", ["t"])
    clock.advance(1)
    sync = a.sync().execute()

    a.core.lapse()
    assert a.core.lease < clock()
    sync.reply()

    assert a.core.lease < clock()


# ---- hints


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
    """R7, R9, R10, R11: numbers are one apart, so a hole shows."""
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


def test_a_hint_that_was_heard_while_a_sync_was_under_way_is_not_taken_for_a_lie(
    a: Node, server: SimServer
) -> None:
    sync = a.sync().execute()
    number = bump(server, "t")
    a.hear(number)

    sync.reply()

    assert a.core.applied == number


# ---- replies that something overtook


def test_a_hit_that_a_hint_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    """R1, R13a: L2 answers; the record comes, with nothing to drop; the answer comes."""
    reading = answer_in_flight(a)
    a.hear(bump(server, "t"))

    assert reading.reply().result == "old"  # it was read before the record, and so was this read
    assert not a.in_l1("k")


def test_a_hit_that_a_record_on_something_else_overtook_is_kept(a: Node, server: SimServer) -> None:
    reading = answer_in_flight(a)
    a.hear(bump(server, "u"))
    reading.reply()

    assert a.in_l1("k")


def test_a_hit_that_a_sync_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    reading = answer_in_flight(a)
    bump(server, "t")
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_hit_that_an_own_invalidation_overtook_is_not_kept(a: Node) -> None:
    """R3, R40: no mark on the writer's side is needed, its own reply is a record like others."""
    reading = answer_in_flight(a)
    a.finish(a.invalidate("t"))
    reading.reply()

    assert not a.in_l1("k")


def test_a_load_that_an_own_invalidation_overtook_is_not_kept(a: Node) -> None:
    """R40"""
    reading = a.read("k", tags=["t"]).answer().reply("old").execute()
    a.finish(a.invalidate("t"))

    assert reading.reply().result == "old"
    assert not a.in_l1("k")


def test_a_hit_that_a_clear_overtook_is_not_kept(a: Node, server: SimServer) -> None:
    """A sync that says FLUSH counts as a record on everything."""
    reading = answer_in_flight(a)
    server.perform(Clear())
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_sync_of_before_says_nothing_of_the_records_since(a: Node, server: SimServer) -> None:
    """A sync that names another dependency, or none, must not hide the record that overtook the hit."""
    reading = answer_in_flight(a)
    a.hear(bump(server, "t"))
    bump(server, "u")
    a.synced()
    reading.reply()

    assert not a.in_l1("k")


def test_a_hit_at_a_head_below_one_met_before_is_not_kept(a: Node, server: SimServer) -> None:
    """R42: what came between may be on it, and is not known yet."""
    reading = answer_in_flight(a)
    bump(server, "t")
    a.get("something else")
    reading.reply()

    assert not a.in_l1("k")


def test_a_hit_at_a_head_below_one_met_before_is_kept_when_a_sync_has_told_what_came_between(
    a: Node, server: SimServer
) -> None:
    reading = answer_in_flight(a)
    bump(server, "u")
    a.get("something else")
    a.synced()
    reading.reply()

    assert a.in_l1("k")


def test_a_forged_hint_does_not_tell_what_came_between(a: Node, server: SimServer) -> None:
    """`applied` may rest on a lie, `proved` does not."""
    reading = answer_in_flight(a)
    bump(server, "t")
    a.core.hear(Hint(a.core.epoch, a.core.applied + 1, ("x",)))
    a.get("something else")
    reading.reply()

    assert not a.in_l1("k")


def test_what_a_later_answer_superseded_does_not_come_back(a: Node, server: SimServer) -> None:
    """G6: a refresh was given the new value, which then could not be kept; L1 still had the old one."""
    a.load("k", "old", ["t"])
    bump(server, "t")

    refreshing = a.read("k", tags=["t"], renew=True).answer()
    while refreshing.at == ("Sync",):
        refreshing.lose()
    assert refreshing.reply("new").lose().result == "new"

    assert a.load("k", "new", ["t"]) == "new"


def test_records_beyond_the_cap_are_forgotten_and_older_replies_with_them(a: Node, server: SimServer) -> None:
    """3.11: a hung loader must not make `recent` grow for ever; an insert then needs a newer head."""
    reading = answer_in_flight(a)
    slow = a.read("slow").answer()
    for number in range(MAX_RECENT + 1):
        bump(server, f"n{number}")
        a.core.hear(server.hints[-1])
    assert len(a.core.recent) <= MAX_RECENT

    reading.reply()
    assert not a.in_l1("k")
    slow.reply("v").answer()
    assert a.in_l1("slow")  # its fill was accepted at the newest head


# ---- own records


def test_an_own_record_drops_what_was_vouched_for_before_it(a: Node) -> None:
    a.load("k", "old", ["t"])
    a.finish(a.invalidate("t"))

    assert a.load("k", "new", ["t"]) == "new"


def test_an_own_record_leaves_what_is_newer(a: Node, server: SimServer) -> None:
    invalidating = a.invalidate("t").execute()
    a.load("k", "new", ["t"])

    invalidating.reply()

    assert a.in_l1("k")


def test_an_own_record_is_met(a: Node) -> None:
    """Else a server that lost it in a failover could answer this node's next read (G2)."""
    head = a.finish(a.invalidate("t")).token.number
    (command,) = a.read("k").commands

    assert command.seen == head


# ---- epochs


def test_a_new_epoch_empties_l1(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    server.flush()

    a.synced()

    assert not a.in_l1("k")


def test_an_answer_of_the_old_epoch_is_not_kept_in_the_new_one(a: Node, server: SimServer) -> None:
    reading = answer_in_flight(a)
    server.flush()
    a.synced()

    assert reading.reply().at == ("Read",)  # the answer is void, and asked for again
    assert reading.answer().result is MISS


def test_a_fill_of_the_old_epoch_is_not_kept_in_the_new_one(a: Node, server: SimServer) -> None:
    for _ in range(3):
        bump(server, "u")
    a.synced()
    filling = a.read("k").answer().reply("old").execute()
    server.flush()
    a.synced()
    filling.reply()

    assert not a.in_l1("k")


def test_an_own_record_of_another_epoch_disowns_this_one(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    server.flush()

    a.finish(a.invalidate("u"))

    assert not a.in_l1("k")
    assert a.core.lease < a.clock()
    assert a.core.epoch == 0


def test_a_sync_sent_under_a_disowned_epoch_is_thrown_away(a: Node, server: SimServer) -> None:
    """R43: it would bring back a lease, and with it the old value, after the own invalidation returned."""
    copy = server.copy()
    sync = a.sync().execute()
    server.fail_over(copy)
    a.finish(a.invalidate("t"))

    sync.reply()

    assert a.core.epoch == 0
    assert a.core.lease < a.clock()
    assert sync.at == ("Sync",)  # it asks again, now the new primary


def test_a_sync_sent_before_the_first_epoch_was_disowned_is_thrown_away(
    server: SimServer, clock: Clock
) -> None:
    """No epoch, then none again: only the generation tells the two apart."""
    a = Node(server, clock, "a")
    sync = a.sync().execute()
    server.fail_over(server.copy())
    a.finish(a.invalidate("t"))
    sync.reply()

    assert a.core.epoch == 0
    assert a.finish(sync)[0]
    assert a.core.epoch == server.hints[-1].epoch


def test_an_answer_sent_under_a_disowned_generation_is_void(a: Node, server: SimServer) -> None:
    """The epoch is the same again, the numbers met in it are forgotten."""
    reading = answer_in_flight(a)
    a.finish(a.invalidate("t"))
    a.core.disown()
    a.synced()

    assert reading.reply().at == ("Read",)
    assert reading.answer().result is MISS


def test_a_fill_sent_under_a_disowned_generation_is_not_kept(a: Node, server: SimServer) -> None:
    filling = a.read("k", tags=["t"]).answer().reply("old").execute()
    a.finish(a.invalidate("t"))
    a.core.disown()
    a.synced()
    filling.reply()

    assert not a.in_l1("k")


# ---- syncs that overlap


def test_a_sync_that_says_flush_empties_l1_and_brings_a_lease(a: Node, server: SimServer) -> None:
    a.load("k", "v", ["t"])
    server.perform(Clear())
    a.synced()

    assert not a.in_l1("k")
    assert a.tiers.events["flushes"] == 1
    assert a.get("k") is MISS


@pytest.mark.parametrize("flushed", [False, True])
def test_a_sync_that_comes_late_takes_nothing_back(a: Node, server: SimServer, flushed: bool) -> None:
    """Within one epoch what was met only grows, and so does the lease."""
    if flushed:
        server.perform(Clear())
    early = a.core.sync(a.clock())
    reply = server.perform(early[0])
    a.clock.advance(1)
    head = bump(server, "t")
    a.synced()
    before = a.core.stand(a.clock())

    assert a.core.prove(early[1], reply)

    after = a.core.stand(a.clock())
    assert (after.seen, after.proved, after.lease) == (head, head, before.lease)


def test_two_nodes_hear_of_each_other_by_hint_alone(server: SimServer, clock: Clock) -> None:
    a, b = nodes(server, clock)
    a.load("k", "old", ["t"])
    written = b.finish(b.invalidate("t"))

    a.hear(written.token.number)

    assert a.load("k", "new", ["t"]) == "new"
    assert b.get("k") == "new"
