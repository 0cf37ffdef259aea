"""yokedcache on Redis: tags as sets of keys, no tier in the process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from bench.contenders.facade import Contender
from bench.contenders.hand_redis import CONNECTIONS


class Yokedcache(Contender):
    name = "yokedcache"
    packages = ("yokedcache", "redis")
    setting = (
        f"CacheConfig(max_connections={CONNECTIONS}), JSON, fetch_or_set; off are metrics, its log, and its "
        "refresh ahead, which asks twice for each hit"
    )
    is_async = True
    uses_redis = True
    refresh: ClassVar[dict[str, Any]] = {"enable_stale_while_revalidate": False}

    async def open(self) -> None:
        from yokedcache import CacheConfig, YokedCache

        logging.getLogger("yokedcache").setLevel(logging.CRITICAL)
        self.cache: Any = YokedCache(
            config=CacheConfig(
                redis_url=self.place.url or "",
                max_connections=CONNECTIONS,
                default_ttl=int(self.place.ttl),
                key_prefix=self.place.prefix,
                enable_metrics=False,
                log_invalidations=False,
                log_level="CRITICAL",
                **self.refresh,
            )
        )
        await self.cache.connect()

    async def close(self) -> None:
        await self.cache.disconnect()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        """By fetch_or_set: its decorator knows neither single flight nor tags of an argument."""
        templates, parameter = list(tags), function.__code__.co_varnames[0]

        async def cached(argument: Any) -> Any:
            names = [template.format(**{parameter: argument}) for template in templates]
            key = f"{function.__name__}:{argument}"
            return await self.cache.fetch_or_set(key, lambda: function(argument), tags=names or None)

        return cached

    async def read(self, key: str) -> Any:
        return await self.cache.get(key)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.cache.set(key, value, tags=list(tags) or None)

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return await self.cache.fetch_or_set(key, loader, tags=list(tags) or None)

    async def drop(self, key: str) -> None:
        await self.cache.delete(key)

    async def drop_tag(self, tag: str) -> None:
        await self.cache.invalidate_tags([tag])


class YokedcacheEarly(Yokedcache):
    name = "yokedcache, refresh ahead"
    setting = (
        "enable_stale_while_revalidate, single_flight_stale_ttl=1: a hit in the last second loads anew, "
        "once in a process; else as yokedcache"
    )
    refresh: ClassVar[dict[str, Any]] = {"enable_stale_while_revalidate": True, "single_flight_stale_ttl": 1}
