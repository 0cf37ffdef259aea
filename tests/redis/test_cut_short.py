"""Loads that are cut short, or that run where nobody can tell that they are loads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, lowlevel, to_thread

from tests.loops import NewLoop
from tests.servers import TIMEOUT, RedisServer, eventually
from tests.world import World
from tiercache import TierCache, _refreshes, cached, configure
from tiercache._core.plan import Call
from tiercache._core.tiers import Counts, Want

pytestmark = pytest.mark.on_each_loop

NewNode = Callable[..., TierCache]


def locks(server: RedisServer) -> list[bytes]:
    found: list[bytes] = server.cli("KEYS", "{*}1:l:*")
    return found


@pytest.mark.anyio
async def test_a_leader_and_its_follower_that_are_cancelled_together_leave_no_lock(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    cache = new_node(redis_server.url())
    begun, never = asyncio.Event(), asyncio.Event()

    async def load() -> None:
        begun.set()
        await never.wait()

    both = asyncio.gather(cache.get_or_load("k", load), cache.get_or_load("k", load))
    await begun.wait()
    assert locks(redis_server)
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both

    assert await asyncio.to_thread(lambda: eventually(lambda: not locks(redis_server), within=5))


@pytest.mark.anyio
async def test_a_batch_that_is_cancelled_while_it_loads_leaves_no_lock(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    cache = new_node(redis_server.url())
    begun, never = asyncio.Event(), asyncio.Event()

    async def load(keys: list[str]) -> dict[str, str]:
        begun.set()
        await never.wait()
        return {}

    batch = asyncio.ensure_future(cache.get_or_load_many(["a", "b"], load))
    await begun.wait()
    assert len(locks(redis_server)) == 2
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    assert await asyncio.to_thread(lambda: eventually(lambda: not locks(redis_server), within=5))


@pytest.mark.anyio
async def test_a_follower_that_is_cancelled_is_counted_no_more(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    """Its leader would leave it the lock."""
    cache, begun, go = new_node(redis_server.url()), asyncio.Event(), asyncio.Event()

    async def load() -> int:
        begun.set()
        await go.wait()
        return 1

    leading = asyncio.create_task(cache.get_or_load("k", load))
    await begun.wait()
    flight = cache._node.tiers.board._flights["k"]
    following = [asyncio.create_task(cache.get_or_load("k", load)) for _ in range(3)]
    await asyncio.sleep(0)
    assert flight.followers == 3

    following[0].cancel()
    await asyncio.wait(following[:1])
    assert flight.followers == 2

    go.set()
    assert await asyncio.gather(leading, *following[1:]) == [1] * 3
    assert flight.followers == 0


def connections(server: RedisServer) -> int:
    listed: bytes = server.cli("CLIENT", "LIST")
    return listed.count(b"\n")


@pytest.mark.anyio
async def test_a_close_in_a_scope_that_is_cancelled_closes(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    before = connections(redis_server)
    cache = new_node(redis_server.url())
    with CancelScope() as scope:
        async with cache:
            await cache.set("k", 1)
            scope.cancel()
            await asyncio.sleep(0)

    assert cache._node.closed
    assert connections(redis_server) == before


@pytest.mark.anyio
async def test_a_close_does_not_wait_for_the_threads_of_the_application(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    cache, over = new_node(redis_server.url()), threading.Event()
    await cache.get("k")
    threads = int(to_thread.current_default_thread_limiter().total_tokens)
    timely: list[bool] = []

    async with create_task_group() as work:
        for _ in range(threads):
            work.start_soon(to_thread.run_sync, lambda: timely.append(over.wait(10)))
        while to_thread.current_default_thread_limiter().available_tokens:
            await lowlevel.checkpoint()
        await cache.close()
        over.set()

    assert timely == [True] * threads


@pytest.mark.anyio
@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("times", [1, 2])
async def test_a_close_that_is_cancelled_closes(
    redis_server: RedisServer, new_node: NewNode, turns: int, times: int
) -> None:
    before = connections(redis_server)
    cache = new_node(redis_server.url())
    await cache.set("k", 1)
    reads = [asyncio.create_task(cache.get(f"k{i}")) for i in range(50)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(cache.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(times):
        closing.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([closing])
    await asyncio.gather(*reads, return_exceptions=True)
    if not turns:
        await cache.close()  # that one has not begun

    assert cache._node.closed
    assert await asyncio.to_thread(lambda: eventually(lambda: connections(redis_server) == before, within=5))


def test_who_waits_for_a_task_takes_over_when_its_loop_is_closed(
    any_url: str, new_node: NewNode, world: World, new_loop: NewLoop
) -> None:
    cache, loop = new_node(any_url), new_loop()
    begun, never = asyncio.Event(), asyncio.Event()

    async def load() -> None:
        begun.set()
        await never.wait()

    async def take_over() -> str:
        return "taken over"

    async def follow() -> Any:
        return await world.view(cache).get_or_load("k", take_over)

    async def ask_again() -> Any:
        try:
            return await cache.get_or_load("k", take_over)
        finally:
            await cache._node.close_loop()

    leading = loop.create_task(cache.get_or_load("k", load))  # which is kept: nothing collects it
    loop.run_until_complete(begun.wait())
    with ThreadPoolExecutor(1) as elsewhere:
        following = elsewhere.submit(world.run, follow())
        assert eventually(lambda: cache._node.tiers.board._flights["k"].followers)
        loop.run_until_complete(cache._node.close_loop())  # the connections, which would be complained of
        loop.close()

        assert asyncio.run(ask_again()) == "taken over"
        assert following.result(TIMEOUT) == "taken over"
    assert not leading.done()
    leading._log_destroy_pending = False  # type: ignore[attr-defined]


def test_refreshes_under_way_in_a_loop_that_is_closed_take_no_place(
    redis_server: RedisServer, new_node: NewNode, new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_refreshes, "MAX_AT_ONCE", 1)
    node = new_node(redis_server.url())._node

    async def begin(key: str) -> None:
        begun = asyncio.Event()

        async def load() -> None:
            begun.set()
            await asyncio.Event().wait()

        want = Want(key, Counts(), Call(load))
        assert [node.refreshes.begin(want, 0, blocking=False) for _ in range(2)] == [True, False]
        await begun.wait()
        await node.loops.of_running().close()

    for key in "abc":
        loop = new_loop()
        loop.run_until_complete(begin(key))
        loop.close()


def test_a_load_reads_no_old_part_in_a_thread_that_does_not_know_of_it(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    # It hears nothing: only what a load needs tells it of the other's invalidation.
    here = new_node(redis_server.url(), listen=False).sync
    there = new_node(redis_server.url()).sync
    truth = ["old"]

    def part() -> str:
        value: str = here.get_or_load("part", lambda: truth[0], tags=["t"])
        return value

    with ThreadPoolExecutor(1) as elsewhere:
        assert part() == "old"
        truth[0] = "new"
        there.invalidate_tags("t")

        assert here.get_or_load("whole", lambda: elsewhere.submit(part).result(), tags=["t"]) == "new"


def test_a_load_under_way_when_its_function_changes_caches_is_not_found_by_arguments(
    redis_server: RedisServer,
) -> None:
    begun, goes_on, runs = threading.Event(), threading.Event(), [0]

    @cached(tags=["t"])
    def count(x: int) -> int:
        runs[0] += 1
        seen = runs[0]
        if seen == 1:
            begun.set()
            assert goes_on.wait(10)
        return seen

    with TierCache("memory://", namespace="stays").sync, ThreadPoolExecutor(1) as elsewhere:
        configure("memory://", namespace="stays")
        late = elsewhere.submit(count, 7)
        assert begun.wait(10)
        with configure(redis_server.url()).sync as default:
            goes_on.set()
            assert late.result() == 1

            assert count(7) == 2
            default.invalidate_tags("t")
            assert count(7) == 3
