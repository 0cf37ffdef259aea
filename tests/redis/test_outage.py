"""Fault 10: Redis is away, and the application is not.

Other caches raise after seconds, wait as long at each further call, or come back a minute late.
Here a call is late by one timeout at first, nothing false is served, and recovery takes a second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.history import Read, Write, reads_until, too_old
from tests.servers import RedisServer, eventually
from tests.world import World
from tiercache import L2Unavailable, TierCache, Unstorable

pytestmark = pytest.mark.on_each_loop

TIMEOUT = 0.2  # seconds, of one round trip
LATE = TIMEOUT + 0.8  # a call at worst, on a machine that has other work
AGAIN = 2.0  # seconds to recover, of which the machine may take one

Act = Callable[[RedisServer], object]
OUTAGES: dict[str, tuple[Act, Act]] = {
    "gone": (RedisServer.kill, RedisServer.start),
    "silent": (RedisServer.pause, RedisServer.resume),
    "refusing writes": (
        lambda server: server.cli("ACL", "SETUSER", "default", "-@write"),
        lambda server: server.cli("ACL", "SETUSER", "default", "+@write"),
    ),
    "refusing scripts": (
        lambda server: server.cli("ACL", "SETUSER", "default", "-@scripting"),
        lambda server: server.cli("ACL", "SETUSER", "default", "+@scripting"),
    ),
    "refusing writes without replicas": (
        lambda server: server.cli("CONFIG", "SET", "min-replicas-to-write", "1"),
        lambda server: server.cli("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}
outages = pytest.mark.parametrize(("begin", "end"), OUTAGES.values(), ids=OUTAGES)


class Counted:
    """The truth, and how often it was loaded."""

    def __init__(self) -> None:
        self.version, self.loads = 1, 0

    async def load(self) -> int:
        self.loads += 1
        return self.version


async def is_cached(cache: Any, truth: Counted) -> bool:
    """Whether a value loaded now is found again."""
    await cache.get_or_load("k", truth.load, tags=["t"])
    before = truth.loads
    await cache.get_or_load("k", truth.load, tags=["t"])
    return truth.loads == before


async def called(cache: Any, truth: Counted, count: int) -> list[float]:
    """How long each of so many calls took, all of which gave the truth as it is."""
    took = []
    for _ in range(count):
        truth.version += 1
        begun = time.monotonic()
        assert await cache.get_or_load("k", truth.load, tags=["t"]) == truth.version
        took.append(time.monotonic() - begun)
    return took


@outages
def test_calls_go_on_with_the_truth_while_redis_is_away_and_are_cached_again_when_it_is_back(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache], begin: Act, end: Act
) -> None:
    node = new_node(own_redis.url(), timeout=TIMEOUT)
    cache, truth = world.view(node), Counted()

    async def body() -> None:
        await world.until(all_is_well)
        begin(own_redis)
        assert (await cache.invalidate_tags("t")).pending

        took = await called(cache, truth, 200)
        assert took[0] < LATE
        assert sum(took[1:]) < LATE, "no further call waits for a timeout of its own"

        end(own_redis)
        back = time.monotonic()
        await world.until(all_is_well)
        assert time.monotonic() - back < AGAIN

    async def all_is_well() -> bool:
        return await is_cached(cache, truth) and (await cache.health()).problem is None

    world.run(body())


@pytest.mark.parametrize("begin", [RedisServer.kill, RedisServer.pause], ids=["gone", "silent"])
def test_a_node_that_begins_without_redis_goes_on_and_caches_when_it_comes(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache], begin: Act
) -> None:
    begin(own_redis)
    cache, truth = world.view(new_node(own_redis.url(), timeout=TIMEOUT)), Counted()

    async def body() -> None:
        took = await called(cache, truth, 200)
        assert sum(took) < LATE
        own_redis.resume() if begin is RedisServer.pause else own_redis.start()
        back = time.monotonic()
        await world.until(is_cached_now)
        assert time.monotonic() - back < AGAIN

    async def is_cached_now() -> bool:
        return await is_cached(cache, truth)

    world.run(body())


def test_two_hundred_callers_at_once_are_late_by_one_timeout_all_together(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache = world.view(new_node(own_redis.url(), timeout=TIMEOUT))

    async def load() -> int:
        return 1

    async def body() -> None:
        await cache.get("k")
        own_redis.pause()
        begun = time.monotonic()
        keys = map(str, range(200))
        assert await world.gather(*(cache.get_or_load(key, load) for key in keys)) == [1] * 200
        assert time.monotonic() - begun < LATE + TIMEOUT

    world.run(body())


def test_callers_pay_no_timeout_after_the_first_however_long_it_is(
    own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    timeout, late = 1.0, 0
    cache = new_node(own_redis.url(), timeout=timeout).sync
    assert eventually(lambda: cache.health().listening)
    own_redis.pause()
    cache.invalidate_tags("t")
    end = time.monotonic() + 6 * timeout
    while (begun := time.monotonic()) < end:
        cache.invalidate_tags("t")
        late += time.monotonic() - begun >= timeout

    assert late <= 1, "one that the machine may have held up"


@pytest.mark.anyio
async def test_a_silent_redis_does_not_hold_up_the_other_tasks_of_the_loop(
    own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache = new_node(own_redis.url(), timeout=TIMEOUT)
    await cache.get("k")
    await cache.clear()
    own_redis.pause()
    reading = asyncio.create_task(cache.get("k"))
    ticks = 0
    while not reading.done():
        await asyncio.sleep(0.001)
        ticks += 1

    assert ticks > 20


def test_a_load_without_redis_is_still_one_for_all_who_wait(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(own_redis.url(), timeout=TIMEOUT)
    cache, runs = world.view(node), []
    own_redis.kill()

    async def body() -> None:
        gate = world.gate()

        async def load() -> int:
            runs.append(1)
            await gate.wait()
            return 1

        waiting = [world.start(cache.get_or_load("k", load)) for _ in range(50)]
        await world.until(lambda: sum(f.followers for f in node._node.tiers.board._flights.values()) == 49)
        gate.open()
        assert [await each.result() for each in waiting] == [1] * 50

    world.run(body())
    assert len(runs) == 1


@pytest.mark.parametrize("restart", ["empty", "from a snapshot"])
def test_what_was_invalidated_before_a_restart_is_found_by_nobody_after_it(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache], restart: str
) -> None:
    cache, other = (world.view(new_node(own_redis.url(), timeout=TIMEOUT)) for _ in range(2))
    truth = Counted()

    async def body() -> None:
        await cache.get_or_load("k", truth.load, tags=["t"])
        if restart == "from a snapshot":
            own_redis.save()
        truth.version = 2
        await cache.invalidate_tags("t")
        own_redis.kill()
        own_redis.start()
        begun = time.monotonic()
        # The other one never heard of the record that the snapshot lacks.
        assert await other.get_or_load("k", truth.load, tags=["t"]) == 2
        while time.monotonic() < begun + AGAIN / 2:
            assert await cache.get_or_load("k", truth.load, tags=["t"]) == 2

    world.run(body())


def test_a_value_of_which_redis_has_no_room_is_kept_in_l1(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, truth = world.view(new_node(own_redis.url())), Counted()
    own_redis.cli("CONFIG", "SET", "maxmemory", "1")

    async def body() -> None:
        assert await is_cached(cache, truth)
        assert not [key for key in own_redis.cli("KEYS", "*") if b":e:" in key]
        truth.version = 2
        await cache.invalidate_tags("t")
        assert await cache.get_or_load("k", truth.load, tags=["t"]) == 2

    world.run(body())


def test_a_value_that_cannot_be_stored_is_its_callers_error_and_opens_no_circuit(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_redis.url())
    cache, truth = world.view(node), Counted()

    async def unstorable() -> dict[str, list[object]]:
        return {"items": [1, threading.Lock()]}

    async def body() -> None:
        for _ in range(20):
            with pytest.raises(Unstorable, match=r"value\['items'\]\[1\]"):
                await cache.get_or_load("bad", unstorable)
            with pytest.raises(Unstorable):
                await cache.set("bad", await unstorable())
        assert await is_cached(cache, truth)
        await world.until(is_well)

    async def is_well() -> bool:
        return (await cache.health()).problem is None

    world.run(body())
    assert not node._node.breaker.is_open


def test_a_script_error_opens_no_circuit(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(own_redis.url())
    cache, truth = world.view(node), Counted()

    async def body() -> None:
        own_redis.cli("ACL", "SETUSER", "default", "-zmscore")
        await called(cache, truth, 20)
        assert not node._node.breaker.is_open

    world.run(body())


def test_a_lapse_is_an_error_where_that_was_asked_for(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, truth = world.view(new_node(own_redis.url(), timeout=TIMEOUT, on_lapse="raise")), Counted()
    own_redis.kill()

    async def body() -> None:
        with pytest.raises(L2Unavailable, match="on_lapse"):
            await cache.get_or_load("k", truth.load)

    world.run(body())
    assert truth.loads == 0


def test_no_read_after_an_invalidation_is_older_than_it_while_redis_comes_and_goes(
    own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    # Of one process: what it has invalidated, done or pending, it never reads again.
    cache = new_node(own_redis.url(), timeout=TIMEOUT, max_staleness=0.5).sync
    truth, over, writes, reads = [1], threading.Event(), list[Write](), list[Read]()

    def read_on() -> None:
        reads.extend(reads_until(over.is_set, lambda: cache.get_or_load("k", lambda: truth[0], tags=["t"])))

    reader = threading.Thread(target=read_on)
    reader.start()
    for begin, end in (*OUTAGES.values(), OUTAGES["gone"]):
        for act in (begin, end):
            act(own_redis)
            for _ in range(20):
                truth[0] += 1
                cache.invalidate_tags("t")
                writes.append(Write(time.monotonic(), truth[0]))
    over.set()
    reader.join()

    assert too_old(reads, writes, bound=0) == []
    assert eventually(lambda: not cache.health().pending, within=AGAIN)


def test_close_sends_what_is_pending_when_redis_comes_back_in_time(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node, other = new_node(own_redis.url(), timeout=TIMEOUT), new_node(own_redis.url(), max_staleness=60).sync
    cache = world.view(node)

    async def body() -> None:
        await cache.set("k", 1, tags=["t"])
        assert other.get("k") == 1
        own_redis.pause()
        assert (await cache.invalidate_tags("t")).pending
        closing = world.start(cache.close())
        await world.until(lambda: node._node.closed)
        own_redis.resume()
        await closing.result()

    world.run(body())
    assert eventually(lambda: other.get("k") is None, within=AGAIN)


def test_close_gives_up_after_two_seconds_and_logs_what_was_not_sent(
    world: World,
    own_redis: RedisServer,
    new_node: Callable[..., TierCache],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = world.view(new_node(own_redis.url(), timeout=TIMEOUT))

    async def body() -> None:
        await cache.get("k")
        own_redis.kill()
        await cache.invalidate_tags(["users", "orders"])
        begun = time.monotonic()
        await cache.close()
        assert 1.5 < time.monotonic() - begun < 4

    with caplog.at_level(logging.ERROR):
        world.run(body())
    assert "t:orders, t:users" in caplog.text


def test_a_logging_filter_that_raises_does_not_end_the_listener(
    own_redis: RedisServer, new_node: Callable[..., TierCache], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = new_node(own_redis.url(), timeout=TIMEOUT).sync
    cache.set("k", 1)
    assert eventually(lambda: cache.health().listening)

    def wants_a_request(record: logging.LogRecord) -> bool:
        raise KeyError("request_id")

    logger = logging.getLogger("tiercache")
    logger.addFilter(wants_a_request)
    try:
        own_redis.stop()
        assert eventually(lambda: not cache.health().listening)
    finally:
        own_redis.start()
        assert eventually(lambda: cache.get_or_load("k", lambda: 2) and cache.health().listening)
        logger.removeFilter(wants_a_request)
    assert "does not hear other processes" in capsys.readouterr().err
