"""What one lands, and any number of threads and tasks wait for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from types import TracebackType
from typing import Any

AT_ONCE = 16  # threads that do not yet hold each other up
SLOW = 0.0045  # seconds from a call to a step of who was called; beside one that computes it takes 5 ms

_RELEASE = type(threading.Lock()).release

Outcome = tuple[Any, BaseException | None, TracebackType | None]  # a result, or an error as it was raised


class Turnstile:
    """A future whose threads wait in a line, and are called out of it one by another.

    All that `concurrent.futures.Future` wakes at once stand in line for its one lock, and then for the
    interpreter. Of 100 in each of 8 processes, on two cores, the last goes on after 16 ms, and after 9 if one
    calls the next. Where another thread computes, each call takes a switch interval: so a few are called at
    once, and who is called late calls as many. Nobody is kept waiting by a thread that gives up, or that is
    interrupted: as it waits, or as it lands it.
    """

    __slots__ = ("_callbacks", "_called_at", "_landed", "_line")

    def __init__(self) -> None:
        # "outcome", once there is one: what sets a default does so in one step, once.
        self._landed: dict[str, Outcome] = {}
        self._callbacks: deque[Callable[[Turnstile], object]] = deque()
        self._line: deque[threading.Lock] = deque()  # each released by whoever takes it out
        self._called_at = 0.0  # instant of the last call out of the line

    def done(self) -> bool:
        return bool(self._landed)

    def set_result(self, result: object) -> None:
        """Land it; InvalidStateError where somebody else has."""
        self._land((result, None, None))

    def set_exception(self, error: BaseException) -> None:
        """Likewise."""
        self._land((None, error, error.__traceback__))

    def add_done_callback(self, callback: Callable[[Turnstile], object]) -> None:
        """Have *callback*, which raises nothing, called once this is landed: by who lands it, or at once."""
        self._callbacks.append(callback)
        if self._landed:
            try:
                self._callbacks.remove(callback)
            except ValueError:
                return  # who landed it is about to
            callback(self)

    def exception(self) -> BaseException | None:
        """The error of one that is landed."""
        return self._landed["outcome"][1]

    def result(self, timeout: float = 0.0) -> Any:
        """What it is landed with, or raise that; TimeoutError where it is not within so many seconds."""
        if not self._landed:
            # The handler of a signal may raise in the main thread at any step, so nobody waits for its call.
            is_main = threading.get_ident() == threading.main_thread().ident
            wait = self._wait_alone if is_main else self._wait_in_line
            wait(max(0.0, timeout))
        if not self._landed:
            raise TimeoutError
        result, error, trace = self._landed["outcome"]
        if error is None:
            return result
        try:
            raise error.with_traceback(trace)  # and not with the frames of all who had it before
        finally:
            del self, error, trace  # from the frame that the error knows by its traceback

    def _wait_in_line(self, timeout: float) -> None:
        mine, called = threading.Lock(), False
        mine.acquire()
        self._line.append(mine)
        try:
            if not self._landed:
                called = mine.acquire(timeout=timeout)
        finally:
            if called or not self._leaves(mine):
                late = time.monotonic() - self._called_at > SLOW
                self._call(AT_ONCE if late else 1)

    def _leaves(self, mine: threading.Lock) -> bool:
        """Whether *mine* was in the line to this moment, so that nobody counts on whose it is."""
        try:
            self._line.remove(mine)
        except ValueError:
            return False
        return True

    def _call(self, count: int) -> None:
        self._called_at = time.monotonic()
        # Taken out and released in one step, or a signal between the two would leave who waits for it.
        calls = map(_RELEASE, iter(self._line.popleft, None))
        with suppress(IndexError):
            for _ in range(count):
                next(calls)

    def _wait_alone(self, timeout: float) -> None:
        mine = threading.Lock()
        mine.acquire()

        def call(_: Turnstile) -> None:
            with suppress(RuntimeError):  # it is called twice where the first time was cut short
                mine.release()

        self.add_done_callback(call)
        try:
            mine.acquire(timeout=timeout)
        finally:
            with suppress(ValueError):  # it was called
                self._callbacks.remove(call)

    def _land(self, outcome: Outcome) -> None:
        if self._landed.setdefault("outcome", outcome) is not outcome:
            raise InvalidStateError
        try:
            self._tell()
        except BaseException:  # a signal's; what was not told yet is told now
            self._tell()
            raise

    def _tell(self) -> None:
        self._call(AT_ONCE if len(self._line) <= AT_ONCE else 1)
        while True:
            try:
                callback = self._callbacks.popleft()
            except IndexError:
                return
            try:
                callback(self)
            except BaseException:
                self._callbacks.appendleft(callback)
                raise
