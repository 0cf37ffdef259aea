"""aiocache on Redis: no tier in the process, no tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from bench.contenders.facade import Contender
from bench.contenders.hand_redis import CONNECTIONS

LEASE = 10  # seconds a waiter of cached_stampede waits for the one that loads


class Aiocache(Contender):
    name = "aiocache"
    packages = ("aiocache", "redis")
    setting = f"RedisCache, JsonSerializer, a blocking pool of {CONNECTIONS}, cached_stampede(lease={LEASE})"
    is_async = True
    uses_redis = True

    async def open(self) -> None:
        from aiocache import Cache

        self.cache: Any = Cache(Cache.REDIS, **self.settings())
        self.through = self._decorated(through, lambda function, key, loader: f":{key}")

    def settings(self) -> dict[str, Any]:
        from aiocache.serializers import JsonSerializer
        from redis.asyncio import BlockingConnectionPool

        at = urlsplit(self.place.url or "")
        return {
            "endpoint": at.hostname,
            "port": at.port,
            "namespace": self.place.prefix,
            "serializer": JsonSerializer(),
            "pool_max_size": CONNECTIONS,
            "connection_pool_class": BlockingConnectionPool,
            "timeout": 30,
        }

    async def close(self) -> None:
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        return self._decorated(function, lambda function, argument: f":{function.__name__}:{argument}")

    def _decorated(self, function: Callable[..., Any], key_builder: Callable[..., str]) -> Callable[..., Any]:
        from aiocache import Cache, cached_stampede

        wrapped: Callable[..., Any] = cached_stampede(
            lease=LEASE,
            ttl=int(self.place.ttl),
            cache=Cache.REDIS,
            key_builder=key_builder,
            **self.settings(),
        )(function)
        wrapped.cache = self.cache  # type: ignore[attr-defined]
        return wrapped

    async def read(self, key: str) -> Any:
        return await self.cache.get(f":{key}")

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.cache.set(f":{key}", value, ttl=int(self.place.ttl))

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return await self.through(key, loader)

    async def drop(self, key: str) -> None:
        await self.cache.delete(f":{key}")

    async def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        names = list(keys)
        found = await self.cache.multi_get([f":{key}" for key in names])
        return {key: value for key, value in zip(names, found, strict=True) if value is not None}

    async def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        await self.cache.multi_set(
            [(f":{key}", value) for key, value in values.items()], ttl=int(self.place.ttl)
        )


async def through(key: str, loader: Callable[[], Any]) -> Any:
    return await loader()
