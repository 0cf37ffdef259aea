"""What a plan may ask of the world outside, and the two drivers that perform it.

A plan is a generator. It yields a step and is resumed with the step's reply, or the step's
error is thrown into it; what it returns is its result:

    Ask    one round trip to Redis         a list of replies, one a command; L2Unavailable. A look goes alone
    Tell   commands nobody waits for       None at once; of a failure `untold` hears
    Call   the user's own function         what it returns, or raises
    Join   a future somebody else lands    its result, or TIMED_OUT

The order of steps, where the races live, is thus written once and can be played by a test
without Redis, thread or loop. Rules: no lock is held over a `yield`; instants come from the
clock that is handed in; a cancellation arrives by `throw`, so what must be undone stands
inside a `try`; a plan calls a plan with `yield from`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from tiercache._core.commands import Command
    from tiercache._core.flights import Load
    from tiercache._core.looks import Look

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


class _TimedOut:
    def __repr__(self) -> str:
        return "TIMED_OUT"


TIMED_OUT: Final = _TimedOut()


class Ask(NamedTuple):
    commands: tuple[Command[Any] | Look, ...]


class Tell(NamedTuple):
    commands: tuple[Command[Any], ...]
    untold: Callable[[tuple[Command[Any], ...]], object]  # called with them where nobody knows that they ran


@dataclass(slots=True)
class Call:
    """The user's function with its arguments; *load* is what nested reads must know of it."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    load: Load | None = None

    def within(self, load: Load) -> Call:
        return Call(self.function, self.args, self.kwargs, load)


class Landable(Protocol):
    """What is asked of a future: its exception, once it is done."""

    def done(self) -> bool: ...
    def exception(self) -> BaseException | None: ...
    def result(self, timeout: float, /) -> Any: ...
    def add_done_callback(self, callback: Callable[[Any], object], /) -> None: ...


class Join(NamedTuple):
    future: Landable
    timeout: float


Step: TypeAlias = Ask | Tell | Call | Join
Plan: TypeAlias = Generator[Step, Any, T]


def ask(command: Command[R]) -> Plan[R]:
    """The reply to one command; typed, where a bare `yield` is not."""
    replies = yield Ask((command,))
    reply: R = replies[0]
    return reply


def run(plan: Generator[S, Any, T], perform: Callable[[S], Any]) -> T:
    """Drive *plan* to its end on the calling thread."""
    try:
        step = next(plan)
        while True:
            try:
                reply = perform(step)
            except BaseException as error:
                step = plan.throw(error)
            else:
                step = plan.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result
    except BaseException:
        plan.close()  # what a signal raised in here leaves it between two steps, while its traceback lives
        raise


async def run_async(plan: Generator[S, Any, T], perform: Callable[[S], Awaitable[Any]]) -> T:
    """Drive *plan* to its end in the calling task; a cancellation goes in by `throw`, too."""
    try:
        step = next(plan)
        while True:
            try:
                reply = await perform(step)
            except BaseException as error:
                step = plan.throw(error)
            else:
                step = plan.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result
    except BaseException:
        plan.close()  # what a signal raised in here leaves it between two steps, while its traceback lives
        raise
