"""The cache under test, as callers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tiercache import TierCache
from tiercache.cli.stampede.orders import TAG, Place, World

Loader = Callable[[], Any]


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

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        await self._cache.close()

    def verbs(self, world: World) -> Verbs:
        return InThreads(self._cache) if world == "threads" else InTasks(self._cache)

    def syncs(self) -> int:
        return self._cache.stats().events["syncs"]


class InTasks:
    def __init__(self, cache: TierCache) -> None:
        self._cache = cache

    async def load(self, key: str, loader: Loader) -> Any:
        return await self._cache.get_or_load(key, loader, tags=[TAG])

    async def drop_tag(self) -> None:
        await self._cache.invalidate_tags([TAG])

    async def renew(self, key: str, loader: Loader) -> None:
        token = await self._cache.token()
        await self._cache.set(key, await loader(), tags=[TAG], token=token)


class InThreads:
    def __init__(self, cache: TierCache) -> None:
        self._cache = cache.sync

    def load(self, key: str, loader: Loader) -> Any:
        return self._cache.get_or_load(key, loader, tags=[TAG])

    def drop_tag(self) -> None:
        self._cache.invalidate_tags([TAG])

    def renew(self, key: str, loader: Loader) -> None:
        token = self._cache.token()
        self._cache.set(key, loader(), tags=[TAG], token=token)
