"""The cache under test, as callers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tiercache import TierCache
from tiercache.cli.stampede.orders import TAG, Place, World

Loader = Callable[[], Any]
Cached = Callable[[str, Loader], Any]


class Unfit(Exception):
    """This cache cannot do what is asked; the text is what the table says."""


class Verbs(Protocol):
    """What callers do, awaited by tasks and not by threads; the loader is as they are."""

    def load(self, key: str, loader: Loader) -> Any:
        """The value under *key*, loaded where it is missing."""

    def drop_tag(self) -> Any:
        """Make every key invalid."""

    def renew(self, key: str, loader: Loader) -> Any:
        """Load and store, whatever is cached."""


class Subject(Protocol):
    """One cache in one process."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def verbs(self, world: World) -> Verbs:
        """Of "tasks" or "threads"; both may be at work at once."""

    def syncs(self) -> int:
        """Requests so far that come with time and not with callers."""


MakeSubject = Callable[[Place, World], Subject]  # in the process that will use it, so it must be picklable


@dataclass(frozen=True, slots=True)
class Open:
    """To a process: make the cache, and its connections warm."""

    make: MakeSubject
    place: Place
    world: World


class Tiercache:
    def __init__(self, place: Place, world: World) -> None:
        self._cache = TierCache(
            place.url,
            namespace=place.namespace,
            ttl=place.ttl,
            load_timeout=place.load_timeout,
            max_staleness=place.max_staleness,
        )
        beta = place.early_refresh
        # Once: a function knows how long its loads take.
        self._early_task = _early(self._cache, beta, awaited=True) if beta else None
        self._early_thread = _early(self._cache, beta, awaited=False) if beta else None

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        await self._cache.close()

    def verbs(self, world: World) -> Verbs:
        if world == "threads":
            return InThreads(self._cache, self._early_thread)
        return InTasks(self._cache, self._early_task)

    def syncs(self) -> int:
        return self._cache.stats().events["syncs"]


class InTasks:
    def __init__(self, cache: TierCache, early: Cached | None) -> None:
        self._cache, self._early = cache, early

    async def load(self, key: str, loader: Loader) -> Any:
        if self._early is not None:
            return await self._early(key, loader)
        return await self._cache.get_or_load(key, loader, tags=[TAG])

    async def drop_tag(self) -> None:
        await self._cache.invalidate_tags([TAG])

    async def renew(self, key: str, loader: Loader) -> None:
        token = await self._cache.token()
        await self._cache.set(key, await loader(), tags=[TAG], token=token)


class InThreads:
    def __init__(self, cache: TierCache, early: Cached | None) -> None:
        self._cache, self._early = cache.sync, early

    def load(self, key: str, loader: Loader) -> Any:
        if self._early is not None:
            return self._early(key, loader)
        return self._cache.get_or_load(key, loader, tags=[TAG])

    def drop_tag(self) -> None:
        self._cache.invalidate_tags([TAG])

    def renew(self, key: str, loader: Loader) -> None:
        token = self._cache.token()
        self._cache.set(key, loader(), tags=[TAG], token=token)


def _early(cache: TierCache, beta: float, *, awaited: bool) -> Cached:
    """A cached function of one name in both worlds, so that they share what it keeps."""
    cached = cache.cached(key="{key}", tags=[TAG], early_refresh=beta)
    if awaited:

        @cached
        async def load(key: str, loader: Loader) -> Any:
            return await loader()

    else:

        @cached
        def load(key: str, loader: Loader) -> Any:
            return loader()

    return load
