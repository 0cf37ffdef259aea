"""Calls made ahead of the traffic: a few at a time, none stopped by another's failure."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tiercache import TierCache, Warmed


class NoSuchUser(LookupError):
    pass


@pytest.fixture
def cache() -> Iterator[TierCache]:
    with TierCache("memory://", private=True).sync as sync:
        yield sync._cache


class Crowd:
    """How many are inside at once; they leave together, when *size* have come."""

    def __init__(self, size: int) -> None:
        self.most = self._inside = 0
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(size)

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self._barrier.wait(10)
        with self._lock:
            self._inside -= 1


@pytest.mark.anyio
async def test_what_was_warmed_is_answered_without_a_load(cache: TierCache) -> None:
    @cache.cached
    async def user(number: int) -> str:
        return f"user {number}"

    warmed = await cache.warm([(user, number) for number in range(50)])

    assert (warmed.done, warmed.failed) == (50, ())
    assert user.cache_info().loads == 50
    assert await user(7) == "user 7"
    assert user.cache_info().loads == 50


def test_what_was_warmed_in_threads_is_answered_without_a_load(cache: TierCache) -> None:
    @cache.cached
    def user(number: int) -> str:
        return f"user {number}"

    assert cache.sync.warm([(user, number) for number in range(50)]).done == 50
    assert user(7) == "user 7"
    assert user.cache_info().loads == 50


@pytest.mark.anyio
async def test_each_form_of_a_call_is_made(cache: TierCache) -> None:
    made: list[str] = []

    async def awaited(name: str) -> None:
        made.append(name)

    def blocking(name: str) -> None:
        assert threading.current_thread() is not threading.main_thread()
        made.append(name)

    warmed = await cache.warm(
        [
            (awaited, "tuple"),
            (blocking, "tuple of a def"),
            functools.partial(awaited, name="partial"),
            awaited("coroutine"),
            lambda: awaited("lambda"),
            lambda: blocking("lambda of a def"),
        ],
        concurrency=1,
    )

    assert warmed.done == 6
    assert made == ["tuple", "tuple of a def", "partial", "coroutine", "lambda", "lambda of a def"]


@pytest.mark.anyio
async def test_a_call_that_fails_stops_no_other_and_stands_in_the_summary(cache: TierCache) -> None:
    async def user(number: int) -> str:
        if number % 2:
            raise NoSuchUser(f"no user {number}")
        return "somebody"

    warmed = await cache.warm([(user, number) for number in range(4)])

    assert warmed.done == 2
    assert [type(failure.error) for failure in warmed.failed] == [NoSuchUser, NoSuchUser]
    assert_told(warmed)


def test_a_call_that_fails_in_a_thread_stops_no_other_either(cache: TierCache) -> None:
    def user(number: int) -> str:
        if number % 2:
            raise NoSuchUser(f"no user {number}")
        return "somebody"

    assert_told(cache.sync.warm([(user, number) for number in range(4)]))


def assert_told(warmed: Warmed) -> None:
    first, *rest = str(warmed).splitlines()
    assert first.startswith("2 of 4 calls warmed in ")
    assert [line.split(".")[-1] for line in rest] == [
        "user(1): NoSuchUser: no user 1",
        "user(3): NoSuchUser: no user 3",
    ]


def test_no_more_than_so_many_run_at_once_and_so_many_do(cache: TierCache) -> None:
    crowd = Crowd(3)
    cache.sync.warm([crowd.enter] * 9, concurrency=3)
    assert crowd.most == 3


@pytest.mark.anyio
async def test_no_more_than_so_many_run_at_once_and_so_many_do_in_tasks(cache: TierCache) -> None:
    crowd = Crowd(3)
    await cache.warm([crowd.enter] * 9, concurrency=3)
    assert crowd.most == 3


@pytest.mark.anyio
@pytest.mark.parametrize("blocking", [True, False], ids=["threads", "tasks"])
async def test_progress_is_told_after_each_call(cache: TierCache, blocking: bool) -> None:
    told: list[tuple[int, int]] = []

    def progress(over: int, of: int) -> None:
        told.append((over, of))

    calls: list[Any] = [lambda: 1, lambda: 1 // 0, lambda: 3]
    if blocking:
        cache.sync.warm(calls, progress=progress)
    else:
        await cache.warm(calls, progress=progress)

    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.anyio
async def test_what_progress_raises_ends_the_warming(cache: TierCache) -> None:
    made: list[int] = []

    async def call(number: int) -> None:
        made.append(number)

    def stop(over: int, of: int) -> None:
        raise NoSuchUser

    with pytest.raises(NoSuchUser):
        await cache.warm([call(number) for number in range(100)], concurrency=2, progress=stop)
    assert len(made) <= 3
    with pytest.raises(NoSuchUser):
        cache.sync.warm([lambda: 1] * 100, concurrency=2, progress=stop)


@pytest.mark.anyio
async def test_a_cancellation_ends_it(cache: TierCache) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    warming = asyncio.create_task(cache.warm([hang(), hang(), hang()], concurrency=1))
    await begun.wait()
    warming.cancel()

    with pytest.raises(asyncio.CancelledError):
        await warming


@pytest.mark.anyio
async def test_a_blocking_call_holds_up_no_task(cache: TierCache) -> None:
    gate = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.warm, [lambda: gate.wait(10)])
        await anyio.lowlevel.checkpoint()
        gate.set()  # from the loop, which would stand still


@pytest.mark.anyio
async def test_nothing_to_warm_is_no_error(cache: TierCache) -> None:
    assert (await cache.warm([])).done == 0
    assert cache.sync.warm(iter(())).done == 0


@pytest.mark.anyio
async def test_what_cannot_be_called_is_an_error_before_anything_is(cache: TierCache) -> None:
    made: list[int] = []

    async def call() -> None:
        made.append(1)

    for calls in ([call, 7], [call, ()], [call, ("user", 7)]):
        with pytest.raises(TypeError, match="a call to warm is"):
            await cache.warm(calls)  # type: ignore[arg-type]
    for concurrency in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match="concurrency must be a positive number"):
            await cache.warm([call], concurrency=concurrency)  # type: ignore[arg-type]
    assert made == []


def test_an_async_def_is_refused_where_nobody_awaits(cache: TierCache) -> None:
    async def user(number: int) -> None: ...

    with pytest.raises(TypeError, match=r"user\(7\) is an async def: write await"):
        cache.sync.warm([(user, 7)])
    coroutine = user(7)
    with pytest.raises(TypeError, match="is to be awaited: write await"):
        cache.sync.warm([coroutine])
    coroutine.close()


def test_what_turns_out_to_be_awaited_is_a_failure_where_nobody_awaits(cache: TierCache) -> None:
    async def user(number: int) -> None: ...

    warmed = cache.sync.warm([lambda: user(7)])

    assert (warmed.done, len(warmed.failed)) == (0, 1)
    assert "is to be awaited: write await" in str(warmed.failed[0].error)
