"""What the processes of the demo tell each other. All instants are CLOCK_MONOTONIC, which they share."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Assignment:
    """What a process is told when it is started."""

    name: str  # also of its connections in Redis
    url: str
    database: Path
    max_staleness: float  # seconds


class Write(NamedTuple):
    """One commit and its invalidation, which began and ended at these instants."""

    changed: dict[str, int]  # tag -> the version that was committed
    called: float
    returned: float


class Run(NamedTuple):
    """All reads of one tag by one worker, within one batch, that gave one version.

    Enough for the exact verdict: of reads that gave the same version, the one invoked last is the stalest.
    """

    tag: str
    version: int
    reads: int
    first_returned: float
    last_invoked: float


class Tiers(NamedTuple):
    """How a worker's reads were answered so far."""

    l1: int
    l2: int
    joined: int  # waited for the load of another reader
    loaded: int


class Batch(NamedTuple):
    """What a worker read since its last batch. Every read in it had returned at `taken`."""

    runs: list[Run]
    taken: float
    tiers: Tiers
    subscriptions_lost: int  # so far
    remarks: list[str]  # warnings in the log since the last batch


class ReadLog:
    """Reads in, runs out; for the readers of one process, whatever their thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, int], Run] = {}  # under `_lock`

    def note(self, tag: str, version: int, invoked: float, returned: float) -> None:
        with self._lock:
            run = self._runs.get((tag, version))
            if run is not None:
                invoked = max(invoked, run.last_invoked)
                returned = min(returned, run.first_returned)
            reads = 1 if run is None else run.reads + 1
            self._runs[tag, version] = Run(tag, version, reads, returned, invoked)

    def take(self) -> tuple[list[Run], float]:
        """The runs since the last call, and an instant at which all their reads had returned."""
        with self._lock:
            runs, self._runs = self._runs, {}
            return list(runs.values()), time.monotonic()
