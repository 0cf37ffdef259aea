"""Processes that do not hear Ctrl-C, which a terminal sends to all at once: who began them ends them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def deaf() -> Iterator[None]:
    """A process that is begun inside has the signal blocked from its first instruction on."""
    resource_tracker.ensure_running()  # it would let SIGINT through again when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
