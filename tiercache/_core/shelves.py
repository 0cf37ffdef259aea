"""A mapping in many small dicts, so that none of its operations moves all that it has.

A dict of 100,000 strings that grows, or that is compacted after as many were deleted, takes 3 to
6 ms for the one item that makes it do so. Of `SHELVES` dicts each has its own turn.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from itertools import chain
from typing import Any, Generic, TypeVar, overload

SHELVES = 64

V = TypeVar("V")
D = TypeVar("D")


class Shelves(MutableMapping[str, V], Generic[V]):
    """Reading one item takes no lock; all else is for one thread at a time. The order is nobody's."""

    __slots__ = ("_count", "_shelves")

    def __init__(self) -> None:
        self._shelves: tuple[dict[str, V], ...] = tuple({} for _ in range(SHELVES))
        self._count = 0

    # A dict goes by the low bits of the hash: by those it would be full of collisions.

    @overload
    def get(self, key: str, default: None = None) -> V | None: ...
    @overload
    def get(self, key: str, default: D) -> V | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        return self._shelves[hash(key) >> 24 & SHELVES - 1].get(key, default)

    def __getitem__(self, key: str) -> V:
        return self._shelves[hash(key) >> 24 & SHELVES - 1][key]

    def __contains__(self, key: object) -> bool:
        return key in self._shelves[hash(key) >> 24 & SHELVES - 1]

    def __setitem__(self, key: str, value: V) -> None:
        shelf = self._shelves[hash(key) >> 24 & SHELVES - 1]
        before = len(shelf)
        shelf[key] = value
        self._count += len(shelf) - before

    def __delitem__(self, key: str) -> None:
        del self._shelves[hash(key) >> 24 & SHELVES - 1][key]
        self._count -= 1

    def pop(self, key: str, *default: Any) -> Any:
        shelf = self._shelves[hash(key) >> 24 & SHELVES - 1]
        before = len(shelf)
        found = shelf.pop(key, *default)
        self._count -= before - len(shelf)
        return found

    def clear(self) -> None:
        for shelf in self._shelves:
            shelf.clear()
        self._count = 0

    def __len__(self) -> int:
        return max(0, self._count)  # less where all was cleared amid the removal of one (whole.py)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._shelves)

    def __repr__(self) -> str:
        return repr(dict(self))
