"""Locks of what a process has for all: free in a forked child, and not in the way of their own thread."""

from __future__ import annotations

import os
import threading
import weakref


class Guard:
    """Keeps one lock.

    Its own thread can take it again: the handler of a signal, or a finalizer, may use the cache amid what is
    done under it. A child that was forked while another thread held it has a new one.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        # For `with` itself: the handler of a signal cannot raise between the lock and the block.
        self.lock = threading.RLock()
        _all.add(self)


_all: weakref.WeakSet[Guard] = weakref.WeakSet()


def _renew() -> None:
    for guard in _all:
        guard.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)
