"""Waiting for what another thread or task lands, on a thread and in a task."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from tiercache._core.plan import TIMED_OUT, Join

LOOK_EVERY = 0.001  # seconds between two looks at whose time is up


class _Waiters:
    """Who waits in one loop for one future.

    All are woken by one callback: asyncio.wrap_future wakes the loop once for each, by a byte into a socket,
    and so spends a system call on each follower of a flight. And one timer is for all, that of the first
    whose time will be up.
    """

    __slots__ = ("_timer", "future", "give_up", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: Future[Any]) -> None:
        self.loop, self.future = loop, future
        self.give_up: dict[asyncio.Future[bool], float] = {}  # instants of the loop, by who waits until then
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiter: asyncio.Future[bool], give_up: float) -> None:
        self.give_up[waiter] = give_up
        if self._timer is None:
            self._timer = self.loop.call_at(give_up, self._look)
        elif give_up < self._timer.when():
            self._timer.cancel()
            self._timer = self.loop.call_at(give_up, self._look)

    def discard(self, waiter: asyncio.Future[bool]) -> None:
        if self.give_up.pop(waiter, None) is not None and not self.give_up:
            self.end()

    def landed(self, _: Future[Any]) -> None:
        """In the thread that landed the future."""
        if _waiting.get((self.loop, self.future)) is not self:
            return  # all gave up; whoever came after them is told by a callback of their own
        if asyncio._get_running_loop() is self.loop:
            self._wake_all()
            return
        try:
            self.loop.call_soon_threadsafe(self._wake_all)
        except RuntimeError:
            _waiting.pop((self.loop, self.future), None)  # it was closed over its tasks

    def end(self) -> None:
        """Nobody is to be told any more, in a loop that may be closed by the time of the landing."""
        if _waiting.get((self.loop, self.future)) is self:
            del _waiting[self.loop, self.future]
        if self._timer is not None:
            self._timer.cancel()

    def _wake_all(self) -> None:
        waiters, self.give_up = self.give_up, {}
        self.end()
        for waiter in waiters:
            _wake(waiter, True)

    def _look(self) -> None:
        now, self._timer = self.loop.time(), None
        for waiter, give_up in self.give_up.items():
            if give_up <= now:
                _wake(waiter, False)
        later = [give_up for give_up in self.give_up.values() if give_up > now]
        if later:
            self._timer = self.loop.call_at(max(min(later), now + LOOK_EVERY), self._look)


_waiting: dict[tuple[asyncio.AbstractEventLoop, Future[Any]], _Waiters] = {}


def join(step: Join) -> Any:
    """Wait on the calling thread."""
    future = step.future
    try:
        return future.result(step.timeout)
    except TimeoutError:  # the wait's, or what the loader raised
        return future.result() if future.done() else TIMED_OUT


async def join_async(step: Join) -> Any:
    """Wait in the calling task."""
    future = step.future
    if future.done():
        return future.result()
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()
    waiters = _waiting.get((loop, future))
    if waiters is not None:
        waiters.add(waiter, loop.time() + step.timeout)
    else:
        waiters = _waiting[loop, future] = _Waiters(loop, future)
        waiters.add(waiter, loop.time() + step.timeout)
        future.add_done_callback(waiters.landed)  # runs at once where it is done by now
    try:
        return future.result() if await waiter or future.done() else TIMED_OUT
    finally:
        waiters.discard(waiter)


def _wake(waiter: asyncio.Future[bool], landed: bool) -> None:
    if not waiter.done():
        waiter.set_result(landed)
