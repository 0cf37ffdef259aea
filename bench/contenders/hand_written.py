"""The least that can be done by hand: what the multiples are multiples of, no cache that one would use."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders.facade import Contender, Place, Unable


class HandWritten(Contender):
    uses_redis = False
    is_bounded = False


class BareWrapper(HandWritten):
    name = "bare wrapper over a dict"
    setting = "the least that a decorator in Python can do: *args, **kwargs, one dict; no bound, no expiry"
    is_async = False

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.by_key: dict[str, Any] = {}

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        table: dict[Any, Any] = {}

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            key = (args, *kwargs.items()) if kwargs else args
            found = table.get(key)
            if found is None:
                found = table[key] = function(*args, **kwargs)
            return found

        return wrapper

    def read(self, key: str) -> Any:
        return self.by_key.get(key)

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.by_key[key] = value


class BareWrapperLater(HandWritten):
    name = BareWrapper.name
    setting = BareWrapper.setting
    is_async = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        table: dict[Any, Any] = {}

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            key = (args, *kwargs.items()) if kwargs else args
            found = table.get(key)
            if found is None:
                found = table[key] = await function(*args, **kwargs)
            return found

        return wrapper


class BareCoroutine(HandWritten):
    name = "bare async def over a dict"
    setting = "the least that a coroutine can do: one argument, one dict; no bound, no expiry"
    is_async = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.by_key: dict[str, Any] = {}

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        if len(inspect.signature(function).parameters) != 1:
            raise Unable("is for one argument")
        table: dict[Any, Any] = {}

        async def from_dict(argument: Any) -> Any:
            try:
                return table[argument]
            except KeyError:
                found = table[argument] = await function(argument)
                return found

        return from_dict

    async def read(self, key: str) -> Any:
        return self.by_key.get(key)

    async def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.by_key[key] = value


class BareLruLater(HandWritten):
    name = "bare async def over an LRU dict"
    setting = "the least that a bounded one can do: one argument, one OrderedDict of maxsize; no expiry"
    is_async = True
    is_bounded = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        table: OrderedDict[Any, Any] = OrderedDict()
        maxsize = self.place.maxsize

        async def from_dict(argument: Any) -> Any:
            try:
                found = table[argument]
            except KeyError:
                found = table[argument] = await function(argument)
                if len(table) > maxsize:
                    table.popitem(last=False)
            else:
                table.move_to_end(argument)
            return found

        return from_dict


class LruCacheDeepCopied(HandWritten):
    name = "lru_cache and copy.deepcopy"
    setting = "functools.lru_cache, its answer copied by hand"
    is_async = False
    is_bounded = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        kept, copied = functools.lru_cache(self.place.maxsize)(function), copy.deepcopy

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return copied(kept(*args, **kwargs))

        return wrapper


class LruCachePickled(HandWritten):
    name = "lru_cache of pickles"
    setting = "functools.lru_cache over pickle.dumps, its answer through pickle.loads"
    is_async = False
    is_bounded = True

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        loads = pickle.loads

        @functools.lru_cache(self.place.maxsize)
        def kept(*args: Any, **kwargs: Any) -> bytes:
            return pickle.dumps(function(*args, **kwargs), pickle.HIGHEST_PROTOCOL)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return loads(kept(*args, **kwargs))

        return wrapper
