"""The nodes of this process, and what a fork does to them.

A child has no thread but the one that forked, so no other may be amid a change of a node then: the fork
takes the locks of all cores. It waits for one of them only while it holds none:

1. F forks, and holds the lock of core A.  2. X changes core B, under its lock; amid that the garbage
collector begins, on that very thread, and ends a forgotten load of A: `end_load` waits for A's lock.  3. F
waits for that of B. Neither goes on, ever.

Else only the garbage collector makes a thread want one of these locks while it has another, and it runs on
one thread at a time: no circle. The lock of the boards was in such a one (X in `claim`, under that, in step
2): a fork does not take it, since the child's boards are emptied and it is made anew, whoever was amid what.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiercache import _transports
from tiercache._core import flights

if TYPE_CHECKING:
    from tiercache._core.coherence import Coherence
    from tiercache._node import Node

# Seconds a fork waits for changes to end. They take micros, but one that waits for this thread never ends, as
# where the handler of a signal forks amid a change; the child empties the L1 of that node.
FORK_PATIENCE = 1.0

# No WeakSet: that is iterated step by step, and a node which another thread makes meanwhile is an error.
_nodes: set[weakref.ref[Node]] = set()  # added to under `_lock`
_lock = threading.RLock()  # by a handler of a signal, too, which may fork anywhere
_forking: list[Node] = []  # under `_lock`, from before the fork until after it, as is
_held: list[Any] = []  # the locks of those that nobody changes


def add(node: Node) -> None:
    with _lock:  # 1. A fork lists the nodes.  2. This one is used.  3. The child would use it on.
        _nodes.add(weakref.ref(node, _nodes.discard))


def alive() -> list[Node]:
    return [node for reference in list(_nodes) if (node := reference()) is not None]


def cores() -> list[Coherence]:
    """Those of all nodes of this process."""
    return [node.tiers.core for node in alive()]


def hold(locks: Sequence[Any], patience: float) -> list[Any]:
    """All of *locks*, held; after *patience* seconds, those of them that were free."""
    give_up, busy = time.monotonic() + patience, None
    while True:
        left = give_up - time.monotonic()
        # The only wait, holding nothing. It is tried again below, which an RLock allows, and let go of here.
        waited = busy is not None and busy.acquire(timeout=max(0.0, left))
        held = [lock for lock in locks if lock.acquire(blocking=False)]
        if waited and busy is not None:
            busy.release()
        if len(held) == len(locks) or left <= 0:
            return held
        busy = next(lock for lock in locks if lock not in held)
        for lock in held:
            lock.release()


def _before_fork() -> None:
    _transports.finish_loading()
    _lock.acquire()
    _forking[:] = alive()
    _held[:] = hold([node.tiers.core.lock for node in _forking], FORK_PATIENCE)


def _after_fork_in_parent() -> None:
    for lock in _held:
        lock.release()
    _held.clear()
    _forking.clear()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    flights.renew_lock()
    flights.current_load.set(None)
    for node in _forking:
        node.after_fork_in_child(amid_a_change=node.tiers.core.lock not in _held)
    _held.clear()
    _forking.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
os.register_at_fork(after_in_child=_after_fork_in_child)
