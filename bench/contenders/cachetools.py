"""cachetools: LRU and TTL maps in Python, and `cached`, which wants a lock where there are threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender, Unable


class Cachetools(Contender):
    packages = ("cachetools",)
    is_async = False
    uses_redis = False
    lock: threading.RLock | None = None

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.map = self.made_map()

    def made_map(self) -> Any:
        from cachetools import TTLCache

        return TTLCache(self.place.maxsize, self.place.ttl)

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from cachetools import cached

        wrapped: Callable[..., Any] = cached(self.map, lock=self.lock)(function)
        return wrapped

    def read(self, key: str) -> Any:
        return self.map.get(key)

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.map[key] = value

    def drop(self, key: str) -> None:
        self.map.pop(key, None)


class CachetoolsLru(Cachetools):
    name = "cachetools LRU"
    setting = "cached(LRUCache(maxsize)); no lock: for one thread only; no expiry"

    def made_map(self) -> Any:
        from cachetools import LRUCache

        return LRUCache(self.place.maxsize)


class CachetoolsTtl(Cachetools):
    name = "cachetools TTL, lock"
    setting = "cached(TTLCache(maxsize, ttl), lock=RLock())"

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.lock = threading.RLock()


class CachetoolsCondition(Cachetools):
    name = "cachetools TTL, condition"
    setting = "cached(TTLCache(maxsize, ttl), condition=Condition()): one thread of a process loads"

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from cachetools import cached

        wrapped: Callable[..., Any] = cached(self.map, condition=threading.Condition())(function)
        return wrapped


class CachetoolsLater(Cachetools):
    name = "cachetools"
    setting = ""
    is_async = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        raise Unable("`cached` would keep the coroutine, which can be awaited only once")
