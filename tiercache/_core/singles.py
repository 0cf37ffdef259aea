"""Entries by the one tag that is theirs alone, in lists: a third of what a dict takes for that.

Linear hashing (Litwin, VLDB 1980): one list more for each `FULL` entries, made by splitting one,
so it grows without moving all that it has. A list is searched from end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiercache._core.l1 import Entry

FULL = 16  # entries a list, on average at most


class Singles:
    """What `own` names, if it names one tag. Under the lock, all of it."""

    __slots__ = ("_count", "_half", "_lists")

    def __init__(self) -> None:
        self._lists: list[list[Entry]] = [[], []]
        self._half = 1  # the lists are twice that by the time each of the first half was split
        self._count = 0

    def get(self, dep: str) -> Entry | None:
        for entry in self._lists[self._place(dep)]:
            if entry.own == dep:
                return entry
        return None

    def add(self, entry: Entry, dep: str) -> None:
        self._lists[self._place(dep)].append(entry)
        self._count += 1
        if self._count > FULL * len(self._lists):
            self._split()

    def discard(self, entry: Entry, dep: str) -> None:
        """Take *entry* out, if it is here."""
        entries = self._lists[self._place(dep)]
        if entry in entries:
            entries.remove(entry)
            self._count -= 1

    def _place(self, dep: str) -> int:
        number = hash(dep)
        at = number & 2 * self._half - 1
        return at if at < len(self._lists) else number & self._half - 1

    def _split(self) -> None:
        if len(self._lists) == 2 * self._half:
            self._half *= 2
        at, new = len(self._lists) - self._half, len(self._lists)
        both = self._lists[at]
        self._lists.append([])
        self._lists[at] = [entry for entry in both if self._place(entry.own) == at]  # type: ignore[arg-type]
        self._lists[new] += (entry for entry in both if self._place(entry.own) == new)  # type: ignore[arg-type]
