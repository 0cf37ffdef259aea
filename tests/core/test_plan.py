"""The two drivers, on toy plans: how a step is performed, and what reaches the plan.

`drive` is `run`, then `run_async` in a loop of its own: what one promises the other does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tiercache._core.plan import Call, Plan, Step, run, run_async

Drive = Callable[[Plan[Any], Callable[[Step], Any]], Any]


class Failure(Exception):
    pass


class Farewell(BaseException):
    """Neither an error nor a cancellation: a KeyboardInterrupt, say."""


def _run_async(plan: Plan[Any], perform: Callable[[Step], Any]) -> Any:
    async def performed(step: Step) -> Any:
        await asyncio.sleep(0)
        return perform(step)

    return asyncio.run(run_async(plan, performed))


@pytest.fixture(params=[run, _run_async], ids=["run", "run_async"])
def drive(request: pytest.FixtureRequest) -> Drive:
    chosen: Drive = request.param
    return chosen


def step(name: str) -> Call:
    return Call(print, (name,))


def name_of(taken: Step) -> str:
    assert isinstance(taken, Call)
    return str(taken.args[0])


def failing(error: BaseException) -> Callable[[Step], Any]:
    def perform(_: Step) -> Any:
        raise error

    return perform


def three_steps() -> Plan[list[Any]]:
    first = yield step("a")
    second = yield step("b")
    return [first, second, (yield step("c"))]


def test_a_plan_is_resumed_with_the_reply_to_each_step(drive: Drive) -> None:
    assert drive(three_steps(), name_of) == ["a", "b", "c"]


def test_a_plan_that_asks_for_nothing_has_its_result(drive: Drive) -> None:
    def at_once() -> Plan[int]:
        return 7
        yield

    assert drive(at_once(), name_of) == 7


def test_none_is_a_reply_and_a_result(drive: Drive) -> None:
    def plan() -> Plan[None]:
        assert (yield step("a")) is None

    assert drive(plan(), lambda _: None) is None


def test_an_error_of_a_step_reaches_the_caller_as_it_was_raised(drive: Drive) -> None:
    error = Failure("of the step")

    with pytest.raises(Failure) as caught:
        drive(three_steps(), failing(error))

    assert caught.value is error


def test_a_plan_may_go_on_after_an_error(drive: Drive) -> None:
    def plan() -> Plan[Any]:
        try:
            yield step("refused")
        except Failure:
            return (yield step("instead"))

    def perform(taken: Step) -> str:
        if name_of(taken) == "refused":
            raise Failure
        return name_of(taken)

    assert drive(plan(), perform) == "instead"


def test_a_plan_may_answer_an_error_with_its_result(drive: Drive) -> None:
    def plan() -> Plan[str]:
        try:
            yield step("refused")
        except Failure:
            return "without it"
        return "with it"

    assert drive(plan(), failing(Failure())) == "without it"


def test_an_error_in_a_plan_called_by_a_plan_passes_through_both(drive: Drive) -> None:
    undone = []

    def outer() -> Plan[Any]:
        try:
            return (yield from three_steps())
        finally:
            undone.append("outer")

    with pytest.raises(Failure):
        drive(outer(), failing(Failure()))

    assert undone == ["outer"]


def test_an_end_of_everything_passes_through_the_plan(drive: Drive) -> None:
    undone = []

    def plan() -> Plan[None]:
        try:
            yield step("a")
        except BaseException as error:
            undone.append(type(error))
            raise

    with pytest.raises(Farewell):
        drive(plan(), failing(Farewell()))

    assert undone == [Farewell]


def test_a_step_that_raises_stop_iteration_does_not_end_the_plan_in_silence() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        run(three_steps(), failing(StopIteration("not a result")))


def test_what_a_plan_raises_on_its_own_reaches_the_caller(drive: Drive) -> None:
    def plan() -> Plan[None]:
        yield step("a")
        raise Failure

    with pytest.raises(Failure):
        drive(plan(), name_of)


def cancelled_in_its_first_step(plan: Plan[Any], performed: list[str]) -> Any:
    """Drive *plan* in a task, cancel the task in its first step, and say how it ended."""

    async def perform(taken: Step) -> None:
        performed.append(name_of(taken))
        if len(performed) == 1:
            reached.set()
            await asyncio.Event().wait()

    async def main() -> Any:
        task = asyncio.ensure_future(run_async(plan, perform))
        await reached.wait()
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    reached = asyncio.Event()
    return asyncio.run(main())


def test_a_cancelled_task_lets_its_plan_undo_with_steps_of_its_own() -> None:
    def plan() -> Plan[None]:
        try:
            yield step("load")
        except asyncio.CancelledError:
            yield step("unlock")
            raise

    performed: list[str] = []
    ended = cancelled_in_its_first_step(plan(), performed)

    assert isinstance(ended, asyncio.CancelledError)
    assert performed == ["load", "unlock"]
