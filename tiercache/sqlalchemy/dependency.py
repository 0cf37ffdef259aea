"""`cached_dependency`: a session as an application's own dependency yields it, whose reads are cached.

What is yielded is the very object that the user's function yields. Its reads are answered as if each SELECT
bore `from_cache(ttl)`, and its writes invalidate. The user's generator is driven as if it were called
directly: what is sent, thrown or closed reaches it at its own `yield`, once, and what it raises or returns
comes out.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from tiercache import TierCache, default_cache
from tiercache.sqlalchemy.options import FromCache, Ttl
from tiercache.sqlalchemy.queries import Always, answer_always, stop_answering

F = TypeVar("F", bound=Callable[..., Any])

AUTO_DETECT = "auto_detect"


def cached_dependency(
    get_session: F, cache: TierCache | None = None, ttl: Ttl = 300, table_name: str | None = AUTO_DETECT
) -> F:
    """*get_session*, with the reads of the session it yields answered from *cache* and kept for *ttl*.

    *get_session* is a generator function, sync or async, one under `@contextmanager` or
    `@asynccontextmanager`, or a function that returns a session; what comes back is of the same kind and has
    its signature. For FastAPI it equals *get_session*, so an override of either is one of both. With a
    *table_name* only statements that read this table and no other are cached; "auto_detect": any whose
    tables are all known. Without *cache* it is the default cache, as of the first use. *ttl* as for
    `from_cache`.
    """
    if not callable(get_session):
        raise TypeError(f"cached_dependency takes the function that yields a session, not {get_session!r}")
    if table_name is not None and not isinstance(table_name, str):
        raise TypeError(f"table_name must be a name or 'auto_detect', not {table_name!r}")
    wanted = Wanted(cache, ttl, None if table_name in (None, AUTO_DETECT) else frozenset({str(table_name)}))
    made: Any
    if getattr(get_session, "__code__", None) is _CONTEXT_MANAGER:
        made = contextlib.contextmanager(Generating(inspect.unwrap(get_session), wanted))
    elif getattr(get_session, "__code__", None) is _ASYNC_CONTEXT_MANAGER:
        made = contextlib.asynccontextmanager(AsyncGenerating(inspect.unwrap(get_session), wanted))
    else:
        made = kind_of(get_session)(get_session, wanted)
    result: F = made
    return result


_CONTEXT_MANAGER = contextlib.contextmanager(lambda: iter(())).__code__
_ASYNC_CONTEXT_MANAGER = contextlib.asynccontextmanager(lambda: aiter_nothing()).__code__


async def aiter_nothing() -> AsyncGenerator[None, None]:
    return
    yield


def kind_of(function: Any) -> type[Dependency]:
    for each in (function, type(function).__call__):
        if inspect.isgeneratorfunction(each):
            return Generating
        if inspect.isasyncgenfunction(each):
            return AsyncGenerating
        if inspect.iscoroutinefunction(each):
            return AsyncReturning
    return Returning


class Wanted:
    """How the sessions of one dependency are to be answered. Safe from any thread."""

    def __init__(self, cache: TierCache | None, ttl: Ttl, only: frozenset[str] | None) -> None:
        self._cache, self._ttl, self._only = cache, ttl, only
        made = self._made(cache)  # a ttl that is none is refused here
        self._option = made if cache is not None else None

    def begin(self, yielded: object, *, for_good: bool = False) -> Session:
        """From now on *yielded* is answered from the cache, and what it writes invalidates."""
        session = session_of(yielded)
        # Not kept without a cache of one's own: `configure` may make another default one.
        option = self._option or self._made(default_cache())
        answer_always(session, Always(option, self._only), for_good=for_good)
        return session

    def _made(self, cache: TierCache | None) -> FromCache:
        option = FromCache(self._ttl, None, False, cache)
        option.quiet = True
        return option


def session_of(yielded: object) -> Session:
    if isinstance(yielded, scoped_session | async_scoped_session):
        yielded = yielded()
    if isinstance(yielded, AsyncSession):
        return yielded.sync_session
    if isinstance(yielded, Session):
        return yielded
    raise TypeError(f"cached_dependency: the function gave {yielded!r}, which is no Session or AsyncSession")


class Dependency:
    """A function in all that others look at, and equal to the one it stands for.

    FastAPI looks up `dependency_overrides` by the function that a parameter depends on.
    """

    def __init__(self, function: Any, wanted: Wanted) -> None:
        functools.update_wrapper(self, function)
        self._function, self._wanted = function, wanted
        # inspect takes for a function what has these; and FastAPI evaluates annotations that are text where
        # the function was written, which it finds by its globals.
        like = type(self).__call__
        self.__code__, self.__defaults__, self.__kwdefaults__ = like.__code__, None, None
        self.__annotations__ = getattr(function, "__annotations__", {})
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        try:
            self.__signature__ = inspect.signature(function, eval_str=True)
        except NameError:  # imported for type checkers alone
            self.__signature__ = inspect.signature(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return self is other if isinstance(other, Dependency) else bool(self._function == other)

    def __hash__(self) -> int:
        return hash(self._function)

    def __repr__(self) -> str:
        return f"<cached_dependency {self._function!r}>"


class Returning(Dependency):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        yielded = self._function(*args, **kwargs)
        self._wanted.begin(yielded, for_good=True)
        return yielded


class AsyncReturning(Dependency):
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        yielded = await self._function(*args, **kwargs)
        self._wanted.begin(yielded, for_good=True)
        return yielded


class Generating(Dependency):
    def __call__(self, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from Driven(self._function(*args, **kwargs), self._wanted))


class Driven(Generator[Any, Any, Any]):
    """The user's generator: `yield from` hands all that happens at the outer yield to it."""

    def __init__(self, inner: Generator[Any, Any, Any], wanted: Wanted) -> None:
        self._inner, self._wanted = inner, wanted
        self._session: Session | None = None

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._stop()
        self._inner.close()

    def _step(self, act: Any, *args: Any) -> Any:
        self._stop()
        yielded = act(*args)
        try:
            self._session = self._wanted.begin(yielded)
        except BaseException:
            self._inner.close()
            raise
        return yielded

    def _stop(self) -> None:
        if self._session is not None:
            stop_answering(self._session)
            self._session = None


class AsyncGenerating(Dependency):
    async def __call__(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = self._function(*args, **kwargs)
        act, given = inner.asend, None
        while True:
            try:
                yielded = await act(given)
            except StopAsyncIteration:
                return
            try:
                session = self._wanted.begin(yielded)
            except BaseException:
                await inner.aclose()
                raise
            try:
                act, given = inner.asend, (yield yielded)
            except GeneratorExit:
                stop_answering(session)
                await inner.aclose()
                raise
            except BaseException as error:
                act, given = inner.athrow, error
            stop_answering(session)
