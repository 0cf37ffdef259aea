"""Waiting for what another thread or task lands, on a thread and in a task."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial
from typing import Any

from tiercache._core.plan import TIMED_OUT, Join
from tiercache._transport.waiters import Waiter, new_waiter, wake

# Who waits in one loop for one future. All are woken by one callback: asyncio.wrap_future wakes the loop once
# for each, by a byte into a socket, and so spends a system call on each follower of a flight.
_waiting: dict[tuple[asyncio.AbstractEventLoop, Future[Any]], dict[Waiter, None]] = {}


def join(step: Join) -> Any:
    """Wait on the calling thread."""
    future = step.future
    try:
        return future.result(step.timeout)
    except TimeoutError:  # the wait's, or what the loader raised
        return future.result() if future.done() else TIMED_OUT


async def join_async(step: Join) -> Any:
    """Wait in the calling task."""
    future, loop = step.future, asyncio.get_running_loop()
    joined = _waiting.get((loop, future))
    # Where others wait, all are yet to be woken, and whoever is among them by then. Asking costs a lock.
    if joined is None and future.done():
        return future.result()
    waiter = new_waiter(loop)
    if joined is None:
        _waiting[loop, future] = joined = {waiter: None}
        future.add_done_callback(partial(_landed, loop))  # runs at once where it is done by now
    else:
        joined[waiter] = None
    timer = loop.call_at(loop.time() + step.timeout, wake, [waiter], [None])
    try:
        landed = await waiter
        if landed is not None:
            return landed[0]
        return future.result() if future.done() else TIMED_OUT
    finally:
        timer.cancel()
        joined.pop(waiter, None)
        if not joined:  # nobody is to be told of the landing in a loop that may be closed by then
            _waiting.pop((loop, future), None)


def _landed(loop: asyncio.AbstractEventLoop, future: Future[Any]) -> None:
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


def _wake_all(loop: asyncio.AbstractEventLoop, future: Future[Any]) -> None:
    waiters = list(_waiting.pop((loop, future), ()))
    # An error each of them asks for itself, since a future takes no StopIteration; a value is asked for once.
    landed = None if future.exception() is not None else (future.result(),)
    wake(waiters, [landed] * len(waiters))
