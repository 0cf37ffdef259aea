"""Fault 9, within a process: loads that are cancelled, fail, hang, or need one another.

Other caches cancel every waiter with the one that was cancelled, run a failing loader once for
each of them, wait for a hung one for ever, and deadlock on a function that asks for its own key.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.loops import NewLoop
from tests.servers import eventually
from tests.world import Tasks, World
from tiercache import LoadTimeout, TierCache

pytestmark = pytest.mark.on_each_loop


@pytest.fixture
def node(any_url: str, new_node: Callable[..., TierCache]) -> TierCache:
    return new_node(any_url)


def followers(node: TierCache, key: str) -> int:
    """How many wait for the load of *key* in this process."""
    flight = node._node.tiers.board._flights.get(key)
    return flight.followers if flight else 0


class Loader:
    """Counts its runs; each waits at the gate, and fails while there is an error."""

    def __init__(self, world: World, error: Exception | None = None) -> None:
        self.gate, self.error, self.runs = world.gate(), error, 0

    async def run(self) -> int:
        self.runs += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.runs


def test_fifty_callers_of_one_key_make_one_load(world: World, node: TierCache) -> None:
    cache = world.view(node)

    async def body() -> None:
        loader = Loader(world)
        callers = [world.start(cache.get_or_load("k", loader.run)) for _ in range(50)]
        await world.until(lambda: followers(node, "k") == 49)
        loader.gate.open()

        assert [await caller.result() for caller in callers] == [1] * 50

    world.run(body())


def test_a_failing_load_is_one_failure_for_all_who_waited_and_is_not_kept(
    world: World, node: TierCache
) -> None:
    cache = world.view(node)

    async def body() -> None:
        loader = Loader(world, LookupError("no such row"))
        calls = world.start(world.gather(*(cache.get_or_load("k", loader.run) for _ in range(50))))
        await world.until(lambda: followers(node, "k") == 49)
        loader.gate.open()

        assert [repr(outcome) for outcome in await calls.result()] == ["LookupError('no such row')"] * 50
        assert loader.runs == 1
        loader.error = None
        assert await cache.get_or_load("k", loader.run) == 2

    world.run(body())


@pytest.mark.parametrize("wait_in", ["thread", "task"])
def test_a_loader_that_raises_stop_iteration_is_an_error_for_all_who_waited(
    node: TierCache, wait_in: str
) -> None:
    go_on, runs = threading.Event(), []

    def load() -> int:
        runs.append(1)
        assert go_on.wait(10)
        raise StopIteration("mine")

    async def in_a_task() -> object:
        return await asyncio.wait_for(node.get_or_load("k", load), 10)

    def call(run: Callable[[], object], caught: list[BaseException]) -> None:
        try:
            run()
        except RuntimeError as error:
            caught.append(error)

    caught: list[BaseException] = []
    leader = threading.Thread(target=call, args=(lambda: node.sync.get_or_load("k", load), caught))
    leader.start()
    assert eventually(lambda: runs)
    run = (
        (lambda: node.sync.get_or_load("k", load))
        if wait_in == "thread"
        else lambda: asyncio.run(in_a_task())
    )
    follower = threading.Thread(target=call, args=(run, caught))
    follower.start()
    assert eventually(lambda: followers(node, "k") == 1)
    go_on.set()
    for each in (leader, follower):
        each.join(10)

    assert [repr(error.__cause__) for error in caught] == ["StopIteration('mine')"] * 2
    assert len(runs) == 1


@pytest.mark.anyio
async def test_a_waiter_that_is_cancelled_takes_nobody_along(node: TierCache) -> None:
    go_on, runs = asyncio.Event(), []

    async def load() -> int:
        runs.append(1)
        await go_on.wait()
        return 1

    tasks = [asyncio.create_task(node.get_or_load("k", load)) for _ in range(5)]
    await Tasks().until(lambda: followers(node, "k") == 4)
    tasks[2].cancel()
    await asyncio.wait([tasks[2]])
    go_on.set()

    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome != 1] == [outcomes[2]]
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert len(runs) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("wait_in", ["task", "thread"])
async def test_a_leader_that_is_cancelled_leaves_its_load_to_one_who_waited(
    node: TierCache, wait_in: str
) -> None:
    never, runs = asyncio.Event(), []

    async def load() -> int:
        runs.append("cancelled")
        await never.wait()
        return 1

    def load_in_a_thread() -> int:
        runs.append("took over")
        return 2

    async def load_again() -> int:
        return load_in_a_thread()

    def follow() -> Awaitable[int]:
        if wait_in == "task":
            return asyncio.create_task(node.get_or_load("k", load_again))
        return asyncio.ensure_future(asyncio.to_thread(node.sync.get_or_load, "k", load_in_a_thread))

    leader = asyncio.create_task(node.get_or_load("k", load))
    await Tasks().until(lambda: runs)
    waiting = [follow() for _ in range(4)]
    await Tasks().until(lambda: followers(node, "k") == 4)
    leader.cancel()

    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [2] * 4
    assert runs == ["cancelled", "took over"]


def test_a_function_that_asks_for_its_own_key_does_not_deadlock(world: World, node: TierCache) -> None:
    depth = []

    @world.cached(node, ttl=60)
    async def own(name: str) -> int:
        depth.append(name)
        return len(depth) if len(depth) > 1 else 10 * await own(name)

    async def body() -> None:
        assert await own("k") == 20

    world.run(body())


def test_two_loads_that_need_each_other_do_not_deadlock(world: World, node: TierCache) -> None:
    cache = world.view(node)

    async def body() -> None:
        first, second = world.gate(), world.gate()

        async def load_first() -> str:
            second.open()
            await first.wait()
            return "first of " + await cache.get_or_load("second", load_second)

        async def load_second() -> str:
            first.open()
            await second.wait()
            return "second of " + await cache.get_or_load("first", plain)

        async def plain() -> str:
            return "plain"

        ends = await world.gather(
            cache.get_or_load("first", load_first), cache.get_or_load("second", load_second)
        )
        assert all(isinstance(end, str) and " of " in end for end in ends), ends

    world.run(body())


@pytest.fixture
def a_loop(new_loop: NewLoop) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that turns in a thread of its own."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_thread_and_a_task_that_need_each_others_loads_do_not_deadlock(
    node: TierCache, a_loop: asyncio.AbstractEventLoop
) -> None:
    both = threading.Barrier(2, timeout=10)

    def load_first() -> str:
        both.wait()
        return "first of " + node.sync.get_or_load("second", lambda: "plain")

    async def load_second() -> str:
        await asyncio.to_thread(both.wait)
        return "second of " + await node.get_or_load("first", lambda: "plain")

    task = asyncio.run_coroutine_threadsafe(node.get_or_load("second", load_second), a_loop)

    assert node.sync.get_or_load("first", load_first).startswith("first of ")
    assert task.result(10).startswith("second of ")


@pytest.mark.anyio
async def test_a_blocking_call_in_a_coroutine_does_not_wait_for_a_task_of_its_own_loop(
    node: TierCache,
) -> None:
    never = asyncio.Event()
    leader = asyncio.create_task(node.get_or_load("k", never.wait))
    await Tasks().until(lambda: "k" in node._node.tiers.board._flights)

    assert node.sync.get_or_load("k", lambda: "loaded here") == "loaded here"

    leader.cancel()
    await asyncio.wait([leader])


def test_who_waits_for_a_hung_load_gives_up_and_who_comes_then_loads(
    world: World, any_url: str, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_url, load_timeout=0.3)
    cache = world.view(node)

    async def body() -> None:
        hung = Loader(world)
        leader = world.start(cache.get_or_load("k", hung.run))
        await world.until(lambda: hung.gate.arrived == 1)
        begun = time.monotonic()
        with pytest.raises(LoadTimeout, match=r"'k'.*0\.3 s.*load_timeout"):
            await cache.get_or_load("k", hung.run)
        assert 0.25 < time.monotonic() - begun < 3

        async def load() -> str:
            return "new"

        assert await cache.get_or_load("k", load) == "new"
        hung.gate.open()
        assert await leader.result() == 1, "who hung gets its own value all the same"

    world.run(body())
