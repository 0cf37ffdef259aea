"""async-lru: lru_cache for coroutines, with a ttl."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender, Unable


class AsyncLru(Contender):
    name = "async-lru"
    packages = ("async-lru",)
    setting = "alru_cache(maxsize, ttl=...)"
    is_async = True
    uses_redis = False

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from async_lru import alru_cache

        cached: Callable[..., Any] = alru_cache(self.place.maxsize, ttl=self.place.ttl)(function)
        return cached


class AsyncLruNow(AsyncLru):
    is_async = False

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        raise Unable("for coroutines only")
