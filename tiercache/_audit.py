"""The auditor of a node: samples hits, asks their sources beside them, and counts what came of it.

What an audit does and what its verdicts mean stands with its plan, `_core.audits`. Here is who performs it,
so that nobody pays for it whose hit was not drawn, and nobody at all where it is off.

A thread of the node drives all audits in turn: at most `MAX_AUDITS` at once, one a key, what is drawn above
that is dropped; and at most one load at a time. A loader is called in the world its hit was in: for an
awaited call in a task on that call's own loop, else on a thread made for this one load, so that nothing a
loader keeps by thread (a session, a connection, the snapshot of a transaction) outlives it. It has neither
the caller's thread-locals nor its context variables: a request's session must not be used twice at a time.
For the same reason a call that was handed something of its caller's (see `_audit_calls`) is not repeated.
Nothing here raises in the caller, and the thread ends with the node.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from tiercache._audit_calls import (
    Ending,
    NoVerdict,
    is_lent,
    is_same_closure,
    name_of,
    start_on_loop,
    start_on_thread,
)
from tiercache._core.audits import Served, Verdict, audit
from tiercache._core.coherence import CLOCKS
from tiercache._core.keys import CallKeys
from tiercache._core.l1 import Entry
from tiercache._core.plan import Call, Join, Plan, Step
from tiercache._core.tiers import Tiers, Want
from tiercache._settings import Settings

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("tiercache")

MAX_AUDITS = 16  # under way at once; each holds the arguments and the value of its hit
TURN = 0.05  # seconds a wait takes at most, and so a stop

Observer = Callable[[Want, Entry, str], None]


@dataclass(slots=True)
class _Audit:
    name: str
    served: Served
    loop: asyncio.AbstractEventLoop | None  # None: of a blocking call
    is_same_call: Callable[[], bool]
    plan: Plan[Verdict] = field(init=False)


class Cached(Protocol):
    """A decorated function."""

    keys: CallKeys
    blocking: bool


class Auditor:
    """Counts by function and ending in `counts`; made only where `audit` is set."""

    @classmethod
    def of(cls, settings: Settings, tiers: Tiers, perform: Callable[[Step], Any]) -> Auditor | None:
        if settings.audit is None:
            return None
        return cls(tiers, perform, rate=settings.audit, max_staleness=settings.max_staleness)

    def __init__(
        self, tiers: Tiers, perform: Callable[[Step], Any], *, rate: float, max_staleness: float
    ) -> None:
        self._tiers, self._perform, self._rate = tiers, perform, rate
        self._wait = max_staleness * CLOCKS
        self._load_timeout = tiers.load_timeout
        self.clock = sampling(tiers.clock, rate)
        self.forget()

    def forget(self) -> None:
        """At the beginning, and after a fork, in the child: the audits under way were the parent's."""
        self.counts: dict[str, Counter[str]] = {}  # under `_changed`
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, _Audit]] = []  # under `_changed`: a heap
        self._keys: set[str] = set()  # under `_changed`: of the audits under way
        self._serial = count()
        self.thread: threading.Thread | None = None  # under `_changed`
        self._stopping = False
        self._asleep: Future[None] = Future()
        self._loading: Future[Any] | None = None

    def observer_of_call(
        self, function: Cached, args: tuple[Any, ...], kwargs: dict[str, Any], now: float | None
    ) -> Observer | None:
        """Who looks into a hit of this call; None where it was not drawn, by `clock` at *now* or here."""
        if not (self._is_drawn() if now is None else now == inf):
            return None
        keys = function.keys
        arguments = keys.bind(args, kwargs)
        key, ignored = keys.key(arguments), tuple(arguments[name] for name in keys.ignored)
        return partial(
            self._take, keys.prefix, function.blocking, ignored, lambda: keys.key(arguments) == key
        )

    def observer_of(self, loader: Callable[[], Any], *, blocking: bool) -> Observer | None:
        """The same for a read by key, with its *loader*."""
        if not self._is_drawn():
            return None
        return partial(self._take, name_of(loader), blocking, (), is_same_closure(loader))

    def report(self) -> dict[str, Counter[str]]:
        with self._changed:
            return {name: Counter(endings) for name, endings in self.counts.items()}

    def stop(self) -> None:
        """Begin nothing any more; what is under way ends soon, without a verdict, counted nowhere."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _take(
        self,
        name: str,
        is_blocking: bool,
        ignored: tuple[object, ...],
        is_same_call: Callable[[], bool],
        want: Want,
        entry: Entry,
        tier: str,
    ) -> None:
        """Put one hit on the list; in its caller, so it must be quick and raise nothing."""
        try:
            assert want.call is not None
            if is_lent(want.call, ignored):
                self._count(name, "unrepeatable")
                return
            from asyncio import get_running_loop

            loop = None if is_blocking else get_running_loop()
            served = Served(want, want.call, entry, tier, self._tiers.core.stand(self._tiers.clock()))
            self._enlist(_Audit(name, served, loop, is_same_call))
        except Exception:  # also for want of a thread
            self._count(name, "dropped")
            log.debug("an audit could not begin", exc_info=True)

    def _enlist(self, new: _Audit) -> None:
        key = new.served.want.key
        with self._changed:
            if self._stopping:
                return
            if len(self._keys) >= MAX_AUDITS or key in self._keys:
                self._count(new.name, "dropped")
                return
            new.plan = audit(self._tiers, new.served, self._wait, self._asleep)
            if self.thread is None:
                thread = threading.Thread(target=self._run, name="tiercache-audit", daemon=True)
                thread.start()
                self.thread = thread
            self._keys.add(key)
            heapq.heappush(self._due, (-inf, next(self._serial), new))
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and not (self._due and self._due[0][0] <= self._tiers.clock()):
                    # In short turns: the clock may be one that a test drives.
                    self._changed.wait(TURN if self._due else None)
                if self._stopping:
                    self._due.clear()
                    return
                under_way = heapq.heappop(self._due)[2]
            self._advance(under_way)

    def _advance(self, under_way: _Audit) -> None:
        """Drive one audit up to its next wait, or to its end."""
        try:
            step = next(under_way.plan)
            while not (isinstance(step, Join) and step.future is self._asleep):
                try:
                    reply = self._call(under_way, step) if isinstance(step, Call) else self._perform(step)
                except Exception as error:
                    step = under_way.plan.throw(error)
                else:
                    step = under_way.plan.send(reply)
        except StopIteration as end:
            verdict: Verdict = end.value
            self._end(under_way, verdict.outcome, verdict.why)
        except NoVerdict as stopped:
            self._end(under_way, stopped.ending, str(stopped))
        except Exception:
            # A bug here must not end the thread, nor count as a verdict.
            self._end(under_way, "dropped")
            log.exception("an audit of %s failed", under_way.name)
        else:
            with self._changed:
                due = self._tiers.clock() + step.timeout
                heapq.heappush(self._due, (due, next(self._serial), under_way))

    def _end(self, under_way: _Audit, ending: Ending, why: str = "") -> None:
        under_way.plan.close()
        level = logging.WARNING if ending == "stale_beyond_D" else logging.DEBUG
        log.log(level, "audit: %s: %s: %s", ending, under_way.name, why)
        with self._changed:
            self._keys.discard(under_way.served.want.key)
            self._count(under_way.name, ending)

    def _count(self, name: str, ending: Ending) -> None:
        with self._changed:
            self.counts.setdefault(name, Counter())[ending] += 1

    def _is_drawn(self) -> bool:
        return random.random() < self._rate

    # ---- loads

    def _call(self, under_way: _Audit, step: Call) -> Any:
        """What the source gives; raises what it raises, TimeoutError after `load_timeout`."""
        if self._loading is not None and not self._loading.done():
            raise NoVerdict("dropped", "a load before it still runs")
        if not under_way.is_same_call():
            raise NoVerdict("unrepeatable", "what it was called with has changed")
        loaded = self._loading = Future()
        loop = under_way.loop
        give_up = start_on_thread(step, loaded) if loop is None else start_on_loop(loop, step, loaded)
        left = self._load_timeout
        while not wait((loaded,), TURN).done:
            left -= TURN
            if left < 0:
                give_up()
                raise TimeoutError(f"the loader took longer than {self._load_timeout} s")
            if self._stopping or (loop is not None and not loop.is_running()):
                give_up()
                raise NoVerdict("dropped", "the cache was closed, or the loop of the call has stopped")
        return loaded.result()


def sampling(clock: Callable[[], float], rate: float) -> Callable[[], float]:
    """*clock*, but at *rate* an instant after every other: a hit path that asks it takes the long way."""
    draw = random.random

    def now() -> float:
        return inf if draw() < rate else clock()

    return now
