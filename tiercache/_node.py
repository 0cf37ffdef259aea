"""The node: what all handles of one process with the same server and namespace share.

One L1, one board, one listener, one pool a world. Nodes are counted by their handles and
end with the last of them. A forked child starts with empty tiers, no lease, no sockets and a
name of its own; nothing of the parent is waited for or spoken to.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tiercache import _forks, shapes
from tiercache._audit import Auditor
from tiercache._core.barriers import Forget
from tiercache._core.coherence import Coherence
from tiercache._core.commands import member_of
from tiercache._core.l1 import L1
from tiercache._core.plan import Plan, Step, ask, run, run_async
from tiercache._core.scripts import Names
from tiercache._core.syncs import send_pending, sync
from tiercache._core.tiers import Counts, Tiers
from tiercache._core.values import Values
from tiercache._core.whole import amend
from tiercache._errors import L2Unavailable, TierCacheError
from tiercache._refreshes import Refreshes
from tiercache._settings import Settings
from tiercache._transport.breaker import Breaker
from tiercache._winding_up import expect_no_exit, wind_up

if TYPE_CHECKING:
    from tiercache._transport.address import Address
    from tiercache._transport.awaiting import Awaiting
    from tiercache._transport.blocking import Blocking
    from tiercache._transport.listener import Listener
    from tiercache._transport.memory import Memory

log = logging.getLogger("tiercache")

LISTEN_AGAIN = 5.0  # seconds between two attempts to start a thread, where there can be none
T = TypeVar("T")
Clock = Callable[[], float]


class Node:
    """One process' part in a domain; `address` None is `memory://`."""

    def __init__(self, address: Address | None, settings: Settings, clock: Clock = time.monotonic) -> None:
        self.address, self.settings, self.clock = address, settings, clock
        self.values = Values(shapes.families())
        self.names = Names(settings.namespace, address.database if address else 0)
        core = Coherence(
            L1(settings.l1_maxsize, settings.l1_maxbytes),
            max_staleness=settings.max_staleness if address else inf,
            node=_new_id(),
            trust_tenure=settings.assume_no_failover_loss,
        )
        self.tiers = Tiers(
            core,
            self.values,
            clock,
            load_timeout=settings.load_timeout,
            timeout=settings.timeout,
            raise_on_lapse=settings.on_lapse == "raise",
            compression=settings.compression,
            compression_above=settings.compression_above,
            is_cut_off=lambda: self.breaker.is_open,
            wakes_arrive=self.is_listening,
        )
        self.breaker = Breaker(self.tiers.complaints)
        self.counts = [Counts()]  # the first is of those that are gone
        self.closed = self._wound_up = False
        self.on_close: Callable[[], None] | None = None  # ends the server that lives for this node alone
        self.place: Any = None  # where the registry counts its handles; None: it is private
        self.fallback = False  # memory:// because nobody said where
        self._forked = False  # memory:// in a child that has not been used yet
        self._lock = threading.RLock()
        self._listener: Listener | None = None
        self.unheard: str | None = None  # why there can be no listener
        self._listen_at = -inf  # under `_lock`: none is tried before this instant
        self._memory: Memory | None = None
        self._blocking: Blocking | None = None
        self._prober: Blocking | None = None
        self._open()
        self.auditor = Auditor.of(settings, self.tiers, self._perform)
        self.refreshes = Refreshes(self)
        _forks.add(self)

    def _open(self) -> None:
        """Get ready to perform steps; nothing is connected."""
        from asyncio import get_running_loop

        from tiercache._transport.blocking import Blocking
        from tiercache._transport.joins import joined
        from tiercache._transport.loops import Loops
        from tiercache._transport.memory import Memory

        self.joined = joined
        self.loops = Loops(self._new_awaiting)
        self.tiers.board.running_loop = get_running_loop
        if self.address is None:
            self._memory = Memory()
            return
        settings, shared = self.settings, (self.names, self.breaker, self.clock)
        self._blocking = Blocking(self.address, *shared, pool_size=settings.pool_size)
        patient = self.address.with_timeout(min(settings.timeout, settings.max_staleness / 3))
        self._prober = Blocking(patient, *shared, pool_size=1, prober=True)

    @property
    def hit_clock(self) -> Clock:
        """What hit paths ask for the time: an auditor's clock draws its samples by the way."""
        return self.clock if self.auditor is None else self.auditor.clock

    def run(self, plan: Plan[T]) -> T:
        """Drive *plan* on the calling thread."""
        self.ready()
        return run(plan, self._perform)

    def run_async(self, plan: Plan[T]) -> Coroutine[Any, Any, T]:
        """Drive *plan* in the calling task, which awaits this at once."""
        self.ready()
        return run_async(plan, self.perform_async)

    @property
    def perform_async(self) -> Callable[[Step], Awaitable[Any]]:
        """What performs the steps of plans in the running loop."""
        return self.loops.of_running().perform if self._memory is None else self._memory.perform_async

    def __reduce__(self) -> NoReturn:  # what any handle's pickle comes to first
        raise TypeError(
            "a cache cannot be pickled or copied: its threads and connections are of this process; send "
            "its URL, and make one there by TierCache(url)"
        )

    def counted(self) -> Counts:
        """New counts that are part of this node's."""
        self.counts.append(counts := Counts())
        return counts

    def retire(self, counts: Counts) -> None:
        """Keep what was counted, and not who did."""
        if counts in self.counts:
            self.counts.remove(counts)
            self.counts[0].add(counts)

    def served(self) -> int:
        return sum(counts.reads() for counts in self.counts)

    def is_listening(self) -> bool:
        """Whether the channel is heard: hints come, and the wake-ups of waiters."""
        listener = self._listener
        return listener is not None and listener.subscribed and listener.thread.is_alive()

    def is_deaf(self) -> bool:
        """Whether the channel should be heard by now, and is not."""
        if not self.settings.listen or self.is_listening():
            return False
        return self._listener is None or self.clock() >= self._listener.expected_by

    def close(self) -> None:
        """Serve no more: wind up, and forget what is held."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        wind_up([self])
        core = self.tiers.core
        core.disown()
        while core.l1.condemned:
            amend(core, core.l1.sweep)  # by slices: whoever reads now still has to be told no

    def begin_to_end(self) -> bool:
        """Stop the threads of this node, and wait for none; False if that was done before."""
        with self._lock:
            if self._wound_up:
                return False
            self._wound_up = True
        for part in (self.auditor, self._listener):
            if part is not None:
                part.stop()
        return True

    def threads(self) -> Iterator[threading.Thread]:
        """Those that the calling one may wait for."""
        for part in (self.auditor, self._listener):
            if part is not None and part.thread is not None and part.thread is not threading.current_thread():
                yield part.thread

    def interrupt(self) -> None:
        """Let no thread of this node's own wait for a reply any more."""
        if self._prober is not None:
            self._prober.interrupt()

    def take_leave(self, patience: float) -> bool:
        """Tell Redis what is pending, and that no barrier need wait for this node; whether it has all of it.

        The lease ends with it. A round trip takes *patience* seconds at most.
        """
        core, prober = self.tiers.core, self._prober
        core.lapse(for_good=True)
        if prober is None:
            return True
        try:
            prober.hurry(patience)
            if core.pending:
                run(send_pending(self.tiers), prober.perform)
            if core.epoch:
                run(ask(Forget(((member_of(core.node, core.lease_ms), ""),))), prober.perform)
        except L2Unavailable:
            pass  # the next barrier waits for this node once
        return not core.pending

    def end(self) -> None:
        """Close what this thread may close, and log what Redis was not told."""
        for io in (self._blocking, self._prober):
            if io is not None:
                io.close()
        if self.on_close is not None:
            self.on_close()
        if self.address is not None and (pending := sorted(self.tiers.core.pending)):
            lost = ", ".join(pending[:20])
            log.error("tiercache closes while Redis is away; not invalidated for other processes: %s", lost)

    async def close_loop(self) -> None:
        """Close the connections of the running loop, which no other thread may."""
        try:
            await self.refreshes.end()
        finally:
            await self.loops.close_running()

    def _perform(self, step: Step) -> Any:
        io = self._memory or self._blocking
        assert io is not None
        return io.perform(step)

    def ready(self) -> None:
        if self.closed:
            raise TierCacheError("this cache is closed")
        if self._forked:
            from tiercache._default import distance_to_the_caller

            self._forked = False
            warnings.warn(
                "memory:// does not reach across a fork: this process now has a cache of its own, and an "
                "invalidation elsewhere does not touch it; give a redis:// URL to share one",
                RuntimeWarning,
                stacklevel=distance_to_the_caller(),
            )
        if self._memory is not None and not self.tiers.core.epoch:
            # L1 is all there is: a write must not go for want of an epoch.
            run(sync(self.tiers, blocking=True), self._memory.perform)
        if self._listener is None and self._memory is None:
            self._begin_work()

    def _begin_work(self) -> None:
        """At the first use in this process; where there is no listener, at each."""
        expect_no_exit()
        if not self.settings.listen:
            return
        with self._lock:
            known = self.unheard
            if self._listener is None and not self._wound_up and self.clock() >= self._listen_at:
                self._listen()
        if self.unheard is not None and known is None:
            log.warning("tiercache does not hear other processes (reads sync in line): %s", self.unheard)

    def _listen(self) -> None:
        from tiercache._transport.listener import Listener

        assert self.address is not None
        assert self._prober is not None
        self._listen_at = inf  # for the handler of a signal that comes amid this, and uses the cache
        try:
            self._listener = Listener(self.tiers, self.address, self.names, self._prober.perform, self.served)
            self.unheard = None
        except RuntimeError as error:  # as many threads as the system allows, or the interpreter ends
            self.unheard, self._listen_at = str(error), self.clock() + LISTEN_AGAIN
        except BaseException:
            self._listen_at = -inf
            raise

    def _new_awaiting(self) -> Awaiting:
        from tiercache._transport.awaiting import Awaiting

        assert self.address is not None
        shared = self.address, self.names, self.breaker, self.clock
        return Awaiting(*shared, pool_size=self.settings.pool_size, keeps=not self.closed)

    def after_fork_in_child(self, *, amid_a_change: bool) -> None:
        """Forget what belongs to the parent: its threads, its sockets, its lease, its name."""
        core = self.tiers.core
        core.lock = threading.RLock()
        core.is_torn, core.is_changing = core.is_torn or amid_a_change, False
        self._lock = threading.RLock()
        core.node = _new_id()
        core.disown()
        core.has_left = False
        core.held.clear()
        core.told.clear()
        core.forget_loads()
        self.tiers.forget()
        self.refreshes = Refreshes(self)
        if self.auditor is not None:
            self.auditor.forget()
        self.breaker = Breaker(self.tiers.complaints)
        # The parent's sockets, of a loop that does not run here: not closed, so that nothing is said on them.
        _never_closed.append(self.loops)
        self.loops = type(self.loops)(self._new_awaiting)
        if self._listener is not None:
            self._listener.forget()
            self._listener = None
        self.unheard, self._listen_at = None, -inf
        for io in (self._blocking, self._prober):
            if io is not None:
                io.forget(self.breaker)
        if self._memory is not None:
            self._memory = type(self._memory)()
            self._forked = True


def _new_id() -> str:
    """128 random bits: process ids are all 1 in containers."""
    return secrets.token_hex(16)


_never_closed: list[Any] = []
