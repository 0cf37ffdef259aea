"""What a write promises to the reads of its own process, and to everybody else's (coherence.md 3.8)."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, Node
from tests.core.sim_server import SimServer
from tiercache._core import writes
from tiercache._core.commands import Invalidate, Set
from tiercache._core.reads import MISS
from tiercache._core.writes import NO_EXPIRY_MS

MANY = [f"n{i}" for i in range(4001)]


# ---- invalidate, delete, clear


def test_after_an_invalidation_returned_its_process_reads_what_is_new(a: Node) -> None:
    """R40"""
    a.load("k", "old", ["t"])

    a.finish(a.invalidate("t"))

    assert a.load("k", "new", ["t"]) == "new"


def test_an_invalidation_tells_the_place_it_has_in_the_domains_history(a: Node, server: SimServer) -> None:
    written = a.finish(a.invalidate("t"))

    assert server.domain.state is not None
    assert written.token == (server.domain.state.epoch, server.domain.state.head)
    assert not written.pending


def test_an_invalidation_of_nothing_asks_nobody(a: Node) -> None:
    assert a.invalidate().result == writes.Written(None)


def test_tags_and_keys_of_one_invalidation_are_one_record(a: Node, b: Node, server: SimServer) -> None:
    """R6: there is no set of keys that a write could be missing from."""
    for key, tags in (("k", ["t"]), ("l", []), ("m", ["u"])):
        a.load(key, "v", tags)
    head = server.domain.state and server.domain.state.head

    b.finish(b.invalidate("t", keys=["l"]))
    a.synced()

    assert server.domain.state
    assert server.domain.state.head == (head or 0) + 1
    assert [a.get(key) for key in "klm"] == [MISS, MISS, "v"]


def test_a_deleted_key_is_gone_from_both_tiers(a: Node, b: Node, server: SimServer) -> None:
    a.load("k", "v")
    assert b.get("k") == "v"

    b.finish(b.invalidate(keys=["k"]))

    assert "k" not in server.domain.entries
    assert b.get("k") is MISS


def test_more_dependencies_than_a_record_takes_go_in_slices(a: Node) -> None:
    invalidating = a.invalidate(*MANY)
    slices = []
    while not invalidating.is_done:
        (command,) = invalidating.commands
        assert isinstance(command, Invalidate)
        slices.append(len(command.deps))
        invalidating.answer()

    assert slices == [2000, 2000, 1]
    assert invalidating.result.token.number == a.core.seen


def test_after_a_clear_nothing_of_before_is_found(a: Node, b: Node) -> None:
    a.load("k", "v", ["t"])
    loading = a.read("l").answer()

    cleared = b.finish(b.clear())
    a.hear(cleared.token.number)

    assert a.get("k") is MISS
    assert b.get("k") is MISS
    assert loading.reply("old").answer().result == "old"
    assert a.get("l") is MISS


def test_a_clear_keeps_the_numbers(a: Node, b: Node) -> None:
    """Never a DEL of the state: a node that met the head would be answered by a younger one."""
    first = a.finish(a.invalidate("t")).token
    second = b.finish(b.clear()).token

    assert second == (first.epoch, first.number + 1)


# ---- set


def test_a_set_value_is_found_by_everybody(a: Node, b: Node) -> None:
    written = a.finish(a.put("k", "v"))

    assert written.stored
    assert a.get("k") == b.get("k") == "v"
    assert (a.counts.l1_hits, b.counts.l2_hits) == (1, 1)


def test_the_last_set_wins_in_l1_as_on_the_server(a: Node) -> None:
    """Two sets, whose replies come in the other order."""
    first, second = a.put("k", "v1").execute(), a.put("k", "v2").answer().execute()
    second.reply()
    first.reply()

    assert a.get("k") == "v2"


def test_a_set_is_a_record_to_the_other_nodes(a: Node, b: Node) -> None:
    a.finish(a.put("k", "v1"))
    assert b.synced().get("k") == "v1"

    written = a.finish(a.put("k", "v2"))

    assert b.hear(written.token.number) == ["applied"]
    assert b.get("k") == "v2"


def test_a_load_that_a_set_overtook_fills_nothing(a: Node, b: Node) -> None:
    """3.8: a set that was a fill would lose to the older load, and v1 would stay."""
    loading = b.read("k").answer()
    a.finish(a.put("k", "set"))

    loading.reply("loaded").answer()

    assert b.get("k") == a.get("k") == "set"


def test_a_set_that_runs_after_its_sender_gave_up_does_not_undo_a_newer_one(
    a: Node, server: SimServer
) -> None:
    """R30: 1. Redis stalls, with the set in a socket.  2. Its sender gives up.  3. Redis goes on, and reads
    the newer set from another socket first."""
    stalled = a.put("k", "v1")
    (late,) = stalled.commands
    stalled.lose()
    a.synced()
    a.finish(a.put("k", "v2"))

    server.perform(late)
    a.synced()

    assert a.get("k") in ("v2", MISS)


def test_a_set_value_is_invalidated_by_its_tags(a: Node, b: Node) -> None:
    a.finish(a.put("k", "v", tags=["t"]))

    b.finish(b.invalidate("t"))
    a.synced()

    assert a.get("k") is MISS


def test_a_set_that_a_record_on_its_tags_overtook_is_not_kept_in_l1(a: Node, b: Node) -> None:
    putting = a.put("k", "old", tags=["t"]).execute()
    a.hear(b.finish(b.invalidate("t")).token.number - 1)
    a.hear(b.finish(b.invalidate("t")).token.number - 1)

    putting.reply()

    assert a.get("k") is MISS


def test_a_set_with_a_token_of_before_a_change_is_refused(a: Node, b: Node) -> None:
    """R2 for sets: what was derived from an earlier read."""
    token = a.finish(a.start(writes.token(a.tiers, blocking=False)))
    b.finish(b.invalidate("t"))

    written = a.finish(a.put("k", "old", tags=["t"], token=token))

    assert not written.stored
    assert a.get("k") is MISS


@pytest.mark.parametrize("change", ["delete", "set", "clear", "flush"])
def test_whatever_changed_since_its_token_refuses_a_set(
    a: Node, b: Node, server: SimServer, change: str
) -> None:
    token = a.finish(a.start(writes.token(a.tiers, blocking=False)))
    changes = {"delete": b.invalidate(keys=["k"]), "set": b.put("k", "new"), "clear": b.clear()}
    if change == "flush":
        server.flush()
    else:
        b.finish(changes[change])

    assert not a.finish(a.put("k", "old", token=token)).stored


def test_a_token_is_no_older_than_its_call_though_a_sync_was_under_way(a: Node, b: Node) -> None:
    """1. A sync runs, its reply is on its way.  2. Another process writes.  3. A token is asked for: it waits
    for that sync, which knows nothing of the write."""
    syncing = a.sync().execute()
    written = b.finish(b.invalidate("t"))
    a.clock.advance(0.001)
    asking = a.start(writes.token(a.tiers, blocking=False))
    assert asking.at == ("Join",)

    syncing.reply()
    asking.wake()

    assert a.finish(asking) == written.token


def test_a_token_reflects_an_own_write_that_returned_before(a: Node) -> None:
    """As above, where no time passes between the sync and the write."""
    syncing = a.sync().execute()
    written = a.finish(a.clear())
    asking = a.start(writes.token(a.tiers, blocking=False))

    syncing.reply()
    asking.wake()

    assert a.finish(asking) == written.token


def test_a_set_with_a_token_of_now_is_stored(a: Node, b: Node) -> None:
    token = a.finish(a.start(writes.token(a.tiers, blocking=False)))
    b.finish(b.invalidate("something else"))

    assert a.finish(a.put("k", "v", tags=["t"], token=token)).stored
    assert b.get("k") == "v"


def test_a_refused_set_leaves_the_value_that_refused_it(a: Node, b: Node) -> None:
    token = a.finish(a.start(writes.token(a.tiers, blocking=False)))
    b.finish(b.put("k", "new"))

    a.finish(a.put("k", "old", token=token))

    assert a.get("k") == "new"


def test_a_set_that_finds_no_memory_is_kept_in_l1_and_leaves_no_older_value(
    a: Node, b: Node, server: SimServer
) -> None:
    """R21: the record is made all the same, so no older value stays."""
    a.finish(a.put("k", "old"))
    server.is_full = True

    a.finish(a.put("k", "new"))

    assert a.get("k") == "new"
    assert b.get("k") is MISS


def test_sets_go_a_thousand_a_round_trip(a: Node) -> None:
    items = [(a.want(f"k{i}", call=None), i) for i in range(1_050)]
    putting = a.start(writes.put(a.tiers, items, blocking=False))

    assert putting.at == ("Set",) * 1_000
    assert putting.answer().at == ("Set",) * 50
    assert putting.answer().result.stored
    assert a.get("k1049") == 1049


def test_a_value_without_expiry_leaves_redis_after_30_days(a: Node) -> None:
    """3.12: after a clear or an epoch change such entries must go some day."""
    (command,) = a.put("k", "v").commands

    assert isinstance(command, Set)
    assert command.ttl_ms == NO_EXPIRY_MS


def test_a_set_value_leaves_l1_no_later_than_redis(a: Node, server: SimServer, clock: Clock) -> None:
    putting = a.start(writes.put(a.tiers, [(a.want("k", call=None, ttl=5.0), "v")], blocking=False))
    clock.advance(2)
    putting.execute()
    clock.advance(2)
    putting.reply()

    assert a.core.l1.entries["k"].deadline == 1005.0
    assert server.domain.ends["k"] == 1007_000
