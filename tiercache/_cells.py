"""Values that several threads change, and that whatever comes amid a change may change as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cell(Generic[T]):
    """A value that is changed by compare and set, without a lock.

    The handler of a signal, or a finalizer, that comes amid a change on its own thread could not wait for a
    lock, and under one that it may take again its change would be lost: what goes on writes what it made of
    the value before. Here each change is the next version, which only one can set; the others make theirs
    anew, from that. A fork leaves nothing behind, either.
    """

    __slots__ = ("_versions",)

    def __init__(self, value: T) -> None:
        self._versions = {0: (value,)}  # the newest counts; older ones are about to go

    @property
    def value(self) -> T:
        return self._newest()[1][0]

    def change(self, make: Callable[[T], T]) -> tuple[T, T]:
        """Make the value what *make* gives for it, more than once perhaps; what it was, and what it is."""
        while True:
            at, (before,) = self._newest()
            made = (make(before),)
            if self._versions.setdefault(at + 1, made) is made:
                for old in list(self._versions):
                    if old <= at:
                        self._versions.pop(old, None)
                return before, made[0]

    def _newest(self) -> tuple[int, tuple[T]]:
        while True:
            at = max(list(self._versions))
            found = self._versions.get(at)
            if found is not None:  # else a newer one came in between
                return at, found
