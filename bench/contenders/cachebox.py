"""cachebox: maps in Rust, and `cached` for both worlds, with single flight in the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender


class Cachebox(Contender):
    name = "cachebox TTL"
    packages = ("cachebox",)
    setting = "cached(TTLCache(maxsize, ttl)), all else by default: a lock a key, shallow copies"
    is_async = False
    uses_redis = False

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        import cachebox

        self.map: Any = self.made_map(cachebox)

    def made_map(self, cachebox: Any) -> Any:
        return cachebox.TTLCache(self.place.maxsize, global_ttl=self.place.ttl)

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from cachebox import cached

        wrapped: Callable[..., Any] = cached(self.map)(function)
        return wrapped

    def read(self, key: str) -> Any:
        return self.map.get(key)

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.map.insert(key, value)

    def drop(self, key: str) -> None:
        self.map.pop(key, None)


class CacheboxLru(Cachebox):
    name = "cachebox LRU"
    setting = "cached(LRUCache(maxsize)), all else by default; no expiry"

    def made_map(self, cachebox: Any) -> Any:
        return cachebox.LRUCache(self.place.maxsize)


class CacheboxLater(Cachebox):
    is_async = True


class CacheboxLruLater(CacheboxLru):
    is_async = True
