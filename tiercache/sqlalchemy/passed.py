"""Which statements that asked for the cache went past it, and why; told once where advice helps."""

from __future__ import annotations

import logging
import weakref
from collections import Counter

from tiercache._locks import Guard
from tiercache.sqlalchemy.reading import Reading

log = logging.getLogger("tiercache.sqlalchemy")


class Passed:
    """Which statements that asked for the cache went past it, and why."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._told: weakref.WeakSet[Reading] = weakref.WeakSet()  # under `_guard`
        self.by_reason: Counter[str] = Counter()  # under `_guard`

    def count(self, why: str, reading: Reading | None = None, advice: str = "") -> None:
        with self._guard.lock:
            self.by_reason[why] += 1
            if reading is None or (reading.first or reading) in self._told:
                return
            self._told.add(reading.first or reading)
        log.warning("not cached (%s): %s; the statement is %s", why, advice, reading.compiled)


passed = Passed()
