"""What a loader of many keys gives, and what it has nothing for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any

from tiercache._core.l1 import Entry

LoadMany = Callable[[list[str]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]


class Absent(BaseException):
    """The loader has nothing for a key. No error of anybody's: the key is left out."""


def _absent(_: object) -> Any:
    raise Absent


def nothing(key: str) -> Entry:
    """The entry of a key that a loader had nothing for: to take its value raises Absent."""
    return Entry(key, None, _absent, deadline=-inf)


def one_of(loader: LoadMany, key: str) -> Any:
    """What *loader* has for *key* alone; Absent where it has nothing."""
    return _pick(loader([key]), key)  # type: ignore[arg-type]  # a coroutine is refused by name in _pick


async def one_of_async(loader: LoadMany, key: str) -> Any:
    found = loader([key])
    return _pick(await found if isinstance(found, Awaitable) else found, key)


def _pick(found: Mapping[str, Any], key: str) -> Any:
    checked(found)
    if key not in found:
        raise Absent
    return found[key]


def checked(found: object) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise TypeError(
            f"the loader of many keys must return a mapping of key to value, not {type(found).__name__}"
        )
    return found
