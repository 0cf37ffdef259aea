"""coredis with its tracking cache: what was read stays until the server says that it changed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import orjson

from bench.contenders.facade import Contender
from bench.contenders.hand_redis import CONNECTIONS


class Coredis(Contender):
    name = "coredis"
    packages = ("coredis",)
    setting = f"Redis(max_connections={CONNECTIONS}) with LRUCache (client tracking), orjson"
    is_async = True
    uses_redis = True

    async def open(self) -> None:
        import coredis
        from coredis.patterns.cache import LRUCache

        cache = LRUCache(max_keys=self.place.maxsize) if self.place.maxsize else None
        self.client: Any = coredis.Redis.from_url(
            self.place.url, max_connections=CONNECTIONS, cache=cache, noreply=False
        )
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self.client)

    async def close(self) -> None:
        await self._stack.aclose()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        @functools.wraps(function)
        async def cached(argument: Any) -> Any:
            return await self.load(f"{function.__name__}:{argument}", lambda: function(argument))

        return cached

    def key(self, key: str) -> str:
        return f"{self.place.prefix}:{key}"

    async def read(self, key: str) -> Any:
        found = await self.client.get(self.key(key))
        return None if found is None else orjson.loads(found)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.client.set(self.key(key), orjson.dumps(value), ex=int(self.place.ttl))

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        found = await self.read(key)
        if found is None:
            found = await loader()
            await self.write(key, found)
        return found

    async def drop(self, key: str) -> None:
        await self.client.delete([self.key(key)])

    async def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        names = list(keys)
        found = await self.client.mget([self.key(key) for key in names])
        return {
            key: orjson.loads(value) for key, value in zip(names, found, strict=True) if value is not None
        }

    async def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(self.key(key), orjson.dumps(value), ex=int(self.place.ttl))
