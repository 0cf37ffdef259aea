"""tiercache, in both worlds; on memory alone where no Redis is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bench.contenders.facade import Contender
from tiercache import TierCache


class Tiercache(Contender):
    name = "tiercache"
    packages = ("tiercache",)
    setting = "TierCache(url), cached(ttl=...); lease, expiry, LRU, counters and the listener are on"
    is_async = False
    uses_redis = True

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.cache = TierCache(
            place.url or "memory://",
            namespace=place.prefix,
            l1_maxsize=place.maxsize,
            ttl=place.ttl,
            private=True,
        )
        self.verbs = self.cache.sync

    async def close(self) -> None:
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = self.cache.cached(tags=list(tags))(function)
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

    def write_many(self, values: Mapping[str, Any]) -> Any:
        return self.verbs.set_many(values)


class TiercacheLater(Tiercache):
    is_async = True

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.verbs = self.cache  # type: ignore[assignment]  # the same verbs, awaited
