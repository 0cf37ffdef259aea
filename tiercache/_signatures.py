"""What can be told of a function without calling it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from tiercache._errors import SettingError
from tiercache._nearest import nearest


def returned(function: Callable[..., Any]) -> object:
    """What *function* says it returns; None where its annotations cannot be evaluated."""
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None


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
