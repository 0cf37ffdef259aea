"""tiercache, in both worlds; on memory alone where no Redis is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bench.contenders.facade import Contender, Place
from tiercache import TierCache

L1_OF_NOTHING = 1  # bytes: no entry is as small, so none is kept


class Tiercache(Contender):
    name = "tiercache"
    packages = ("tiercache",)
    setting = (
        "TierCache(url, ttl=...), two tiers, defaults: lease, expiry, LRU, counters and the listener are on; "
        "where a question is about Redis alone, l1=False, for verbs l1_maxbytes=1"
    )
    is_async = False
    uses_redis = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        room: dict[str, Any] = (
            {"l1_maxsize": place.maxsize} if place.maxsize else {"l1_maxbytes": L1_OF_NOTHING}
        )
        self.cache = TierCache(
            place.url or "memory://", namespace=place.prefix, ttl=place.ttl, private=True, **room
        )
        self.verbs: Any = self.cache if self.is_async else self.cache.sync  # the same ones, awaited or not

    async def close(self) -> None:
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = self.cache.cached(tags=list(tags), l1=self.place.maxsize > 0)(function)
        return wrapped

    def read(self, key: str) -> Any:
        return self.verbs.get(key)

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> Any:
        return self.verbs.set(key, value, tags=tags)

    def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return self.verbs.get_or_load(key, loader, tags=tags)

    def drop(self, key: str) -> Any:
        return self.verbs.delete(key)

    def drop_tag(self, tag: str) -> Any:
        return self.verbs.invalidate_tags(tag)

    def read_many(self, keys: Iterable[str]) -> Any:
        return self.verbs.get_many(keys)

    def load_many(self, keys: Iterable[str], loader: Callable[[list[str]], Any]) -> Any:
        return self.verbs.get_or_load_many(keys, loader)

    def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> Any:
        return self.verbs.set_many(values, tags=tags)


class TiercacheAsync(Tiercache):
    name = "tiercache, awaited"
    is_async = True
