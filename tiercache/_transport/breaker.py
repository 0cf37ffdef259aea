"""The circuit in front of Redis: after one silence, callers go without it instead of waiting for it.

Only a connection that fails, or an answer that does not come in time, opens it. An answer
that is an error closes it like any other: somebody was there to give it.
"""

from __future__ import annotations

import threading

PROBE_EVERY = 0.25  # seconds between two looks at whether Redis is back
CALLER_GRACE = 0.5  # seconds a probe is left to the listener before a caller spends a timeout on it


class Breaker:
    """Shared by all threads and loops of a node."""

    def __init__(self) -> None:
        self.reason: str | None = None  # what opened it; None: closed
        self._lock = threading.Lock()
        self._probe_at = 0.0  # under `_lock`

    @property
    def is_open(self) -> bool:
        return self.reason is not None

    def admits(self, now: float, *, prober: bool) -> bool:
        """Whether a request may be sent at *now*; while open, one at a time, as a probe."""
        if self.reason is None:
            return True
        with self._lock:
            if now < self._probe_at + (0.0 if prober else CALLER_GRACE):
                return False
            self._probe_at = now + PROBE_EVERY
            return True

    def failed(self, now: float, error: BaseException) -> None:
        with self._lock:
            self.reason = f"{type(error).__name__}: {error}"
            self._probe_at = now + PROBE_EVERY

    def answered(self) -> None:
        self.reason = None
