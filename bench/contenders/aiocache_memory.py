"""aiocache on its memory, which has no bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender


class AiocacheMemory(Contender):
    name = "aiocache memory"
    packages = ("aiocache",)
    setting = "cached(ttl=..., cache=Cache.MEMORY), keys by default"
    is_async = True
    uses_redis = False
    is_bounded = False

    async def open(self) -> None:
        from aiocache import SimpleMemoryCache

        self.cache = SimpleMemoryCache(ttl=self.place.ttl)

    async def close(self) -> None:
        await self.cache.clear()
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from aiocache import Cache, cached

        wrapped: Callable[..., Any] = cached(ttl=self.place.ttl, cache=Cache.MEMORY)(function)
        return wrapped

    async def read(self, key: str) -> Any:
        return await self.cache.get(key)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.cache.set(key, value)

    async def drop(self, key: str) -> None:
        await self.cache.delete(key)
