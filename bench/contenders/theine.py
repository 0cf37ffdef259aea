"""theine: adaptive W-TinyLFU, its policy in Rust."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from bench.contenders.facade import Contender


class Theine(Contender):
    name = "theine"
    packages = ("theine",)
    setting = "Memoize(maxsize, ttl) with keys made by itself"
    is_async = False
    uses_redis = False

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self.caches: list[Any] = []
        self.kept_for = timedelta(seconds=place.ttl)

    async def close(self) -> None:
        for cache in self.caches:
            cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from theine import Memoize

        memoize = Memoize(self.place.maxsize, self.kept_for)
        self.caches.append(memoize.cache)
        wrapped: Callable[..., Any] = memoize(function)
        return wrapped

    @property
    def cache(self) -> Any:
        """The one that is used by key, made when it is first asked for."""
        from theine import Cache

        if not self.caches:
            self.caches.append(Cache(self.place.maxsize))
        return self.caches[0]

    def read(self, key: str) -> Any:
        return self.cache.get(key)[0]

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.cache.set(key, value, self.kept_for)

    def drop(self, key: str) -> None:
        self.cache.delete(key)


class TheineLater(Theine):
    is_async = True
