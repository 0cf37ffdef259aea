"""What many rounds of something leave behind: references to what it is given, and memory."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Sequence


def left_behind(run: Callable[[int], object], watched: Sequence[object], rounds: int) -> tuple[int, int]:
    """References to any of *watched* after 3 times *rounds* rounds, at most; and bytes of one, at least."""
    run(10)
    gc.collect()  # what earlier tests left may hold some of these as well
    references = [sys.getrefcount(each) for each in watched]
    tracemalloc.start()
    run(10)
    left = []
    for _ in range(3):  # other threads of this process allocate as well, but not each time
        before, _ = tracemalloc.get_traced_memory()
        run(rounds)
        left.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    now = [sys.getrefcount(each) for each in watched]
    return max(abs(a - b) for a, b in zip(now, references, strict=True)), min(left)
