"""Which statements have to reach the database, by how and on what they are executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine

from tiercache.sqlalchemy.install import is_tuned
from tiercache.sqlalchemy.listening import level_of, sees_uncommitted
from tiercache.sqlalchemy.passed import passed
from tiercache.sqlalchemy.replay import Prepared

_UNCACHED = ("stream_results", "yield_per", "populate_existing", "max_row_buffer")
_COMMENTING = "opentelemetry."  # its listener may rewrite, and adds comments alone


def must_reach(bind: Engine | Connection, options: Mapping[str, Any], prepared: Prepared) -> bool:
    """Whether the database has to hear of the statement, or no key says all that its answer depends on."""
    why = ""
    dialect = bind.dialect
    if any(options.get(name) for name in _UNCACHED) or is_populating(prepared):
        why = "streamed, or populate_existing"
    elif is_tuned(bind.engine):
        why = "connections are told by text what is read"
    elif is_rewritten(bind):
        why = "a listener of the engine may rewrite it"
    elif dialect.name != "sqlite" and level_of(dialect, options) == "SERIALIZABLE":
        why = "serializable"  # it looks for conflicts with what it was asked
    elif sees_uncommitted(bind.engine, level_of(dialect, options)):
        why = "read uncommitted"
    if why:
        passed.count(why)
    return bool(why)


def is_populating(prepared: Prepared) -> bool:
    """By `Query.populate_existing()` or `yield_per()`, and where an instance is refreshed."""
    options: Any = prepared.options.get("_sa_orm_load_options")
    return bool(options and (options._populate_existing or options._yield_per or options._refresh_state))


def is_rewritten(bind: Engine | Connection) -> bool:
    """Whether a listener of *bind* gives the statement that is executed in place of another.

    One that was registered without `retval=True` stands there in a function of SQLAlchemy's own, in 2.0 and
    2.1.
    """
    if not bind._has_events and not bind.engine._has_events:
        return False
    dispatch: Any = bind.dispatch
    heard = (*dispatch.before_execute, *dispatch.before_cursor_execute)
    modules = [getattr(each, "__module__", None) or "" for each in heard]
    return any(name != "sqlalchemy.engine.events" and not name.startswith(_COMMENTING) for name in modules)


def merged(prepared: Prepared, bind: Any) -> Mapping[str, Any]:
    """Execution options, in SQLAlchemy's order: the statement's, the connection's, the call's."""
    return {**prepared.statement.get_execution_options(), **bind.get_execution_options(), **prepared.options}
