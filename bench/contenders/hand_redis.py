"""What one can write by hand on redis-py and orjson: the bounds that every library is held against.

None of it knows tags, and none removes anything from another process: there is no tier in the process.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import orjson
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from bench.contenders.facade import Contender, Place

AGAIN = Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), 10)  # redis-py's own
CONNECTIONS = 50  # of a pool, for every contender that lets one choose


class HandRedis(Contender):
    """redis-py's blocking client: GET, SET, and nothing else."""

    name = "redis-py GET + orjson"
    packages = ("redis", "hiredis", "orjson")
    setting = "redis.Redis with hiredis and its pool, orjson, SET with EX"
    is_async = False
    uses_redis = True

    async def open(self) -> None:
        assert self.place.url is not None
        self.client: Any = redis.Redis.from_url(self.place.url)
        self.client.ping()

    async def close(self) -> None:
        self.client.close()

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        client, name, ttl = self.client, f"{self.place.prefix}:{function.__name__}", int(self.place.ttl)

        @functools.wraps(function)
        def cached(argument: Any) -> Any:
            found = client.get(f"{name}:{argument}")
            if found is not None:
                return orjson.loads(found)
            value = function(argument)
            client.set(f"{name}:{argument}", orjson.dumps(value), ex=ttl)
            return value

        return cached

    def key(self, key: str) -> str:
        return f"{self.place.prefix}:{key}"

    def read(self, key: str) -> Any:
        found = self.client.get(self.key(key))
        return None if found is None else orjson.loads(found)

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.client.set(self.key(key), orjson.dumps(value), ex=int(self.place.ttl))

    def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        found = self.read(key)
        if found is None:
            found = loader()
            self.write(key, found)
        return found

    def drop(self, key: str) -> None:
        self.client.delete(self.key(key))

    def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        names = list(keys)
        found = self.client.mget([self.key(key) for key in names])
        return {
            key: orjson.loads(value) for key, value in zip(names, found, strict=True) if value is not None
        }

    def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(self.key(key), orjson.dumps(value), ex=int(self.place.ttl))
            pipeline.execute()


class HandRedisAsync(Contender):
    """The same with redis-py's awaited client."""

    name = "redis-py GET + orjson, awaited"
    packages = ("redis", "hiredis", "orjson")
    setting = f"redis.asyncio with hiredis and a blocking pool of {CONNECTIONS}, orjson, SET with EX"
    is_async = True
    uses_redis = True

    async def open(self) -> None:
        self.client: Any = awaited_client(self.place)
        await self.client.ping()

    async def close(self) -> None:
        await self.client.aclose()

    async def fetch(self, key: str) -> bytes | None:
        found: bytes | None = await self.client.get(key)
        return found

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        client, name, ttl = self.client, f"{self.place.prefix}:{function.__name__}", int(self.place.ttl)
        fetch = self.fetch

        @functools.wraps(function)
        async def cached(argument: Any) -> Any:
            found = await fetch(f"{name}:{argument}")
            if found is not None:
                return orjson.loads(found)
            value = await function(argument)
            await client.set(f"{name}:{argument}", orjson.dumps(value), ex=ttl)
            return value

        return cached

    def key(self, key: str) -> str:
        return f"{self.place.prefix}:{key}"

    async def read(self, key: str) -> Any:
        found = await self.fetch(self.key(key))
        return None if found is None else orjson.loads(found)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        await self.client.set(self.key(key), orjson.dumps(value), ex=int(self.place.ttl))

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        found = await self.read(key)
        if found is None:
            found = await loader()
            await self.write(key, found)
        return found

    async def drop(self, key: str) -> None:
        await self.client.delete(self.key(key))

    async def read_many(self, keys: Iterable[str]) -> dict[str, Any]:
        names = list(keys)
        found = await self.client.mget([self.key(key) for key in names])
        return {
            key: orjson.loads(value) for key, value in zip(names, found, strict=True) if value is not None
        }

    async def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(self.key(key), orjson.dumps(value), ex=int(self.place.ttl))
            await pipeline.execute()


class HandBatched(HandRedisAsync):
    """One connection, and the reads of one turn of the loop leave as one MGET."""

    name = "one connection, MGET by hand"
    setting = "redis.asyncio, what is asked for in one loop turn leaves as one MGET; orjson"

    async def open(self) -> None:
        await super().open()
        self._waiting: dict[str, asyncio.Future[bytes | None]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def fetch(self, key: str) -> bytes | None:
        waiting = self._waiting.get(key)
        if waiting is None:
            loop = asyncio.get_running_loop()
            waiting = self._waiting[key] = loop.create_future()
            if len(self._waiting) == 1:
                loop.call_soon(self._leave)
        return await waiting

    def _leave(self) -> None:
        batch, self._waiting = self._waiting, {}
        task = asyncio.create_task(self._ask(batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _ask(self, batch: dict[str, asyncio.Future[bytes | None]]) -> None:
        for future, value in zip(batch.values(), await self.client.mget(list(batch)), strict=True):
            future.set_result(value)


class HandWake(HandRedisAsync):
    """A claim by SET NX; who does not get it waits for a message that the value is there."""

    name = "future + SET NX + pub/sub, by hand"
    setting = "one future a process, SET NX PX 10000 as the claim, PUBLISH wakes who waits; orjson"
    CLAIM: ClassVar = 10_000  # ms

    async def open(self) -> None:
        await super().open()
        self._flights: dict[str, asyncio.Future[Any]] = {}
        self._woken: dict[str, asyncio.Event] = {}
        self._pubsub = self.client.pubsub(ignore_subscribe_messages=True)
        await self._pubsub.subscribe(self.key("wake"))
        self._listener = asyncio.create_task(self._listen())

    async def close(self) -> None:
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        await self._pubsub.aclose()
        await super().close()

    async def _listen(self) -> None:
        async for message in self._pubsub.listen():
            event = self._woken.get(message["data"].decode())
            if event is not None:
                event.set()

    async def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        flight = self._flights.get(key)
        if flight is not None:
            return await asyncio.shield(flight)
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            flight.set_result(await self._fly(key, loader))
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            del self._flights[key]
        return flight.result()

    async def _fly(self, key: str, loader: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self.CLAIM / 1000
        event = self._woken[key] = asyncio.Event()
        try:
            while True:
                found = await self.read(key)
                if found is not None:
                    return found
                token = os.urandom(8)
                if await self.client.set(self.key(f"claim:{key}"), token, nx=True, px=self.CLAIM):
                    try:
                        value = await loader()
                        await self.write(key, value)
                    finally:  # of a load that failed, too: another is to try
                        await self.client.delete(self.key(f"claim:{key}"))
                        await self.client.publish(self.key("wake"), key)
                    return value
                with suppress(TimeoutError):  # the one who claimed it is dead
                    async with asyncio.timeout(max(0.05, deadline - time.monotonic())):
                        await event.wait()
                event.clear()
        finally:
            del self._woken[key]


def awaited_client(place: Place, **more: Any) -> Any:
    """redis-py's awaited client, whose pool lets a task wait for a connection instead of raising.

    A pool of one's own tries no command again, as one that the client makes does: that is told to it.
    """
    assert place.url is not None
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        place.url, max_connections=CONNECTIONS, timeout=30, retry=AGAIN, **more
    )
    return redis.asyncio.Redis.from_pool(pool)
