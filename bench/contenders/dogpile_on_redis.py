"""dogpile.cache on Redis with its distributed lock; no tier in the process, no tags."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import orjson

from bench.contenders.facade import AHEAD, Contender


class Dogpile(Contender):
    name = "dogpile.cache"
    packages = ("dogpile.cache", "redis")
    setting = "redis, distributed_lock=True, thread_local_lock=False, lock_timeout=10, orjson"
    is_async = False
    uses_redis = True
    expires_after: ClassVar[float] = 1  # of the ttl; from then on it loads anew
    gone_after: ClassVar[int] = 2
    more: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        from dogpile.cache import make_region

        prefix, ttl = self.place.prefix, int(self.place.ttl)
        self.region: Any = make_region(
            function_key_generator=lambda namespace, function, **_: (
                lambda argument: f"{function.__name__}:{argument}"
            ),
            key_mangler=lambda key: f"{prefix}:{key}",
            serializer=orjson.dumps,
            deserializer=orjson.loads,
            **self.more,
        ).configure(
            "dogpile.cache.redis",
            expiration_time=ttl * self.expires_after,
            arguments={
                "url": self.place.url,
                "redis_expiration_time": ttl * self.gone_after,
                "distributed_lock": True,
                "thread_local_lock": False,
                "lock_timeout": 10,
            },
        )

    async def close(self) -> None:
        self.region.actual_backend.writer_client.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = self.region.cache_on_arguments()(function)
        return wrapped

    def read(self, key: str) -> Any:
        found = self.region.get(key)
        return found or None  # NO_VALUE is false

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.region.set(key, value)

    def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        return self.region.get_or_create(key, loader)

    def drop(self, key: str) -> None:
        self.region.delete(key)

    def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        names = list(keys)
        found = self.region.get_multi(names)
        return {key: value for key, value in zip(names, found, strict=True) if value}

    def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        self.region.set_multi(dict(values))


def in_a_thread(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
    """As its documentation has it."""

    def run() -> None:
        try:
            region.set(key, creator())
        finally:
            mutex.release()

    threading.Thread(target=run).start()


class DogpileEarly(Dogpile):
    name = "dogpile.cache, async_creation_runner"
    setting = (
        f"async_creation_runner with a thread, expiration_time={AHEAD} x ttl, gone from Redis after the ttl; "
        "else as dogpile.cache"
    )
    expires_after = AHEAD
    gone_after = 1
    more: ClassVar[dict[str, Any]] = {"async_creation_runner": in_a_thread}
