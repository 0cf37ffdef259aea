"""Reads by key that L1 does not answer at once: by a glance where that may do, else by a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tiercache._core.namers import check_names
from tiercache._core.reads import MISS
from tiercache._glances import LEFT
from tiercache._verbs import REPEATABLE, UNSET, Tags, Ttl, Unset, Verbs

if TYPE_CHECKING:
    from tiercache._glances import KeyGlances
    from tiercache._node import Node


class View(Protocol):
    """A cache, or its blocking view."""

    _node: Node
    _verbs: Verbs


def read(
    view: View,
    key: str,
    loader: Callable[[], Any] | None = None,
    ttl: Ttl | Unset = UNSET,
    tags: Tags = (),
    share: bool = False,
) -> Any:
    """The value under *key*, or MISS where no tier has it and there is no *loader*, which was checked."""
    asked = _asked(view, key, tags)
    if asked is not None:
        how = view._verbs, key, loader, ttl, asked.tags, share
        value = asked.glances.read(view._node, None, asked.named, *how)
        if value is not LEFT:
            return value
    return view._node.run(view._verbs.read(key, loader, ttl, tags, share))


async def read_async(
    view: View,
    key: str,
    loader: Callable[[], Any] | None = None,
    ttl: Ttl | Unset = UNSET,
    tags: Tags = (),
    share: bool = False,
) -> Any:
    asked = _asked(view, key, tags)
    if asked is not None:
        how = view._verbs, key, loader, ttl, asked.tags, share
        value = await asked.glances.read_async(view._node, None, asked.named, *how)
        if value is not LEFT:
            return value
    return await view._node.run_async(view._verbs.read(key, loader, ttl, tags, share))


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


class Asked(NamedTuple):
    glances: KeyGlances
    named: tuple[str, tuple[str, ...]]  # for a glance
    tags: tuple[str, ...]  # as they were then: the caller's list may change meanwhile


def _asked(view: View, key: str, tags: Tags) -> Asked | None:
    """What a glance may be asked for; None: a plan must see to it."""
    view._node.ready()
    glances = view._verbs.glances
    if glances is None or not isinstance(tags, REPEATABLE):
        return None
    stored, checked = check_names(key, tags)
    named = glances.named(stored, checked)
    return None if named is None else Asked(glances, named, checked)
