"""`session=`: what a decorated function returns joins the session that is among the call's arguments.

A wrapper around the decorated function, so that no other function pays for it. It looks at what the function
itself returned, too: that is in its session already. What the session's transaction has changed is known
before the call, also where another thread or task changed it, as FastAPI has its `def` dependencies do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tiercache._signatures import finder


def in_session(function: Callable[..., Any], cached: Any, path: str) -> Any:
    """*cached*, the decorated *function*, with what it gives attached to the session at *path*.

    *path* is a parameter, "db", or an attribute of one, "self.session". None there: nothing is attached.
    """
    from tiercache.sqlalchemy.ages import join
    from tiercache.sqlalchemy.attach import attach, sync_session

    named = finder(function, path)

    def find(args: Any, kwargs: Any) -> Any:
        session = named(args, kwargs)
        if session is not None:
            join(sync_session(session))
        return session

    def joined(session: Any, value: Any) -> Any:
        return value if session is None else attach(session, value)

    wrap = _awaited if inspect.iscoroutinefunction(function) else _blocking
    attached: Any = functools.wraps(cached)(wrap(cached, find, joined))
    attached.__wrapped__ = function
    attached.refresh = wrap(cached.refresh, find, joined)
    return attached


def _blocking(call: Any, find: Any, joined: Any) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        session = find(args, kwargs)  # first, since a wrong path is an error of the call's
        return joined(session, call(*args, **kwargs))

    return wrapper


def _awaited(call: Any, find: Any, joined: Any) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        session = find(args, kwargs)
        return joined(session, await call(*args, **kwargs))

    return wrapper
