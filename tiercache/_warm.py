"""`cache.warm`: calls made ahead of the traffic, a few at a time, and a summary of what failed.

A call is `(function, *arguments)`, a function without parameters, or, where `warm` is awaited, a coroutine.
A `def` runs in a thread, so that one that blocks holds up nobody.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import anyio

WarmCall: TypeAlias = Callable[[], object] | tuple[Any, ...] | Awaitable[object]
Progress: TypeAlias = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Failure:
    """One call that raised; `call` is it as text, "get_user(7)"."""

    call: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of a warming: how many calls returned, which raised, and how many seconds it took."""

    done: int
    failed: tuple[Failure, ...]
    seconds: float

    def __str__(self) -> str:
        lines = [f"{self.done} of {self.done + len(self.failed)} calls warmed in {self.seconds:.2f} s"]
        lines += [f"  {each.call}: {type(each.error).__name__}: {each.error}" for each in self.failed]
        return "\n".join(lines)


class _Tally:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.begun = total, progress, time.monotonic()
        self.done = 0
        self.failed: list[tuple[int, Failure]] = []

    def note(self, place: int, call: WarmCall, error: Exception | None) -> None:
        if error is None:
            self.done += 1
        else:
            self.failed.append((place, Failure(_text(call), error)))
        if self.progress is not None:
            self.progress(self.done + len(self.failed), self.total)

    def warmed(self) -> Warmed:
        failed = tuple(failure for _, failure in sorted(self.failed, key=lambda pair: pair[0]))
        return Warmed(self.done, failed, time.monotonic() - self.begun)


async def warm(calls: Iterable[WarmCall], concurrency: int, progress: Progress | None) -> Warmed:
    todo = _checked(calls, concurrency, blocking=False)
    tally, waiting = _Tally(len(todo), progress), iter(enumerate(todo))
    import anyio

    threads = anyio.CapacityLimiter(concurrency)

    refused: list[Exception] = []  # by `progress`, which may so end it; as it is, in no group

    async def work() -> None:
        for place, call in waiting:
            error = await _perform(call, threads)
            try:
                tally.note(place, call, error)
            except Exception as refusal:  # of the user's function
                refused.append(refusal)
                workers.cancel_scope.cancel()
            if refused:
                return

    try:
        async with anyio.create_task_group() as workers:
            for _ in range(min(concurrency, len(todo))):
                workers.start_soon(work)
        if refused:
            raise refused[0]
    finally:
        for _, call in waiting:
            if inspect.iscoroutine(call):
                call.close()
    return tally.warmed()


async def _perform(call: WarmCall, threads: anyio.CapacityLimiter) -> Exception | None:
    """What *call* raised, to be told in the summary."""
    from anyio import to_thread

    try:
        if inspect.isawaitable(call):
            await call
            return None
        function, args = _parts(call)
        if inspect.iscoroutinefunction(_unwrapped(function)):
            await function(*args)
            return None
        made = await to_thread.run_sync(function, *args, limiter=threads)
        if inspect.isawaitable(made):  # lambda: get_user(7)
            await made
    except Exception as error:  # of the user's call
        return error
    return None


def warm_blocking(calls: Iterable[WarmCall], concurrency: int, progress: Progress | None) -> Warmed:
    todo = _checked(calls, concurrency, blocking=True)
    tally, waiting = _Tally(len(todo), progress), iter(enumerate(todo))
    running: dict[Future[Any], tuple[int, WarmCall]] = {}
    with ThreadPoolExecutor(concurrency, thread_name_prefix="tiercache-warm") as pool:
        while True:
            # No more than there are threads: whoever is interrupted waits for those alone.
            for place, call in waiting:
                function, args = _parts(call)
                running[pool.submit(copy_context().run, function, *args)] = place, call
                if len(running) >= concurrency:
                    break
            if not running:
                return tally.warmed()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, call = running.pop(future)
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                if error is None and inspect.isawaitable(made := future.result()):  # lambda: get_user(7)
                    if inspect.iscoroutine(made):
                        made.close()
                    error = TypeError(f"{_text(call)} is to be awaited: write await cache.warm(...)")
                tally.note(place, call, error)


def _checked(calls: Iterable[WarmCall], concurrency: int, *, blocking: bool) -> Sequence[WarmCall]:
    if type(concurrency) is not int or concurrency < 1:
        raise ValueError(f"concurrency must be a positive number of calls at once, not {concurrency!r}")
    todo = list(calls)
    for call in todo:
        if inspect.isawaitable(call):
            if blocking:
                raise TypeError(f"{_text(call)} is to be awaited: write await cache.warm(...)")
            continue
        function, _ = _parts(call)
        if blocking and inspect.iscoroutinefunction(_unwrapped(function)):
            raise TypeError(f"{_text(call)} is an async def: write await cache.warm(...)")
    return todo


def _parts(call: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    function, args = (call[0], call[1:]) if isinstance(call, tuple) and call else (call, ())
    if not callable(function):
        raise TypeError(
            f"a call to warm is (function, *arguments) or a function without parameters, not {call!r}"
        )
    return function, args


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _text(call: Any) -> str:
    if isinstance(call, functools.partial):
        kwargs = [f"{name}={value!r}" for name, value in call.keywords.items()]
        return f"{_name(call.func)}({', '.join([*map(repr, call.args), *kwargs])})"
    if isinstance(call, tuple):
        return f"{_name(call[0])}({', '.join(map(repr, call[1:]))})"
    return f"{_name(call)}()"


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
