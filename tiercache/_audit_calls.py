"""How an auditor repeats a call: which calls it may repeat, and who runs the loader.

A call is repeated later, by somebody else, while its caller may still be at work. So what was handed to it
must not be its caller's alone: a session, a connection or a request used by two at once is broken for the one
whose it is. What does not count in a key is taken for such a thing, wherever it is reached from the
arguments, the attributes of an object among them or the variables a loader closes over; except what is made
to be shared (locks, loggers, engines, clients).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tiercache._core.audits import Outcome
from tiercache._core.key_text import is_uncounted
from tiercache._core.plan import Call

if TYPE_CHECKING:
    import asyncio

MAX_LOOKED_AT = 200  # objects reached from the arguments of one call
MAX_DEPTH = 4

_SHARED_PACKAGES = {
    *("_thread", "aiohttp", "anyio", "asyncio", "httpx", "logging", "loguru", "multiprocessing", "redis"),
    *("structlog", "threading", "tiercache"),
}
_SHARED_CLASSES = {
    *(
        "AsyncEngine",
        "Engine",
        "async_scoped_session",
        "async_sessionmaker",
        "scoped_session",
        "sessionmaker",
    ),
}
_PLAIN = (type(None), bool, int, float, str, bytes, type)

Ending = Outcome | Literal["dropped", "unrepeatable"]


class NoVerdict(BaseException):
    """The audit cannot go on, through no fault of its source."""

    def __init__(self, ending: Ending, why: str) -> None:
        super().__init__(why)
        self.ending = ending


def is_lent(call: Call, ignored: Iterable[object]) -> bool:
    """Whether *call* was handed something that may still be in use; *ignored* arguments must be plain."""
    if not all(isinstance(value, _PLAIN) or _is_shared(type(value)) for value in ignored):
        return True
    looked_at = 0
    ahead: list[tuple[object, int]] = [
        (call.function, 0),
        *((x, 1) for x in (*call.args, *call.kwargs.values())),
    ]
    while ahead and looked_at < MAX_LOOKED_AT:
        value, depth = ahead.pop()
        looked_at += 1
        if isinstance(value, _PLAIN):
            continue
        if is_uncounted(value):
            if not _is_shared(type(value)):
                return True
        elif depth < MAX_DEPTH:
            parts = getattr(value, "__dict__", None) or {}
            if (
                "_sa_instance_state" in parts
            ):  # an entity: what it has not loaded yet, it loads by its session
                return True
            ahead += [(part, depth + 1) for part in (*parts.values(), *_parts(value))]
    return False


def _is_shared(cls: type) -> bool:
    return any(
        owner.__module__.partition(".")[0] in _SHARED_PACKAGES or owner.__name__ in _SHARED_CLASSES
        for owner in cls.__mro__
    )


def _parts(value: Any) -> Iterator[object]:
    if isinstance(value, dict):  # and no other mapping, which may have to ask somebody for its values
        yield from list(value.values())[:MAX_LOOKED_AT]
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from list(value)[:MAX_LOOKED_AT]
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    else:
        yield from map(_content, getattr(value, "__closure__", None) or ())
        yield from getattr(value, "__defaults__", None) or ()
        yield getattr(value, "__self__", None)
        yield getattr(value, "__func__", None)


def is_same_closure(function: Callable[..., Any]) -> Callable[[], bool]:
    """Whether the variables *function* closes over are still those of now: a loop may have gone on since."""
    cells = getattr(function, "__closure__", None) or ()
    before = [_content(cell) for cell in cells]
    return lambda: all(_content(cell) is value for cell, value in zip(cells, before, strict=True))


def name_of(function: Any) -> str:
    """What the figures of a loader are filed under."""
    while isinstance(function, partial):
        function = function.func
    kind = type(function)
    module = getattr(function, "__module__", None) or kind.__module__
    return f"{module}.{getattr(function, '__qualname__', kind.__qualname__)}"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has none (yet)
        return cell


def start_on_thread(step: Call, loaded: Future[Any]) -> Callable[[], None]:
    """Load on a new thread, which nobody can stop."""
    from tiercache._transport.blocking import call

    def work() -> None:
        try:
            _land(loaded, call(step))
        except BaseException as error:
            _land(loaded, error=_harmless(error))

    run = partial(Context().run, work)
    threading.Thread(target=run, name="tiercache-audit-load", daemon=True).start()
    return lambda: None


def start_on_loop(loop: asyncio.AbstractEventLoop, step: Call, loaded: Future[Any]) -> Callable[[], None]:
    """Load in a task of *loop*; returns what cancels it, so that another load may begin."""
    from asyncio import CancelledError

    from tiercache._transport.awaiting import call

    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        if not loaded.set_running_or_notify_cancel():
            return  # given up before the loop came to it
        try:
            result = await call(step)
        except CancelledError:
            _land(loaded, error=NoVerdict("dropped", "its loop ended"))
            raise
        except BaseException as error:
            _land(loaded, error=_harmless(error))
        else:
            _land(loaded, result)

    def begin() -> None:
        tasks.append(loop.create_task(work(), context=Context()))

    def cancel() -> None:
        if not loaded.cancel():
            _land(loaded, error=NoVerdict("dropped", "given up"))  # its loop may never run again
        try:
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        except RuntimeError:  # it was closed, after it had cancelled its tasks and before it came to this one
            for task in tasks:
                task.get_coro().close()

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError:
        loaded.cancel()
        raise NoVerdict("dropped", "its loop is closed") from None
    return cancel


def _land(loaded: Future[Any], result: object = None, error: BaseException | None = None) -> None:
    with suppress(InvalidStateError):  # given up meanwhile
        if error is None:
            loaded.set_result(result)
        else:
            loaded.set_exception(error)


def _harmless(error: BaseException) -> Exception:
    """A loader that asks for the end of its thread, or of the interpreter, has failed and no more."""
    return error if isinstance(error, Exception) else RuntimeError(f"the loader raised {error!r}")
