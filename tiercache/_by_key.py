"""Reads by key that L1 does not answer at once: by a glance where that may do, else by a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tiercache._core.namers import check_names
from tiercache._core.reads import MISS
from tiercache._glances import LEFT
from tiercache._verbs import REPEATABLE, Loading, Verbs

if TYPE_CHECKING:
    from tiercache._glances import KeyGlances
    from tiercache._node import Node


FROM_TIERS = Loading()


class View(Protocol):
    """A cache, or its blocking view."""

    _node: Node
    _verbs: Verbs


class Asked(NamedTuple):
    glances: KeyGlances
    key: str
    expected: tuple[str, ...] | None  # tags to look for; None: the script alone can tell
    how: Loading  # with the tags as they were then: the caller's list may change meanwhile


def read(view: View, key: str, how: Loading = FROM_TIERS) -> Any:
    """The value under *key*, or MISS where no tier has it and there is no loader, which was checked."""
    asked = _asked(view, key, how)
    if asked is not None:
        glances, stored, expected, how = asked
        if expected is None:
            value = glances.ask(view._node, stored, view._verbs, key, how)
        else:
            value = glances.read(view._node, None, (stored, expected), view._verbs, key, how)
        if value is not LEFT:
            return value
    return view._node.run(view._verbs.read(key, how))


async def read_async(view: View, key: str, how: Loading = FROM_TIERS) -> Any:
    asked = _asked(view, key, how)
    if asked is not None:
        glances, stored, expected, how = asked
        if expected is None:
            value = await glances.ask_async(view._node, stored, view._verbs, key, how)
        else:
            value = await glances.read_async(view._node, None, (stored, expected), view._verbs, key, how)
        if value is not LEFT:
            return value
    return await view._node.run_async(view._verbs.read(key, how))


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


def _asked(view: View, key: str, how: Loading) -> Asked | None:
    """What a glance may be asked for; None: a plan must see to it."""
    view._node.ready()
    glances = view._verbs.glances
    if glances is None or not isinstance(how.tags, REPEATABLE):
        return None
    stored, tags = check_names(key, how.tags)
    expected = glances.expected(stored, tags)
    if expected is None and how.loader is not None:  # who may have to load flies
        return None
    return Asked(glances, stored, expected, how if how.tags == tags else how._replace(tags=tags))
