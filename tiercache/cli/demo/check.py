"""The verdict on every read: how stale it was, against what the writer knows.

A read is stale by the time that had passed, when it was *invoked*, since the invalidation of
the version after the one it returned had *returned* to the writer:

    writer    commit 5 --- invalidate ------ returned
                                             |<------ stale by ------>|
    reader                                                            invoked --- returned: 4

It counts from the invocation, as the guarantee does: a process may be stopped between having
its answer and handing it out, and no cache can help that. That the invalidation took effect a
little before it returned is in the reader's favour, by less than a round trip; so a breach
found here is a breach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from tiercache.cli.demo.messages import Batch, Run, Write

CLOCK_RATES = 1.002  # two clocks that each run 0.1 % wrong at most

WORDS = (
    "{worker} was given version {run.version} of {run.tag} {staleness:.3f} s after it had been invalidated"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one run of reads: the staleness of the stalest, in seconds; 0.0 for the current version."""

    worker: str
    run: Run
    staleness: float

    def __str__(self) -> str:
        return WORDS.format(worker=self.worker, run=self.run, staleness=self.staleness)


class Checker:
    """Takes writes in their order and batches in any; judges a batch once all writes before it are known."""

    def __init__(self) -> None:
        self._gone: dict[tuple[str, int], float] = {}  # (tag, version) -> since when nobody should see it
        self._known = -inf  # every invalidation that returned before is in `_gone`
        self._waiting: deque[tuple[str, Batch]] = deque()

    def wrote(self, write: Write) -> None:
        """One commit and its invalidation; the writer's next began after this one returned."""
        for tag, version in write.changed.items():
            self._gone[tag, version - 1] = write.returned
        self._known = write.returned

    def no_more_writes(self) -> None:
        self._known = inf

    def read(self, worker: str, batch: Batch) -> None:
        self._waiting.append((worker, batch))

    def verdicts(self) -> Iterator[tuple[str, Batch, list[Verdict]]]:
        """Each batch that can be judged by now, once."""
        while self._waiting and self._waiting[0][1].taken <= self._known:
            worker, batch = self._waiting.popleft()
            yield worker, batch, [self._judge(worker, run) for run in batch.runs]

    def _judge(self, worker: str, run: Run) -> Verdict:
        gone = self._gone.get((run.tag, run.version), inf)
        return Verdict(worker, run, max(0.0, run.last_invoked - gone))
