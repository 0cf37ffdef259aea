"""Copies join a session: as the instances that a fresh query in it would have given.

An instance that the session has already wins: what it has loaded, pending changes above all, stays, and only
what it has not got is taken from the copy. Any other copy joins itself, with all that it leads to. Nothing is
sent to the database, nothing becomes dirty, and no transaction begins.

What `loading.instances` does for a row is not public: `session_id` and `identity_map._add_unpresent` are its
way to make an instance persistent, and 2.0 and 2.1 have them. `session.add` takes ten times as long.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from sqlalchemy.engine import Row, RowMapping
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.state import InstanceState

from tiercache.sqlalchemy.ages import STAMP, UNKNOWN
from tiercache.sqlalchemy.entities import Entities, entities_of
from tiercache.sqlalchemy.mapped import members
from tiercache.sqlalchemy.rows import made_row
from tiercache.sqlalchemy.unloaded import leave_unloaded

T = TypeVar("T")
AnySession = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any]


def attach(session: AnySession, value: T) -> T:
    """*value* with its entities in *session*, wherever it holds them: in containers, dataclasses and rows.

    Lists, dicts, sets and dataclasses are changed in place; tuples and rows are made anew where *session*
    has one of their entities already. Entities of another session, and what was never flushed, stay as they
    are. For who uses the session, in its thread or task; not for a value that others hold.
    """
    joining = Joining(sync_session(session))
    joining.walk(value)
    if not joining.known:
        return value
    joining.give_way()
    result: T = Exchange(joining.known).of(value)
    return result


def sync_session(session: AnySession) -> Session:
    """The Session that does the work; TypeError for what is none."""
    if isinstance(session, scoped_session | async_scoped_session):
        session = session()
    if isinstance(session, AsyncSession):
        session = session.sync_session
    if not isinstance(session, Session):
        raise TypeError(f"entities are attached to a Session or an AsyncSession, not to {session!r}")
    return session


# How entities of a class are stored, by class; None for what may be a container, LEAF for what holds nothing.
LEAF: Any = object()
KINDS: dict[type, Any] = dict.fromkeys((str, int, float, bool, type(None), bytes), LEAF)


class Joining:
    """One walk over a value, through containers and relationships."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.known: dict[int, Any] = {}  # by the id of a copy: the instance that the session has already
        self._copies: list[tuple[Entities, Any]] = []
        self._seen: set[int] = set()  # ids of containers: the value keeps them alive

    def walk(self, value: Any) -> None:
        """Let all entities that *value* leads to join. All in one loop: it is the cost of a hit."""
        session_id, identity_map = self.session.hash_key, self.session.identity_map
        persistent: Any = self.session.dispatch.loaded_as_persistent
        seen, known, copies = self._seen, self.known, self._copies
        todo = [value]
        while todo:
            part = todo.pop()
            kind = type(part)
            try:
                entities = KINDS[kind]
            except KeyError:
                entities = KINDS[kind] = entities_of(kind)
            if entities is None:
                if id(part) not in seen:
                    seen.add(id(part))
                    todo += held(part)
                continue
            if entities is LEAF:
                continue
            state = part._sa_instance_state
            if state.session_id is not None or state.key is None or id(part) in known:
                continue
            there = identity_map.get(state.key)
            if there is None:
                state.session_id = session_id
                state.__dict__[STAMP] = UNKNOWN
                identity_map._add_unpresent(state, state.key)
                if state.callables:
                    leave_unloaded(state)
                if persistent:
                    persistent(self.session, state)
            else:
                known[id(part)] = there
            copies.append((entities, part))
            todo += linked(entities, part)

    def give_way(self) -> None:
        """Where a copy is not the one of its identity, let all refer to the other, and complete that."""
        for entities, copy in self._copies:
            for key in entities.to_one:
                other = self.known.get(id(copy.__dict__.get(key)))
                if other is not None:
                    copy.__dict__[key] = other
            for key in entities.to_many:
                collection = copy.__dict__.get(key)
                held = members(collection) if collection else ()
                if any(id(member) in self.known for member in held):
                    others = [self.known.get(id(member), member) for member in held]
                    set_committed_value(copy, key, others)
        for entities, copy in self._copies:
            known = self.known.get(id(copy))
            if type(known) is type(copy):
                complete(entities, known, copy)


def complete(entities: Entities, known: Any, copy: Any) -> None:
    """Give *known* what it has not loaded, or has lost by expiring, and *copy* has."""
    state: InstanceState[Any] = instance_state(known)
    source = copy.__dict__
    # Not what was deleted by `del` and is not flushed: `committed_state` has that.
    missing = [
        key
        for key in entities.all
        if key in source and key not in state.dict and key not in state.committed_state
    ]
    for key in missing:
        value = source[key]
        set_committed_value(known, key, members(value) if key in entities.to_many else value)
    if missing and state.manager.dispatch.refresh:
        state.manager.dispatch.refresh(state, None, missing)


def linked(entities: Entities, entity: Any) -> list[Any]:
    """All that loaded relationships of *entity* lead to."""
    dict_ = entity.__dict__
    found = [target for key in entities.to_one if (target := dict_.get(key)) is not None]
    for key in entities.to_many:
        collection = dict_.get(key)
        if collection:
            found += members(collection)
    return found


def held(part: Any) -> list[Any]:
    """What a container holds."""
    if isinstance(part, list | tuple | set | frozenset | Row):
        return list(part)
    if isinstance(part, dict):
        return [*part.keys(), *part.values()]
    if isinstance(part, RowMapping):
        return list(part.values())
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return [getattr(part, each.name, None) for each in dataclasses.fields(part)]
    return []


class Exchange:
    """Puts the session's own instances where copies of them stand, in containers."""

    def __init__(self, known: dict[int, Any]) -> None:
        self._known = known
        self._done: dict[int, Any] = {}

    def of(self, part: Any) -> Any:
        other = self._known.get(id(part))
        if other is not None:
            return other
        if id(part) not in self._done:
            self._done[id(part)] = part  # a container in itself is itself
            self._done[id(part)] = self._made(part)
        return self._done[id(part)]

    def _made(self, part: Any) -> Any:
        if isinstance(part, list):
            part[:] = list(map(self.of, part))  # first: an InstrumentedList empties itself before it asks
        elif isinstance(part, dict):
            pairs = [(self.of(key), self.of(item)) for key, item in part.items()]
            part.clear()
            part.update(pairs)
        elif isinstance(part, set):
            items = list(map(self.of, part))
            part.clear()
            part.update(items)
        elif isinstance(part, tuple | frozenset | Row | RowMapping):
            return self._anew(part)
        elif (
            dataclasses.is_dataclass(part) and not isinstance(part, type) and entities_of(type(part)) is None
        ):
            for each in dataclasses.fields(part):
                held = getattr(part, each.name, None)
                other = self.of(held)
                if other is not held:
                    object.__setattr__(part, each.name, other)
        return part

    def _anew(self, part: Any) -> Any:
        """Another one of what cannot be changed, if it holds something to exchange."""
        before = held(part)
        after = list(map(self.of, before))
        if all(one is other for one, other in zip(before, after, strict=True)):
            return part
        if isinstance(part, Row):
            return made_row(part._fields, after)
        if isinstance(part, RowMapping):
            return made_row(list(map(str, part.keys())), after)._mapping
        if isinstance(part, tuple):
            return tuple.__new__(type(part), after)
        return type(part)(after)
