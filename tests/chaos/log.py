"""What a process did and saw, in a file of its own that outlives its death.

One JSON array a line, its first field the kind. Instants are CLOCK_MONOTONIC, which all
processes of a machine share. Reads are run-length coded: one line's worth for all reads of
a row that gave the same value within a quarter of a second; all else is written at once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLUSH_EVERY = 0.25  # seconds


class Log:
    """Of one process; its threads and tasks may share it."""

    def __init__(self, folder: Path | str, name: str) -> None:
        path = Path(folder) / f"{name}-{os.getpid()}.log"
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._lock = threading.Lock()
        self._next_flush = 0.0
        self._runs: dict[tuple[str, int, str], list[float]] = {}  # under `_lock`

    def read(self, node: str, row: int, value: str, invoked: float, returned: float) -> None:
        with self._lock:
            run = self._runs.get((node, row, value))
            if run is None:
                self._runs[node, row, value] = [1, invoked, returned, invoked, returned]
            else:
                run[0] += 1
                run[1] = min(run[1], invoked)
                run[2] = min(run[2], returned)
                run[3] = max(run[3], invoked)
                run[4] = max(run[4], returned)
        if returned > self._next_flush:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            runs, self._runs = self._runs, {}
            self._next_flush = time.monotonic() + FLUSH_EVERY
        if runs:
            self.note("reads", [[*run, *times] for run, times in runs.items()])

    def note(self, kind: str, *fields: Any) -> None:
        os.write(self._file, (json.dumps([kind, *fields]) + "\n").encode())


def lines(folder: Path | str) -> Iterator[tuple[str, list[Any]]]:
    """Each line of each log with the name of its process; not the one that a SIGKILL cut short."""
    for path in sorted(Path(folder).glob("*.log")):
        for line in path.read_text().splitlines():
            if line.endswith("]"):
                yield path.stem, json.loads(line)
