"""A signal's handler, or a finalizer, may use a cache amid any step of the cache's own code on that thread.

So no such step may hold a lock which its own thread cannot take again. Each piece of work is done once more,
whole, amid its first step; then anew amid its second, and so on to its last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

import tiercache
from tests.core.test_changes_cut_short import comes_amid
from tests.scripts import output_of
from tiercache import TierCache
from tiercache._cells import Cell
from tiercache._core.coherence import Coherence
from tiercache._core.collect import Collected
from tiercache._core.l1 import L1
from tiercache._core.values import Values
from tiercache._core.writes import Token
from tiercache._errors import L2Unavailable
from tiercache._transport.breaker import Breaker
from tiercache._transport.primary import Known, Named
from tiercache._transport.wire import Wire, Wires

IN_TIME = 20.0  # seconds that all of them may take; a deadlock takes for ever
Work = Callable[[], object]


class Point(tuple[int, int]):
    pass


def a_circuit() -> Work:
    breaker = Breaker()

    def work() -> None:
        breaker.failed(0.0, ConnectionError("gone"))
        breaker.admits(1.0, prober=False)
        breaker.tried(1.0)

    return work


def classes() -> Work:
    values = Values()
    return lambda: values.register(Point, tuple, Point)


def the_primary() -> Work:
    known = Known(())

    def work() -> None:
        known.hear(Named(("localhost", 1), 1))
        known.found(Named(("localhost", 1), 1))

    return work


def connections() -> Work:
    wires = Wires(1, timeout=0.0)

    def work() -> None:
        with suppress(L2Unavailable):
            wire = wires.take()
            with suppress(L2Unavailable):
                wires.take()
            wires.give(wire)

    return work


MODULES = {
    a_circuit: "_transport/breaker.py",
    classes: "_core/values.py",
    the_primary: "_transport/primary.py",
    connections: "_transport/wire.py",
}


@pytest.mark.parametrize("make", MODULES)
def test_what_a_handler_does_amid_a_step_does_not_wait_for_that_step(make: Callable[[], Work]) -> None:
    file = str(Path(tiercache.__file__).parent / MODULES[make])
    at = -1
    errors = []

    def all_steps() -> None:
        nonlocal at
        try:
            for at in count():
                work = make()
                if not comes_amid(work, at, work, {file}):
                    return
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=all_steps, daemon=True)
    thread.start()
    thread.join(IN_TIME)

    assert not thread.is_alive(), f"it stands still at step {at} of {MODULES[make]}"
    assert not errors
    assert at > 2


WIRES = {str(Path(tiercache.__file__).parent / MODULES[connections])}


def free_places(wires: Wires) -> int:
    free = 0
    with suppress(L2Unavailable):
        while wires.take():
            free += 1
    return free


def take(wires: Wires, taken: list[Wire]) -> None:
    with suppress(L2Unavailable):
        taken.append(wires.take())


def test_a_place_that_comes_back_amid_any_step_of_who_waits_for_it_is_taken_or_free() -> None:
    outcomes = set()
    for at in count():
        wires = Wires(1, timeout=0.0)
        only, taken = wires.take(), list[Wire]()
        came_amid = comes_amid(partial(take, wires, taken), at, partial(wires.give, only), WIRES)
        assert free_places(wires) == came_amid - len(taken)
        outcomes.add(len(taken))
        if not came_amid:
            break
    assert at > 10
    assert outcomes == {0, 1}


def test_a_place_that_comes_back_amid_the_return_of_another_is_free_when_nobody_waits_any_more() -> None:
    for at in count():
        wires = Wires(2, timeout=IN_TIME)
        one, other = wires.take(), wires.take()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(wires.take)
            while not wires._queue and not waiting.done():
                time.sleep(0)
            came_amid = comes_amid(partial(wires.give, one), at, partial(wires.give, other), WIRES)
            assert waiting.result(IN_TIME) in (one, other)
        wires.hurry(0.0)
        assert free_places(wires) == came_amid
        if not came_amid:
            break
    assert at > 5


FILES = {str(Path(tiercache.__file__).with_name(name)) for name in ("_registry.py", "_cells.py")}


class Handles:
    """Those of one name, and what is made of them."""

    def __init__(self) -> None:
        self.kept: list[TierCache] = []

    def make(self) -> None:
        self.kept.append(TierCache("memory://", namespace="amid-a-handle"))

    def end_the_first(self) -> None:
        self.kept.pop(0).sync.close()

    def end(self) -> None:
        """Of one node, which is open until the last of them is closed."""
        self.make()
        while self.kept:
            assert {handle._node for handle in self.kept} == {self.kept[0]._node}
            assert self.kept[0].sync.get("k") is None
            self.end_the_first()


def test_handles_that_are_made_amid_the_making_of_another_share_its_node() -> None:
    for at in count():
        handles = Handles()
        came_amid = comes_amid(handles.make, at, handles.make, FILES)
        handles.end()
        if not came_amid:
            break
    assert at > 10


def test_a_handle_that_is_made_amid_the_end_of_another_is_open() -> None:
    for at in count():
        handles = Handles()
        handles.make()
        came_amid = comes_amid(handles.end_the_first, at, handles.make, FILES)
        handles.end()
        if not came_amid:
            break
    assert at > 5


def test_the_newest_token_is_collected_whatever_comes_amid_the_noting_of_one() -> None:
    core = Coherence(L1(1), max_staleness=10.0, node="a")
    for at in count():
        collected = Collected(core)
        older, newer = (partial(collected.note, core, Token(1, number)) for number in (4, 5))
        if not comes_amid(older, at, newer, FILES):
            break
        assert collected.token == Token(1, 5)
    assert at > 3


HELD_AT_A_FORK = """
import os, signal, sys, threading, warnings
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
from tiercache import _default, configure
from tiercache.sqlalchemy.passed import passed

guard, use = {
    "the default": (_default._guard, lambda: configure("memory://")),
    "statements": (passed._guard, lambda: passed.count("text")),
}[sys.argv[1]]
held, forked = threading.Event(), threading.Event()

def hold():
    with guard.lock:
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(5)  # in this thread: another may be given the number of that which holds the lock
    use()
    os._exit(0)
forked.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("use", ["the default", "statements"])
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child(use: str) -> None:
    assert output_of(HELD_AT_A_FORK, use) == "0\n"


def test_a_change_is_made_anew_however_many_came_amid_it() -> None:
    cell, others = Cell(0), 2

    def make(value: int) -> int:
        nonlocal others
        while others:
            others -= 1
            cell.change(lambda other: other + 1)
        return value + 1

    assert cell.change(make) == (2, 3)
    assert cell.value == 3
