"""Reads of L2 without a plan: whatever is under way, what the plan would have done, and come to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial, wraps
from threading import RLock
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.hands import Cancelled, Clock, D, Hand, begun, glance_at, glances_of, nodes
from tests.core.sim_server import SimServer
from tests.leaks import left_behind
from tiercache._accelerator import compiled
from tiercache._core import sources
from tiercache._core.coherence import Coherence
from tiercache._core.flights import current_load
from tiercache._core.l2_hits import Taken
from tiercache._core.reads import by_script
from tiercache._core.sources import Writing
from tiercache._core.tiers import MOST, REFUSED
from tiercache._core.values import PLAIN
from tiercache._errors import L2Refused, LoadTimeout
from tiercache._glances import KeyGlances

if compiled is None:
    pytest.skip("not compiled here: no C compiler, or TIERCACHE_PURE is set", allow_module_level=True)

KEY, TAG = "k", "x"
DEPS = f"k:{KEY}", f"t:{TAG}"


def in_its_own_context(test: Callable[..., None]) -> Callable[..., None]:
    """Other tests leave transactions that are over in theirs, and the first read after those has a plan."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        Context().run(partial(test, **arguments))

    return run


class World:
    """A node before a server that has KEY, and another node that writes."""

    def __init__(self, *, l1: bool = True, by_glance: bool = True, asks: str = "a call") -> None:
        self.clock = Clock()
        self.server = SimServer(self.clock)
        self.a, self.b = nodes(self.server, self.clock)
        self.a.load(KEY, {"a": [1]}, tags=[TAG], ttl=60.0, print=5)
        self.a.core.l1.drop(KEY)
        self.a.counts.prospect = 3
        self.want: dict[str, Any] = {"tags": [TAG], "l1": l1, "ttl": 60.0, "print": 5}
        if asks != "a call":
            self.want = {"tags": [TAG], "ttl": 60.0}
            if asks != "a key and its tag":
                self.want["tags"] = []
            if asks in ("a key, its tag known", "a key, without a loader"):
                self.a.tiers.known_tags.learn(KEY, (TAG,))
            if asks in WITHOUT_LOADER:
                self.want["call"] = None
            if asks == "a new key, without a loader":
                self.a.counts.prospect = 0  # as where looks in L2 were in vain
        self.by_glance = by_glance
        self.reading: Hand | None = None
        self.steps: list[object] = []
        self.kept: list[Any] = []  # what would end with its last reference
        self.inside: Any = None

    def begin(self) -> None:
        read = self.a.glance if self.by_glance else self.a.read
        self.reading = read(KEY, inside=self.inside, **self.want)
        self.steps.append(self.reading.at)

    def outcome(self) -> object:
        """What the read came to, and all that it left behind."""
        assert self.reading is not None
        while not self.reading.is_done and self.reading.at != ("Join",):
            self.reading.reply("anew") if self.reading.at == ("Call",) else self.reading.answer()
            self.steps.append(self.reading.at)
        try:
            result = self.reading.result if self.reading.is_done else "waits"
        except (L2Refused, Cancelled) as error:
            result = repr(error)
        counts = [getattr(self.a.counts, name) for name in (*self.a.counts.NAMES, "prospect")]
        known = self.a.tiers.known_tags._of(KEY)
        guess = None if known is None else (known.tags, known.prospect, known.is_sure)
        held = {
            key: (entry.vouched, entry.value, entry.deadline, entry.deps, entry.print)
            for key, entry in self.a.core.l1.entries.items()
            if entry.deadline > self.clock()  # what is over may go sooner or later
        }
        tiers, core = self.a.tiers, self.a.core
        heads = core.seen, core.answered, core.applied, core.proved
        numbers = core.epoch, core.generation, *heads, core.lease
        return self.steps, result, counts, guess, held, set(tiers.looking), dict(tiers.events), numbers


def _writing(world: World, dep: str) -> None:
    writing = Writing(lambda: [world.a.core])
    world.kept.append(writing)
    add = partial(writing.add, dep.removeprefix("t:"))
    add() if world.reading is None else world.reading._context.run(add)


def _fly(world: World) -> None:
    flight, _ = world.a.tiers.board.claim(KEY, world.clock(), None, blocking=False)
    world.kept.append(flight)


def _flush(world: World) -> None:
    world.server.flush()
    world.a.finish(world.a.sync())


def _replace(world: World) -> None:
    """Another process stores KEY anew, and the node has heard of it."""
    world.b.finish(world.b.invalidate(TAG))
    world.b.load(KEY, "newer", tags=[TAG], ttl=60.0, print=5)


def _file(world: World) -> None:
    world.a.load(KEY, "in L1", tags=[TAG], ttl=60.0, l1_ttl=5.0, print=5)


def _reprint(world: World) -> None:
    world.b.finish(world.b.invalidate(TAG))
    world.b.load(KEY, "of another release", tags=[TAG], ttl=60.0, print=7)


def _compress(world: World) -> None:
    world.b.tiers.compression = "lz4"
    world.b.finish(world.b.put(KEY, "z" * 1_000, tags=[TAG]))


ACTS: dict[str, Callable[[World], object]] = {
    "nothing": lambda w: None,
    "an invalidation of it is pending": lambda w: w.a.core.pend(DEPS[1:], 1),
    "another's is": lambda w: w.a.core.pend(["t:other"], 1),
    "a block is open on it": lambda w: w.a.core.hold(DEPS[1:]),
    "on another": lambda w: w.a.core.hold(["t:other"]),
    "blocks are over": lambda w: (w.a.core.release(DEPS[1:]), w.a.core.release(["t:other"])),
    "a transaction has changed it": lambda w: _writing(w, DEPS[1]),
    "another": lambda w: _writing(w, "t:other"),
    "the lease ends": lambda w: w.clock.advance(D),
    "an instant before": lambda w: w.clock.advance(D - 0.001),
    "an entry of L1": lambda w: w.clock.advance(6),
    "the entry ends": lambda w: w.clock.advance(61),
    "it lapses": lambda w: w.a.core.lapse(),
    "the epoch is disowned": lambda w: w.a.core.disown(),
    "the server is emptied": _flush,
    "it is invalidated elsewhere": lambda w: w.b.finish(w.b.invalidate(TAG)),
    "another is": lambda w: w.b.finish(w.b.invalidate("other")),
    "it is deleted elsewhere": lambda w: w.b.finish(w.b.invalidate(keys=[KEY])),
    "it is invalidated here": lambda w: w.a.finish(w.a.invalidate(TAG)),
    "a sync comes": lambda w: w.a.finish(w.a.sync()),
    "a newer head is met": lambda w: w.a.core.meet(w.a.core.stand(w.clock()), w.a.core.seen + 1),
    "somebody flies": _fly,
    "somebody looks": lambda w: w.a.tiers.looking.add(KEY),
    "L1 has it": _file,
    "it is stored anew": _replace,
    "by another release": _reprint,
    "compressed": _compress,
    "of a class": lambda w: w.b.finish(w.b.put(KEY, (1, {2}), tags=[TAG])),
    "of other tags": lambda w: w.b.finish(w.b.put(KEY, "v", tags=[TAG, "more"])),
    "torn": lambda w: w.server.domain.entries.update({KEY: b"1|2|3"}),
    "evicted": lambda w: w.server.domain.entries.clear(),
    "looks were in vain": lambda w: w.a.counts.learn(-2),
    "were refused": lambda w: setattr(w.a.counts, "prospect", REFUSED),
    "were good": lambda w: setattr(w.a.counts, "prospect", MOST),
}
WITHOUT_LOADER = "a key, without a loader", "a new key, without a loader"
LOOKS = "a call", "a key and its tag", "a key, its tag known", "a key, without a loader"
ASKS = *LOOKS, "a new key, without a loader"
ENDS = st.sampled_from(["answered"] * 3 + ["lost", "refused", "cancelled"])
some = st.lists(st.sampled_from(sorted(ACTS)), max_size=3)


def act(world: World, name: str) -> None:
    with suppress(LoadTimeout):  # it waits for what the test alone could move
        ACTS[name](world)


def played(
    before: list[str],
    amid: list[str],
    after: list[str],
    end: str,
    *,
    l1: bool,
    inside: bool,
    asks: str,
    by_glance: bool,
) -> object:
    """One read, with what happens before it, before its look is answered, and before it gets the answer."""
    world = World(l1=l1, by_glance=by_glance, asks=asks)
    for name in before:
        act(world, name)
    if inside:
        world.inside = begun(world.a, "outer", tags=())
    world.begin()
    reading = world.reading
    assert reading is not None
    for name in amid:
        act(world, name)
    if reading.at == ("Look",) or (asks in ASKS[4:] and reading.at == ("Read",)):
        if end == "answered":
            reading.execute()
            for name in after:
                act(world, name)
            reading.reply()
        elif end == "lost":
            reading.lose()
        else:
            reading.throw(Cancelled() if end == "cancelled" else L2Refused("NOPERM"))
    return world.outcome()


@settings(max_examples=800, deadline=None)
@example(["L1 has it", "an entry of L1"], [], [], "answered", True, False, "a call")
@example([], [], ["the server is emptied"], "answered", True, False, "a call")
@example([], ["L1 has it", "another is"], [], "answered", False, False, "a call")
@example([], [], ["evicted"], "answered", True, False, "a key, without a loader")
@example([], ["the server is emptied"], [], "answered", True, False, "a new key, without a loader")
@example([], ["it is invalidated elsewhere"], [], "answered", True, False, "a new key, without a loader")
@example([], [], ["it is invalidated here"], "answered", True, False, "a new key, without a loader")
@example([], [], [], "lost", True, False, "a new key, without a loader")
@given(some, some, some, ENDS, st.booleans(), st.booleans(), st.sampled_from(ASKS))
def test_a_glance_comes_to_what_the_plan_comes_to(
    before: list[str], amid: list[str], after: list[str], end: str, l1: bool, inside: bool, asks: str
) -> None:
    def play(by_glance: bool) -> object:
        how = {"l1": l1, "inside": inside, "asks": asks, "by_glance": by_glance}
        return Context().run(partial(played, before, amid, after, end, **how))

    assert play(by_glance=True) == play(by_glance=False)


@in_its_own_context
def test_the_usual_read_is_one_look_and_no_plan() -> None:
    """What it asks for is never made: neither the plan nor the rules in Python had to see to it."""
    world = World(l1=False, by_glance=True)
    want = world.a.want(KEY, **world.want)
    glances = glances_of(world.a, want, lambda: pytest.fail("it was made"))

    glance = glances.begin((), {})
    assert glance is not None
    assert world.a.tiers.looking == {KEY}
    assert glances.begin((), {}) is None, "one at a time looks for a key"
    looked = world.server.perform(glance[0])
    glances.over(glance)

    assert glances.found(glance, looked) == {"a": [1]}
    assert (world.a.counts.l2_hits, world.a.tiers.looking) == (1, set())


@pytest.mark.parametrize("asks", LOOKS[1:])
@in_its_own_context
def test_the_usual_read_by_key_is_one_look_and_no_plan(asks: str) -> None:
    world = World(asks=asks)
    want = world.a.want(KEY, **world.want)

    glances, glance = glance_at(world.a, want)
    assert glance is not None
    assert glance[0].tags == (TAG,)
    looked = world.server.perform(glance[0])
    glances.over(glance)

    assert glances.found(glance, looked) == {"a": [1]}
    assert (world.a.counts.l2_hits, world.a.tiers.looking) == (1, set())
    assert world.a.in_l1(KEY)


@in_its_own_context
def test_the_usual_read_by_a_new_key_is_one_script_call_and_leaves_nothing_behind() -> None:
    world = World(asks="a new key, without a loader")
    want = world.a.want(KEY, **world.want)
    by_key = KeyGlances(world.a.tiers, world.a.counts, lambda: want)

    assert by_key.expected(KEY, ()) is None, "no look could find it"
    assert by_key._is_free(KEY)
    assert world.a.tiers.looking == set(), "it looks for nothing"
    reading = world.a.start(by_script(world.a.tiers, want, blocking=False))
    assert reading.at == ("Read",)
    reading.answer()

    assert reading.result == {"a": [1]}
    assert world.a.in_l1(KEY)
    assert world.a.tiers.known_tags.get(KEY) == (TAG,), "the next read needs no script"


@pytest.mark.parametrize("asks", LOOKS)
@in_its_own_context
def test_what_is_over_in_l1_is_not_in_the_way(asks: str) -> None:
    world = World(asks=asks)
    _file(world)
    assert world.a.in_l1(KEY)
    world.clock.advance(6)
    want = world.a.want(KEY, **world.want)

    glances, glance = glance_at(world.a, want)
    looked = world.server.perform(glance[0])
    glances.over(glance)

    assert glances.found(glance, looked) == {"a": [1]}


class Forking:
    """The core's lock, while whose holder the process forks: the child's core has another one."""

    def __init__(self, core: Coherence) -> None:
        self.core, self.itself = core, core.lock

    def acquire(self) -> bool:
        self.core.lock = RLock()
        return self.itself.acquire()

    def release(self) -> None:
        self.itself.release()


@in_its_own_context
def test_a_plan_forgets_the_transactions_that_are_over_and_the_next_read_has_none() -> None:
    world = World(l1=False, by_glance=True)
    glances = glances_of(world.a, world.a.want(KEY, **world.want), lambda: pytest.fail("it was made"))
    writing = Writing(lambda: [world.a.core])
    writing.add("another")
    writing.end()

    assert glances.begin((), {}) is None
    reading = world.a.read(KEY, **world.want)
    world.a.finish(reading)
    assert reading._context.run(glances.begin, (), {}) is not None


@in_its_own_context
def test_the_lock_that_was_taken_is_given_back_in_a_forked_child() -> None:
    world = World(l1=False, by_glance=True)
    glances = glances_of(world.a, world.a.want(KEY, **world.want), lambda: pytest.fail("it was made"))
    core = world.a.core
    held = cast("Any", core.lock)

    core.lock = cast("Any", Forking(core))
    glance = glances.begin((), {})
    assert glance is not None
    looked = world.server.perform(glance[0])
    core.lock = held
    core.lock = cast("Any", Forking(core))

    assert glances.found(glance, looked) == {"a": [1]}
    assert not held._is_owned()


@pytest.mark.parametrize("l1", [False, True])
def test_neither_what_is_found_nor_what_is_in_vain_leaves_anything_behind(l1: bool) -> None:
    Context().run(_leaves_nothing, l1)


def _leaves_nothing(l1: bool) -> None:
    world = World(l1=l1, by_glance=True)
    glances = glances_of(world.a, world.a.want(KEY, **world.want), lambda: pytest.fail("it was made"))
    glance = glances.begin((), {})
    assert glance is not None
    look, stand = glance
    found = world.server.perform(look)
    world.server.domain.entries.clear()
    missed = world.server.perform(look)
    glances.over(glance)
    earlier = stand._replace(epoch=stand.epoch - 1)

    def run(times: int) -> None:
        for _ in range(times):
            assert glances.begin((), {}) == glance
            assert glances.begin((), {}) is None, "one at a time looks for a key"
            glances.over(glance)
            assert glances._take(look, stand, found)
            for asked in (look, stand, missed), (look, earlier, found), (look, stand, None), (stand,):
                with suppress(compiled.Unanswered, TypeError):
                    pytest.fail(repr(glances._take(*asked)))

    watched = [
        look,
        stand,
        earlier,
        found,
        missed,
        KEY,
        world.a.core,
        world.a.counts,
        type(look),
        Taken,
        None,
    ]
    references, memory = left_behind(run, watched, 300)
    assert references < 100, "of 900 rounds"
    assert memory < 5_000, "bytes, of 300 rounds"


def test_what_is_of_the_right_class_and_empty_is_refused() -> None:
    """A tuple of no fields, which only tuple.__new__ makes; no shelves for L1."""
    Context().run(_refuses_the_empty)


def _refuses_the_empty() -> None:
    world = World(l1=True, by_glance=True)
    glances = glances_of(world.a, world.a.want(KEY, **world.want), lambda: pytest.fail("it was made"))
    glance = glances.begin((), {})
    assert glance is not None
    look, stand = glance
    glances.over(glance)
    found = world.server.perform(look)
    empty = tuple.__new__(type(look), ()), tuple.__new__(type(stand), ())
    for asked in (empty[0], stand, found), (look, empty[1], found):
        with pytest.raises(TypeError, match="it takes a look"):
            glances._take(*asked)

    tiers = world.a.tiers
    namer = compiled.Namer({}, 0, ((KEY, -1),), ())
    where = tiers.core, world.a.counts, tiers.board._flights, tiers.looking, ()
    with pytest.raises(ValueError, match="power of two"):
        compiled.Glancer(namer, *where, tiers.clock, tiers.values.decode, 0, True)
    arguments = [Coherence, world.a.counts.__class__, int, type(look), Taken]
    with pytest.raises(TypeError, match="are tuples"):
        compiled.use_glances(*arguments, current_load, sources._writings, PLAIN, tiers.values.decode)


def test_a_key_whose_entry_has_more_tags_than_are_declared_is_left_to_the_look_of_a_plan() -> None:
    """A glance would be in vain each time, beside others of the function that pay."""
    Context().run(_looks_once)


def _looks_once() -> None:
    world = World(l1=False, by_glance=True)
    world.b.finish(world.b.invalidate(TAG))
    world.b.load(KEY, "v", tags=[TAG, "more"], ttl=60.0, print=5)
    world.a.finish(world.a.glance(KEY, **world.want))
    world.a.counts.prospect = MOST
    reading = world.a.glance(KEY, **world.want)

    assert reading.at == ("Look",)
    assert reading.answer().result == "v"
    assert not world.a.tiers.looking
