"""Many threads that wait for one future: each is woken, whoever of them gives up or is interrupted."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import InvalidStateError
from typing import Any

import pytest

from tests.core.test_changes_cut_short import cut_short
from tiercache import _turnstiles as turnstiles
from tiercache._turnstiles import Turnstile

PLENTY = 30.0


class Interrupted(Exception):
    """Raised in a thread from without, at whatever instruction it is."""


class Failure(Exception):
    """Of whoever lands."""


class Waiting:
    """Threads that wait for *future*, and what came of it."""

    def __init__(self, future: Turnstile, count: int, timeout: float = PLENTY) -> None:
        self.future, self.timeout = future, timeout
        self.outcomes: list[Any] = []
        self.threads = [threading.Thread(target=self._wait, daemon=True) for _ in range(count)]
        self._ready = threading.Barrier(count + 1, timeout=PLENTY)
        for thread in self.threads:
            thread.start()
        self._ready.wait()

    def _wait(self) -> None:
        try:
            self._ready.wait()
            self.outcomes.append(self.future.result(self.timeout))
        except Exception as error:
            self.outcomes.append(error)

    def stand(self) -> None:
        """Until all of them wait, or are about to."""
        deadline = time.monotonic() + PLENTY
        for thread in self.threads:
            while sys._current_frames()[thread.ident or 0].f_code is not Turnstile._wait_in_line.__code__:
                assert time.monotonic() < deadline

    def ended(self) -> list[Any]:
        for thread in self.threads:
            thread.join(PLENTY)
            assert not thread.is_alive()
        return self.outcomes


def interrupt(thread: threading.Thread) -> None:
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupted))


@pytest.mark.parametrize("count", [1, 2, 100])
def test_all_who_wait_have_the_result(count: int) -> None:
    future = Turnstile()
    waiting = Waiting(future, count)
    future.set_result("brought")

    assert waiting.ended() == ["brought"] * count


def test_all_who_wait_have_the_error() -> None:
    future, error = Turnstile(), ValueError("no")
    waiting = Waiting(future, 20)
    future.set_exception(error)

    assert waiting.ended() == [error] * 20


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.001])
def test_who_waits_for_nothing_has_a_timeout_in_its_time(timeout: float) -> None:
    waiting = Waiting(Turnstile(), 20, timeout)

    assert [type(outcome) for outcome in waiting.ended()] == [TimeoutError] * 20


def test_the_main_thread_that_gives_up_leaves_nothing() -> None:
    future = Turnstile()
    with pytest.raises(TimeoutError):
        future.result(0.001)

    assert not future._callbacks


def test_who_comes_late_does_not_wait() -> None:
    future = Turnstile()
    future.set_result("brought")

    assert Waiting(future, 20).ended() == ["brought"] * 20


@pytest.mark.parametrize("moment", range(20))
def test_those_who_give_up_as_it_lands_keep_nobody_from_it(moment: int) -> None:
    future = Turnstile()
    patient, impatient = Waiting(future, 20), Waiting(future, 20, timeout=0.0005 * moment)
    future.set_result("brought")

    assert patient.ended() == ["brought"] * 20
    assert {str(outcome) for outcome in impatient.ended()} <= {"brought", ""}


@pytest.mark.parametrize("first", range(0, 40, 3))
def test_those_who_are_interrupted_as_they_are_woken_keep_nobody_from_it(first: int) -> None:
    future = Turnstile()
    waiting = Waiting(future, 40)
    waiting.stand()
    interrupted = waiting.threads[first : first + 3]
    for thread in interrupted:
        interrupt(thread)  # they meet it once they are called, and the next is theirs to call
    future.set_result("brought")

    assert waiting.ended().count("brought") == 40 - len(interrupted)


def test_the_main_thread_cut_short_at_any_step_of_its_wait_keeps_nobody_from_it() -> None:
    """As by the handler of a signal."""
    for step in range(1_000):
        future, was_cut = Turnstile(), threading.Event()
        waiting = Waiting(future, 3)
        landing = threading.Thread(target=land_once_main_waits, args=(future, was_cut))
        landing.start()
        if not cut_short(lambda: future.result(PLENTY), step, {turnstiles.__file__}):  # noqa: B023  # at once
            break
        was_cut.set()
        landing.join()
        assert waiting.ended() == ["brought"] * 3
        assert not future._callbacks
    assert step > 10


def land_once_main_waits(future: Turnstile, was_cut: threading.Event) -> None:
    main = threading.main_thread().ident or 0
    while not was_cut.is_set():
        if sys._current_frames()[main].f_code is Turnstile._wait_alone.__code__:
            break
    future.set_result("brought")


def test_they_need_few_turns_of_an_interpreter_that_another_thread_keeps_busy() -> None:
    """A turn each would take 100 of them half a second."""
    future = Turnstile()
    waiting = Waiting(future, 100)
    waiting.stand()
    future.set_result("brought")
    turns = seen = 0
    while seen < 100:  # nothing here lets go of the interpreter, but for what it demands every 5 ms
        if len(waiting.outcomes) != seen:
            seen, turns = len(waiting.outcomes), turns + 1

    assert waiting.ended() == ["brought"] * 100
    assert turns < 50


@pytest.fixture
def hurry() -> Iterator[None]:
    """Threads change at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurry")
def test_of_those_who_land_it_at_once_one_does() -> None:
    for _ in range(200):
        future, ready, landed = Turnstile(), threading.Barrier(4, timeout=PLENTY), []

        def land(number: int, future: Turnstile, ready: threading.Barrier, landed: list[int]) -> None:
            ready.wait()
            try:
                future.set_result(number)
            except InvalidStateError:
                return
            landed.append(number)

        threads = [threading.Thread(target=land, args=(n, future, ready, landed)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PLENTY)
        assert landed == [future.result(0.0)]


@pytest.mark.usefixtures("hurry")
def test_each_callback_is_called_once_however_it_meets_the_landing() -> None:
    for _ in range(20):
        future, ready, called = Turnstile(), threading.Barrier(2, timeout=PLENTY), []

        def add(future: Turnstile, ready: threading.Barrier, called: list[int]) -> None:
            ready.wait()
            for number in range(3_000):
                future.add_done_callback(lambda _, number=number: called.append(number))  # type: ignore[misc]

        adding = threading.Thread(target=add, args=(future, ready, called))
        adding.start()
        ready.wait()
        future.set_result("brought")
        adding.join(PLENTY)
        assert sorted(called) == list(range(3_000))
        assert not future._callbacks


def test_an_error_keeps_no_frame_of_those_who_met_it() -> None:
    future = Turnstile()
    future.set_exception(Failure("no"))
    gone = weakref.ref(future.exception())  # type: ignore[arg-type]
    gc.disable()
    try:
        with pytest.raises(Failure, match="no"):
            future.result(0.0)
        del future
        assert gone() is None
    finally:
        gc.enable()


def test_an_error_has_the_frames_of_its_raise_and_of_who_has_it_now() -> None:
    """Not those of all who had it before: each of a thousand would log the thousand."""
    future = Turnstile()
    try:
        raise ValueError("no")
    except ValueError as error:
        future.set_exception(error)

    lengths = set()
    for _ in range(5):
        with pytest.raises(ValueError, match="no") as raised:
            future.result()
        lengths.add(len(raised.traceback))

    assert lengths == {3}


def test_who_lands_it_cut_short_at_any_step_keeps_nobody_waiting() -> None:
    """As by the handler of a signal: it is landed and all are told, or it can still be landed."""
    for step in range(1_000):
        future, told = Turnstile(), []
        future.add_done_callback(told.append)
        waiting = Waiting(future, 3)
        waiting.stand()
        was_cut = cut_short(lambda: future.set_result("brought"), step, {turnstiles.__file__})  # noqa: B023  # at once
        if not future.done():
            assert was_cut
            future.set_result("brought")
        assert waiting.ended() == ["brought"] * 3
        assert set(told) == {future}
        if not was_cut:
            break
    assert step > 5
