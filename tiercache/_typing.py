"""What type checkers see of a decorated function: its own signature, and the verbs beside it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, Self, TypeVar, overload

from tiercache._core.writes import Written
from tiercache._report import CacheInfo

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class Method(Protocol[S_contra, Q, R_co]):
    """A function with its first parameter apart: what binding takes away."""

    def __call__(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class SyncCached(Protocol[P, R_co]):
    """A decorated `def`. The verbs take the arguments of a call, a method's with its object first."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload  # of a classmethod
    def __get__(
        self: Method[type[S], Q, R_co], instance: S | None, owner: type[S], /
    ) -> Callable[Q, R_co]: ...
    @overload  # through the class
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload  # of a method
    def __get__(self: Method[S, Q, R_co], instance: S, owner: type | None = None, /) -> Callable[Q, R_co]: ...
    @overload  # of a staticmethod: nothing is bound
    def __get__(self, instance: object, owner: type | None = None, /) -> Self: ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Written:
        """Make the value of this one call invalid everywhere. One round trip."""

    def invalidate_all(self) -> Written:
        """Make the values of all calls invalid everywhere. One round trip, however many there are."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function whatever is cached, and keep what it returns."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call, for `cache.get` and its kin."""

    def cache_info(self) -> CacheInfo:
        """How the calls of this function were answered in this process."""


class AsyncCached(Protocol[P, R_co]):
    """A decorated `async def`. The verbs take the arguments of a call, a method's with its object first."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    @overload  # of a classmethod
    def __get__(
        self: Method[type[S], Q, Coroutine[Any, Any, R_co]], instance: S | None, owner: type[S], /
    ) -> Callable[Q, Coroutine[Any, Any, R_co]]: ...
    @overload  # through the class
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload  # of a method
    def __get__(
        self: Method[S, Q, Coroutine[Any, Any, R_co]], instance: S, owner: type | None = None, /
    ) -> Callable[Q, Coroutine[Any, Any, R_co]]: ...
    @overload  # of a staticmethod: nothing is bound
    def __get__(self, instance: object, owner: type | None = None, /) -> Self: ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Written:
        """Make the value of this one call invalid everywhere. One round trip."""

    async def invalidate_all(self) -> Written:
        """Make the values of all calls invalid everywhere. One round trip, however many there are."""

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function whatever is cached, and keep what it returns."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call, for `cache.get` and its kin."""

    def cache_info(self) -> CacheInfo:
        """How the calls of this function were answered in this process."""


class Decorator(Protocol):
    """`cached(...)` with its options: takes a `def` or an `async def`."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCached[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncCached[P, R]: ...
