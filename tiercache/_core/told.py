"""What a node has told Redis of late, to be told again where a new epoch may not know of it.

1. A primary is cut off, another is promoted: a new epoch begins there.  2. P loads v1 in it.  3. W commits
v2, and invalidates at the old primary, which does not know yet.  4. The old one is demoted: W's record is
gone, and v1 is valid in the new epoch. Only W can know.

A history that was left can come back, with a name that leads to the new primary and to the old one again:
1. P is on the old primary of a split, then on the new one, where it reads what Q wrote.  2. It is led back:
the old epoch goes on, with what Q invalidated. An epoch never begins twice, so one that is met again is one
in which records are missing, and nobody can tell which.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from tiercache._core.records import EVERYTHING

MAX_SPLIT = 60.0  # seconds a primary that was replaced may go on taking writes (A3)
MAX_TOLD = 10_000  # dependencies; beyond it they are a clear
MAX_LEFT = 100  # epochs remembered; one that comes back is one of the last few


class Told:
    """Records of the node's own, by dependency; under the lock of its core."""

    def __init__(self) -> None:
        self._told = OrderedDict[str, tuple[int, float]]()  # epoch and instant of the reply; the newest last
        self._adopted: deque[int] = deque(maxlen=MAX_LEFT)  # epochs; the one adopted last stands last

    def note(self, deps: Iterable[str], epoch: int, now: float) -> None:
        for dep in deps:
            self._told[dep] = epoch, now
            self._told.move_to_end(dep)
        if len(self._told) > MAX_TOLD:
            self._told = OrderedDict({EVERYTHING: (epoch, now)})

    def owed_to(self, epoch: int) -> list[str]:
        """What is to be invalidated in *epoch* before it is adopted.

        It is what was told in others; and everything, if *epoch* was left for another one before.
        """
        owed = [dep for dep, (of, _) in self._told.items() if of != epoch]
        if epoch in self._adopted and self._adopted[-1] != epoch:
            owed.append(EVERYTHING)
        return owed

    def adopt(self, epoch: int) -> None:
        """What was owed to *epoch* is pending: forget it here."""
        self._told = OrderedDict((dep, told) for dep, told in self._told.items() if told[0] == epoch)
        if not self._adopted or self._adopted[-1] != epoch:
            self._adopted.append(epoch)

    def forget(self, sync_sent: float) -> None:
        """A sync was taken in the same epoch: what was told longer before than a split lasts is safe."""
        while self._told:
            dep, (_, at) = next(iter(self._told.items()))
            if at >= sync_sent - MAX_SPLIT:
                break
            del self._told[dep]

    def clear(self) -> None:
        self._told.clear()
        self._adopted.clear()
