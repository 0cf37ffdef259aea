"""What a task waits for: a reply, or what another one lands.

A future of asyncio leaves its task to the loop's next turn, by a handle, and the loop looks at its sockets
before. Where there is a compiled half, a callback that brings a reply goes on with the task there and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from tiercache._accelerator import compiled

Waiter: TypeAlias = (
    "asyncio.Future[Any]"  # the compiled one has what a task asks of it, and what is used here
)

if compiled is not None:
    compiled.use_waiters(asyncio.CancelledError)


def wake(waiters: list[Waiter], results: list[Any]) -> None:
    """Let each of *waiters* that is not done have its result."""
    if compiled is None or asyncio.current_task() is not None:  # a task cannot go on within another one
        leave(waiters, results)
        return
    try:
        compiled.wake(waiters, results)
    except (KeyboardInterrupt, SystemExit) as error:
        # The loop must have it, and from no callback of a protocol: uvloop takes what comes out of one for a
        # fault of the connection, and goes on.
        asyncio.get_running_loop().call_soon(_raise, error)


def _raise(error: BaseException) -> None:
    raise error


def leave(waiters: list[Waiter], results: list[Any]) -> None:
    """Likewise, in the loop's next turn."""
    for waiter, result in zip(waiters, results, strict=True):
        if not waiter.done():
            waiter.set_result(result)


def new_future(loop: asyncio.AbstractEventLoop) -> Waiter:
    return loop.create_future()


new_waiter: Callable[[asyncio.AbstractEventLoop], Waiter] = (
    new_future if compiled is None else compiled.Waiter
)
