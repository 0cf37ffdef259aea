"""A key that another process is loading (coherence.md 8)."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, D, LoaderFailed, Node, nodes
from tests.core.sim_server import SimServer
from tiercache._core.commands import LOCK_MS
from tiercache._core.elsewhere import patience_for
from tiercache._core.flights import MAX_JOINS
from tiercache._core.plan import Join
from tiercache._core.records import key_dep
from tiercache._errors import L2Refused, L2Unavailable, LoadTimeout


def test_who_finds_another_process_loading_waits_and_takes_what_it_stored(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    assert waiting.at == ("Join",)

    leading.reply("v").answer()
    b.tiers.bells.ring(*[dep for node, dep in a.server.wakes if node == "b"])

    assert b.finish(waiting.wake()) == "v"
    assert b.counts.l2_hits == 1


def test_a_wake_up_that_overtakes_the_answer_to_wait_is_not_missed(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").execute()  # the answer is on its way
    leading.reply("v").answer()
    b.tiers.bells.ring(key_dep("k"))

    assert waiting.reply().at == ("Read",)
    assert b.finish(waiting) == "v"


def test_a_wake_up_after_the_answer_to_wait_again_is_not_missed(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer().wake().answer()
    assert waiting.at == ("Join",)
    leading.reply("v").answer()
    b.tiers.bells.ring(key_dep("k"))

    assert b.finish(waiting) == "v"


def test_a_wake_up_amid_the_second_look_is_not_missed(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    b.tiers.bells.ring(key_dep("k"))
    waiting.wake().execute()
    leading.reply("v").answer()
    b.tiers.bells.ring(key_dep("k"))

    assert waiting.reply().wake().at == ("Read",)
    assert b.finish(waiting) == "v"


def test_a_lock_whose_holder_died_runs_out_and_the_waiter_leads(a: Node, b: Node) -> None:
    """R38"""
    dead = a.read("k").answer()
    waiting = b.read("k").answer()
    a.clock.advance(LOCK_MS / 1000)

    assert waiting.wake().answer().at == ("Call",)
    assert dead.at == ("Call",)


def test_a_failed_load_wakes_the_waiters_and_one_of_them_leads(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer()

    leading.throw(LoaderFailed()).execute()

    assert a.server.wakes == [("b", "k:k")]
    assert waiting.wake().answer().at == ("Call",)


@pytest.mark.parametrize("lost", ["leave", "leave with a sync", "fill", "unlock"])
def test_a_lock_that_may_stand_for_nobody_is_let_go_of_with_the_next_sync(
    a: Node, b: Node, lost: str
) -> None:
    """Redis stands still for longer than a caller waits, and then runs what it was sent."""
    if lost == "leave with a sync":
        a.synced()
        a.clock.advance(2 * D)
    loading = a.read("k").execute()
    if lost.startswith("leave"):
        loading.replies = None
        assert loading.lose().at == ("Call",), "without Redis"
        a.finish(loading, "v")
    elif lost == "fill":
        assert loading.reply().reply("v").lose().result == "v"
    else:
        loading.reply().throw(LoaderFailed())
        loading.step.untold(loading.commands)
        loading.reply()
    assert b.read("k").answer().at == ("Join",)

    a.synced()

    assert b.read("k").answer().at == ("Call",)


def test_what_is_owed_is_said_again_where_redis_did_not_answer_and_not_where_it_refused(a: Node) -> None:
    """A user who may not unlock would else send it with every sync, for ever."""
    a.finish(a.read("k").lose(), "v")
    for error, is_owed in ((L2Unavailable("lost"), True), (L2Refused("NOPERM"), False)):
        syncing = a.sync().answer()
        assert syncing.at == ("Unlock",)
        assert syncing.throw(error).result == (True, None)
        assert bool(a.tiers.owed) == is_owed


def test_the_lock_of_a_load_whose_storing_is_refused_is_let_go_of_at_once(a: Node, b: Node) -> None:
    storing = a.read("k").answer().reply("v")

    assert storing.throw(L2Refused("NOPERM")).at == ("Unlock",)
    assert a.finish(storing) == "v"
    assert b.read("k").answer().at == ("Call",)


def test_who_waits_looks_again_at_a_quarter_and_a_half_of_what_is_left(
    server: SimServer, clock: Clock
) -> None:
    """Section 8: a lost wake-up costs the rest of the lock at most."""
    a, b = nodes(server, clock, wakes_arrive=lambda: True)
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
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
    assert max(looks) == 1.28, "also after many false wake-ups, and a flood that ended the listening"


def test_who_is_woken_for_nothing_again_and_again_looks_less_and_less_often(
    server: SimServer, clock: Clock
) -> None:
    """Else each wake-up that somebody makes up is a round trip."""
    a, b = nodes(server, clock, wakes_arrive=lambda: True)
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    looks, end = 0, clock() + 5.0
    while clock() < end:
        server.domain.locks["k"].ends = clock() * 1000 + LOCK_MS
        b.tiers.bells.ring(key_dep("k"))
        if isinstance(waiting.step, Join):
            if not waiting.step.future.done():
                clock.advance(waiting.step.timeout)
            waiting.wake()
        else:
            waiting.answer()
            looks += 1

    assert looks <= 15
    leading.reply("v").answer()
    b.tiers.bells.ring(key_dep("k"))
    assert b.finish(waiting) == "v"


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


def test_who_has_waited_for_two_loads_for_load_timeout_in_all_loads_beside_the_second(
    a: Node, b: Node
) -> None:
    """Neither took longer than that; LoadTimeout would say that one did."""
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    a.clock.advance(0.6 * b.tiers.load_timeout)
    leading.throw(LoaderFailed()).execute().reply()
    a.read("k").answer()
    waiting.wake().answer()
    assert waiting.at == ("Join",)
    a.clock.advance(0.6 * b.tiers.load_timeout)
    for lock in a.server.domain.locks.values():
        lock.ends += 60_000  # it lives longer than the load that was waited for

    assert waiting.wake().answer().at == ("Call",)


def test_of_those_who_miss_a_key_at_once_one_looks_for_it_and_the_others_share_a_flight(a: Node) -> None:
    a.finish(a.read("other"), loaded="x")
    a.counts.prospect = 1  # as after a hit that plain commands found
    looking, leading, joining = (a.read("k") for _ in range(3))

    assert (looking.at, leading.at, joining.at) == (("Look",), ("Read",), ("Join",))
    assert looking.answer().at == ("Join",), "it found nothing, and somebody is about to load"
    assert leading.answer().reply("v").answer().result == "v"
    assert looking.wake().result == joining.wake().result == "v"


def test_a_wake_up_that_was_asked_for_is_expected_also_when_nobody_waits_for_it_any_more(
    a: Node, b: Node
) -> None:
    a.read("k").answer()
    waiting = b.read("k").answer()
    with pytest.raises(LoaderFailed):
        b.finish(waiting.throw(LoaderFailed()))

    assert b.tiers.bells.ring(key_dep("k"))
    assert not b.tiers.bells.ring(key_dep("k")), "of which the server said one"


def test_who_loads_beside_others_expects_the_wake_up_for_which_it_left_its_mark(a: Node, b: Node) -> None:
    reading = b.read("k")
    for _ in range(MAX_JOINS + 1):
        a.server.domain.locks.pop("k", None)  # a load that brought nothing ends, and its process is first
        a.read("k", renew=True).answer()
        if reading.at == ("Join",):
            b.tiers.bells.ring(key_dep("k"))
            reading.wake()
        reading.answer()
    assert reading.at == ("Call",)
    assert b.finish(reading.reply("v")) == "v"

    assert b.tiers.bells.ring(key_dep("k"))
    assert not b.tiers.bells.ring(key_dep("k"))


def test_wake_ups_that_were_asked_for_by_none_are_not_expected(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    waiting = b.read("k").answer()
    leading.reply("v").answer()
    b.tiers.bells.ring(key_dep("k"))
    assert b.finish(waiting.wake()) == "v"

    assert not b.tiers.bells.ring(key_dep("k"))
