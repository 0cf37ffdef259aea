"""Where a node stands in the history of its domain, as of one instant."""

from __future__ import annotations

from typing import NamedTuple


class Stand(NamedTuple):
    """Where a node stood when it sent a request; its reply counts only from there."""

    epoch: int
    generation: int
    proved: int
    applied: int
    seen: int
    own: int  # invalidations of this node begun so far, and failed
    lease: float
    at: float
