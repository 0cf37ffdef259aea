"""`cache.invalidating(...)`: around a write of the truth."""

from __future__ import annotations

from types import TracebackType

import anyio

from tiercache._core.writes import Written, deps_named, invalidate
from tiercache._node import Node


class _Block:
    """Holds what is being written, and invalidates it at the end, also after an exception."""

    def __init__(self, node: Node, tags: tuple[str, ...], keys: tuple[str, ...]) -> None:
        if not tags and not keys:
            raise ValueError("invalidating() needs the tags= or keys= that the write touches")
        self._node, self._tags, self._keys = node, tags, keys
        self._deps = deps_named(tags, keys)
        self.written: Written | None = None

    def _begin(self) -> None:
        self._node.tiers.core.hold(self._deps)

    def _end(self) -> None:
        self._node.tiers.core.release(self._deps)


class Invalidating(_Block):
    """Inside `async with`, reads of what it names go past both tiers; at its end, it invalidates.

    `written` holds the result of the invalidation. One that a cancellation cuts short is pending: it is
    sent again until it is done, and until then this process reads what it names from its source.
    """

    async def __aenter__(self) -> Invalidating:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with anyio.CancelScope(shield=True):
                plan = invalidate(self._node.tiers, self._tags, self._keys)
                self.written = await self._node.run_async(plan)
        finally:
            self._end()


class BlockingInvalidating(_Block):
    """As `Invalidating`, under `with`."""

    def __enter__(self) -> BlockingInvalidating:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.written = self._node.run(invalidate(self._node.tiers, self._tags, self._keys))
        finally:
            self._end()
