"""The looks of several threads, sent together.

While some are on their way the others queue, and the thread that comes back with an answer leaves
it to the first in the queue to lead: it sends what all of them ask as one look, and wakes each with
the answer. A thread that is alone leads at once, and pays for two locks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from copy import copy

from tiercache._core.commands import MAX_READ
from tiercache._core.looks import Look, Looked, together
from tiercache._errors import L2Unavailable

# Where the way to the server is short, threads hold each other up by their sends and wake-ups, and the fewer
# the better. Where it is long they would wait for nothing: hence two at once, and a short patience.
LANES = 2
PATIENCE = 0.0005  # seconds in the queue, after which a thread leads beside the others


class _Follower:
    __slots__ = ("leads", "look", "outcome", "woken")

    def __init__(self, look: Look) -> None:
        self.look = look
        self.outcome: list[Looked] | L2Unavailable | None = None
        self.leads = False
        self.woken = threading.Lock()  # released once it leads or has its outcome
        self.woken.acquire()


class Lanes:
    """Any number of threads may ask at once; *send* makes the round trip."""

    def __init__(self, send: Callable[[Look], list[Looked]]) -> None:
        self._send = send
        self.forget()

    def forget(self) -> None:
        """After a fork, in the child: nobody is asking."""
        self._lock = threading.Lock()
        self._leaders = 0  # under `_lock`, as is the queue
        self._queue: deque[_Follower] = deque()

    def ask(self, look: Look) -> list[Looked]:
        """What *send* returns or raises for a look that has this one within."""
        if threading.current_thread() is threading.main_thread():
            # The handler of a signal may raise there at any instruction, and would take the others along.
            return self._send(look)
        while True:
            with self._lock:
                if self._leaders < LANES:
                    self._leaders += 1
                    followers = self._followers(look) if self._queue else None
                    break
                me = _Follower(look)
                self._queue.append(me)
            self._wait(me)
            if me.leads:
                with self._lock:
                    followers = self._followers(look)
                break
            if isinstance(me.outcome, L2Unavailable):
                error = copy(me.outcome)  # one that several threads raise would have all their traces
                raise error from me.outcome.__cause__
            if me.outcome is not None:
                return me.outcome
        if followers:
            return self._lead(look, followers)
        try:
            return self._send(look)
        finally:
            with self._lock:
                self._pass_on()

    def _lead(self, look: Look, followers: list[_Follower]) -> list[Looked]:
        # None: this thread was interrupted, or met an error of its own, and the others ask again.
        outcome: list[Looked] | L2Unavailable | None = None
        try:
            outcome = self._send(together([look, *(each.look for each in followers)]))
            return outcome
        except L2Unavailable as error:
            outcome = error
            raise
        finally:
            with self._lock:
                self._pass_on()
            for each in followers:
                each.outcome = outcome
                each.woken.release()

    def _followers(self, look: Look) -> list[_Follower]:
        """Those of the queue that can go along with *look*, and are not in it any more."""
        going, staying, size = [], deque[_Follower](), len(look.keys)
        for each in self._queue:
            size += len(each.look.keys)
            if each.look.epoch == look.epoch and size <= MAX_READ:
                going.append(each)
            else:
                staying.append(each)
        self._queue = staying
        return going

    def _wait(self, me: _Follower) -> None:
        """Until it leads, or has its outcome."""
        try:
            if me.woken.acquire(timeout=PATIENCE):
                return
            with self._lock:
                if me in self._queue:
                    self._queue.remove(me)
                    self._leaders += 1
                    me.leads = True
                    return
            me.woken.acquire()
        except BaseException:
            with self._lock:
                if me in self._queue:
                    self._queue.remove(me)
                elif me.leads:
                    self._pass_on()
            raise

    def _pass_on(self) -> None:
        if self._queue and self._leaders <= LANES:
            successor = self._queue.popleft()
            successor.leads = True
            successor.woken.release()
        else:
            self._leaders -= 1
