"""py-cachify on Redis: decorators alone, blocking and awaited; no verb by key, no tags, no batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import redis

from bench.contenders.facade import Contender
from bench.contenders.hand_redis import CONNECTIONS, awaited_client


class _PyCachify(Contender):
    packages = ("py-cachify", "redis")
    setting = f"init_cachify with redis-py clients (pool of {CONNECTIONS}), cached(key=...), pickle (its own)"
    uses_redis = True

    async def open(self) -> None:
        from py_cachify import init_cachify

        assert self.place.url is not None
        self.blocking: Any = redis.Redis.from_url(self.place.url)
        self.awaited: Any = awaited_client(self.place)
        self.cachify: Any = init_cachify(
            sync_client=self.blocking,
            async_client=self.awaited,
            prefix=f"{self.place.prefix}:",
            default_cache_ttl=int(self.place.ttl),
            is_global=False,
        )
        self.through = self.cachify.cached(key="{key}")(self.through_of())

    def through_of(self) -> Callable[..., Any]:
        raise NotImplementedError

    async def close(self) -> None:
        self.blocking.close()
        await self.awaited.aclose()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        argument = function.__code__.co_varnames[0]
        wrapped: Callable[..., Any] = self.cachify.cached(key=f"{function.__name__}:{{{argument}}}")(function)
        return wrapped


class PyCachify(_PyCachify):
    name = "py-cachify"
    is_async = False

    def through_of(self) -> Callable[..., Any]:
        def through(key: str, loader: Callable[[], Any]) -> Any:
            return loader()

        return through

    def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return self.through(key, loader)

    def drop(self, key: str) -> None:
        self.through.reset(key, None)


class PyCachifyAsync(_PyCachify):
    name = "py-cachify, awaited"
    is_async = True

    def through_of(self) -> Callable[..., Any]:
        async def through(key: str, loader: Callable[[], Any]) -> Any:
            return await loader()

        return through

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return await self.through(key, loader)

    async def drop(self, key: str) -> None:
        await self.through.reset(key, None)
