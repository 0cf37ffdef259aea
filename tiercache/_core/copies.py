"""What L1 keeps of a value that callers may change, and how each of them gets a copy of his own.

The bytes will do for any value, and to read them anew is what a copy costs. A small value of at
most two levels of dicts, lists and sets is kept whole instead, read once from its bytes, given to
nobody and never changed: copying such a one takes a half to a tenth of the time. Of a deeper one
it does not (bench/copies.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from sys import getsizeof
from typing import Any, NamedTuple, Protocol

import orjson

from tiercache._core.values import PLAIN, Unreadable

# Bytes of payload beyond which a value is kept as those: as objects it takes three to six times as much.
MAX_KEPT_WHOLE = 4096

Copier = Callable[[Any], Any]
COPY: dict[type, Copier] = {dict: dict.copy, list: list.copy, set: set.copy, bytearray: bytearray.copy}


class Kept(NamedTuple):
    """A value as L1 has it, what makes a caller's copy of that, and about how many bytes it takes."""

    value: Any
    restore: Copier
    size: int


class Reader(Protocol):
    """What is asked of the codec."""

    def decode(self, data: bytes) -> Any: ...

    def is_shareable(self, value: Any) -> bool: ...


def kept(values: Reader, value: Any, payload: bytes) -> Kept:
    """What to keep of *value*, which *values* made the *payload* of; where it is small, by decoding that."""
    plain = payload[:1] == PLAIN
    if len(payload) <= MAX_KEPT_WHOLE and type(value) in COPY:
        try:
            whole = values.decode(payload)
            # What JSON says is made of dicts, lists and what nobody can change.
            copier = copier_of(whole, _is_no_container if plain else values.is_shareable)
        except Unreadable:  # by a function of the user's: who asks for the value is told so
            copier = None
        if copier is not None:
            return Kept(whole, copier, _size(whole))
    return Kept(payload, orjson.loads if plain else values.decode, len(payload))


def copier_of(whole: Any, is_immutable: Callable[[Any], bool]) -> Copier | None:
    """What copies *whole*; None for more than two levels of containers, or parts that can be changed."""
    copier = COPY.get(type(whole))
    if copier is None or copier is bytearray.copy:
        return copier
    inner: list[Any] = []
    parts = whole.items() if type(whole) is dict else enumerate(whole)
    for place, part in parts:
        if type(part) in COPY:
            inner.append(place)
            if not all(map(is_immutable, _held(part))):
                return None
        elif not is_immutable(part):
            return None
    if type(whole) is dict and not all(map(is_immutable, whole)):
        return None
    if not inner:
        return copier
    return _copy_rows if type(whole) is list and len(inner) == len(whole) else _copier_at(tuple(inner))


def _is_no_container(part: Any) -> bool:
    return type(part) not in COPY


def _held(container: Any) -> Iterable[Any]:
    return (*container, *container.values()) if type(container) is dict else container


def _copy_rows(rows: list[Any]) -> list[Any]:
    return [row.copy() for row in rows]


@lru_cache(1024)
def _copier_at(places: tuple[Any, ...]) -> Copier:
    """What copies a dict or list, and the container at each of *places* in it."""

    def copy(whole: Any) -> Any:
        own = whole.copy()
        for place in places:
            own[place] = own[place].copy()
        return own

    return copy


def _size(whole: Any) -> int:
    """Two levels deep, without the keys: mostly texts that many values share."""
    size = getsizeof(whole)
    for part in whole.values() if type(whole) is dict else whole:
        size += getsizeof(part)
        if type(part) in COPY:
            size += sum(map(getsizeof, part.values() if type(part) is dict else part))
    return size
