"""Every transport behind one face, so that one test body can run on all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from tests.loops import NewLoop
from tiercache._core.commands import Command
from tiercache._core.plan import Ask, Step
from tiercache._core.scripts import Names
from tiercache._transport.address import Address
from tiercache._transport.awaiting import Awaiting
from tiercache._transport.blocking import Blocking
from tiercache._transport.breaker import Breaker
from tiercache._transport.memory import Memory
from tiercache.testing import Clock

R = TypeVar("R")
NAMES = Names("shop", 0)


class Transport(Protocol):
    """A transport and what it stands on."""

    breaker: Breaker
    clock: Clock

    def perform(self, step: Step) -> Any: ...

    def together(self, *steps: Step) -> list[Any]:
        """What *steps* come to, or raise, when they are all under way at once."""

    def function(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """*work* as a user of this world writes it."""

    def disconnect(self) -> None:
        """Close the connections; the next step opens others."""

    def close(self) -> None: ...


def ask(transport: Transport, command: Command[R]) -> R:
    (reply,) = transport.perform(Ask((command,)))
    answered: R = reply
    return answered


class Threads:
    """The blocking transport."""

    def __init__(self, port: int, *, timeout: float, pool_size: int = 8) -> None:
        self.breaker, self.clock = Breaker(), Clock()
        self.blocking = Blocking(address(port, timeout), NAMES, self.breaker, self.clock, pool_size=pool_size)

    def perform(self, step: Step) -> Any:
        return self.blocking.perform(step)

    def together(self, *steps: Step) -> list[Any]:
        return in_threads(*(lambda step=step: self.perform(step) for step in steps))

    def function(self, work: Callable[..., Any]) -> Callable[..., Any]:
        return work

    def disconnect(self) -> None:
        self.blocking.close()

    def close(self) -> None:
        self.disconnect()


class Tasks:
    """The awaiting transport, in a loop that runs while it performs."""

    def __init__(
        self, port: int, *, timeout: float, pool_size: int = 8, new_loop: NewLoop = asyncio.new_event_loop
    ) -> None:
        self.breaker, self.clock = Breaker(), Clock()
        self.runner = asyncio.Runner(loop_factory=new_loop)
        self.awaiting = self.runner.run(self._made(address(port, timeout), pool_size))

    async def _made(self, where: Address, pool_size: int) -> Awaiting:
        return Awaiting(where, NAMES, self.breaker, self.clock, pool_size=pool_size)

    async def _performed(self, step: Step) -> Any:
        return await self.awaiting.perform(step)

    def perform(self, step: Step) -> Any:
        return self.runner.run(self._performed(step))

    def together(self, *steps: Step) -> list[Any]:
        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*map(self._performed, steps), return_exceptions=True)

        return self.runner.run(all_of_them())

    def function(self, work: Callable[..., Any]) -> Callable[..., Any]:
        return as_async(work)

    def disconnect(self) -> None:
        self.runner.run(self.awaiting.close())

    def close(self) -> None:
        self.disconnect()
        self.runner.close()


class MemoryThreads:
    """The transport of memory://, blocking."""

    def __init__(self) -> None:
        self.breaker, self.clock = Breaker(), Clock()
        self._memory = Memory()

    def perform(self, step: Step) -> Any:
        return self._memory.perform(step)

    def together(self, *steps: Step) -> list[Any]:
        return in_threads(*(lambda step=step: self.perform(step) for step in steps))

    def function(self, work: Callable[..., Any]) -> Callable[..., Any]:
        return work

    def disconnect(self) -> None:
        return

    def close(self) -> None:
        return


class MemoryTasks(MemoryThreads):
    """The transport of memory://, awaiting."""

    def perform(self, step: Step) -> Any:
        return asyncio.run(self._memory.perform_async(step))

    def function(self, work: Callable[..., Any]) -> Callable[..., Any]:
        return as_async(work)


def address(port: int, timeout: float) -> Address:
    return Address.of_url(f"redis://127.0.0.1:{port}/0", timeout)


def as_async(work: Callable[..., Any]) -> Callable[..., Any]:
    async def function(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return work(*args, **kwargs)

    return function


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """What *works* return, or raise, each on a thread of its own."""
    outcomes: list[Any] = [None] * len(works)

    def run(place: int) -> None:
        try:
            outcomes[place] = works[place]()
        except BaseException as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
