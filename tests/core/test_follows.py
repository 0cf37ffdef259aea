"""Following a load without a plan: whatever is under way, what the plan would have done, and come to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.hands import Cancelled, Clock, D, Hand, LoaderFailed, begun, nodes
from tests.core.sim_server import SimServer
from tiercache._core.flights import MAX_JOINS
from tiercache._core.plan import Join
from tiercache._core.sources import Writing
from tiercache._errors import LoadTimeout

KEY, TAG = "k", "x"
DEPS = (f"t:{TAG}",)


class World:
    """A node in which a load of KEY is under way, and another node that writes."""

    def __init__(self, *, without_a_plan: bool, inside: bool) -> None:
        self.clock = Clock()
        self.server = SimServer(self.clock)
        self.a, self.b = nodes(self.server, self.clock, load_timeout=8.0)
        self.a.load("warm", "w", tags=["other"])
        self.outer = begun(self.a, "outer", tags=()) if inside else None
        self.leader = begun(self.a, KEY, tags=[TAG])
        self.without_a_plan = without_a_plan
        self.following: Hand | None = None
        self.steps: list[object] = []
        self.kept: list[Any] = []  # what would end with its last reference

    def begin(self) -> None:
        read = self.a.follow if self.without_a_plan else self.a.read
        self.following = read(KEY, tags=[TAG], inside=self.outer)
        self.note()

    def note(self) -> None:
        """Where the read stands, and how long it would wait there."""
        assert self.following is not None
        step = self.following.step
        self.steps.append((self.following.at, step.timeout if isinstance(step, Join) else None))

    def outcome(self) -> object:
        """What the read came to, and all that it left behind."""
        following, a = self.following, self.a
        assert following is not None
        while not following.is_done:
            match following.at:
                case ("Join",):
                    following.wake()
                case ("Call",):
                    following.reply("its own")
                case _:
                    following.answer()
            self.note()
        try:
            result = following.result
        except (Cancelled, LoaderFailed, LoadTimeout) as error:
            result = repr(error)
        counts = [getattr(a.counts, name) for name in (*a.counts.NAMES, "prospect")]
        flights = {
            key: (flight.followers, len(flight.waits)) for key, flight in a.tiers.board._flights.items()
        }
        held = {key: (entry.value, entry.vouched, entry.deps) for key, entry in a.core.l1.entries.items()}
        return self.steps, result, counts, flights, held, dict(a.tiers.events), a.core.stand(self.clock())


def _lead_anew(world: World) -> None:
    """A flight of its own, which takes the place of the other."""
    world.kept.append(world.a.read(KEY, tags=[TAG], renew=True))


def _end(world: World, how: Callable[[Hand], object]) -> None:
    if not world.leader.is_done and world.leader.at == ("Call",):
        how(world.leader)
        with suppress(LoaderFailed, Cancelled, LoadTimeout):
            world.a.finish(world.leader, "loaded")


def _write(world: World, dep: str) -> None:
    writing = Writing(lambda: [world.a.core])
    world.kept.append(writing)
    add = partial(writing.add, dep.removeprefix("t:"))
    add() if world.following is None else world.following._context.run(add)


def _flush(world: World) -> None:
    world.server.flush()
    world.a.finish(world.a.sync())


ACTS: dict[str, Callable[[World], object]] = {
    "nothing": lambda w: None,
    "it lands": lambda w: _end(w, lambda leader: leader.reply("loaded")),
    "its loader fails": lambda w: _end(w, lambda leader: leader.throw(LoaderFailed())),
    "its caller is cancelled": lambda w: _end(w, lambda leader: leader.throw(Cancelled())),
    "another flight takes its place": _lead_anew,
    "an invalidation of it is pending": lambda w: w.a.core.pend(DEPS, 1),
    "another's is": lambda w: w.a.core.pend(["t:other"], 1),
    "a block is open on it": lambda w: w.a.core.hold(DEPS),
    "on another": lambda w: w.a.core.hold(["t:other"]),
    "blocks are over": lambda w: (w.a.core.release(DEPS), w.a.core.release(["t:other"])),
    "a transaction has changed it": lambda w: _write(w, DEPS[0]),
    "another": lambda w: _write(w, "t:other"),
    "a second passes": lambda w: w.clock.advance(1),
    "the lease ends": lambda w: w.clock.advance(D),
    "it lapses": lambda w: w.a.core.lapse(),
    "the epoch is disowned": lambda w: w.a.core.disown(),
    "the server is emptied": _flush,
    "it is invalidated elsewhere": lambda w: w.b.finish(w.b.invalidate(TAG)),
    "another is": lambda w: w.b.finish(w.b.invalidate("other")),
    "it is invalidated here": lambda w: w.a.finish(w.a.invalidate(TAG)),
    "a sync comes": lambda w: w.a.finish(w.a.sync()),
    "it is stored here": lambda w: w.a.finish(w.a.put(KEY, "newer", tags=[TAG])),
    "it is stored anew": lambda w: w.b.finish(w.b.put(KEY, "newer", tags=[TAG])),
    "looks were in vain": lambda w: w.a.counts.learn(-2),
    "were good": lambda w: w.a.counts.learn(8),
}
some = st.lists(st.sampled_from(sorted(ACTS)), max_size=3)


def act(world: World, name: str) -> None:
    with suppress(LoadTimeout):  # it waits for what the test alone could move
        ACTS[name](world)


def played(before: list[str], amid: list[str], end: str, *, inside: bool, without_a_plan: bool) -> object:
    """One read, with what happens before it and while it waits, and how that ends."""
    world = World(without_a_plan=without_a_plan, inside=inside)
    for name in before:
        act(world, name)
    world.begin()
    assert world.following is not None
    for name in amid:
        act(world, name)
    if world.following.at == ("Join",):
        if end == "cancelled":
            world.following.throw(Cancelled())
        elif end == "in time":
            act(world, "it lands")
    return world.outcome()


@settings(max_examples=500, deadline=None)
@example([], [], "in time", False)
@example(["a block is open on it"], ["blocks are over"], "in time", False)
@example([], ["its caller is cancelled"], "cancelled", False)
@example([], ["it is invalidated here"], "in time", False)
@example([], ["another flight takes its place", "a second passes", "its caller is cancelled"], "late", False)
@given(some, some, st.sampled_from(["in time", "in time", "late", "cancelled"]), st.booleans())
def test_who_follows_without_a_plan_comes_to_what_the_plan_comes_to(
    before: list[str], amid: list[str], end: str, inside: bool
) -> None:
    def play(*, without_a_plan: bool) -> object:
        return Context().run(played, before, amid, end, inside=inside, without_a_plan=without_a_plan)

    assert play(without_a_plan=True) == play(without_a_plan=False)


BOTH = pytest.mark.parametrize("without_a_plan", [True, False])


@BOTH
def test_who_may_not_take_it_waits_for_another_and_then_loads(*, without_a_plan: bool) -> None:
    """All flights began before an invalidation that the reader is later than."""
    world = World(without_a_plan=without_a_plan, inside=False)
    on_the_board = world.a.tiers.board._flights
    leaders, flights = [world.leader], [on_the_board[KEY]]
    while len(leaders) <= MAX_JOINS:
        leaders.append(begun(world.a, KEY, tags=[TAG], renew=True))
        flights.append(on_the_board[KEY])
    world.a.finish(world.a.invalidate(TAG))

    on_the_board[KEY] = flights[0]
    world.begin()
    following = world.following
    assert following is not None
    for leader, next_one in zip(leaders, flights[1:], strict=False):
        assert following.at == ("Join",)
        world.a.finish(leader, "of before")
        on_the_board[KEY] = next_one
        following.wake()

    assert following.at == ("Read",), "it asks for leave to load, whatever is under way"


@BOTH
def test_a_block_that_another_thread_begins_while_it_joins_is_heeded(*, without_a_plan: bool) -> None:
    world = World(without_a_plan=without_a_plan, inside=False)
    core, clock = world.a.core, world.clock

    def read_clock() -> float:
        core.hold([] if core.held else DEPS)
        return clock()

    world.a.tiers.clock = read_clock
    world.begin()
    world.a.tiers.clock = clock
    _end(world, lambda leader: leader.reply("of before the commit"))
    core.release(DEPS)

    assert world.following is not None
    world.following.wake()
    assert not world.following.is_done
