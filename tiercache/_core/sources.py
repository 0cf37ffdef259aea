"""What a source says of itself while it is read, and what this context has written to one and not committed.

A load takes a token before it begins, and its value counts as that new. Two things only the source knows can
make it older or newer than that: it reads a snapshot from before the token, or it reads what its own
transaction wrote and may yet roll back. Without the first, in two processes:

    1. A begins a snapshot.  2. B commits, invalidates: record 7.  3. A misses, gets token 7, and reads what
    was before the commit.  4. Its fill is accepted: the old value under a new token, until its ttl (R16).

and without the second, in one transaction: it writes, loads through the cache, rolls back; and everybody gets
what was never committed. So a snapshot's `Moment` is taken when it begins, and lowers the token of whatever
reads it; what is not committed is its reader's alone, stored nowhere and joined by nobody; and inside its own
transaction a reader is not answered with what that transaction has changed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING

from tiercache._core.records import EVERYTHING, tag_dep
from tiercache._core.tags import MAX_TAGS, check_entry_tags

if TYPE_CHECKING:
    from tiercache._core.coherence import Coherence

ANY_EPOCH = -1  # in place of an epoch: of a load that no tier answers in, whatever the epoch


class Found:
    """What the source of one running call of a loader has said so far."""

    __slots__ = ("is_committed", "limit", "tags")

    def __init__(self) -> None:
        self.is_committed = True
        self.limit: float = inf  # no token above this one: the source shows the truth as it was then
        self.tags: tuple[str, ...] = ()  # what the value depends on besides what was declared

    def lower(self, epoch: int, place: tuple[int, int] | None) -> None:
        """The source is as old as *place*, an epoch and a head of it; None: older than can be told."""
        known = place is not None and place[0] == epoch
        self.limit = min(self.limit, place[1] if place is not None and known else 0)

    def depend(self, tags: str | Iterable[str]) -> None:
        self.tags = tuple(dict.fromkeys((*self.tags, *check_entry_tags(tags))))

    def tagged(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """All tags of the entry; ValueError beyond 128."""
        if not self.tags:
            return declared
        every = tuple(dict.fromkeys((*declared, *self.tags)))
        if len(every) > MAX_TAGS:
            raise ValueError(
                f"an entry has at most {MAX_TAGS} tags; with those that its source named it has {len(every)}"
            )
        return every

    def capped(self, token: int | None) -> int | None:
        """The token to store with; None stays None, without Redis nothing is stored."""
        return None if token is None else int(min(token, self.limit))


class Moment:
    """Where the caches of this process stood at one instant: all records they had met in replies are older.

    A record runs after the commit it tells of, so a snapshot that begins now shows each of those. What only
    hints said does not count, it may be a lie; what is proved would do, but lags behind by up to a sync, and
    behind one's own writes: nothing would be kept for that long after each of them.
    """

    __slots__ = ("_places",)

    def __init__(self, cores: Iterable[Coherence]) -> None:
        self._places: dict[Coherence, tuple[int, int]] = {}
        for core in cores:
            with core.lock:
                self._places[core] = core.epoch, core.seen

    @classmethod
    def of_answers(cls, core: Coherence) -> Moment:
        """Of what a tier of *core* answers from now on: it reflects what is proved, and no more is known."""
        made = cls(())
        with core.lock:
            made._places[core] = core.epoch, core.proved
        return made

    def of(self, core: Coherence) -> tuple[int, int] | None:
        return self._places.get(core)


class Writing:
    """What one transaction has changed and not committed.

    Until `end`, reads of this context, and of copies of it, go past both tiers where they depend on any of
    it, as a query inside the transaction would see it; other contexts have what is committed. Meanwhile the
    quickest way of hits is closed for all, and each takes about a microsecond more. Forgotten without `end`,
    it ends with its last reference. One thread or task at a time.
    """

    def __init__(self, cores: Callable[[], Iterable[Coherence]]) -> None:
        self._cores = cores
        self._deps: set[str] = set()
        self._closed: list[Coherence] = []
        self._lock = threading.RLock()  # reentrant: the garbage collector may end another one here
        self._end = weakref.finalize(self, _reopen, self._closed)
        self._end.atexit = False

    @property
    def is_open(self) -> bool:
        return bool(self._end.alive)

    def add(self, tags: str | Iterable[str]) -> None:
        """The transaction changed what *tags* name, and this context knows of it."""
        self._add(map(tag_dep, [tags] if isinstance(tags, str) else tags))

    def everything(self) -> None:
        """The transaction changed nobody knows what."""
        self._add((EVERYTHING,))

    def touches(self, tags: Iterable[str]) -> bool:
        return self.touches_deps(map(tag_dep, tags))

    def touches_deps(self, deps: Iterable[str]) -> bool:
        return self.is_open and (EVERYTHING in self._deps or any(dep in self._deps for dep in deps))

    def end(self) -> None:
        """Committed and told, or rolled back; reads are answered again. May be called twice."""
        self._end()

    def join(self) -> None:
        """This context is inside the transaction, too, and knows of all that it changes, whoever added it."""
        mine = _writings.get()
        if self.is_open and not any(known() is self for known in mine):
            alive = [known for known in mine if (other := known()) is not None and other.is_open]
            _writings.set((*alive, weakref.ref(self)))

    def _add(self, deps: Iterable[str]) -> None:
        if not self.is_open:
            raise RuntimeError("this transaction has ended; make another Writing for the next one")
        self._deps.update(deps)
        self.join()
        with self._lock:
            for core in self._cores():
                if core not in self._closed:
                    self._closed.append(core)
                    # The quickest way of hits does not look at the context.
                    core.begin_load(ANY_EPOCH, inf, id(self._closed))


def _reopen(cores: list[Coherence]) -> None:
    while cores:
        cores.pop().end_load(id(cores))


# Weak: who owns the transaction owns its Writing, and a context may live as long as its thread.
_writings: ContextVar[tuple[weakref.ref[Writing], ...]] = ContextVar("tiercache_writings", default=())


def is_writing() -> bool:
    """Whether this context is inside a transaction that has changed something."""
    writings = _writings.get()
    if not writings:
        return False
    if any((writing := known()) is not None and writing.is_open for known in writings):
        return True
    _writings.set(())  # a thread's context outlives its transactions, and each read would look at them
    return False


def uncommitted(deps: Sequence[str]) -> bool:
    """Whether this context has changed any of *deps* in a transaction that is not over."""
    writings = _writings.get()
    return bool(writings) and any(
        (writing := known()) is not None and writing.touches_deps(deps) for known in writings
    )
