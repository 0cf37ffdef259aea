"""dogpile.cache on its memory backend, which has no bound."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender, Unable


class DogpileMemory(Contender):
    name = "dogpile memory"
    packages = ("dogpile.cache",)
    setting = "make_region().configure('dogpile.cache.memory', expiration_time=...), cache_on_arguments()"
    is_async = False
    uses_redis = False
    is_bounded = False

    async def open(self) -> None:
        from dogpile.cache import make_region

        self.region = make_region().configure("dogpile.cache.memory", expiration_time=self.place.ttl)

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        from dogpile.cache.util import function_key_generator, kwarg_function_key_generator

        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        with_keywords = inspect.Parameter.KEYWORD_ONLY in kinds
        keys = kwarg_function_key_generator if with_keywords else function_key_generator
        wrapped: Callable[..., Any] = self.region.cache_on_arguments(function_key_generator=keys)(function)
        return wrapped

    def read(self, key: str) -> Any:
        return self.region.get(key) or None  # NO_VALUE is false

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.region.set(key, value)

    def drop(self, key: str) -> None:
        self.region.delete(key)


class DogpileMemoryLater(DogpileMemory):
    is_async = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        raise Unable("no async def")
