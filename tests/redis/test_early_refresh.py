"""`early_refresh`: nobody waits for the load of what is read all the time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache
from tiercache._errors import SettingError

TTL = 2.0
ALWAYS = 1e9  # beta: as soon as half of the ttl is over


class Source:
    """Counts its loads; those after the first wait at the gate, or fail."""

    def __init__(self, world: World) -> None:
        self.loads = 0
        self.begun: list[float] = []
        self.gate = world.gate()
        self.error: Exception | None = None

    async def load(self) -> int:
        self.loads += 1
        self.begun.append(time.monotonic())
        number = self.loads
        if number > 1:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
        return number


@pytest.fixture
def source(world: World) -> Source:
    return Source(world)


def in_time(begun: float) -> bool:
    """Whether the value of then is still good."""
    return time.monotonic() < begun + TTL


@pytest.mark.parametrize("tiers", [{}, {"l1": False}], ids=["both tiers", "L2 alone"])
def test_the_old_value_is_served_while_the_load_of_one_caller_is_under_way(
    redis_server: RedisServer,
    world: World,
    new_node: Callable[..., TierCache],
    source: Source,
    tiers: dict[str, Any],
) -> None:
    node = new_node(redis_server.url(), max_staleness=60)

    @world.cached(node, ttl=TTL, early_refresh=ALWAYS, **tiers)
    async def number() -> int:
        return await source.load()

    async def begins() -> bool:
        assert await number() == 1
        return source.loads == 2

    async def is_there() -> bool:
        return await number() == 2

    async def body() -> None:
        begun = time.monotonic()
        assert await number() == 1
        await world.until(begins)
        assert [await number() for _ in range(20)] == [1] * 20
        assert in_time(begun), "so nobody has waited"
        source.gate.open()
        await world.until(is_there)
        assert in_time(begun)
        assert source.loads == 2
        assert node.stats().events["early_refreshes"] == 1

    world.run(body())


def test_a_failed_one_is_told_of_and_the_old_value_goes_on(
    redis_server: RedisServer,
    world: World,
    new_node: Callable[..., TierCache],
    source: Source,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = new_node(redis_server.url(), max_staleness=60)
    source.error = OSError("the source is away")
    source.gate.open()

    @world.cached(node, ttl=TTL, early_refresh=ALWAYS)
    async def number() -> int:
        return await source.load()

    async def fails() -> bool:
        assert await number() == 1
        return bool(node.stats().events["early_refreshes_failed"])

    async def body() -> None:
        begun = time.monotonic()
        await world.until(fails)
        assert await number() == 1
        assert in_time(begun)
        assert "the source is away" in caplog.text
        assert not any(isinstance(arg, Exception) for line in caplog.records for arg in line.args or ())
        assert source.loads == 2

    with caplog.at_level(logging.WARNING, "tiercache"):
        world.run(body())


def test_of_two_processes_one_loads_early_and_the_other_takes_its_value(
    redis_server: RedisServer, world: World, new_node: Callable[..., TierCache], source: Source
) -> None:
    source.gate.open()

    async def number() -> int:
        return await source.load()

    functions = [
        world.cached(new_node(redis_server.url(), max_staleness=60), ttl=TTL, early_refresh=ALWAYS)(number)
        for _ in range(2)
    ]

    async def both_have_it() -> bool:
        one, other = [await function() for function in functions]
        return one == other > 1

    async def body() -> None:
        assert [await function() for function in functions] == [1, 1]
        await world.until(both_have_it)
        # Where that took long, what was loaded early was loaded early in its turn.
        assert all(later - before > 0.9 * TTL / 2 for before, later in pairwise(source.begun))

    world.run(body())


def test_those_of_a_loop_that_ends_are_cancelled_and_leave_no_lock(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(redis_server.url(), max_staleness=60)
    loads, loading = [], asyncio.Event()

    @node.cached(ttl=TTL, early_refresh=ALWAYS)
    async def number() -> int:
        loads.append(1)
        if len(loads) == 2:
            loading.set()
            await asyncio.Event().wait()
        return len(loads)

    def keys() -> int:
        return sum(b"number" in key for key in redis_server.cli("KEYS", "*"))

    async def body() -> None:
        begun = time.monotonic()
        while not loading.is_set():
            assert await number() == 1
            assert in_time(begun)
            await asyncio.sleep(0)
        assert keys() == 2, "the entry and the lock"
        await node.close()

    asyncio.run(body())
    assert keys() == 1


def test_a_close_does_not_wait_for_one_that_takes_no_notice_of_its_cancellation(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(redis_server.url(), max_staleness=60)
    loads, loading, over = [], asyncio.Event(), asyncio.Event()

    @node.cached(ttl=TTL, early_refresh=ALWAYS)
    async def number() -> int:
        loads.append(1)
        if len(loads) > 1:
            loading.set()
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    pass
        return len(loads)

    async def body() -> bool:
        while not loading.is_set():
            await number()
            await asyncio.sleep(0)
        closing = asyncio.create_task(node.close())
        await asyncio.wait([closing], timeout=20)
        is_closed = closing.done()
        over.set()
        await closing
        return is_closed

    assert asyncio.run(body())


def test_a_session_of_the_caller_s_is_not_for_a_load_that_outlives_him() -> None:
    cache = TierCache("memory://", namespace="sessions")

    def number(db: object) -> int:
        return 1

    with pytest.raises(SettingError, match="session"):
        cache.cached(early_refresh=1.0, session="db")(number)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "1"])
def test_a_beta_that_is_none_is_refused_where_it_stands(wrong: Any) -> None:
    cache = TierCache("memory://", namespace="wrong")

    def number() -> int:
        return 1

    with pytest.raises(SettingError, match="early_refresh"):
        cache.cached(early_refresh=wrong)(number)
    with pytest.raises(SettingError, match="early_refresh needs L2"):
        cache.cached(early_refresh=1.0, l2=False)(number)
