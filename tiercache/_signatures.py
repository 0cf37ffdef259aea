"""What can be told of a function without calling it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

from tiercache._errors import SettingError
from tiercache._nearest import nearest


def returned(function: Callable[..., Any]) -> object:
    """What *function* says it returns, whatever it says of its parameters; None if it cannot be told."""
    said = inspect.unwrap(function)
    try:
        hint = inspect.get_annotations(said).get("return")
        alone = types.SimpleNamespace(__annotations__={"return": hint})
        return typing.get_type_hints(alone, getattr(said, "__globals__", None)).get("return")
    except Exception:  # what is evaluated is the user's
        return None


def check_function(function: Any) -> None:
    """TypeError for what has no calls that could be told apart, or no values that could be kept."""
    if not callable(function):
        raise TypeError(f"@cached takes a function, not {function!r}; options are keywords: @cached(ttl=60)")
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator: its values are gone once they were read; return a list instead"
        )
    if inspect.isclass(function):
        raise TypeError(f"{name} is a class; decorate a function that returns an instance of it")
    owner = getattr(function, "__self__", None)
    if isinstance(function, partial) or not (owner is None or isinstance(owner, types.ModuleType)):
        raise TypeError(
            f"{name} is bound to what would be no part of its keys; write a def that takes it as an argument"
        )
    if getattr(function, "__module__", None) is None:
        raise TypeError(
            f"{name} is of no module, by which its keys would be told apart; write a def that calls it"
        )


def finder(function: Callable[..., Any], path: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """What finds the object at *path*, a parameter or "parameter.attribute", among a call's arguments.

    It gives None where the parameter is left out or None. SettingError for a path that names no parameter.
    """
    if not isinstance(path, str):
        raise SettingError(f"session= names an argument, as in session='db' or 'self.session', not {path!r}")
    name, *attributes = path.split(".")
    signature = inspect.signature(function)
    parameter = signature.parameters.get(name)
    if parameter is None or not all(map(str.isidentifier, attributes)):
        raise SettingError(
            f"session={path!r} names no parameter of {function.__qualname__}()"
            f"{nearest(name, signature.parameters)}"
        )
    positional = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    index = list(signature.parameters).index(name) if positional else None
    default = None if parameter.default is parameter.empty else parameter.default

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = args[index] if index is not None and index < len(args) else kwargs.get(name, default)
        for attribute in attributes if found is not None else ():
            found = getattr(found, attribute)
        return found

    return find
