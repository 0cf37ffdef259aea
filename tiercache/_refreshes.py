"""Early refreshes under way: threads and tasks beside those who read."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

from tiercache._core.flights import running_load
from tiercache._core.loads import load_anew
from tiercache._core.sources import is_writing
from tiercache._core.tiers import Want

if TYPE_CHECKING:
    import asyncio

    from tiercache._node import Node

log = logging.getLogger("tiercache")

ENDING_PATIENCE = 2.0  # seconds; a loader may take no notice that it is cancelled
MAX_AT_ONCE = 8  # a node; what finds no place is loaded when its time is over


class Refreshes:
    """Those of one *node*."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._places = threading.Semaphore(MAX_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()  # of all loops: listed at once, since others come and go

    def begin(self, want: Want, seen: int, *, blocking: bool) -> bool:
        """Load *want* in a thread, or in a task of the running loop; False where it must not, or cannot.

        *seen* is the end of the entry that is to be replaced.

        The loader has the caller's context variables. Within a load or a transaction of the caller's none
        begins: what such a one reads is not for others.
        """
        if running_load() is not None or is_writing() or not self._has_place():
            return False
        context = copy_context()
        if blocking:
            thread = threading.Thread(
                target=context.run, args=(self._on_thread, want, seen), name="tiercache-refresh", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # at interpreter exit, or too many
                self._places.release()
                return False
            return True
        from asyncio import get_running_loop

        task = get_running_loop().create_task(self._in_task(want, seen), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    async def end(self) -> None:
        """Cancel those of the running loop, and wait until they are gone, `ENDING_PATIENCE` at most."""
        from asyncio import get_running_loop, wait

        loop = get_running_loop()
        mine = [task for task in list(self._tasks) if task.get_loop() is loop]
        for task in mine:
            task.cancel()
        if mine:
            await wait(mine, timeout=ENDING_PATIENCE)

    def _on_thread(self, want: Want, seen: int) -> None:
        try:
            self._node.run(load_anew(self._node.tiers, want, seen, blocking=True))
        except Exception as error:
            self._failed(want, error)
        finally:
            self._places.release()

    async def _in_task(self, want: Want, seen: int) -> None:
        try:
            await self._node.run_async(load_anew(self._node.tiers, want, seen, blocking=False))
        except Exception as error:
            self._failed(want, error)

    def _has_place(self) -> bool:
        """Whether there was one, which is taken now."""
        if self._places.acquire(blocking=False):
            return True
        for task in list(self._tasks):
            if task.get_loop().is_closed():  # it was closed over the task, which never ends
                self._ended(task)
        return self._places.acquire(blocking=False)

    def _ended(self, task: asyncio.Task[None]) -> None:
        try:
            self._tasks.remove(task)
        except KeyError:
            return  # another thread saw as well that its loop is closed
        self._places.release()

    def _failed(self, want: Want, error: Exception) -> None:
        if not self._node.closed:
            self._node.tiers.events["early_refreshes_failed"] += 1
            log.warning(
                "the early refresh of %s failed, and the old value goes on: %s", want.key, repr(error)
            )
