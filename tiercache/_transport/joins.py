"""Waiting for what another thread or task lands, on a thread and in a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from math import inf
from typing import Any

from tiercache._core.plan import TIMED_OUT, Join, Landable
from tiercache._transport.waiters import Waiter, new_waiter, wake

GRAIN = 0.005  # seconds that a wait may last too long: those who began as near to each other give up at once


class _Crowd(dict[Waiter, float]):
    """Who waits in one loop for one future, and until which instant of the loop's.

    All are woken by one callback: asyncio.wrap_future wakes the loop once for each, by a byte into a socket,
    and so spends a system call on each follower of a flight. And one timer is for all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop, self._rings_at = loop, inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiter: Waiter, until: float) -> None:
        self[waiter] = until
        if until < self._rings_at:
            self._set(until)

    def stop(self) -> None:
        """Nobody waits any more, or all are woken."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, at: float) -> None:
        self.stop()
        self._rings_at, self._timer = at, self._loop.call_at(at + GRAIN, self._ring)

    def _ring(self) -> None:
        now = max(self._rings_at, self._loop.time())  # a loop may be a little early
        late = [waiter for waiter, until in self.items() if until <= now]
        others = [until for until in self.values() if until > now]
        self._rings_at = inf
        if others:
            self._set(min(others))
        wake(late, [None] * len(late))


_waiting: dict[tuple[asyncio.AbstractEventLoop, Landable], _Crowd] = {}


def join(step: Join) -> Any:
    """Wait on the calling thread."""
    future = step.future
    try:
        return future.result(step.timeout)
    except TimeoutError:  # the wait's, or what the loader raised
        return future.result(0.0) if future.done() else TIMED_OUT


def join_async(step: Join) -> Coroutine[Any, Any, Any]:
    """Wait in the calling task, which awaits this at once."""
    return joined(step.future, step.timeout)


async def joined(future: Landable, timeout: float) -> Any:
    """What *future* is landed with, or TIMED_OUT after so many seconds."""
    loop = asyncio.get_running_loop()
    crowd = _waiting.get((loop, future))
    # Where others wait, all are yet to be woken, and whoever is among them by then.
    if crowd is None and future.done():
        return future.result(0.0)
    waiter, until = new_waiter(loop), loop.time() + timeout
    if crowd is None:
        for ended in [each for each in list(_waiting) if each[0].is_closed()]:
            _waiting.pop(ended, None)  # it was closed before it came to the landing
        _waiting[loop, future] = crowd = _Crowd(loop)
        crowd.add(waiter, until)
        future.add_done_callback(partial(_landed, loop))
    else:
        crowd.add(waiter, until)
    try:
        landed = await waiter
        if landed is not None:
            return landed[0]
        return future.result(0.0) if future.done() else TIMED_OUT
    finally:
        crowd.pop(waiter, None)
        if not crowd:  # nobody is to be told of the landing in a loop that may be closed by then
            crowd.stop()
            _waiting.pop((loop, future), None)


def _landed(loop: asyncio.AbstractEventLoop, future: Landable) -> None:
    """In the thread that landed *future*."""
    if (loop, future) not in _waiting:
        return
    if asyncio._get_running_loop() is loop:
        _wake_all(loop, future)
        return
    try:
        loop.call_soon_threadsafe(_wake_all, loop, future)
    except RuntimeError:
        _waiting.pop((loop, future), None)  # it was closed over its tasks


def _wake_all(loop: asyncio.AbstractEventLoop, future: Landable) -> None:
    crowd = _waiting.pop((loop, future), None)
    if crowd is None:
        return
    crowd.stop()
    waiters = list(crowd)
    # An error each of them asks for itself, since a future takes no StopIteration; a value is asked for once.
    landed = None if future.exception() is not None else (future.result(0.0),)
    wake(waiters, [landed] * len(waiters))
