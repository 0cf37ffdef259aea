"""The awaiting transports of one node: one for each event loop in which it is used."""

from __future__ import annotations

import weakref
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiercache._transport.awaiting import Awaiting


class Loops:
    """That of the running loop, made by *make* when it is first asked for; a loop that is gone has none."""

    def __init__(self, make: Callable[[], Awaiting]) -> None:
        self._make = make
        self._all = weakref.WeakKeyDictionary[AbstractEventLoop, "Awaiting"]()
        self._latest: tuple[weakref.ref[AbstractEventLoop], weakref.ref[Awaiting]] | None = None

    def of_running(self) -> Awaiting:
        loop, latest = get_running_loop(), self._latest
        # Nearly always; a weak dictionary takes as long again as all else on the way.
        if latest is not None and latest[0]() is loop and (awaiting := latest[1]()) is not None:
            return awaiting
        awaiting = self._all.get(loop)
        if awaiting is None:
            for reference in self._all.keyrefs():  # as of now: threads of other loops add and pop theirs
                if (other := reference()) is not None and other.is_closed():
                    self._all.pop(other, None)
            awaiting = self._all[loop] = self._make()
        self._latest = weakref.ref(loop), weakref.ref(awaiting)
        return awaiting

    async def close_running(self) -> None:
        """Close the connections of the running loop, which no other thread may."""
        awaiting = self._all.pop(get_running_loop(), None)
        self._latest = None
        if awaiting is not None:
            await awaiting.close()
