"""The end of nodes: one deadline for all that end together, as at the interpreter's exit.

Reads go on: at interpreter exit a daemon thread may be in the middle of one, or begin another. No thread is
made: Python allows none by then.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiercache import _forks

if TYPE_CHECKING:
    from tiercache._node import Node

CLOSING_PATIENCE = 2.0  # seconds for all of it
GRACE = 0.1  # seconds of these for the threads to end by themselves,
THREADS_PATIENCE = 0.4  # and for those that waited for a reply: none that connects can be cut short
PAUSE = 0.1  # seconds between two attempts to reach Redis
LAST = -50  # as a priority of multiprocessing's: after its queues and what an application registers

_expected = 0  # the process that `expect_no_exit` was called in last


def wind_up(nodes: Iterable[Node]) -> None:
    """Stop the listeners of *nodes*, send what is pending, and close what this thread may close.

    Takes `CLOSING_PATIENCE` at most, however many there are; what was not sent by then is logged.
    """
    give_up = time.monotonic() + CLOSING_PATIENCE
    ending = [node for node in nodes if node.begin_to_end()]  # all, before any is waited for
    try:
        _wait_for_threads(ending)
        _take_leave(ending, give_up)
    finally:
        for node in ending:
            node.end()


def _wait_for_threads(nodes: list[Node]) -> None:
    for patience in (GRACE, THREADS_PATIENCE):
        until = time.monotonic() + patience
        for node in nodes:
            for thread in node.threads():
                thread.join(max(0.0, until - time.monotonic()))
        for node in nodes:
            node.interrupt()


def _take_leave(nodes: list[Node], give_up: float) -> None:
    """Each gets its share of what the others have left, so that a silent server costs no other its turn."""
    pause = threading.Event()
    while nodes:
        left: list[Node] = []
        for place, node in enumerate(nodes):
            share = (give_up - time.monotonic()) / (len(nodes) - place)
            if share <= 0:
                return
            if not node.take_leave(share):
                left.append(node)
        nodes = left
        if nodes:
            pause.wait(min(PAUSE, max(0.0, give_up - time.monotonic())))


@atexit.register
def wind_up_all() -> None:
    """At interpreter exit."""
    wind_up(_forks.alive())


def expect_no_exit() -> None:
    """Where this process is one of multiprocessing's, which may end by os._exit, wind up before that.

    Imports nothing: what runs in such a process has been imported there.
    """
    global _expected
    if _expected == os.getpid():
        return
    _expected = os.getpid()
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, wind_up_all, exitpriority=LAST)
