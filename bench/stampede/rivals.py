"""A contender of the suite as callers of the stampede see it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.contenders import facade
from bench.contenders.facade import Contender, Unable
from tiercache.cli.stampede.orders import TAG, Place, World
from tiercache.cli.stampede.scenarios import LONG, Scenario, Setup
from tiercache.cli.stampede.subjects import Loader, Unfit, Verbs


@dataclass(frozen=True)
class Made:
    """Makes a contender in the process that will use it."""

    kind: type[Contender]

    def __call__(self, place: Place, world: World) -> Rival:
        return Rival(self.kind, place)


class Rival:
    """Reads through by key where the library has that, else through its decorator."""

    def __init__(self, kind: type[Contender], place: Place) -> None:
        url = place.url if kind.uses_redis else None
        self._contender = kind(facade.Place(url, ttl=place.ttl, prefix=place.namespace))
        self._loaders: dict[str, Loader] = {}  # by key, for the decorator
        self._through: Callable[[str], Any] | None = None

    async def open(self) -> None:
        try:
            await self._contender.open()
            if type(self._contender).load is Contender.load:
                self._through = self._contender.wrap(self._decorated())
        except Unable as reason:
            raise Unfit(str(reason)) from None

    def _decorated(self) -> Callable[[str], Any]:
        loaders = self._loaders
        if self._contender.is_async:

            async def value_later(key: str) -> Any:
                return await loaders[key]()

            return value_later

        def value_now(key: str) -> Any:
            return loaders[key]()

        return value_now

    async def close(self) -> None:
        await self._contender.close()

    def verbs(self, world: World) -> Verbs:
        return self

    def load(self, key: str, loader: Loader) -> Any:
        if self._through is None:
            return self._contender.load(key, loader, tags=[TAG])
        self._loaders[key] = loader
        return self._through(key)

    def drop_tag(self) -> Any:
        return self._contender.drop_tag(TAG)

    def renew(self, key: str, loader: Loader) -> Any:
        return self._renew_later(key, loader) if self._contender.is_async else self._renew(key, loader)

    async def _renew_later(self, key: str, loader: Loader) -> None:
        written = self._contender.write(key, await loader(), tags=[TAG])
        if inspect.isawaitable(written):
            await written

    def _renew(self, key: str, loader: Loader) -> None:
        self._contender.write(key, loader(), tags=[TAG])

    def syncs(self) -> int:
        return 0


def unable(kind: type[Contender], scenario: Scenario) -> str:
    """Why *kind* cannot play *scenario*; "" if it may try."""
    if scenario.event == "change" and kind.drop_tag is Contender.drop_tag:
        return "no tags"
    if scenario.name == "refresh" and (kind.write is Contender.write or kind.load is Contender.load):
        return "no writing by key of what its decorator reads"
    if scenario.ttl(Setup()) < LONG and not kind.expires:
        return "never expires"
    if scenario.forgets and not kind.uses_redis:
        return "keeps nothing in Redis"
    return ""
