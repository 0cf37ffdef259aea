"""The default cache: the one of `TierCache()` and of `@cached` without a cache.

It is what `configure` made; else the one at TIERCACHE_URL; else, where the handles of this
process share exactly one node, that node, so that the invalidations of `cache` reach the functions
of a bare `@cached`; else memory://, with a warning.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from tiercache import _registry, _transports
from tiercache._cache import TierCache
from tiercache._locks import Guard
from tiercache._node import Node
from tiercache._settings import SettingArguments, Settings

if TYPE_CHECKING:
    from tiercache._transport.address import Address

_guard = Guard()
_default: TierCache | None = None  # under `_guard`
_warned = False  # under `_guard`


def configure(
    url: str | None = None, *, client: Any = None, **settings: Unpack[SettingArguments]
) -> TierCache:
    """Make the default cache, in place of any there was; functions decorated by `@cached` follow it.

    Raises SettingError as `TierCache` does; what there was is then as before.
    """
    global _default
    _transports.load()
    with _guard.lock:
        before = _default
        with _registry.replacing(None if before is None else before._node):
            made = TierCache(url, client=client, **settings)
        _default = made
    if before is not None:
        before.sync.close()
    return made


def default_cache() -> TierCache:
    """The default cache, made now if nobody did."""
    global _default
    _transports.load()
    with _guard.lock:
        if _default is None or _default._released:
            _default = TierCache()
        return _default


def whereabouts(given: dict[str, object]) -> tuple[Address | None, dict[str, object], bool]:
    """Where a cache without a URL is, its settings, *given* or of that place, and whether nobody named it."""
    address, with_it, nobody_said = _place()
    settings = {**with_it, **given}
    if address is not None:
        address = address.with_timeout(Settings.of(settings).timeout)
    return address, settings, nobody_said


def _place() -> tuple[Address | None, dict[str, object], bool]:
    with _guard.lock:
        default = None if _default is None or _default._released else _default
    if default is not None:
        node, settings = default._node, default._settings
        return node.address, {name: getattr(settings, name) for name in Settings.OF_HANDLE}, node.fallback
    url, given = Settings.from_environment(os.environ)
    if url is not None:
        return _transports.address_in_the_environment(url, Settings.of(given).timeout), given, False
    nodes = _registry.live()
    if len(nodes) == 1:
        return nodes[0].address, {"namespace": nodes[0].settings.namespace}, nodes[0].fallback
    warn_of_memory(nodes)
    return None, given, True


def warn_of_memory(nodes: Sequence[Node] = ()) -> None:
    """Say once that nobody named a server, and which other caches this process has."""
    global _warned
    with _guard.lock:
        if _warned:
            return
        _warned = True
    several = ", ".join(f"{node.address or 'memory://'} ({node.settings.namespace})" for node in nodes)
    warnings.warn(
        "no URL was given for the default cache, so it is memory://: it serves this process alone, and other "
        "processes do not hear of its invalidations; set TIERCACHE_URL, call configure('redis://...'), or "
        "say 'memory://' if that is what you want"
        + (
            f". This process has several caches, and the default one is none of them: {several}"
            if several
            else ""
        ),
        RuntimeWarning,
        stacklevel=distance_to_the_caller(),
    )


def distance_to_the_caller() -> int:
    """Frames from who asks to the first that is not tiercache's own."""
    distance, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "tiercache":
        distance, frame = distance + 1, frame.f_back
    return distance
