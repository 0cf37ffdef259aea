"""Changes of a node's state that something raised amid cuts short: at worst they cost a reload.

The handler of a signal raises anywhere (Ctrl-C in a notebook, the time limit of a task), and any call may
for want of memory or stack. Each act is done once for each of its steps, cut short there.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache, partial
from itertools import count
from math import inf
from types import CodeType, FrameType
from typing import Any

import pytest

from tiercache._core import coherence, groups, l1, shelves, singles, told
from tiercache._core.coherence import Coherence
from tiercache._core.commands import Recorded, Synced
from tiercache._core.l1 import ENTRY_OVERHEAD, L1, Entry
from tiercache._core.records import Hint
from tiercache._core.whole import amend

COUNT = 8  # entries
FILES = {module.__file__ for module in (coherence, groups, l1, shelves, singles, told)}


class Cut(BaseException):
    """What a handler raises."""


CALLS = ("CALL",)  # where CPython, beside the turns of a loop, lets the handler of a signal run
STEPS = (*CALLS, "STORE_ATTR", "STORE_SUBSCR", "DELETE_", "RETURN_")


@cache
def steps_of(code: CodeType, acts: tuple[str, ...]) -> frozenset[int]:
    """Where *code* changes something, or calls what may; nothing differs between one of them and the next."""
    # From Python 3.12 on: a list becomes a tuple; a generator that is closed ends, where a cut goes nowhere.
    no_acts = "CALL_INTRINSIC_"
    return frozenset(
        each.offset
        for each in dis.get_instructions(code)
        if each.opname.startswith(acts) and not each.opname.startswith(no_acts)
    )


def comes_amid(
    act: Callable[[], object],
    at: int,
    other: Callable[[], object],
    files: Collection[str | None] = FILES,
    acts: tuple[str, ...] = STEPS,
) -> bool:
    """Whether *act* came to its step *at* within *files*, and *other* was done there before it went on."""
    left = at

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        left -= event == "opcode" and frame.f_lasti in steps_of(frame.f_code, acts)
        if left < 0:
            sys.settrace(None)
            other()
            return None
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for it before it traces
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return left < 0


def cut_short(
    act: Callable[[], object],
    at: int,
    files: Collection[str | None] = FILES,
    acts: tuple[str, ...] = STEPS,
) -> bool:
    """Whether *act* came to its step *at* within *files*, and no further."""

    def cut() -> None:
        raise Cut

    try:
        comes_amid(act, at, cut, files, acts)
    except Cut:
        return True
    return False


def out_of_stack(act: Callable[[], object], room: int) -> bool:
    """Whether *room* frames of stack are too few for *act*; fewer on Python 3.11, which counts C's, too."""

    def down(frames: int) -> None:
        if frames:
            down(frames - 1)
        else:
            act()

    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    try:
        down(sys.getrecursionlimit() - depth - room - 2)  # this one, and the last of its own
    except RecursionError:
        return True
    return False


class World:
    """A node of a few entries, and what its server holds; its clock stands at 1."""

    def __init__(self) -> None:
        room = (COUNT + 1) * (ENTRY_OVERHEAD + 10)
        self.core = Coherence(L1(COUNT, room), max_staleness=10.0, node="n")
        self.core.l1.slice_size = COUNT // 2
        self.epoch, self.records = 7, [("t:nobody's", 1)]
        self.table: dict[Any, Entry] = {}
        self.other: dict[Any, Entry] = {}  # of another function
        self.sync()
        for number in range(COUNT):
            self.put(number)
            self.file(number)

    @property
    def head(self) -> int:
        return self.records[-1][1]

    def deps(self, number: int) -> tuple[str, ...]:
        return "t:all", f"t:{number}", f"t:pair {number // 2}"

    def record(self, dep: str) -> int:
        self.records.append((dep, self.head + 1))
        return self.head

    def sync(self) -> None:
        asked, stand = self.core.sync(1.0)
        new = tuple(each for each in self.records if each[1] > asked.proved)
        reply = Synced(self.epoch, self.head, 0, 0, True, 1, new if asked.epoch == self.epoch else None)
        self.core.prove(stand, reply, 1.0)

    def put(self, number: int) -> None:
        deps = self.deps(number)
        entry = Entry(f"k{number}", deps, None, deadline=9.0, deps=deps, vouched=self.head, size=5)
        self.core.insert(entry, self.core.stand(1.0), 1.0)

    def file(self, number: int, table: dict[Any, Entry] | None = None) -> None:
        entry = self.core.l1.entries.get(f"k{number}")
        if entry is not None:
            amend(self.core, self.core.l1.alias, entry, self.table if table is None else table, number)

    def given(self, number: int) -> list[Entry]:
        """What a call would get, by its arguments and by its key."""
        found, until = self.core.serve(f"k{number}")
        hits = [entry for table in (self.table, self.other) if (entry := table.get(number)) is not None]
        given = [entry for entry in hits if self.core.open_until > 1.0 < entry.deadline]
        return given if found is None or until <= 1.0 else [found, *given]

    def all_given(self) -> list[Entry]:
        return [entry for number in range(COUNT + 1) for entry in self.given(number)]

    def check(self) -> None:
        """Nothing is given that a record of the server's has overtaken."""
        for entry in self.all_given():
            named = (*entry.value, f"k:{entry.key}")
            assert max((n for dep, n in self.records if dep in named), default=0) <= entry.vouched

    def settle(self) -> None:
        """Nothing waits any more, or is held, and all is proved."""
        self.core.settle(dict(self.core.pending))
        while self.core.held:
            self.core.release(list(self.core.held))
        self.sync()

    def fill(self) -> None:
        """All values are put anew, and given."""
        amend(self.core, self.core.l1.drop, f"k{COUNT}")  # there is no room for it, too
        for number in range(COUNT):
            self.put(number)
            self.file(number)
        for _ in range(COUNT):
            self.core.serve("none")  # sweeps
        assert len([given for number in range(COUNT) for given in self.given(number)]) == 2 * COUNT

    def empty(self) -> None:
        """Each tag still reaches what depends on it, until nothing is left."""
        for dep in ("t:1", "t:pair 1", "k:k5", "t:all"):
            assert self.core.hear(Hint(self.epoch, self.record(dep), (dep,))) == "applied"
            self.check()
        for _ in range(COUNT):
            self.core.serve("none")
        held = self.core.l1
        # What was filed as another change came amid that is dead, and stays until its call is filed again.
        filed = [
            entry for table in (self.table, self.other) for entry in table.values() if entry.deadline > 0
        ]
        assert len(held.entries) == held.used_bytes == len(filed) == 0


def hear(dep: str) -> Callable[[World], Callable[[], object]]:
    return lambda world: partial(world.core.hear, Hint(7, world.record(dep), (dep,)))


def own(dep: str) -> Callable[[World], Callable[[], object]]:
    return lambda world: partial(world.core.own_record, Recorded(7, world.record(dep)), (dep,), 1.0)


def synced(*deps: str) -> Callable[[World], Callable[[], object]]:
    def prepared(world: World) -> Callable[[], object]:
        for dep in deps:
            world.record(dep)
        return world.sync

    return prepared


def new_epoch(world: World) -> Callable[[], object]:
    world.epoch, world.records = 8, [("t:nobody's", 5)]
    return world.sync


def superseded(world: World) -> Callable[[], object]:
    head, stand = world.record("t:1"), world.core.stand(1.0)
    return lambda: world.core.meet(stand, head, ("k1",))


def swept(world: World) -> Callable[[], object]:
    hear("t:all")(world)()
    return lambda: world.core.serve("k1")


# What is prepared, and then the act.
ACTS: dict[str, Callable[[World], Callable[[], object]]] = {
    "a hint of a tag of all": hear("t:all"),
    "a hint of a tag of one": hear("t:1"),
    "a hint of a tag of two": hear("t:pair 1"),
    "a hint of a key": hear("k:k1"),
    "a record of its own": own("t:pair 1"),
    "a sync with records": synced("t:1", "t:pair 1", "t:all", "k:k5"),
    "a sync of a new epoch": new_epoch,
    "a reply with a newer head": superseded,
    "an invalidation begun": lambda world: lambda: world.core.begin_invalidation(("t:pair 1", "t:1")),
    "an invalidation that waits": lambda world: lambda: world.core.pend(("t:all",), 1),
    "a write of the truth": lambda world: lambda: world.core.hold(("t:pair 1",)),
    "a value for another": lambda world: lambda: world.put(COUNT),
    "a value of the same key": lambda world: lambda: world.put(1),
    "a call filed": lambda world: lambda: world.file(1),
    "a call of another function filed": lambda world: lambda: world.file(1, world.other),
    "an entry that goes": lambda world: lambda: amend(world.core, world.core.l1.drop, "k1"),
    "an epoch disowned": lambda world: world.core.disown,
    "what is condemned swept": swept,
}


@pytest.mark.parametrize("cut", [cut_short, out_of_stack])
@pytest.mark.parametrize("act", ACTS)
def test_what_is_cut_short_leaves_nothing_old_and_nothing_broken(
    act: str, cut: Callable[[Callable[[], object], int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "FEW", 2)
    at = 0
    while True:
        world = World()
        assert len(world.all_given()) == 2 * COUNT
        again = ACTS[act](world)
        if not cut(again, at):
            break
        at += 1
        if world.core.is_torn:  # it had begun
            world.check()

        again()  # as who was interrupted does
        world.check()

        world.settle()
        world.check()

        world.fill()
        world.empty()
    assert at > 3


# What the handler of a signal, or a finalizer, comes to do in the cache.
OTHERS: dict[str, Callable[[World], object]] = {
    "a read": World.all_given,
    "a sync": World.sync,
    "a sync and a value": lambda world: (world.sync(), world.put(COUNT), world.file(COUNT)),
    "an invalidation": lambda world: own("t:all")(world)(),
    "an invalidation that waits": lambda world: world.core.pend(("t:pair 1",), 9),
    "a load": lambda world: (world.core.begin_load(7, inf, "l"), world.core.end_load("l")),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("act", ACTS)
def test_what_another_change_comes_amid_leaves_nothing_old_and_nothing_broken(
    act: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock does not keep out a signal's handler, or a finalizer: they run on the thread that has it."""
    monkeypatch.setattr(groups, "FEW", 2)
    at = 0
    while True:
        world = World()
        if not comes_amid(ACTS[act](world), at, partial(OTHERS[other], world)):  # and raises nothing
            break
        at += 1
        world.check()
        if other == "an invalidation that waits":
            assert world.core.withheld(("t:pair 1",))
        world.settle()
        world.core.settle(dict(world.core.pending))  # what was told is owed to a new epoch
        world.check()
        world.fill()
        world.empty()
    assert at > 3


@pytest.mark.parametrize("change", ["a block", "a load begun", "a load ended"])
def test_what_is_counted_is_counted_once_whatever_comes_amid(change: str) -> None:
    at = 0
    while True:
        world = World()
        core = world.core
        core.begin_load(7, inf, "one")
        core.begin_load(7, inf, "two")
        hear("t:all")(world)()
        act = {
            "a block": partial(core.hold, ("t:1",)),
            "a load begun": partial(core.begin_load, 7, inf, "three"),
            "a load ended": partial(core.end_load, "two"),
        }[change]
        if not comes_amid(act, at, world.sync):
            break
        at += 1
        assert core.held == ({"t:1": 1} if change == "a block" else {})
        left = {"a load begun": {"one", "two", "three"}, "a load ended": {"one"}}
        assert core._loads.keys() == left.get(change, {"one", "two"})
    assert at > 3


def test_a_load_that_ends_amid_the_end_of_another_is_over() -> None:
    for at in count():
        core = World().core
        core.begin_load(7, inf, "one")
        core.begin_load(7, inf, "two")
        came_amid = comes_amid(partial(core.end_load, "one"), at, partial(core.end_load, "two"))
        assert core._loads.keys() == (set() if came_amid else {"two"})
        if not came_amid:
            break
    assert at > 3


def test_what_waits_for_redis_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherence, "MAX_PENDING", 2)
    at = 0
    while True:
        world = World()
        world.core.pend(("t:1",), 1)
        if not cut_short(partial(world.core.pend, ("t:2", "t:3"), 2), at):
            break
        at += 1
        assert world.core.withheld(("t:1",))
    assert at > 3


def test_what_is_owed_to_a_new_primary_is_not_forgotten() -> None:
    at = 0
    while True:
        world = World()
        own("t:1")(world)()
        if not cut_short(new_epoch(world), at):
            break
        at += 1
        world.sync()
        assert world.core.withheld(("t:1",))
    assert at > 3


def test_what_is_told_again_is_still_owed() -> None:
    at = 0
    while True:
        world = World()
        own("t:1")(world)()
        if not cut_short(own("t:1")(world), at):
            break
        at += 1
        assert "t:1" in world.core.told.owed_to(world.epoch + 1)
    assert at > 3


def test_a_block_of_two_holders_stays_closed_when_one_goes() -> None:
    at = 0
    while True:
        world = World()
        world.core.hold(("t:1",))
        world.core.hold(("t:1",))
        if not cut_short(partial(world.core.release, ("t:1",)), at):
            break
        at += 1
        assert world.core.bypassed(("t:1",))
    assert at > 0


def test_a_change_torn_amid_another_without_a_word_leaves_no_lease() -> None:
    """As the collector's, which ends a forgotten load: what is raised there goes nowhere."""
    world = World()

    def torn() -> None:
        raise Cut

    def around() -> None:
        with suppress(Cut):
            amend(world.core, torn)
        world.core.lease = world.core.open_until = 9.0

    amend(world.core, around)

    assert world.all_given() == []
    world.sync()
    assert world.core.is_torn is False
