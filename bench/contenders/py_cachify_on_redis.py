"""py-cachify on Redis: decorators alone, blocking and awaited; no verb by key, no tags, no batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import redis

from bench.contenders.facade import Contender
from bench.contenders.hand_redis import CONNECTIONS, awaited_client


class _PyCachify(Contender):
    packages = ("py-cachify", "redis")
    through: Any
    is_global: ClassVar[bool] = False
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
            is_global=self.is_global,
        )
        self.through = self.decorated(self.through_of(), "{key}")

    def decorated(self, function: Callable[..., Any], key: str) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = self.cachify.cached(key=key)(function)
        return wrapped

    def through_of(self) -> Callable[..., Any]:
        raise NotImplementedError

    async def close(self) -> None:
        self.blocking.close()
        await self.awaited.aclose()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        argument = function.__code__.co_varnames[0]
        return self.decorated(function, f"{function.__name__}:{{{argument}}}")


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


class _Locked(_PyCachify):
    """Who has waited for the lock looks again: `cached` is inside of it, too.

    Its `once` gives callers nothing, or an error, while another one loads.
    """

    setting = (
        "cached(key) over lock(key, nowait=False, timeout=10), which looks each 0.1 s (its default), "
        "over cached(key)"
    )
    is_global = True  # its lock as a decorator knows no other client

    def decorated(self, function: Callable[..., Any], key: str) -> Callable[..., Any]:
        lock = self.cachify.lock(key=key, nowait=False, timeout=10)
        return super().decorated(lock(super().decorated(function, key)), key)


class PyCachifyLocked(_Locked, PyCachify):
    name = "py-cachify, lock"


class PyCachifyLockedAsync(_Locked, PyCachifyAsync):
    name = "py-cachify, lock, awaited"
