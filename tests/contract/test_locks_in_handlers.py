"""A signal's handler, or a finalizer, may use a cache amid any step of the cache's own code on that thread.

So no such step may hold a lock which its own thread cannot take again. Each piece of work is done once more,
whole, amid its first step; then anew amid its second, and so on to its last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

import tiercache
from tests.core.test_changes_cut_short import comes_amid
from tests.scripts import output_of
from tiercache import TierCache
from tiercache._core.coherence import Coherence
from tiercache._core.collect import Collected
from tiercache._core.l1 import L1
from tiercache._core.values import Values
from tiercache._core.writes import Token
from tiercache._errors import L2Unavailable
from tiercache._transport.breaker import Breaker
from tiercache._transport.primary import Known, Named
from tiercache._transport.wire import Wires

IN_TIME = 20.0  # seconds that all of them may take; a deadlock takes for ever
Work = Callable[[], object]


class Point(tuple[int, int]):
    pass


def handles() -> Work:
    def work() -> None:
        TierCache("memory://", namespace="in-handlers").sync.close()

    return work


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


def collected_tokens() -> Work:
    core = Coherence(L1(1), max_staleness=10.0, node="a")
    collected, numbers = Collected(core), count(1)
    return lambda: collected.note(core, Token(1, next(numbers)))


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
    handles: "_registry.py",
    a_circuit: "_transport/breaker.py",
    classes: "_core/values.py",
    collected_tokens: "_core/collect.py",
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


HELD_AT_A_FORK = """
import os, signal, sys, threading, warnings
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
from tiercache import TierCache, _registry
from tiercache.sqlalchemy.passed import passed

guard, use = {
    "handles": (_registry._guard, lambda: TierCache("memory://")),
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


@pytest.mark.parametrize("use", ["handles", "statements"])
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child(use: str) -> None:
    assert output_of(HELD_AT_A_FORK, use) == "0\n"
