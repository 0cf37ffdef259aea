"""fastapi-cache2 on Redis: one decorator for coroutine functions, no verbs by key, no tags, no batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender
from bench.contenders.hand_redis import CONNECTIONS, awaited_client


class FastapiCache(Contender):
    name = "fastapi-cache2"
    packages = ("fastapi-cache2", "fastapi", "redis")
    setting = f"RedisBackend on redis.asyncio with a blocking pool of {CONNECTIONS}, JsonCoder (its default)"
    is_async = True
    uses_redis = True

    async def open(self) -> None:
        from fastapi_cache import FastAPICache
        from fastapi_cache.backends.redis import RedisBackend

        self.client: Any = awaited_client(self.place)
        self.setup: Any = FastAPICache
        self.setup.reset()
        self.setup.init(RedisBackend(self.client), prefix=self.place.prefix, expire=int(self.place.ttl))
        self.through = self._decorated(through, lambda function, namespace, *, args, **_: args[0])

    def _decorated(self, function: Callable[..., Any], key: Callable[..., str]) -> Callable[..., Any]:
        from fastapi_cache.decorator import cache

        prefix = self.place.prefix
        wrapped: Callable[..., Any] = cache(
            expire=int(self.place.ttl), key_builder=lambda *args, **kwargs: f"{prefix}:{key(*args, **kwargs)}"
        )(function)
        return wrapped

    async def close(self) -> None:
        self.setup.reset()
        await self.client.aclose()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        return self._decorated(
            function, lambda function, namespace, *, args, **_: f"{function.__name__}:{args[0]}"
        )

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return await self.through(key, loader)

    async def drop(self, key: str) -> None:
        await self.setup.clear(key=f"{self.place.prefix}:{key}")


async def through(key: str, loader: Callable[[], Any]) -> Any:
    return await loader()
