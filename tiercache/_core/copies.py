"""What L1 keeps of a value that callers may change, and how each of them gets a copy of his own.

The bytes will do for any value, and to read them anew is what a copy costs. A small value of
dicts, lists and sets is kept whole instead, read once from its bytes, given to nobody and never
changed, where copying it is cheaper: at any depth in C, by one of the ways below for at most two
levels in Python. There a copy of a deeper one takes as long as reading it (bench/copies.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from sys import getsizeof
from typing import Any, NamedTuple, Protocol

import orjson

from tiercache._accelerator import compiled
from tiercache._core.values import CONTAINERS, PLAIN, Unreadable

# Bytes of payload beyond which a value is kept as those: as objects it takes three to six times as much.
MAX_KEPT_WHOLE = 4096
MAX_CONTAINERS = 200  # in it, and so levels; beyond them, too

Copier = Callable[[Any], Any]
DEEP: Copier | None = None if compiled is None else compiled.copy
COPY: dict[type, Copier] = {kind: kind.copy for kind in CONTAINERS}


class Kept(NamedTuple):
    """A value as L1 has it, what makes a caller's copy of that, and about how many bytes it takes."""

    value: Any
    restore: Copier
    size: int


class Reader(Protocol):
    """What is asked of the codec."""

    def decode(self, data: bytes) -> Any: ...

    def is_shareable(self, value: Any) -> bool: ...


def kept(
    values: Reader, value: Any, payload: bytes, *, sized: bool = True, deep: Copier | None = DEEP
) -> Kept:
    """What to keep of *value*, which *values* made the *payload* of; where it is small, by decoding that.

    *deep* copies dicts, lists, sets and bytearrays at every depth. Not *sized*: the size is the payload's,
    and nothing is measured.
    """
    plain = payload[:1] == PLAIN
    if type(value) in COPY and len(payload) <= MAX_KEPT_WHOLE:
        found = _whole(values, payload, plain=plain, deep=deep)
        if found is not None:
            whole, copier = found
            # Keys are no part of the one, but long ones of the other.
            return Kept(whole, copier, max(_size(whole), len(payload)) if sized else len(payload))
    return Kept(payload, orjson.loads if plain else values.decode, len(payload))


def _whole(values: Reader, payload: bytes, *, plain: bool, deep: Copier | None) -> tuple[Any, Copier] | None:
    """The value of *payload* to be kept whole, and what copies it; None where its bytes are better kept."""
    if payload.count(b"[") + payload.count(b"{") > MAX_CONTAINERS:
        return None
    try:
        whole = orjson.loads(payload) if plain else values.decode(payload)
    except Unreadable:  # by a function of the user's: who asks for the value is told so
        return None
    # What JSON says is made of dicts, lists and what nobody can change.
    if deep is None:
        copier = copier_of(whole, _is_no_container if plain else values.is_shareable)
    else:
        copier = deep if plain or _is_tree(whole, values.is_shareable) else None
    return None if copier is None else (whole, copier)


def copier_of(whole: Any, is_immutable: Callable[[Any], bool]) -> Copier | None:
    """What copies *whole*; None for more than two levels of containers, or parts that can be changed."""
    copier = COPY.get(type(whole))
    if copier is None or copier is bytearray.copy:
        return copier
    inner: list[Any] = []
    for place, part in whole.items() if type(whole) is dict else enumerate(whole):
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


def _is_tree(part: Any, is_immutable: Callable[[Any], bool]) -> bool:
    """Whether *part* is made of containers to copy, and of what nobody can change."""
    if type(part) not in COPY:
        return is_immutable(part)
    return all(_is_tree(each, is_immutable) for each in _held(part))


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
    """Without the keys of dicts: mostly texts that many values share."""
    size = getsizeof(whole)
    if type(whole) is not bytearray:
        for part in whole.values() if type(whole) is dict else whole:
            size += _size(part) if type(part) in COPY else getsizeof(part)
    return size
