"""Contenders opened, wrapped around one function, and timed in turn, in either world."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.contenders.facade import Contender, Place, Unable
from bench.elsewhere import Elsewhere, Here
from bench.opened import answered
from bench.runs import Run

Loop = Callable[[Callable[..., Any], Any], Any]  # (function, calls) -> seconds, awaited in the other world

Times = dict[str, list[float]]

_SOURCE = """
{define} loop(f, calls, clock=clock):
    begun = clock()
    for key in calls:
        {call}
    return clock() - begun
"""


def loop_of(call: str, *, is_async: bool) -> Loop:
    """A loop with *call*, such as "f(7)" or "f(key)", in its body, as timeit makes one."""
    define, spelt = ("async def", f"await {call}") if is_async else ("def", call)
    names: dict[str, Any] = {"clock": time.perf_counter}
    exec(_SOURCE.format(define=define, call=spelt), names)
    loop: Loop = names["loop"]
    return loop


@dataclass(frozen=True)
class Plan:
    """How many rounds, and how many seconds a contender gets in each: the slow make fewer calls."""

    rounds: int
    seconds: float
    warm_up: int = 100  # calls

    @classmethod
    def of(cls, run: Run, whole: int) -> Plan:
        if run.tiny:
            return cls(1, 0.0, 2)
        return cls(run.rounds(whole, 5), 0.002 if run.quick else 0.015)

    def calls(self, seconds: float) -> int:
        """How many calls fit, where the warm-up took so many *seconds*."""
        return max(2, int(self.seconds * self.warm_up / seconds))


@contextmanager
def without_gc() -> Iterator[None]:
    """As timeit does: a collection would be charged to whoever is on."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Wrapped:
    """One function behind every contender that can wrap it; what the others lack is in `unable`."""

    def __init__(self, run: Run, classes: Iterable[type[Contender]], place: Place) -> None:
        self.unable: dict[str, str] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self._contenders = [contender(place) for contender in run.only(classes)]
        self.unable |= run.absent

    async def open(self, function: Callable[..., Any]) -> None:
        for contender in self._contenders:
            try:
                await contender.open()
                self.functions[contender.name] = await self.made(contender, function)
            except Unable as why:
                self.unable[contender.name] = str(why)

    async def made(self, contender: Contender, function: Callable[..., Any]) -> Callable[..., Any]:
        return contender.wrap(function)

    async def close(self) -> None:
        for contender in self._contenders:
            await contender.close()


class ReadByKey(Wrapped):
    """Reading by key, of every contender that can; what the function gives for 7 is there, under "user:7"."""

    async def made(self, contender: Contender, function: Callable[..., Any]) -> Callable[..., Any]:
        await answered(contender.write("user:7", await answered(function(7))))
        found = contender.read("user:7")
        if contender.is_async and not inspect.isawaitable(found):
            raise Unable("reading by key is not awaited")
        if await answered(found) is None:
            raise Unable("what was written is not there")
        return contender.read


def sync_times(run: Run, functions: dict[str, Callable[..., Any]], call: str, plan: Plan) -> Times:
    """Seconds a call, by contender and round."""
    timers = {name: timer(function, call, is_async=False) for name, function in functions.items()}
    numbers = {}
    for name, timed in timers.items():
        timed(plan.warm_up)
        numbers[name] = plan.calls(timed(plan.warm_up))
    times: Times = {name: [] for name in functions}
    with without_gc():
        for order in run.turns(functions, plan.rounds, call):
            for name in order:
                times[name].append(timers[name](numbers[name]) / numbers[name])
    return times


async def async_times(run: Run, functions: dict[str, Callable[..., Any]], call: str, plan: Plan) -> Times:
    """Seconds a call, by contender and round; nothing else is on the loop."""
    timers = {name: timer(function, call, is_async=True) for name, function in functions.items()}
    numbers = {}
    for name, timed in timers.items():
        await answered(timed(plan.warm_up))
        numbers[name] = plan.calls(await answered(timed(plan.warm_up)))
    times: Times = {name: [] for name in functions}
    with without_gc():
        for order in run.turns(functions, plan.rounds, call):
            for name in order:
                times[name].append(await answered(timers[name](numbers[name])) / numbers[name])
            await asyncio.sleep(0)
    return times


def timer(function: Callable[..., Any] | Elsewhere, call: str, *, is_async: bool) -> Callable[[int], Any]:
    """What makes so many calls and gives the seconds they took, awaited in the other world."""
    if isinstance(function, Elsewhere):
        return functools.partial(function.ask, time_there, call)
    loop = loop_of(call, is_async=is_async)
    return lambda count: loop(function, range(count))


async def time_there(here: Here, call: str, count: int) -> float:
    """An act: as many calls of the function there, after a few to wake up."""
    loop = loop_of(call, is_async=here.contender.is_async)
    await answered(loop(here.function, range(Plan.warm_up)))
    taken: float = await answered(loop(here.function, range(count)))
    return taken
