"""What stands in a copy where the original had not loaded an attribute.

`InstanceState.callables` is where SQLAlchemy itself keeps how one instance loads one attribute (a deferred
column of a query's options); it is not documented, and 2.0 and 2.1 have it. It is asked before the loaders
of the class.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import ColumnProperty, Mapper, MapperProperty, PassiveFlag, RelationshipProperty
from sqlalchemy.orm.base import LoaderCallableStatus
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.orm.state import InstanceState

# Relationships that read something else than the database when they are read: an error, or nothing.
UNREAD = ("raise", "raise_on_sql", "noload", "dynamic", "write_only")


class NotLoaded(DetachedInstanceError):
    """An attribute of a copy was read that the original had not loaded, and the copy has no session."""


class Unloaded:
    """How one attribute of a copy is loaded: in a session as ever, and without one not at all."""

    __slots__ = ("cls", "column", "expires", "key")

    def __init__(self, mapper: Mapper[Any], prop: MapperProperty[Any]) -> None:
        self.cls, self.key = mapper.class_, prop.key
        self.column = isinstance(prop, ColumnProperty)
        # A deferred column has a loader of its class; any other that is not there has to have expired.
        self.expires = self.column and mapper.class_manager[prop.key].impl.callable_ is None

    @staticmethod
    def is_for(mapper: Mapper[Any], prop: MapperProperty[Any]) -> bool:
        """Whether reading the attribute, where it is not loaded, asks the database."""
        if isinstance(prop, RelationshipProperty):
            return prop.lazy not in UNREAD
        impl = mapper.class_manager[prop.key].impl
        return isinstance(prop, ColumnProperty) and impl.accepts_scalar_loader and not prop.raiseload

    def __call__(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        if state.session is None:
            if passive & PassiveFlag.NO_RAISE or not passive & PassiveFlag.SQL_OK:
                return LoaderCallableStatus.PASSIVE_NO_RESULT
            raise NotLoaded(self.message())
        leave_unloaded(state)
        return state.manager[self.key].impl._fire_loader_callables(state, self.key, passive)

    def message(self) -> str:
        name = f"{self.cls.__name__}.{self.key}"
        load = "undefer" if self.column else "selectinload"
        return (
            f"{name} was not loaded when this value was stored, and a cached copy has no session to load it "
            f"with. Load it in the query, options({load}({name})), or let copies join the caller's session: "
            f'@cached(session="...") or tiercache.sqlalchemy.attach(session, value)'
        )


def leave_unloaded(state: InstanceState[Any]) -> None:
    """Let *state*, in a session, load what it lacks as an instance of a fresh query does: columns at once."""
    left = {}
    for key, unloaded in state.callables.items():
        if type(unloaded) is not Unloaded:
            left[key] = unloaded
        elif unloaded.expires:
            state.expired_attributes.add(key)
    state.callables = left
