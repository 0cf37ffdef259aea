"""Changes of a node's state that are made as a whole.

Anything may be raised between two steps of one: by the handler of a signal, in the main thread (Ctrl-C in a
notebook, the soft time limit of a Celery task), and by any call, for want of memory or of stack. What was
half done would be believed: 1. A record takes its tag off the index.  2. Ctrl-C.  3. The sync brings that
record again, and finds none that depend on the tag. So nothing is served from then on, the epoch is none,
as after `disown`, and who makes the next change first empties L1. That costs a sync and the reloads.

So it is where another change is made amid one, by the same thread, which the lock does not keep out: a
handler may use the cache, and so may the `__del__` of what the garbage collector finds, or of a value that
L1 lets go. It begins with an empty L1 and gets no lease; and the one that it came amid, which goes on with
what it knew of another L1, is void: where it fails for that, it is made once more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from tiercache._core.coherence import Coherence

P = ParamSpec("P")
R = TypeVar("R")


def whole(change: Callable[Concatenate[Coherence, P], R]) -> Callable[Concatenate[Coherence, P], R]:
    """*change* under the lock, all of it, or else nothing is known any more."""

    @wraps(change)
    def under_lock(core: Coherence, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with core.lock:
            amid, core.is_changing = core.is_changing, True
            try:
                if core.is_torn or amid:
                    _start_anew(core)
                try:
                    return change(core, *args, **kwargs)
                except Exception:
                    if not core.is_torn:  # no other came amid it
                        raise
                    _start_anew(core)
                    return change(core, *args, **kwargs)
            except BaseException:
                core.is_torn = True
                raise
            finally:
                # By this one, or one amid it whose error went nowhere. No call: there may be no stack for it.
                core.is_changing = amid
                if core.is_torn or amid:
                    core.is_torn = True
                    core.lease = core.open_until = -inf
                    core.epoch = 0

    return under_lock


def _start_anew(core: Coherence) -> None:
    core.is_torn = False
    core.l1.reset()
    core.leave_epoch()


@whole
def amend(core: Coherence, change: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """What *change*, of the L1 of *core*, returns."""
    return change(*args, **kwargs)
