"""Values that several threads change, and that whatever comes amid a change may change as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Version(Generic[T]):
    __slots__ = ("next", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.next: dict[None, _Version[T]] = {}  # set once, by `setdefault`, which nothing comes amid


class Cell(Generic[T]):
    """A value that is changed by compare and set, without a lock.

    The handler of a signal, or a finalizer, that comes amid a change on its own thread could not wait for a
    lock, and under one that it may take again its change would be lost: what goes on writes what it made of
    the value before. Here each version has one successor, which only one change can set, however many have
    followed by then; the others are made anew, from the newest. A fork leaves nothing behind, either.
    """

    __slots__ = ("_at",)

    def __init__(self, value: T) -> None:
        self._at = _Version(value)  # the newest, or one before it

    @property
    def value(self) -> T:
        return self._newest().value

    def change(self, make: Callable[[T], T]) -> tuple[T, T]:
        """Make the value what *make* gives for it, more than once perhaps; what it was, and what it is."""
        while True:
            before = self._newest()
            made = _Version(make(before.value))
            if before.next.setdefault(None, made) is made:
                self._at = made
                return before.value, made.value

    def _newest(self) -> _Version[T]:
        at = self._at
        while (later := at.next.get(None)) is not None:
            at = later
        return at
