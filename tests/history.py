"""What several processes did and saw, judged by the instants at which it happened.

The monotonic clock is one for all processes of a machine, so the instants can be compared:
by the test that looks on, never by the processes themselves.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Read(NamedTuple):
    invoked: float
    returned: float
    version: int


class Write(NamedTuple):
    done: float  # the instant its invalidation had returned
    version: int


def reads_until(is_over: Callable[[], bool], read: Callable[[], int]) -> list[Read]:
    """One read after the other, with a breath in between for other threads, and one more when it is over."""
    seen = []
    while True:
        over = is_over()
        invoked = time.monotonic()
        version = read()
        seen.append(Read(invoked, time.monotonic(), version))
        if over:
            return seen
        time.sleep(0.0002)


def too_old(reads: Iterable[Read], writes: Iterable[Write], *, bound: float) -> list[Read]:
    """The reads that returned a version replaced more than *bound* seconds before they began.

    The versions grow from write to write, and the writes are of one process.
    """
    writes = list(writes)
    done = [write.done for write in writes]

    def least(instant: float) -> int:
        earlier = bisect_right(done, instant)
        return writes[earlier - 1].version if earlier else 0

    return [read for read in reads if read.version < least(read.invoked - bound)]
