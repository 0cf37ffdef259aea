"""How long an invalidation takes to arrive, seen by a reader.

From the call of `invalidate_tags` in the writer until the first read in a worker has returned
the new version: the way to Redis, the message, the miss, the load, and the wait for somebody to
read, all included. It is measured on one tag that every visitor reads all the time, for each of
its versions at each worker; a version that a worker never saw counts by the first later one.
"""

from __future__ import annotations

from math import ceil, inf

from tiercache.cli.demo.messages import Batch, Write


class Delays:
    """Fed with the writes and then with the batches, those of one worker in their order."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._called: dict[int, float] = {}  # version -> when its invalidation was called
        self._newest: dict[str, int] = {}  # worker -> the newest version it has seen
        self._faults: dict[float, float] = {}  # from when -> until when a worker is hurt

    def wrote(self, write: Write) -> None:
        if self._tag in write.changed:
            self._called[write.changed[self._tag]] = write.called

    def hurt(self, begun: float, ended: float = inf) -> None:
        """What is under way between these instants tells of a fault; *ended* may be told later."""
        self._faults[begun] = ended

    def read(self, worker: str, batch: Batch) -> tuple[list[float], list[float]]:
        """The delays found in *batch*, and apart from them those that a fault may explain.

        Not only at the worker that is hurt: another may have waited for a load of it.
        """
        sound: list[float] = []
        under_fault: list[float] = []
        seen = sorted((run.first_returned, run.version) for run in batch.runs if run.tag == self._tag)
        for returned, version in seen:
            # What a worker sees first may have been written long before it came.
            newest = self._newest.setdefault(worker, version)
            for arrived in range(newest + 1, version + 1):
                called = self._called[arrived]
                hurt = any(called < ended and returned > begun for begun, ended in self._faults.items())
                (under_fault if hurt else sound).append(max(0.0, returned - called))
            self._newest[worker] = max(newest, version)
        return sound, under_fault


def percentile(values: list[float], percent: float) -> float:
    """The least of *values* that so many percent of them do not exceed."""
    return sorted(values)[max(1, ceil(len(values) * percent / 100)) - 1]
