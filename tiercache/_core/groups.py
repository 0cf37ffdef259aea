"""Who depends on what in L1: little memory where few do, one step where many are condemned.

A tag of one entry leads to it. A tag of several leads to its `Dependents`, which name the first
`FEW` of them one by one, and the rest by their groups: a `Group` is all entries that have the
same common tags, in a ring through the entries themselves. So a tag that is on every entry
costs each of them nothing, and to condemn them all is to mark one object.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from tiercache._accelerator import Timed
from tiercache._core.records import EVERYTHING
from tiercache._core.shelves import Shelves
from tiercache._core.singles import Singles

if TYPE_CHECKING:
    from tiercache._core.l1 import Entry

FEW = 64  # entries of one tag that are named one by one: a list is searched for the one that goes
STEPS = 16  # places an entry is moved past, at most, to where its last use puts it
MAX_LOOKS = 64  # entries an eviction places anew at most; then the oldest of those it met goes
SAMPLE = 16  # groups an eviction compares at most


class Linked(Timed):
    """A place in a ring; an entry's, or the group's own, between the last and the first, with no instant."""

    __slots__ = ("after", "before")

    after: Linked
    before: Linked


class Dependents:
    """Those who depend on one tag, and the head below which they are condemned."""

    __slots__ = ("dep", "few", "groups", "mark")

    def __init__(self, dep: str) -> None:
        self.dep = dep
        self.few: list[Entry] = []
        self.groups: dict[Group, None] = {}  # emptied from its end: popping from a dict's front is slow
        self.mark = -inf

    @property
    def is_common(self) -> bool:
        return bool(self.groups) or len(self.few) >= FEW

    @property
    def is_empty(self) -> bool:
        return not (self.few or self.groups)


class Group(Linked):
    """The entries of one function, or of none, with the same common tags; least recently used first."""

    __slots__ = ("common", "place", "print", "table")

    def __init__(self, common: tuple[Dependents, ...], print: int) -> None:
        self.common = common  # the first is for everything
        self.print = print
        self.table: dict[Any, Entry] | None = None  # in which the calls of its entries are filed
        self.place = -1  # in the list of all groups
        self.after = self.before = self
        for dependents in common:
            dependents.groups[self] = None

    @property
    def deps(self) -> tuple[str, ...]:
        return tuple(dependents.dep for dependents in self.common[1:])

    @property
    def mark(self) -> float:
        """The head below which its entries are condemned, by what they have in common."""
        return max(dependents.mark for dependents in self.common)

    @property
    def is_empty(self) -> bool:
        return self.after is self

    def first(self) -> Entry:
        entry: Any = self.after
        return entry  # type: ignore[no-any-return]

    def after_of(self, entry: Entry) -> Entry | None:
        """The one that goes next after *entry*, which is of this group; None where it is the last."""
        following: Any = entry.after
        return None if following is self else following

    def link(self, entry: Entry) -> None:
        """Place *entry* by its stamp: before those used later, as far as `STEPS` reach."""
        used, at = abs(entry.stamp), self.before
        for _ in range(STEPS):
            if at is self or abs(at.stamp) <= used:
                break
            at = at.before
        entry.before, entry.after = at, at.after
        at.after.before = at.after = entry

    def oldest(self, looks: int) -> tuple[Entry, int]:
        """The least recently used, or the oldest of those looked at; and how many looks are left.

        One that was hit since it was placed is placed anew.
        """
        first = oldest = self.first()
        while looks > 0 and first.stamp > 0:
            looks -= 1
            if first.stamp < abs(oldest.stamp):
                oldest = first
            first.before.after, first.after.before = first.after, first.before
            first.stamp = -first.stamp
            self.link(first)
            first = self.first()
        if abs(first.stamp) < abs(oldest.stamp):
            oldest = first
        return oldest, looks


class Index:
    """What leads from a dependency to its entries, and which entries go first. Under the lock, all of it."""

    def __init__(self) -> None:
        self._tags: Shelves[Entry | Dependents] = Shelves()
        self._singles = Singles()  # instead of there: entries with one tag of their own
        self._all = Dependents(EVERYTHING)
        self._groups: dict[tuple[Any, ...], Group] = {}
        self._listed: list[Group] = []  # the same, for eviction to take turns
        self._turn = 0

    def take(self, dep: str) -> Entry | Dependents | None:
        """Those who depend on *dep*; several are found by it no more, and who joins now is not of them."""
        if dep == EVERYTHING:
            found, self._all = self._all, Dependents(EVERYTHING)
            return found
        one = self._found(dep)
        if isinstance(one, Dependents):
            del self._tags[dep]
        return one

    def join(self, entry: Entry) -> None:
        """Let *entry* be found by what it depends on."""
        own: list[str] = []
        alone: list[str] = []
        common = [self._all]
        for dep in dict.fromkeys(entry.deps):
            found = self._found(dep)
            if found is None:
                alone.append(dep)
            elif isinstance(found, Dependents):
                if found.is_common:
                    common.append(found)
                    continue
                found.few.append(entry)
                dep = found.dep
            else:
                self._singles.discard(found, dep)
                self._tags[dep] = several = Dependents(dep)
                several.few += (found, entry)
            own.append(dep)
        group = self._group(tuple(common), entry.print, None)
        entry.own = own[0] if len(own) == 1 else tuple(own)
        entry.group = group
        group.link(entry)
        if alone and len(own) == 1:
            self._singles.add(entry, own[0])
        else:
            for dep in alone:
                self._tags[dep] = entry

    def leave(self, entry: Entry) -> None:
        """Undo `join`; the entry still says what it depends on."""
        for dep in entry.own_deps:
            found = self._tags.get(dep)
            if found is entry:
                del self._tags[dep]
            elif found is None:
                self._singles.discard(entry, dep)
            elif isinstance(found, Dependents) and entry in found.few:
                found.few.remove(entry)
                self._tidy(found)
        self._unlink(entry)

    def _found(self, dep: str) -> Entry | Dependents | None:
        return self._tags.get(dep) or self._singles.get(dep)

    def settle(self, entry: Entry, table: dict[Any, Entry]) -> None:
        """Let *entry* be in a group whose calls are filed in *table*."""
        group = entry.group
        assert isinstance(group, Group)
        if group.table is None:
            group.table = table
        elif group.table is not table:
            self._unlink(entry)
            entry.group = group = self._group(group.common, group.print, table)
            group.link(entry)

    def oldest(self, but: Entry) -> Entry | None:
        """Who is to go first, *but* that one; of those looked at, if more was used since it was placed."""
        looks, oldest = MAX_LOOKS, None
        for _ in range(min(SAMPLE, len(self._listed))):
            self._turn = (self._turn + 1) % len(self._listed)
            group = self._listed[self._turn]
            first, looks = group.oldest(looks)
            # It is the first where all others were hit within the tick that it was put in.
            entry = group.after_of(but) if first is but else first
            if entry is not None and (oldest is None or abs(entry.stamp) < abs(oldest.stamp)):
                oldest = entry
        return oldest

    def empty_tables(self) -> None:
        """Let no call be found in the tables of these entries."""
        for group in self._listed:
            if group.table is not None:
                group.table.clear()

    def _group(self, common: tuple[Dependents, ...], print: int, table: Any) -> Group:
        """The group of those with *common* tags that are filed in *table*; with None, the one in use."""
        name = common, print, None if table is None else id(table)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = self._groups[common, print, None] = Group(common, print)
            group.table, group.place = table, len(self._listed)
            self._listed.append(group)
        return group

    def _unlink(self, entry: Entry) -> None:
        """Take *entry* out of its ring, so that it keeps nobody alive; and the group away with the last."""
        group = entry.group
        assert isinstance(group, Group)
        entry.before.after, entry.after.before = entry.after, entry.before
        del entry.before, entry.after
        if not group.is_empty:
            return
        for at in (None, id(group.table)):
            if self._groups.get((group.common, group.print, at)) is group:
                del self._groups[group.common, group.print, at]
        last = self._listed.pop()
        if last is not group:
            self._listed[group.place] = last
            last.place = group.place
        for dependents in group.common:
            dependents.groups.pop(group, None)
            self._tidy(dependents)

    def _tidy(self, dependents: Dependents) -> None:
        if dependents.is_empty and self._tags.get(dependents.dep) is dependents:
            del self._tags[dependents.dep]
