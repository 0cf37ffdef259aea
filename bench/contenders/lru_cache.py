"""functools.lru_cache: C, one lock-free look-up, no expiry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender, Unable


class LruCache(Contender):
    name = "functools.lru_cache"
    setting = "lru_cache(maxsize); in C, no expiry"
    is_async = False
    uses_redis = False
    expires = False

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        return functools.lru_cache(self.place.maxsize)(function)


class LruCacheLater(LruCache):
    is_async = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        raise Unable("keeps the coroutine, which can be awaited only once")
