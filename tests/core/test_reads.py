"""How a read goes down the tiers and fills them on its way back (coherence.md 3.2, 3.4)."""

from __future__ import annotations

from tests.core.hands import Clock, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core import reads
from tiercache._core.commands import LOCK_MS, Clear
from tiercache._core.l1 import Entry
from tiercache._core.reads import MISS
from tiercache._core.writes import Token

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


def test_a_value_read_by_its_key_has_the_tags_it_was_stored_with(a: Node, b: Node, server: SimServer) -> None:
    """3.10"""
    a.load("k", "old", ["t"])
    assert b.get("k") == "old"

    b.hear(bump(server, "t"))

    assert not b.in_l1("k")


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


# ---- refresh


def test_a_refresh_loads_whatever_is_stored(a: Node, b: Node) -> None:
    a.load("k", "old")

    assert a.finish(a.read("k", renew=True), "new") == "new"
    assert a.get("k") == b.get("k") == "new"


def test_a_refresh_that_an_invalidation_overtook_does_not_stay(a: Node, b: Node) -> None:
    refreshing = a.read("k", tags=["t"], renew=True).answer()
    b.finish(b.invalidate("t"))

    refreshing.reply("old").answer()

    assert a.get("k") is MISS


def test_an_entry_is_told_by_its_tags(a: Node) -> None:
    entry = Entry("k", "v", None, deadline=0.0, deps=("t:t",), vouched=7)
    assert repr(entry) == "<Entry 'k' vouched at 7 for t:t>"
    assert Token(1, 2) == (1, 2)


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


def test_what_is_read_while_an_entry_is_touched_does_not_keep_the_old_end(a: Node, clock: Clock) -> None:
    a.load("k", "v", ttl=60.0)
    touching = a.start(reads.touch(a.tiers, a.want("k", ttl=5.0), blocking=False)).answer()
    assert touching.at == ("Touch",)
    assert a.get("k") == "v"  # it is in L1 again, for a minute

    assert a.finish(touching) is True

    clock.advance(5.0)
    assert a.get("k") is MISS
