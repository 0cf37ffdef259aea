"""The in-process tier: entries by key, and by what they depend on.

Every change is made under the lock of the `Coherence` that owns the tier. A look-up takes
none: it reads one dict, and an entry that was dropped in the meantime has a deadline in the
past. Hit paths keep references to the tables they look in, so a table is emptied in place
and never replaced.

Least recently used goes first, without moving anything on a hit: the hit stamps the entry
with the instant it has read anyway, and eviction finds the oldest stamp lazily, in a heap of
(stamp as it was, entry) whose top is pushed again where its stamp has grown since.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import count
from math import inf
from typing import Any

from tiercache._core.records import EVERYTHING, key_dep

# Re-pushes one eviction may do. Unbounded, one eviction after all of 100,000 entries were hit takes
# 144 ms; with the bound it is the oldest of those looked at that goes.
MAX_REPUSHES = 256
# What an entry costs beside its payload, for `maxbytes`: slots, dict and heap items, a short key.
ENTRY_OVERHEAD = 350


class Entry:
    """One value, and until when and under which conditions it may be served."""

    __slots__ = (
        "arguments",
        "deadline",
        "deps",
        "key",
        "kind",
        "print",
        "restore",
        "size",
        "stamp",
        "table",
        "value",
        "vouched",
    )

    def __init__(
        self,
        key: str,
        value: Any,
        restore: Callable[[Any], Any] | None,
        *,
        deadline: float,
        deps: tuple[str, ...] = (),
        vouched: int = 0,
        size: int = 0,
        print: int = 0,
    ) -> None:
        self.key = key
        self.value = value
        self.restore = restore  # makes the caller's own copy of `value`; None where it is shared
        self.deadline = deadline  # local instant; -inf once dropped
        self.deps = deps  # tags only: the key itself is looked up by name
        self.vouched = vouched  # head at which the server last vouched for the value
        self.size = size
        self.print = print  # of the tags its function declares; 0 for what was stored by key
        self.stamp = 0.0  # instant of the last hit
        # The call it is filed under as well: 1, True and 1.0 are one key to a dict, so their types count.
        self.table: dict[Any, Entry] | None = None
        self.arguments: Any = None
        self.kind: Any = None  # kind_of(arguments)

    def take(self) -> Any:
        """The value as the caller's own."""
        return self.value if self.restore is None else self.restore(self.value)

    def __repr__(self) -> str:
        return f"<Entry {self.key!r} vouched at {self.vouched} for {', '.join(self.deps) or 'no tag'}>"


class L1:
    """At most *maxsize* entries, and about *maxbytes* bytes of payload and overhead where given."""

    def __init__(self, maxsize: int, maxbytes: int | None = None) -> None:
        self.maxsize, self.maxbytes = maxsize, maxbytes
        self.entries: dict[str, Entry] = {}
        self.used_bytes = 0
        self.evictions = 0
        self._index: dict[str, set[str]] = {}  # tag dependency -> keys
        self._heap: list[tuple[float, int, Entry]] = []
        self._serial = count()

    def put(self, entry: Entry, now: float) -> None:
        """Keep *entry* in place of any other under its key, and evict what no longer fits."""
        self.drop(entry.key)
        entry.stamp = now
        self.entries[entry.key] = entry
        self.used_bytes += entry.size + ENTRY_OVERHEAD
        for dep in entry.deps:
            self._index.setdefault(dep, set()).add(entry.key)
        heapq.heappush(self._heap, (now, next(self._serial), entry))
        while len(self.entries) > self.maxsize or (
            self.maxbytes is not None and self.used_bytes > self.maxbytes and self.entries
        ):
            self._evict()
        self._tidy()

    def alias(self, entry: Entry, table: dict[Any, Entry], arguments: Any) -> None:
        """File *entry* under a call's arguments as they came, too, for as long as it lives.

        One call an entry: arguments that do not count (`ignore`) would make it many.
        """
        if self.entries.get(entry.key) is entry:
            self._unfile(entry)
            entry.table, entry.arguments = table, arguments
            entry.kind = kind_of(arguments)
            table[arguments] = entry

    def drop(self, key: str) -> bool:
        """Forget the entry of *key*; whether there was one."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        entry.deadline = -inf
        self.used_bytes -= entry.size + ENTRY_OVERHEAD
        self._unfile(entry)
        for dep in entry.deps:
            keys = self._index.get(dep)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._index[dep]
        return True

    def drop_dependents(self, deps: Iterable[str], before: float = inf) -> int:
        """Forget what depends on *deps* and was vouched for at a head below *before*; how many."""
        dropped = 0
        for dep in deps:
            if dep == EVERYTHING:
                keys: Iterable[str] = list(self.entries)
            elif dep.startswith("k:"):
                keys = (dep.removeprefix("k:"),)
            else:
                keys = list(self._index.get(dep, ()))
            for key in keys:
                entry = self.entries.get(key)
                if entry is not None and entry.vouched < before:
                    dropped += self.drop(key)
        self._tidy()
        return dropped

    def clear(self) -> int:
        """Forget everything, in place; how many."""
        return self.drop_dependents((EVERYTHING,))

    def _unfile(self, entry: Entry) -> None:
        if entry.table is not None and entry.table.get(entry.arguments) is entry:
            del entry.table[entry.arguments]
        entry.table = None

    def _tidy(self) -> None:
        """Rebuild the heap once the dead outnumber the living in it: it keeps their values alive."""
        if len(self._heap) > 2 * len(self.entries) + 16:
            self._heap = [(e.stamp, next(self._serial), e) for e in self.entries.values()]
            heapq.heapify(self._heap)

    def _evict(self) -> None:
        """Drop the least recently used entry, or the oldest of the `MAX_REPUSHES` looked at."""
        self.evictions += 1
        looked_at: list[Entry] = []
        oldest: Entry | None = None
        while self._heap and len(looked_at) < MAX_REPUSHES:
            stamp, _, entry = heapq.heappop(self._heap)
            if self.entries.get(entry.key) is not entry:
                continue
            looked_at.append(entry)
            if oldest is None or entry.stamp < oldest.stamp:
                oldest = entry
            if oldest.stamp <= stamp:  # nothing left in the heap can be older
                break
        for entry in looked_at:
            if entry is not oldest:
                heapq.heappush(self._heap, (entry.stamp, next(self._serial), entry))
        if oldest is not None:
            self.drop(oldest.key)


def kind_of(arguments: Any) -> Any:
    """What tells calls apart whose arguments are equal: the type of the one, or the types of a tuple's."""
    return tuple(map(type, arguments)) if type(arguments) is tuple else type(arguments)


def deps_of(key: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """All that a value under *key* with these tag dependencies depends on."""
    return (key_dep(key), *tags)
