"""cashews on its `mem://` backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender


class CashewsMemory(Contender):
    name = "cashews mem"
    packages = ("cashews",)
    setting = "setup('mem://?size=...&check_interval=10'), cache(ttl=...), keys by default"
    is_async = True
    uses_redis = False

    async def open(self) -> None:
        from cashews import Cache

        self.cache = Cache()
        self.cache.setup(f"mem://?size={self.place.maxsize}&check_interval=10")
        await self.cache.init()

    async def close(self) -> None:
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = self.cache(ttl=self.place.ttl, tags=tuple(tags))(function)
        return wrapped

    async def read(self, key: str) -> Any:
        return await self.cache.get(key)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.cache.set(key, value, expire=self.place.ttl, tags=tuple(tags))

    async def drop(self, key: str) -> None:
        await self.cache.delete(key)
