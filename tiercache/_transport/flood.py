"""How much of what the channel says is worth hearing.

Each record is said once, and proved by the next sync. What is heard beyond that was sent by
somebody else than our scripts, and costs the thread that hears it: a flood of it is best not
listened to, since a node that only syncs keeps its promises as well.
"""

from __future__ import annotations

BURST = 1_000  # messages beyond the records proved; 15 ms of the listener's time
FORGIVEN = 100.0  # of them a second
CREDIT = 100_000  # records proved whose hints may still be on their way
A_RECORD = 2  # messages: its hint, and the question who has not heard of it


class Flood:
    """Counts messages against records; for the listener's thread alone."""

    def __init__(self) -> None:
        self._excess = 0.0
        self._at = 0.0
        self._epoch = self._proved = 0

    def begin(self, now: float, epoch: int, proved: int) -> None:
        """A subscription begins, at a node that is proved so far."""
        self._excess, self._at, self._epoch, self._proved = 0.0, now, epoch, proved

    def heard(self) -> None:
        self._excess += 1

    @property
    def is_suspected(self) -> bool:
        """Whether there was more than was proved so far, and a sync should tell."""
        return self._excess > BURST

    def is_certain(self, now: float, epoch: int, proved: int) -> bool:
        """Whether, after a good sync, there was more than there are records."""
        if epoch != self._epoch:
            self.begin(now, epoch, proved)
            return False
        self._excess -= A_RECORD * (proved - self._proved)
        if self._excess > 0:
            self._excess = max(0.0, self._excess - FORGIVEN * (now - self._at))
        self._excess = max(self._excess, -CREDIT)
        self._at, self._proved = now, proved
        return self.is_suspected
