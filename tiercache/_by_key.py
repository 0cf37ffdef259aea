"""Reads by key that L1 does not answer at once: by a glance where that may do, else by a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tiercache._core.namers import check_names
from tiercache._core.reads import MISS
from tiercache._verbs import REPEATABLE, UNSET, Tags, Ttl, Unset, Verbs

if TYPE_CHECKING:
    from tiercache._glances import Glance, KeyGlances
    from tiercache._node import Node


class View(Protocol):
    """A cache, or its blocking view."""

    _node: Node
    _verbs: Verbs


class Begun(NamedTuple):
    glances: KeyGlances
    glance: Glance
    tags: tuple[str, ...]  # as they were then: the caller's list may change meanwhile


def read(
    view: View,
    key: str,
    loader: Callable[[], Any] | None = None,
    ttl: Ttl | Unset = UNSET,
    tags: Tags = (),
    share: bool = False,
) -> Any:
    """The value under *key*, or MISS where no tier has it and there is no *loader*, which was checked."""
    begun = _begun(view, key, tags)
    if begun is None:
        return view._node.run(view._verbs.read(key, loader, ttl, tags, share))
    glances, glance, named = begun
    return glances.read(view._node, glance, view._verbs, key, loader, ttl, named, share)


async def read_async(
    view: View,
    key: str,
    loader: Callable[[], Any] | None = None,
    ttl: Ttl | Unset = UNSET,
    tags: Tags = (),
    share: bool = False,
) -> Any:
    begun = _begun(view, key, tags)
    if begun is None:
        return await view._node.run_async(view._verbs.read(key, loader, ttl, tags, share))
    glances, glance, named = begun
    return await glances.read_async(view._node, glance, view._verbs, key, loader, ttl, named, share)


def get(view: View, key: str, default: Any) -> Any:
    value = read(view, key)
    return default if value is MISS else value


async def get_async(view: View, key: str, default: Any) -> Any:
    value = await read_async(view, key)
    return default if value is MISS else value


def exists(view: View, key: str) -> bool:
    return read(view, key) is not MISS


async def exists_async(view: View, key: str) -> bool:
    return await read_async(view, key) is not MISS


def _begun(view: View, key: str, tags: Tags) -> Begun | None:
    """A glance for *key*; None where a plan must see to it."""
    glances = view._verbs.glances
    if glances is None or not isinstance(tags, REPEATABLE):
        return None
    view._node.ready()
    stored, named = check_names(key, tags)
    glance = glances.begin(stored, named)
    return None if glance is None else Begun(glances, glance, named)
