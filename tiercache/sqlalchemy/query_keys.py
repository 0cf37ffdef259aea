"""The key of a query: the same in every process for one question to one database, and no other question's.

It covers the dialect, the database, the schema translation, the SQL with the types of its columns and
parameters, and each bound value by type and value. Loader options count by what they change: the SQL, or
statements of their own, which have keys of their own.
"""

from __future__ import annotations

import os
import socket
import uuid
import weakref
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from tiercache import UnstableKey, source
from tiercache.sqlalchemy.noting import is_clock
from tiercache.sqlalchemy.reading import Reading

_CLOCKLESS = frozenset({"sqlite", "mysql", "mariadb", "mssql", "oracle"})  # 'now' is a text like others
_LOCAL = ("", "localhost", "::1")
_alone: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_places: weakref.WeakKeyDictionary[Engine, tuple[object, str]] = weakref.WeakKeyDictionary()
_NO_PLACE = ("ssl", "pass", "token", "secret", "context")  # in names of what chooses no database


def query_key(
    engine: Engine, reading: Reading, parameters: Mapping[str, Any], schemas: Mapping[Any, Any] | None
) -> str:
    """UnstableKey for a bound value that has no text of its own, or may mean another time later."""
    if reading.unkeyed:
        raise UnstableKey(reading.unkeyed)
    if engine.dialect.name not in _CLOCKLESS:
        clock = next(filter(is_clock, parameters.values()), None)
        if clock is not None:
            raise UnstableKey(f"the database may take {clock!r} for the time it is; write a time")
    # By place, not by name: a statement that was built twice may number its parameters in another way.
    values = [value_text(parameters[name]) for name in reading.names]
    told = "\0".join((place(engine), schemas_text(schemas) if schemas else "", reading.text, *values))
    return f"sql:{reading.title}:{blake2b(told.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def value_text(value: Any) -> str:
    kind = type(value)
    if kind is int or kind is bool or value is None:
        return repr(value)
    if kind is str:
        return f"'{len(value)}:{value}"
    return source.text_of(value)


def schemas_text(schemas: Mapping[Any, Any]) -> str:
    return repr(sorted((str(old), old is None, str(new), new is None) for old, new in schemas.items()))


def place(engine: Engine) -> str:
    """Which database *engine* is on, without its password."""
    # The default schema is known from the first connection on, so it belongs to what is remembered.
    schema = engine.dialect.default_schema_name
    known = _places.get(engine)
    if known is None or known[0] != (schema, is_redirected(engine), _alone.get(engine.pool)):
        text = described(engine, schema)
        known = _places[engine] = (schema, is_redirected(engine), _alone.get(engine.pool)), text
    return known[1]


def described(engine: Engine, schema: str | None) -> str:
    url: URL = engine.url
    dialect = engine.dialect
    at = [
        dialect.name,
        dialect.driver,  # another one may give other types for the same columns
        url.username or "",
        url.host or "",
        str(url.port or ""),
        url.database or "",
        schema or "",
    ]
    at += [f"{name}={value}" for name, value in sorted(url.query.items()) if "pass" not in name]
    given = connect_args(engine)
    at.append(alone(engine) if given is None else given)
    if dialect.name == "sqlite":
        path = str(connects_with(engine, "cargs", "cargs_tup")[0]) if given is not None else ":memory:"
        # SQLAlchemy makes a path absolute when it makes the engine; where one in a URI leads, SQLite decides
        # when it connects.
        if os.path.isabs(path.removeprefix("file:")) and "mode=memory" not in str(url):
            at += [path, socket.gethostname()]
        else:
            at.append(alone(engine))
    elif url.host is None and not url.query:
        at.append(alone(engine))  # reached by creator= or by the environment: who knows where it is
    elif (url.host or "") in _LOCAL or (url.host or "").startswith(("127.", "/")):
        at.append(socket.gethostname())
    return repr(at)


def is_redirected(engine: Engine) -> bool:
    """Whether a listener of `do_connect` may connect to what it likes."""
    return bool(engine.dialect.dispatch.do_connect)


def connect_args(engine: Engine) -> str | None:
    """What its connections are made with besides its URL; None where nobody can tell."""
    given = None if is_redirected(engine) else connects_with(engine, "cparams")
    if given is None:
        return None
    try:
        return source.text_of({name: value for name, value in given.items() if is_place(name, value)})
    except UnstableKey:
        return None


def connects_with(engine: Engine, *names: str) -> Any:
    """What *engine*'s own way to connect holds under one of *names*; None where it has another way."""
    # Not public: the function that create_engine has its pool connect by, in 2.0 and 2.1.
    connect: Any = engine.pool._creator
    held = getattr(getattr(connect, "__code__", None), "co_freevars", ())
    found = [name for name in names if name in held]
    if not found or connect.__module__ != "sqlalchemy.engine.create":
        return None
    return connect.__closure__[held.index(found[0])].cell_contents


def is_place(name: str, value: object) -> bool:
    """Whether with another *value* a connection may be one to another database."""
    if callable(value):
        return name == "async_creator_fn"  # it connects; others make names, cursors, passwords
    return not any(part in name for part in _NO_PLACE)


def alone(engine: Engine) -> str:
    """A text for the database that nobody else reaches."""
    return _alone.setdefault(engine.pool, uuid.uuid4().hex)
