"""The compiled half of hits and of looks into L2: `compiled`, None where all is Python.

It is made when the package is built on a machine with a C compiler, for CPython with its lock.
TIERCACHE_PURE=1 in the environment of the process leaves it unused, and any other word but "0",
"false" and "no". Both halves keep the same rules (tests/test_hits.py runs both,
tests/core/test_looks_compiled.py compares them); `health().hit_path` tells which one serves.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

compiled: ModuleType | None = None
if os.environ.get("TIERCACHE_PURE", "").lower() in ("", "0", "false", "no"):
    try:
        import tiercache._compiled as compiled
    except ImportError:
        pass  # it was not built


if TYPE_CHECKING or compiled is None:

    class Tally:
        """A number of hits; what counts up one in C has it as a number of C's."""

        __slots__ = ("l1_hits",)
        l1_hits: int

    class Timed:
        """Two instants; what sets and compares them in C has them as numbers of C's, and no objects."""

        __slots__ = ("deadline", "stamp")
        deadline: float
        stamp: float

else:
    Tally, Timed = compiled.Tally, compiled.Timed
