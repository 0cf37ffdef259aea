"""What a node has told Redis of late, to be told again where a new epoch may not know of it.

1. A primary is cut off, another is promoted: a new epoch begins there.  2. P loads v1 in it.  3. W commits
v2, and invalidates at the old primary, which does not know yet.  4. The old one is demoted: W's record is
gone, and v1 is valid in the new epoch. Only W can know.
"""

from __future__ import annotations

from collections.abc import Iterable

from tiercache._core.records import EVERYTHING

MAX_SPLIT = 60.0  # seconds a primary that was replaced may go on taking writes (A3)
MAX_TOLD = 10_000  # dependencies; beyond it they are a clear


class Told:
    """Records of the node's own, by dependency; under the lock of its core."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, float]] = {}  # epoch and instant of the reply; the newest last

    def note(self, deps: Iterable[str], epoch: int, now: float) -> None:
        for dep in deps:
            self._told.pop(dep, None)
            self._told[dep] = epoch, now
        if len(self._told) > MAX_TOLD:
            self._told.clear()
            self._told[EVERYTHING] = epoch, now

    def take_those_not_of(self, epoch: int) -> list[str]:
        """What was told in other epochs, and is forgotten here from now on."""
        lost = [dep for dep, (of, _) in self._told.items() if of != epoch]
        for dep in lost:
            del self._told[dep]
        return lost

    def forget(self, sync_sent: float) -> None:
        """A sync was taken in the same epoch: what was told longer before than a split lasts is safe."""
        while self._told:
            dep, (_, at) = next(iter(self._told.items()))
            if at >= sync_sent - MAX_SPLIT:
                break
            del self._told[dep]

    def clear(self) -> None:
        self._told.clear()
