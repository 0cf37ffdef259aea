"""The in-process tier: entries by key, and by what they depend on.

Every change is made under the lock of the `Coherence` that owns the tier. A look-up takes
none: it reads one dict, and an entry that was dropped in the meantime has a deadline in the
past. Hit paths keep references to the tables they look in, so a table is emptied in place
and never replaced.

**No operation works through more than a slice.** What many entries depend on is condemned in
one step (`condemn`), and swept `SLICE` entries at a time by whatever comes next (`sweep`).
Meanwhile `condemned` is not empty, and this must hold:

    an entry is *condemned* while anything it depends on is marked with a head above that at
    which it was vouched for; nobody is given a condemned entry.

A hit path looks at nothing but a lease and a deadline, so `Coherence` keeps it closed while
anything is condemned, and whoever comes past it asks `is_condemned` under the lock:

1. T reads `open_until`: good.  2. A tag is condemned, `open_until` is -inf.  3. T finds the old
   entry and returns it: T's call had begun before the act was done, and is as if before it.
1. A tag is condemned.  2. T, closed out, takes the lock, asks, and is told no.  3. The sweep drops
   the entry: T's next look finds none, as after a drop.
1. A tag is condemned, before record 7.  2. A value vouched for at 7 is put under it: it stands in a
   group of its own, no mark is above 7, and the sweep does not come by.
1. Tags A, before 5, and B, before 9, are condemned.  2. The sweep of A comes to an entry vouched for
   at 7: it depends on B too, so it goes. One at 9 stays, and is put among its like anew.
1. A tag is condemned, whatever its head (`before` inf).  2. A value is put under it by a key of its
   own: it counts as condemned until all is swept, which costs a reload and gives nothing old.

Least recently used goes first, without moving anything on a hit: the hit stamps the entry with
the instant it has read anyway. Each group is a ring in that order as of when its entries were
last placed; eviction places anew those at its head that were hit since, `MAX_LOOKS` at most, and
takes the oldest it met, in all groups or in `SAMPLE` of them, by turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import floor, frexp, inf, ldexp
from typing import Any

from tiercache._core.groups import Dependents, Group, Index, Linked
from tiercache._core.records import EVERYTHING, key_dep
from tiercache._core.shelves import Shelves

SLICE = 300  # entries one operation drops at most: a millisecond or so
TAGS = 8  # of an entry, for which it counts as one more of those
EVICTION = 4  # how many of those one eviction counts for, with the search for the oldest
TICKS = 16  # a second, to which the instant of a put is rounded down
MAX_SHARED = 1_024  # instants and kinds remembered to be shared
# What an entry costs beside its payload, for `maxbytes`: slots, dict items, a tag, a short key.
ENTRY_OVERHEAD = 350


class Entry(Linked):
    """One value, and until when and under which conditions it may be served."""

    __slots__ = (
        "arguments",
        "group",
        "key",
        "kind",
        "own",
        "restore",
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
        self.vouched = vouched  # head at which the server last vouched for the value
        self.own: tuple[str, ...] | str = deps  # what it depends on and its group does not; one, or several
        # What it shares with others; `print` and `size` until it is put.
        self.group: Group | tuple[int, int] = print, size
        # Instant of the last hit; of the last placing, and negative, if it was not hit since.
        self.stamp = 0.0
        # The call it is filed under as well: 1, True and 1.0 are one key to a dict, so their types count.
        self.arguments: Any = UNFILED
        self.kind: Any = None  # kind_of(arguments)

    @property
    def deps(self) -> tuple[str, ...]:
        """Tags only: the key itself is looked up by name."""
        return (*self.own_deps, *self.group.deps) if isinstance(self.group, Group) else self.own_deps

    @property
    def own_deps(self) -> tuple[str, ...]:
        return (self.own,) if isinstance(self.own, str) else self.own

    @property
    def print(self) -> int:
        """Of the tags its function declares; 0 for what was stored by key."""
        return self.group.print if isinstance(self.group, Group) else self.group[0]

    @property
    def size(self) -> int:
        """Bytes of payload; an entry that is put has told them, and forgets them."""
        return 0 if isinstance(self.group, Group) else self.group[1]

    def take(self) -> Any:
        """The value as the caller's own."""
        return self.value if self.restore is None else self.restore(self.value)

    def __repr__(self) -> str:
        return f"<Entry {self.key!r} vouched at {self.vouched} for {', '.join(self.deps) or 'no tag'}>"


UNFILED: Any = object()


class L1:
    """At most *maxsize* entries, and about *maxbytes* bytes of payload and overhead where given."""

    def __init__(self, maxsize: int, maxbytes: int | None = None) -> None:
        self.maxsize, self.maxbytes = maxsize, maxbytes
        self.entries: Shelves[Entry] = Shelves()
        self.used_bytes = 0  # counted where *maxbytes* is given
        self._sizes: Shelves[int] | None = None if maxbytes is None else Shelves()
        self.evictions = 0
        self.slice_size = SLICE
        self.condemned: deque[Dependents] = deque()  # not swept yet; read without the lock, too
        # While anything is condemned: dependency -> highest mark, and those who depended on it by then.
        self._marks: dict[str, float] = {}
        self._taken: dict[str, list[Dependents]] = {}
        self._index = Index()
        self._shared: dict[Any, Any] = {}  # instants and kinds: equal ones of many entries become one object
        self._head = 0  # the last head at which an entry was vouched for, likewise

    def put(self, entry: Entry, now: float) -> None:
        """Keep *entry* in place of any other under its key, and evict what no longer fits.

        One that is too large, or for which too many others at once would have to go, is not kept.
        """
        self.drop(entry.key)
        if self._sizes is not None and self.maxbytes is not None:
            size = entry.size + ENTRY_OVERHEAD
            if size > self.maxbytes:
                entry.deadline = -inf
                return
            self._sizes[entry.key] = size
            self.used_bytes += size
        entry.stamp = self._shared_of(-floor(now * TICKS) / TICKS)
        entry.deadline = self._shared_instant(entry.deadline, entry.deadline - now)
        if entry.vouched != self._head:
            self._head = entry.vouched
        entry.vouched = self._head
        self.entries[entry.key] = entry
        self._index.join(entry)
        self._make_room(entry)

    def alias(self, entry: Entry, table: dict[Any, Entry], arguments: Any) -> None:
        """File *entry* under a call's arguments as they came, too, for as long as it lives.

        One call an entry: arguments that do not count (`ignore`) would make it many.
        """
        if self.entries.get(entry.key) is not entry:
            return
        self._unfile(entry)
        self._index.settle(entry, table)
        entry.arguments = arguments
        entry.kind = self._shared_of(kind_of(arguments))
        table[arguments] = entry

    def drop(self, key: str) -> bool:
        """Forget the entry of *key*; whether there was one."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        entry.deadline = -inf
        if self._sizes is not None:
            self.used_bytes -= self._sizes.pop(key)
        self._unfile(entry)
        self._index.leave(entry)
        return True

    def drop_older(self, key: str, before: int) -> None:
        """Forget the entry of *key* if it was vouched for at a head below *before*."""
        entry = self.entries.get(key)
        if entry is not None and entry.vouched < before:
            self.drop(key)

    def drop_over(self, key: str, now: float) -> None:
        """Forget the entry of *key* if its time is over at *now*."""
        entry = self.entries.get(key)
        if entry is not None and entry.deadline <= now:
            self.drop(key)

    def drop_dependents(self, deps: Iterable[str], before: float = inf) -> int:
        """`condemn`, and sweep a slice; how many went at once."""
        held = len(self.entries)
        self.condemn(deps, before)
        self.sweep()
        return held - len(self.entries)

    def clear(self) -> int:
        """Forget everything, in place; how many went at once."""
        return self.drop_dependents((EVERYTHING,))

    def reset(self) -> None:
        """Forget everything at once, whatever a change that was cut short has left."""
        for entry in list(self.entries.values()):
            entry.deadline = -inf
        self._index.empty_tables()
        self._index = Index()
        for kept in (self.entries, self._sizes, self.condemned, self._marks, self._taken):
            if kept is not None:
                kept.clear()
        self.used_bytes = 0

    def condemn(self, deps: Iterable[str], before: float = inf) -> None:
        """Let nothing that depends on *deps* and was vouched for at a head below *before* be served.

        One step a dependency, however many depend on it. Whoever calls it sees to it that hits are closed
        and the rest is swept.
        """
        for dep in deps:
            if dep.startswith("k:"):
                found: Entry | Dependents | None = self.entries.get(dep.removeprefix("k:"))
            else:
                found = self._index.take(dep)
            if dep in self._marks:
                # 1. The tag is condemned, before 9.  2. And before 10, with those vouched for at 9 unswept.
                self._marks[dep] = max(before, self._marks[dep])
                for dependents in self._taken[dep]:
                    dependents.mark = max(before, dependents.mark)
            if isinstance(found, Dependents):
                found.mark = before
                self._marks.setdefault(dep, before)
                self._taken.setdefault(dep, []).append(found)
                self.condemned.append(found)
            elif found is not None and found.vouched < before:
                self.drop(found.key)

    def is_condemned(self, entry: Entry) -> bool:
        """Whether an act that is not swept yet took *entry* with it."""
        if isinstance(entry.group, Group) and entry.vouched < entry.group.mark:
            return True
        return any(entry.vouched < self._marks.get(dep, -inf) for dep in entry.own_deps)

    def sweep(self) -> None:
        """Drop condemned entries, having looked at about `slice_size` of those that may be at most."""
        limit = self.slice_size
        while self.condemned and limit > 0:
            dependents = self.condemned[0]
            while dependents.few and limit > 0:
                entry = dependents.few.pop()
                limit -= 1
                if self.entries.get(entry.key) is entry:
                    limit -= self._judge(entry)
            while dependents.groups and limit > 0:
                group, _ = dependents.groups.popitem()
                while not group.is_empty and limit > 0:
                    limit -= 1 + self._judge(group.first())
                if not group.is_empty:
                    dependents.groups[group] = None
            if dependents.is_empty:
                self.condemned.popleft()
        if self._marks and not self.condemned:
            self._marks.clear()
            self._taken.clear()

    def _judge(self, entry: Entry) -> int:
        """Drop *entry*, or place it anew; for how many others it counts, since each tag takes its time."""
        table, number = None, len(entry.own_deps)
        if isinstance(entry.group, Group):
            table, number = entry.group.table, number + len(entry.group.common)
        if self.is_condemned(entry):
            self.drop(entry.key)
            return number // TAGS
        self._index.leave(entry)
        self._index.join(entry)
        if table is not None and entry.arguments is not UNFILED:
            # The group in use may be that of another function, and who drops the entry looks there.
            self._index.settle(entry, table)
        return number // TAGS

    def _make_room(self, entry: Entry) -> None:
        """Let others than *entry* go until all is within bounds, or else *entry* itself."""
        room = inf if self.maxbytes is None else self.maxbytes
        if self.condemned:
            self.sweep()
        for _ in range(self.slice_size // EVICTION + 2):
            if len(self.entries) <= self.maxsize and self.used_bytes <= room:
                return
            oldest = self._index.oldest(but=entry)
            if oldest is not None:
                self.evictions += 1
                self.drop(oldest.key)
        self.drop(entry.key)

    def _unfile(self, entry: Entry) -> None:
        table = entry.group.table if isinstance(entry.group, Group) else None
        if table is not None and entry.arguments is not UNFILED and table.get(entry.arguments) is entry:
            del table[entry.arguments]
        entry.arguments = UNFILED

    # ---- what entries share

    def _shared_instant(self, instant: float, life: float) -> float:
        """*instant*, sooner by a thousandth of *life* at most, so that others have the same object."""
        if not 0 < life < inf:
            return instant
        unit = ldexp(1.0, frexp(life)[1] - 11)
        return self._shared_of(floor(instant / unit) * unit)  # type: ignore[no-any-return]

    def _shared_of(self, value: Any) -> Any:
        """An object equal to *value*."""
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
        return self._shared.setdefault(value, value)


def kind_of(arguments: Any) -> Any:
    """What tells calls apart whose arguments are equal: the type of the one, or the types of a tuple's."""
    return tuple(map(type, arguments)) if type(arguments) is tuple else type(arguments)


def deps_of(key: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """All that a value under *key* with these tag dependencies depends on."""
    return (key_dep(key), *tags)
