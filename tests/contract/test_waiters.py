"""What a task waits for: a future, and what stands for it in the compiled half, to every kind of task."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from asyncio import tasks as asyncio_tasks
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest

from tests.loops import NewLoop, T, run
from tiercache._accelerator import compiled
from tiercache._transport.waiters import Waiter, leave, new_future, wake

NOBODY = object()
spoken = ContextVar("spoken", default="nothing")
needs_compiled = pytest.mark.skipif(compiled is None, reason="the compiled half was not built")


class Half(NamedTuple):
    new: Callable[[asyncio.AbstractEventLoop], Waiter]
    wake: Callable[[list[Waiter], list[Any]], None]
    task: Callable[..., asyncio.Task[Any]] = asyncio.Task
    new_loop: NewLoop = asyncio.new_event_loop

    def played(self, main: Coroutine[Any, Any, T]) -> T:
        """What *main* returns, soon: what is not woken would wait for ever."""
        return run(self.new_loop, asyncio.wait_for(main, 10))

    def waiter(self) -> Waiter:
        return self.new(asyncio.get_running_loop())

    async def waiting(self, waiter: Waiter) -> asyncio.Task[Any]:
        """A task that is at it."""

        async def wait() -> Any:
            return await waiter

        return await self.at(wait())

    async def at(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.task(work, loop=asyncio.get_running_loop())
        await asyncio.sleep(0)
        return task


HALVES = {"future": Half(new_future, leave)}
if compiled is not None:
    HALVES["compiled"] = Half(compiled.Waiter, wake)
    HALVES["compiled, a task in Python"] = Half(compiled.Waiter, wake, asyncio_tasks._PyTask)  # type: ignore[attr-defined]


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest, new_loop: NewLoop) -> Half:
    return HALVES[request.param]._replace(new_loop=new_loop)


async def from_a_callback(*calls: Callable[[], object]) -> None:
    """Have the loop make the *calls*, one after the other in one callback."""
    over = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            for call in calls:
                call()
        except Exception as error:
            over.set_exception(error)
        else:
            over.set_result(None)

    asyncio.get_running_loop().call_soon(callback)
    await over


def test_each_task_has_its_result(half: Half) -> None:
    async def main() -> list[Any]:
        waiters = [half.waiter() for _ in range(3)]
        tasks = [await half.waiting(waiter) for waiter in waiters]
        await from_a_callback(lambda: half.wake(waiters, ["a", None, NOBODY]))
        return [await task for task in tasks]

    assert half.played(main()) == ["a", None, NOBODY]


def test_one_that_is_landed_before_is_not_waited_for(half: Half) -> None:
    async def main() -> tuple[Any, Any]:
        landed, failed = half.waiter(), half.waiter()
        half.wake([landed], ["early"])
        failed.set_exception(ValueError("early"))
        try:
            await failed
        except ValueError as error:
            return await landed, error.args

    assert half.played(main()) == ("early", ("early",))


def test_an_error_is_raised_in_each_task_with_a_trace_of_its_own(half: Half) -> None:
    async def main() -> list[int]:
        error, lengths = ValueError("refused"), []
        waiters = [half.waiter() for _ in range(3)]
        tasks = [await half.waiting(waiter) for waiter in waiters]
        for waiter in waiters:
            waiter.set_exception(error)
        for task in tasks:
            with pytest.raises(ValueError, match="refused") as raised:
                await task
            lengths.append(len(raised.traceback))
        return lengths

    first, *others = half.played(main())
    assert others == [first] * 2


@pytest.mark.parametrize("message", [None, "too late", ("a", "tuple"), ValueError("a fault")])
def test_a_task_that_is_cancelled_is_told_so_and_nothing_lands_after_it(half: Half, message: object) -> None:
    async def main() -> tuple[object, ...]:
        waiter = half.waiter()
        task = await half.waiting(waiter)
        assert task.cancel(message)
        await from_a_callback(lambda: half.wake([waiter], ["a"]))
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        return cancelled.value.args, waiter.done(), waiter.cancel()

    assert half.played(main()) == (() if message is None else (message,), True, False)


def test_a_task_that_is_cancelled_before_it_waits_is_told_so(half: Half) -> None:
    async def main() -> bool:
        waiter = half.waiter()

        async def wait() -> Any:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return await waiter

        task = await half.at(wait())
        await asyncio.wait([task])
        return task.cancelled() and waiter.done()

    assert half.played(main())


def test_who_asks_to_be_called_after_it_is_done_is_called(half: Half) -> None:
    async def main() -> Any:
        waiter, called = half.waiter(), asyncio.get_running_loop().create_future()
        waiter.set_result("a")
        waiter.add_done_callback(lambda waiter: called.set_result(waiter.result()))
        return await called

    assert half.played(main()) == "a"


def test_a_timeout_ends_it(half: Half) -> None:
    async def main() -> None:
        waiter = half.waiter()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await waiter

    half.played(main())


def test_one_woken_task_may_cancel_the_next(half: Half) -> None:
    async def main() -> tuple[bool, bool]:
        waiters = [half.waiter() for _ in range(2)]
        tasks: list[asyncio.Task[Any]] = []

        async def cancelling() -> None:
            await waiters[0]
            tasks[1].cancel()

        tasks += [await half.at(cancelling()), await half.waiting(waiters[1])]
        await from_a_callback(lambda: half.wake(waiters, [None, None]))
        await asyncio.wait(tasks)
        return tasks[0].cancelled(), tasks[1].cancelled()

    assert half.played(main()) == (False, True)


def test_a_task_goes_on_in_its_own_context_and_as_the_current_one(half: Half) -> None:
    async def main() -> list[object]:
        waiter, found = half.waiter(), list[object]()

        async def speaking() -> None:
            spoken.set("mine")
            await waiter
            found.append(spoken.get())
            found.append(asyncio.current_task() is task)

        task = await half.at(speaking())
        await from_a_callback(lambda: half.wake([waiter], [None]))
        await task
        return [*found, spoken.get(), asyncio.current_task() is task]

    assert half.played(main()) == ["mine", True, "nothing", False]


def test_a_task_may_wake_others(half: Half) -> None:
    """Those go on when it has come to its next wait; none can go on within another."""

    async def main() -> list[Any]:
        waiters = [half.waiter() for _ in range(2)]
        tasks = [await half.waiting(waiter) for waiter in waiters]
        half.wake(waiters, [1, 2])
        assert not any(task.done() for task in tasks)
        return [await task for task in tasks]

    assert half.played(main()) == [1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_end_of_the_process_goes_to_the_loop_and_the_other_tasks_go_on_in_it(
    half: Half, error: type[BaseException]
) -> None:
    done: list[str] = []
    loop = half.new_loop()
    waiters = [half.new(loop) for _ in range(3)]

    async def ending() -> None:
        await waiters[1]
        raise error

    async def going_on(number: int) -> None:
        done.append(await waiters[number])

    def callback() -> None:
        """As one of a protocol in uvloop, which takes what comes out of it for a fault of the connection."""
        with suppress(BaseException):
            half.wake(waiters, ["a", "b", "c"])

    tasks = [half.task(work, loop=loop) for work in (going_on(0), ending(), going_on(2))]
    loop.call_soon(loop.call_soon, callback)
    with pytest.raises(error):
        loop.run_forever()
    loop.run_until_complete(asyncio.wait_for(tasks[2], 10))

    assert done == ["a", "c"]
    assert isinstance(tasks[1].exception(), error)
    loop.close()


def test_a_task_that_everybody_has_forgotten_is_collected(
    half: Half, caplog: pytest.LogCaptureFixture
) -> None:
    class Witness:
        pass

    async def wait(kept: Witness) -> None:
        await half.waiter()

    async def main() -> bool:
        witness = Witness()
        seen = weakref.ref(witness)
        task = await half.at(wait(witness))
        del witness, task
        gc.collect()
        return seen() is None

    assert half.played(main())
    assert "Task was destroyed but it is pending" in caplog.text  # asyncio says so


def test_one_that_is_landed_with_what_leads_back_to_it_is_collected(half: Half) -> None:
    held = object()

    async def main() -> int:
        waiter = half.waiter()
        waiter.set_result((waiter, held))  # nobody but the waiter can let go of a tuple's parts
        del waiter
        gc.collect()
        return sys.getrefcount(held)

    before = sys.getrefcount(held)
    assert half.played(main()) == before


@needs_compiled
def test_a_callback_goes_on_with_the_tasks_before_it_goes_on_itself(new_loop: NewLoop) -> None:
    half = HALVES["compiled"]._replace(new_loop=new_loop)

    async def main() -> list[str]:
        steps: list[str] = []
        waiters = [half.waiter() for _ in range(2)]

        async def wait(waiter: Waiter) -> None:
            steps.append(await waiter)

        tasks = [await half.at(wait(waiter)) for waiter in waiters]
        await from_a_callback(
            lambda: steps.append("before"),
            lambda: wake(waiters, ["a", "b"]),
            lambda: steps.append("after"),
        )
        await asyncio.gather(*tasks)
        return steps

    assert half.played(main()) == ["before", "a", "b", "after"]
