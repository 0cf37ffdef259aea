"""One test body for threads and for tasks.

A body is a coroutine. Tasks run it in an event loop. Threads run each part of it on a thread
of its own, from its beginning to its end: there every verb blocks, and nothing is ever
awaited. A body therefore waits by the means of its world alone: `gate`, `until`, `gather`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Protocol

from tests.loops import LOOPS, run
from tests.servers import TIMEOUT, eventually
from tiercache import TierCache

Body = Coroutine[Any, Any, Any]
Promise = Callable[[], object]  # an `async def`, too


class Gate:
    """Closed until somebody opens it; those who wait at it are counted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open = threading.Event()
        self.arrived = 0  # changed by one thread at a time: the loader's that stands at it

    def open(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        self.arrived += 1
        await self._world.until(self._open.is_set)


class Started(Protocol):
    """A body under way."""

    async def result(self) -> Any: ...


class World(Protocol):
    name: str

    def run(self, body: Body) -> Any:
        """What *body* returns; the whole of a test stands in one such call."""

    def view(self, cache: TierCache) -> Any:
        """The verbs of *cache* as they are in this world, each to be awaited; loaders are `async def`."""

    def cached(self, cache: TierCache, **options: Any) -> Callable[[Callable[..., Body]], Any]:
        """`cache.cached` for an `async def`, which is a `def` to the cache in the world of threads."""

    def start(self, body: Body) -> Any:
        """*body*, begun beside the caller."""

    async def gather(self, *bodies: Body) -> list[Any]:
        """What *bodies* return, or raise, all run at once."""

    async def until(self, promise: Promise) -> None:
        """Go on when *promise* is true; an error when it does not come true in time."""

    def gate(self) -> Gate: ...


class Tasks:
    def __init__(self, loop: str = "asyncio") -> None:
        self.name = "tasks" if loop == "asyncio" else f"tasks on {loop}"
        self._new_loop = LOOPS[loop]

    def run(self, body: Body) -> Any:
        return run(self._new_loop, body)

    def view(self, cache: TierCache) -> Any:
        return cache

    def cached(self, cache: TierCache, **options: Any) -> Callable[[Callable[..., Body]], Any]:
        return cache.cached(**options)

    def start(self, body: Body) -> StartedTask:
        return StartedTask(asyncio.get_running_loop().create_task(body))

    async def gather(self, *bodies: Body) -> list[Any]:
        return await asyncio.gather(*bodies, return_exceptions=True)

    async def until(self, promise: Promise) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not (await promise() if inspect.iscoroutinefunction(promise) else promise()):
            assert time.monotonic() < deadline, "what was waited for did not come true"
            await asyncio.sleep(0.002)

    def gate(self) -> Gate:
        return Gate(self)


class StartedTask:
    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task

    async def result(self) -> Any:
        return await self.task


class Threads:
    name = "threads"

    def run(self, body: Body) -> Any:
        return finish(body)

    def view(self, cache: TierCache) -> Any:
        return _View(cache)

    def cached(self, cache: TierCache, **options: Any) -> Callable[[Callable[..., Body]], Any]:
        return lambda function: _Function(cache.cached(**options)(blocking(function)))

    def start(self, body: Body) -> StartedThread:
        return StartedThread(body)

    async def gather(self, *bodies: Body) -> list[Any]:
        started = [StartedThread(body) for body in bodies]
        outcomes = []
        for each in started:
            try:
                outcomes.append(await each.result())
            except BaseException as error:
                outcomes.append(error)
        return outcomes

    async def until(self, promise: Promise) -> None:
        assert eventually(blocking(promise)), "what was waited for did not come true"

    def gate(self) -> Gate:
        return Gate(self)


class StartedThread:
    def __init__(self, body: Body) -> None:
        self._outcome: Future[Any] = Future()
        threading.Thread(target=self._run, args=(body,), daemon=True).start()

    async def result(self) -> Any:
        return self._outcome.result(2 * TIMEOUT)

    def _run(self, body: Body) -> None:
        try:
            self._outcome.set_result(finish(body))
        except BaseException as error:
            self._outcome.set_exception(error)


class _View:
    def __init__(self, cache: TierCache) -> None:
        self._sync = cache.sync

    def __getattr__(self, verb: str) -> Callable[..., Body]:
        blocks = getattr(self._sync, verb)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return blocks(*map(blocking, args), **kwargs)

        return call

    @asynccontextmanager
    async def invalidating(self, **named: Any) -> Any:
        with self._sync.invalidating(**named) as block:
            yield block


class _Function:
    """A decorated `def` with the face of a decorated `async def`."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.key, self.cache_info = function.key, function.cache_info

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    async def invalidate(self, *args: Any, **kwargs: Any) -> Any:
        return self._function.invalidate(*args, **kwargs)

    async def invalidate_all(self) -> Any:
        return self._function.invalidate_all()

    async def refresh(self, *args: Any, **kwargs: Any) -> Any:
        return self._function.refresh(*args, **kwargs)


def blocking(argument: Any) -> Any:
    """An `async def` as the `def` that it is in the world of threads; anything else as it is."""
    if not inspect.iscoroutinefunction(argument):
        return argument

    @functools.wraps(argument)
    def call(*args: Any, **kwargs: Any) -> Any:
        return finish(argument(*args, **kwargs))

    return call


def finish(body: Body) -> Any:
    """What a coroutine returns that never has to wait for its loop."""
    try:
        body.send(None)
    except StopIteration as end:
        return end.value
    body.close()
    raise AssertionError("this body waited by other means than those of its world")
