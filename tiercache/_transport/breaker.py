"""The circuit in front of Redis: after one silence, callers go without it instead of waiting for it.

Only a connection that fails, or an answer that does not come in time, opens it. An answer
that is an error closes it like any other: somebody was there to give it. A server that turns a
new connection away, and answers on others, concerns who wanted that one alone; so does a
connection that was idle and is dead, where another one was answered meanwhile.
"""

from __future__ import annotations

import threading
import time
from math import inf

from tiercache._core.complaints import Complaints

PROBE_EVERY = 0.25  # seconds between the end of one look at whether Redis is back, and the next
CALLER_GRACE = 0.5  # seconds a probe is left to the listener before a caller spends a timeout on it
LOST_AFTER = 10.0  # seconds; a probe whose end nobody told by then, as by a thread that was interrupted
HEARD_LATELY = 5.0  # seconds since an answer on any connection; there is a sync every few seconds


class Breaker:
    """Shared by all threads and loops of a node."""

    def __init__(self, complaints: Complaints | None = None) -> None:
        self._complaints = complaints or Complaints(time.monotonic)
        self.heard = -inf  # the last answer
        self.reason: str | None = None  # what opened it; None: closed
        self._lock = threading.RLock()
        self._probe_at = 0.0  # under `_lock`

    @property
    def is_open(self) -> bool:
        return self.reason is not None

    def admits(self, now: float, *, prober: bool) -> bool:
        """Whether a request may be sent at *now*; while open, one at a time, as a probe until `tried`.

        So is each of the prober's: it may be under way when the circuit opens.
        """
        if self.reason is None and not prober:
            return True
        with self._lock:
            if self.reason is not None and now < self._probe_at + (0.0 if prober else CALLER_GRACE):
                return False
            # One that takes a whole timeout must be over before there is another, however long that is.
            self._probe_at = now + LOST_AFTER
            return True

    def tried(self, now: float) -> None:
        """A probe has come to its end, whatever that was."""
        with self._lock:
            self._probe_at = now + PROBE_EVERY

    def failed(self, now: float, error: BaseException) -> None:
        """A request met *error* in place of an answer."""
        from tiercache._transport.replies import (  # redis-py is not imported before it is used
            LoopEnds,
            SilentlyLost,
            is_turned_away,
        )

        if isinstance(error, LoopEnds):
            return
        if is_turned_away(error) and now < self.heard + HEARD_LATELY:
            self._complaints.warn(
                "Redis turns new connections of tiercache away (on those there are it goes on): %s", error
            )
            return
        if isinstance(error, SilentlyLost) and now < self.heard + error.timeout:
            self._complaints.warn("Redis is there, but not for tiercache on each connection: %s", error)
            return
        with self._lock:
            was_open, self.reason = self.is_open, f"{type(error).__name__}: {error}"
            # Where it may be one connection that is dead, the prober tries its own at once; but never before
            # a probe under way is over.
            pause = 0.0 if isinstance(error, SilentlyLost) and not was_open else PROBE_EVERY
            self._probe_at = max(self._probe_at, now + pause)
        if not was_open:
            self._complaints.warn("tiercache goes without Redis until it answers: %s", error)

    def answered(self) -> None:
        self.reason = None
