"""tiercache in front of Redis, blocking and awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bench.contenders.facade import Contender
from tiercache import TierCache

L1_OF_NOTHING = 1  # bytes: no entry is as small, so none is kept


class _Tiercache(Contender):
    packages = ("tiercache",)
    setting = "two tiers, defaults; where a question is about Redis alone, l1=False, for verbs l1_maxbytes=1"
    uses_redis = True

    async def open(self) -> None:
        assert self.place.url is not None
        settings: dict[str, Any] = (
            {"l1_maxsize": self.place.maxsize} if self.place.maxsize else {"l1_maxbytes": L1_OF_NOTHING}
        )
        self.cache = TierCache(
            self.place.url, namespace=self.place.prefix, ttl=self.place.ttl, private=True, **settings
        )

    async def close(self) -> None:
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = self.cache.cached(tags=list(tags), l1=self.place.maxsize > 0)(function)
        return wrapped


class Tiercache(_Tiercache):
    name = "tiercache"
    is_async = False

    def read(self, key: str) -> Any:
        return self.cache.sync.get(key)

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.cache.sync.set(key, value, tags=list(tags))

    def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return self.cache.sync.get_or_load(key, loader, tags=list(tags))

    def drop(self, key: str) -> None:
        self.cache.sync.delete(key)

    def drop_tag(self, tag: str) -> None:
        self.cache.sync.invalidate_tags(tag)

    def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return self.cache.sync.get_many(keys)

    def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        self.cache.sync.set_many(values, tags=list(tags))


class TiercacheAsync(_Tiercache):
    name = "tiercache, awaited"
    is_async = True

    async def read(self, key: str) -> Any:
        return await self.cache.get(key)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.cache.set(key, value, tags=list(tags))

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return await self.cache.get_or_load(key, loader, tags=list(tags))

    async def drop(self, key: str) -> None:
        await self.cache.delete(key)

    async def drop_tag(self, tag: str) -> None:
        await self.cache.invalidate_tags(tag)

    async def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return await self.cache.get_many(keys)

    async def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        await self.cache.set_many(values, tags=list(tags))
