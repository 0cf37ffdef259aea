"""cashews: Redis alone, and with its client-side cache.

On redis-py 8 its client-side cache is served for ever: redis-py speaks RESP3 there, in which the server
does not send invalidations to the channel that cashews listens on. `protocol=2` brings them back; cashews'
documentation does not say so, hence both are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from bench.contenders.facade import AHEAD, Contender, Place, Unable
from bench.contenders.hand_redis import CONNECTIONS


class Cashews(Contender):
    name = "cashews"
    packages = ("cashews", "redis")
    setting = f"redis://, max_connections={CONNECTIONS}, pickle, and within a process one load (its defaults)"
    is_async = True
    uses_redis = True
    lock: ClassVar[bool] = False
    more: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        from cashews import Cache

        self.cache: Any = Cache()
        self.cache.setup(self.place.url, max_connections=CONNECTIONS, **self.settings())
        await self.cache.init()

    def settings(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        await self.cache.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        argument = function.__code__.co_varnames[0]
        key = f"{self.key(function.__name__)}:{{{argument}}}"
        wrapped: Callable[..., Any] = self.cache(
            ttl=self.place.ttl, key=key, tags=[self.tag(tag) for tag in tags], lock=self.lock
        )(function)
        return wrapped

    def key(self, key: str) -> str:
        return f"{self.place.prefix}:{key}"

    def tag(self, tag: str) -> str:
        return f"{self.place.prefix}:{tag}"

    async def read(self, key: str) -> Any:
        return await self.cache.get(self.key(key))

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.cache.set(
            self.key(key), value, expire=self.place.ttl, tags=[self.tag(tag) for tag in tags]
        )

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        found = await self.read(key)
        if found is None:
            found = await loader()
            await self.write(key, found, tags)
        return found

    async def drop(self, key: str) -> None:
        await self.cache.delete(self.key(key))

    async def drop_tag(self, tag: str) -> None:
        await self.cache.delete_tags(self.tag(tag))

    async def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        names = list(keys)
        found = await self.cache.get_many(*(self.key(key) for key in names))
        return {key: value for key, value in zip(names, found, strict=True) if value is not None}

    async def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        if tags:
            raise Unable("no tags where many keys are written at once")
        await self.cache.set_many(
            {self.key(key): value for key, value in values.items()}, expire=self.place.ttl
        )


class CashewsLocked(Cashews):
    name = "cashews, lock=True"
    setting = (
        f"redis://, max_connections={CONNECTIONS}, decorator with lock=True, "
        "which holds as long as the entry; pickle (its default)"
    )
    lock = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._through: dict[tuple[str, ...], Callable[..., Any]] = {}  # by tags

    def decorator(self, **settings: Any) -> Any:
        return self.cache(**settings, lock=True)

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        """By its decorator, which lets one caller of a process ask for the lock."""
        names = tuple(tags)
        if names not in self._through:
            self._through[names] = self.decorator(
                ttl=self.place.ttl, key=self.key("{key}"), tags=[self.tag(tag) for tag in names]
            )(through)
        return await self._through[names](key, loader)


class CashewsEarly(CashewsLocked):
    name = "cashews, early"
    setting = f"cache.early(ttl, early_ttl={AHEAD} x ttl), which has no lock for a cold key; else as cashews"

    def decorator(self, **settings: Any) -> Any:
        return self.cache.early(**settings, early_ttl=self.place.ttl * AHEAD)


async def through(key: str, loader: Callable[[], Any]) -> Any:
    return await loader()


class CashewsClientSide(Cashews):
    name = "cashews client_side"
    setting = f"client_side=True as documented, max_connections={CONNECTIONS}; RESP3, as redis-py 8 has it"

    def settings(self) -> dict[str, Any]:
        from cashews.backends.memory import Memory

        prefix = f"{self.place.prefix}-client:"
        return {
            "client_side": True,
            "client_side_prefix": prefix,
            "local_cache": Memory(size=self.place.maxsize),
            **self.more,
        }


class CashewsClientSideResp2(CashewsClientSide):
    name = "cashews client_side, protocol=2"
    setting = f"client_side=True, max_connections={CONNECTIONS}, protocol=2 so that it invalidates"
    more: ClassVar[dict[str, Any]] = {"protocol": 2}
