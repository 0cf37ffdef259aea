"""Leaders that end in nothing, and waits that would never end (coherence.md 3.9)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.hands import (
    Cancelled,
    Clock,
    Hand,
    LoaderFailed,
    Node,
    begun,
    bump,
    joined,
    loader,
    loader_of_many,
    nodes,
    took,
)
from tests.core.sim_server import SimServer
from tests.core.test_changes_cut_short import CALLS, Cut, cut_short
from tiercache._core import batches, flights, plan, reads
from tiercache._core.commands import LOCK_MS
from tiercache._core.plan import Ask, Call, Step, run
from tiercache._core.reads import read
from tiercache._errors import LoadTimeout

# ---- leaders that end in nothing


def test_an_error_of_the_loader_is_shared_and_not_kept(a: Node) -> None:
    leading = a.read("k").answer()
    joining = a.read("k")
    leading.throw(LoaderFailed())

    with pytest.raises(LoaderFailed):
        _ = joining.wake().result
    assert a.read("k").at == ("Read",)


def test_an_error_of_a_loader_of_many_keys_is_shared(a: Node) -> None:
    leading = a.read_many("k", "l").answer()
    joining = a.read("k")
    with pytest.raises(LoaderFailed):
        a.finish(leading.throw(LoaderFailed()))

    with pytest.raises(LoaderFailed):
        _ = joining.wake().result


def test_a_wait_for_another_process_that_is_too_long_is_so_for_all_who_joined(
    server: SimServer, clock: Clock
) -> None:
    """Or each of them would take over, and wait as long."""
    a, b = nodes(server, clock, load_timeout=8.0)
    b.read("k").answer()
    leading = a.read("k").answer()
    assert leading.at == ("Join",)
    joining = a.read("k")
    clock.advance(a.tiers.load_timeout)
    with pytest.raises(LoadTimeout):
        a.finish(leading.wake())

    with pytest.raises(LoadTimeout):
        _ = joining.wake().result


def test_a_follower_takes_over_when_its_leader_is_cancelled(a: Node) -> None:
    leading = a.read("k").answer()
    followers = [a.read("k") for _ in range(2)]
    leading.throw(Cancelled())

    first, second = (hand.wake() for hand in followers)

    assert first.at == ("Read",)
    assert second.at == ("Join",)
    assert first.answer().reply("v").answer().result == second.wake().result == "v"


class TimeIsUp(Exception):
    """Raised by the handler of a signal, in whatever the main thread is at."""


def test_what_a_signal_raises_in_a_leader_while_it_asks_is_nobody_elses(a: Node) -> None:
    leading = a.read("k")
    joining = a.read("k")
    with pytest.raises(TimeIsUp):
        a.finish(leading.throw(TimeIsUp()))

    assert joining.wake().answer().reply("v").answer().result == "v"


def test_what_a_signal_raises_in_a_leader_of_many_keys_is_nobody_elses(a: Node) -> None:
    leading = a.read_many("k", "l")
    joining = a.read("k")
    with pytest.raises(TimeIsUp):
        a.finish(leading.throw(TimeIsUp()))

    assert joining.wake().answer().reply("v").answer().result == "v"


def test_the_lock_of_a_cancelled_leader_passes_to_a_follower_of_its_node(
    a: Node, b: Node, server: SimServer
) -> None:
    leading = a.read("k").answer()
    joining = a.read("k")
    waiting = b.read("k").answer()
    leading.throw(Cancelled())

    assert leading.is_done  # nothing was unlocked
    assert joining.wake().answer().at == ("Call",)
    assert server.domain.locks["k"].waiters == {"b"}
    joining.reply("v").answer()
    assert server.wakes == [("b", "k:k")]
    assert waiting.at == ("Join",)


def test_a_cancelled_leader_without_followers_frees_its_lock(a: Node, b: Node) -> None:
    leading = a.read("k").answer()

    assert leading.throw(Cancelled()).at == ("Unlock",)
    with pytest.raises(Cancelled):
        a.finish(leading)
    assert b.read("k").answer().at == ("Call",)


def test_the_lock_is_freed_too_when_leader_and_follower_are_cancelled(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    joining = a.read("k")
    leading.throw(Cancelled())

    assert joining.throw(Cancelled()).at == ("Unlock",)
    with pytest.raises(Cancelled):
        a.finish(joining)
    assert b.read("k").answer().at == ("Call",)


def test_of_many_followers_that_are_cancelled_one_frees_the_lock(a: Node) -> None:
    leading = a.read("k").answer()
    followers = [a.read("k") for _ in range(3)]
    leading.throw(Cancelled())

    steps = [follower.throw(Cancelled()).at for follower in followers]
    assert steps == [("Unlock",), (), ()]


def test_a_late_unlock_does_not_free_the_lock_of_who_took_over(a: Node, b: Node) -> None:
    leading = a.read("k").answer()
    leading.throw(Cancelled())
    taking_over = a.read("k").answer()
    leading.execute()

    assert taking_over.at == ("Call",)
    assert b.read("k").answer().at == ("Join",)


def test_a_load_that_is_cancelled_while_it_is_stored_has_landed(a: Node) -> None:
    """The value is there; only its storing was cut short."""
    leading = a.read("k").answer()
    joining = a.read("k")
    leading.reply("v").throw(Cancelled())

    assert took(a, joining)


def test_a_follower_that_is_cancelled_takes_nobody_along(a: Node) -> None:
    leading = a.read("k").answer()
    one, other = a.read("k"), a.read("k")
    one.throw(Cancelled())
    leading.reply("v").answer()

    assert took(a, other)


def test_the_lock_of_a_killed_process_is_taken_over_when_it_runs_out(a: Node, b: Node, clock: Clock) -> None:
    """R38"""
    dead = a.read("k").answer()
    clock.advance(LOCK_MS / 1000)

    assert b.synced().read("k").answer().at == ("Call",)
    assert dead.at == ("Call",)


# ---- what a leader finds in L1 by its second look


class Hooked:
    """Runs what other threads do, once, between a look into L1 and the clock that it is compared with."""

    def __init__(self, node: Node, act: Callable[[], None]) -> None:
        self._clock, self._acts, self._looked = node.clock, [act], False
        hooked = self

        class Entries(dict[str, Any]):
            def get(self, key: str, default: Any = None) -> Any:
                hooked._looked = key in self
                return super().get(key, default)

        node.core.l1.entries = Entries(node.core.l1.entries)
        node.tiers.clock = self

    def __call__(self) -> float:
        while self._looked and self._acts:
            self._acts.pop()()
        return self._clock()


def about_to_look(a: Node, b: Node) -> Hand:
    """A follower that takes over, and will find in L1 what was set under another tag while it waited."""
    leading = begun(a, tags=("u",))
    taking_over = joined(a, tags=("u",))
    b.finish(b.put("k", ["old"], tags=["t"]))
    assert a.get("k") == ["old"]
    leading.throw(Cancelled())
    return taking_over


def test_it_is_shared_with_the_tags_it_has(a: Node, b: Node) -> None:
    """And not with those the leader asked for: 1. It looks.  2. B invalidates a tag of what it found.  3. B
    reads, and joins.  4. It lands."""
    taking_over = about_to_look(a, b)
    joining: list[Hand] = []
    entry = a.core.l1.entries["k"]
    restore = entry.restore
    assert restore is not None

    def others(data: Any) -> Any:
        if not joining:
            a.finish(a.invalidate("t"))
            joining.append(joined(a, tags=("u",)))
            a.synced()
        return restore(data)

    entry.restore = others
    assert taking_over.wake().result == ["old"]

    assert not took(a, joining[0])


def test_it_is_shared_as_of_the_epoch_it_was_found_in(a: Node, b: Node, server: SimServer) -> None:
    """1. It looks.  2. The epoch ends; B invalidates, in the next.  3. B reads, and joins.  4. It lands, and
    its numbers, high as they are, are not the next epoch's."""
    for _ in range(9):
        bump(server, "x")
    a.synced()
    taking_over = about_to_look(a, b)
    joining: list[Hand] = []

    def others() -> None:
        server.flush()
        a.finish(a.invalidate("t"))
        a.synced()
        joining.append(joined(a, tags=("u",)))

    Hooked(a, others)
    assert taking_over.wake().result == ["old"]

    assert not took(a, joining[0])


# ---- waits that would never end


def test_a_loader_that_asks_for_its_own_key_loads_on_its_own(a: Node) -> None:
    outer = a.read("k").answer()

    inner = a.read("k", inside=outer)

    assert inner.at == ("Read",)
    assert a.finish(inner, "inner") == "inner"
    assert a.finish(outer, "outer") == "outer"


def test_two_loads_that_need_each_other_do_not_wait_for_each_other(a: Node) -> None:
    """AB-BA"""
    one, other = a.read("x").answer(), a.read("y").answer()
    first = a.read("y", inside=one)
    second = a.read("x", inside=other)

    assert first.at == ("Join",)
    assert second.at == ("Read",)
    assert a.finish(second, "x of other") == "x of other"
    assert a.finish(other, "y") == "y"
    assert first.wake().result == "y"
    assert a.finish(one, "x") == "x"


def test_a_circle_of_three_is_not_closed_either(a: Node) -> None:
    loads = [a.read(key).answer() for key in "xyz"]
    waits = [a.read(key, inside=load) for key, load in zip("yzx", loads, strict=True)]

    assert [wait.at for wait in waits] == [("Join",), ("Join",), ("Read",)]


@pytest.mark.parametrize("lock", ["of the boards", "of the bells", "of the core"])
def test_a_forgotten_plan_ends_wherever_the_collector_finds_it(a: Node, b: Node, lock: str) -> None:
    """The collector runs at any allocation, and so while its thread holds a lock that the plan needs."""
    locks = {"of the boards": flights._lock, "of the bells": a.tiers.bells._lock, "of the core": a.core.lock}
    others = b.read("waited for").answer()
    suspended = [a.read("k").answer(), a.read("waited for").answer()]
    assert [hand.at for hand in suspended] == [("Call",), ("Join",)]
    ended = threading.Event()

    def forget() -> None:
        with locks[lock]:
            suspended.clear()
        ended.set()

    threading.Thread(target=forget, daemon=True).start()

    assert ended.wait(5)
    assert a.read("k").at == a.read("waited for").at == ("Read",)
    assert others.at == ("Call",)


def test_a_call_knows_the_load_it_is(a: Node) -> None:
    loading = a.read("k").answer()
    assert isinstance(loading.step, Call)
    assert loading.step.load is not None
    assert loading.step.load.token == a.core.seen


def test_a_load_that_somebody_gave_up_ends_in_silence_as_its_plan_is_thrown_away(a: Node) -> None:
    """1. Its loop is closed over its fill.  2. Somebody sees that, and loads.  3. The task is collected."""
    leading = a.read("k").answer().reply("v")
    assert leading.at == ("Fill",)
    (flight,) = a.tiers.board._flights.values()
    a.tiers.board.abandon(flight)

    leading._plan.close()

    assert flight.is_abandoned()


# ---- leaders that a signal's handler interrupts anywhere

FILES_OF_A_READ = {reads.__file__, flights.__file__, batches.__file__, plan.__file__}


@pytest.mark.parametrize("many", [False, True])
def test_a_leader_cut_short_at_any_step_leaves_no_flight(
    a: Node, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or all who come for its key would wait for `load_timeout`. Tracebacks that are kept hold its frames."""
    monkeypatch.setattr(
        flights, "_lock", threading.RLock()
    )  # no handler runs before a lock is let go, as here
    kept = []

    def lead(step: int) -> None:
        wants = [a.want(f"{key}{step}", call=None if many else Call(loader)) for key in "kl"]
        spelled = {want.key: want.key for want in wants}
        try:
            if many:
                run(batches.get_or_load_many(a.tiers, wants, loader_of_many, spelled, blocking=True), perform)
            else:
                run(read(a.tiers, wants[0], blocking=True), perform)
        except Cut as cut:
            kept.append(cut)
            raise

    def perform(step: Step) -> Any:
        match step:
            case Ask(commands):
                return [a.server.perform(command) for command in commands]
            case Call(_, args):
                return dict.fromkeys(args[0], "v") if many else "v"
        return None

    for step in range(2_000):
        was_cut = cut_short(lambda: lead(step), step, FILES_OF_A_READ, CALLS)  # noqa: B023  # at once
        assert a.tiers.board.is_empty, f"cut short at step {step}"
        if not was_cut:
            break
    assert len(kept) == step > 50


def test_the_lock_of_a_loader_that_raises_generator_exit_goes_with_the_next_sync(a: Node, b: Node) -> None:
    """It arrives as the end of the plan does, which may ask for nothing any more."""
    leading = a.read("k").answer()
    leading.throw(GeneratorExit())
    with pytest.raises(GeneratorExit):
        _ = leading.result
    a.finish(a.sync())

    assert b.read("k").answer().at == ("Call",)


def test_the_locks_of_a_batch_whose_loader_raises_generator_exit_go_with_the_next_sync(
    a: Node, b: Node
) -> None:
    leading = a.read_many("k", "l").answer()
    leading.throw(GeneratorExit())
    with pytest.raises(GeneratorExit):
        _ = leading.result
    a.finish(a.sync())

    assert b.read("k").answer().at == ("Call",)
    assert b.read("l").answer().at == ("Call",)
