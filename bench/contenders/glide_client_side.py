"""valkey-glide with its client-side cache, told by the server (CLIENT TRACKING ON BCAST)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.contenders.facade import Contender

BYTES_OF_AN_ENTRY = 2_000  # its cache is bounded in KB, the others' in entries


class Glide(Contender):
    name = "valkey-glide"
    packages = ("valkey-glide",)
    setting = "GlideClient, RESP3, ClientSideCache(server_assisted=True), orjson"
    is_async = True
    uses_redis = True

    async def open(self) -> None:
        from glide import ClientSideCache, GlideClient, GlideClientConfiguration, NodeAddress

        at = urlsplit(self.place.url or "")
        cache = None
        if self.place.maxsize:
            cache = ClientSideCache.create(
                max_cache_kb=max(1_000, self.place.maxsize * BYTES_OF_AN_ENTRY // 1_000),
                entry_ttl_ms=int(self.place.ttl * 1000),
                server_assisted=True,
            )
        self.client: Any = await GlideClient.create(
            GlideClientConfiguration(
                [NodeAddress(at.hostname or "", at.port or 6379)],
                request_timeout=10_000,
                client_side_cache=cache,
            )
        )

    async def close(self) -> None:
        await self.client.close()

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
        await self.client.set(self.key(key), orjson.dumps(value), expiry=self._expiry())

    def _expiry(self) -> Any:
        from glide import ExpirySet, ExpiryType

        return ExpirySet(ExpiryType.SEC, int(self.place.ttl))

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
        from glide import Batch

        batch = Batch(is_atomic=False)
        for key, value in values.items():
            batch.set(self.key(key), orjson.dumps(value), expiry=self._expiry())
        await self.client.exec(batch, raise_on_error=True)
