"""Performs a plan's steps without a server: `memory://`, one process, L1 alone.

The ledger numbers the invalidations of its one node as Redis would, and its proof never
lapses, so the plans and the rules are those of two tiers.
"""

from __future__ import annotations

import threading
from itertools import takewhile
from typing import Any

from tiercache._core.barriers import Barrier, Behind, Forget
from tiercache._core.coherence import MAX_RECENT
from tiercache._core.commands import Clear, Command, Invalidate, Recorded, Set, Sync, Synced
from tiercache._core.fences import Fence, Unfence
from tiercache._core.looks import Look
from tiercache._core.plan import Ask, Call, Join, Step, Tell
from tiercache._core.records import EVERYTHING, key_dep, tag_dep
from tiercache._core.scripts import nonce
from tiercache._transport.awaiting import call as call_async
from tiercache._transport.blocking import call
from tiercache._transport.joins import join, join_async


class Memory:
    """Both transports of one node that has no server."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant, since a signal's handler or a finalizer may use the cache
        self._epoch = nonce()
        self._head = self._floor = 1  # under `_lock`
        self._versions: dict[str, int] = {}  # under `_lock`: dependency -> its last record; the newest last

    def perform(self, step: Step) -> Any:
        match step:
            case Ask(commands) | Tell(commands, _):
                return [self._answer(command) for command in commands]
            case Call():
                return call(step)
            case Join():
                return join(step)

    async def perform_async(self, step: Step) -> Any:
        match step:
            case Ask(commands) | Tell(commands, _):
                return [self._answer(command) for command in commands]
            case Call():
                return await call_async(step)
            case Join():
                return await join_async(step)

    def _answer(self, command: Command[Any] | Look) -> Any:
        with self._lock:
            match command:
                case Sync(proved=proved):
                    return Synced(self._epoch, self._head, 1, 1, True, 1, self._since(proved))
                case Set(key=key):
                    if not self._stands(command):
                        return Recorded(self._epoch, self._head, "stale")
                    return self._record((key_dep(key),))
                case Invalidate() | Clear() | Fence():
                    # This process holds back what it is writing, and if it dies nothing of this is left.
                    return self._record(command.deps)
                case Unfence() | Forget():
                    return 0
                case Barrier():
                    return Behind(True, "0", {})
        raise TypeError(f"a cache without a server has no use for {command!r}")

    def _stands(self, command: Set) -> bool:
        token = command.token
        deps = (EVERYTHING, key_dep(command.key), *map(tag_dep, command.tags))
        return (
            command.epoch == self._epoch
            and token >= self._floor
            and all(self._versions.get(dep, 0) <= token for dep in deps)
        )

    def _since(self, number: int) -> tuple[tuple[str, int], ...]:
        """The records after *number*: the thread that made one may be late to apply it."""
        if number == self._head:
            return ()
        newest_first = reversed(self._versions.copy().items())  # one more may be made amid this, see `_lock`
        return tuple(takewhile(lambda version: version[1] > number, newest_first))

    def _record(self, deps: tuple[str, ...]) -> Recorded:
        self._head += 1
        for dep in deps:
            self._versions.pop(dep, None)
            self._versions[dep] = self._head
        while len(self._versions) > MAX_RECENT:
            self._floor = self._versions.pop(next(iter(self._versions)))
        return Recorded(self._epoch, self._head)
