"""Waiting in tasks for what another thread lands: who is woken, and what is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tests.loops import NewLoop, run
from tiercache._core.plan import TIMED_OUT, Join
from tiercache._transport import joins
from tiercache._transport.joins import join_async

PLENTY = 30.0


def under_way() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def land(future: Future[Any], result: object) -> None:
    """From another thread."""
    thread = threading.Thread(target=future.set_result, args=(result,))
    thread.start()
    thread.join()


async def waiting(future: Future[Any], count: int, timeout: float = PLENTY) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(join_async(Join(future, timeout))) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_all_tasks_of_a_loop_are_woken_at_one_turn(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    woken = []

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        schedule = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
            woken.append(args)
            return schedule(*args, **kwargs)

        future = under_way()
        tasks = await waiting(future, 100)
        loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
        land(future, "brought")
        return list(await asyncio.gather(*tasks))

    assert run(new_loop, main()) == ["brought"] * 100
    assert len(woken) == 1
    assert joins._waiting == {}


def test_those_who_began_nearly_at_once_give_up_at_one_turn(new_loop: NewLoop) -> None:
    async def main() -> tuple[set[Any], int]:
        loop, rings = asyncio.get_running_loop(), 0
        call_at = loop.call_at

        def counted(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            nonlocal rings
            rings += 1
            return call_at(*args, **kwargs)

        loop.call_at = counted  # type: ignore[method-assign]
        future = under_way()
        joins = [join_async(Join(future, 0.01 + number * 1e-6)) for number in range(1_000)]
        return set(await asyncio.gather(*joins)), rings

    outcomes, rings = run(new_loop, main())
    assert outcomes == {TIMED_OUT}
    assert rings < 100


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("no"), ValueError), (StopIteration("no"), RuntimeError)]
)
def test_an_error_is_raised_in_all_tasks_that_wait(
    new_loop: NewLoop, error: Exception, raised: type[Exception]
) -> None:
    """A task may not end with StopIteration, and a future of asyncio takes none."""

    async def main() -> list[Any]:
        future = under_way()
        tasks = await waiting(future, 3)
        future.set_exception(error)
        return list(await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PLENTY))

    assert [type(outcome) for outcome in run(new_loop, main())] == [raised] * 3


def test_two_loops_that_wait_for_one_future_are_both_woken(new_loop: NewLoop) -> None:
    future, results = under_way(), []
    ready = threading.Barrier(3, timeout=PLENTY)

    async def main() -> None:
        (task,) = await waiting(future, 1)
        await asyncio.to_thread(ready.wait)
        results.append(await task)

    threads = [threading.Thread(target=run, args=(new_loop, main())) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    future.set_result("brought")
    for thread in threads:
        thread.join()

    assert results == ["brought", "brought"]


def test_who_gives_up_takes_nobody_along_and_leaves_nothing(new_loop: NewLoop) -> None:
    async def main() -> None:
        future = under_way()
        leaving, staying = await waiting(future, 2)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        impatient = await join_async(Join(future, 0.0))
        future.set_result("brought")

        assert impatient is TIMED_OUT
        assert await staying == "brought"

    run(new_loop, main())
    assert joins._waiting == {}


def test_each_gives_up_in_its_own_time(new_loop: NewLoop) -> None:
    async def main() -> list[Any]:
        future = under_way()
        tasks = [task for timeout in (PLENTY, 0.02, 0.01, 0.0) for task in await waiting(future, 1, timeout)]
        given_up = []
        for ended in asyncio.as_completed(tasks[1:]):
            given_up.append(await ended)
        assert not tasks[0].done()
        land(future, "brought")
        return [*given_up, await tasks[0]]

    assert run(new_loop, main()) == [TIMED_OUT] * 3 + ["brought"]
    assert joins._waiting == {}


@pytest.mark.parametrize("lands", [land, Future.set_result], ids=["another thread", "the loop's own"])
def test_who_joins_after_all_others_gave_up_is_woken(
    new_loop: NewLoop, lands: Callable[[Future[Any], object], None]
) -> None:
    async def main() -> Any:
        future = under_way()
        (first,) = await waiting(future, 1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        (second,) = await waiting(future, 1, timeout=3600.0)
        lands(future, "brought")
        return await asyncio.wait_for(second, PLENTY)

    assert run(new_loop, main()) == "brought"
    assert joins._waiting == {}


def test_who_joins_between_the_landing_and_the_waking_is_woken(new_loop: NewLoop) -> None:
    async def main() -> list[Any]:
        future = under_way()
        (first,) = await waiting(future, 1)
        second = asyncio.create_task(join_async(Join(future, 3600.0)))
        land(future, "brought")  # the loop is told after the second was made: it joins before the waking
        return list(await asyncio.wait_for(asyncio.gather(first, second), PLENTY))

    assert run(new_loop, main()) == ["brought"] * 2
    assert joins._waiting == {}


def test_a_landing_does_not_touch_a_loop_that_is_closed(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    future = under_way()
    loop = new_loop()
    task = loop.create_task(join_async(Join(future, PLENTY)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    land(future, "brought")

    assert not task.done()
    assert caplog.records == []
    assert joins._waiting == {}
    task.get_coro().close()  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_loop_that_is_closed_before_it_comes_to_the_landing_is_forgotten(new_loop: NewLoop) -> None:
    future = under_way()
    loop = new_loop()
    task = loop.create_task(join_async(Join(future, PLENTY)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    land(future, "brought")  # the loop is told, and never turns again
    loop.close()

    async def main() -> None:
        await join_async(Join(under_way(), 0.0))

    run(new_loop, main())
    assert joins._waiting == {}
    task.get_coro().close()  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
