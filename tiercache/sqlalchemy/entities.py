"""Entities as values: the instances of a mapped class, stored with what they have loaded, and their copies.

An instance is stored as what it has loaded: column attributes, and relationships, which are followed. What is
not loaded stays so; attributes that are not mapped are not stored. It must show what the database holds: one
with pending changes, one that has expired or that was deleted, and one that was never flushed is refused.

A copy is an instance of its class with its identity, detached, and nobody else's. Reading what it has not got
raises `NotLoaded` while it has no session; in a session it loads, as any attribute does. `load` listeners and
the @reconstructor run when a copy is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import ColumnProperty, Mapper, PassiveFlag, RelationshipProperty, configure_mappers
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.state import InstanceState

from tiercache.shapes import Layout, Linked, Refused
from tiercache.sqlalchemy.ages import tell
from tiercache.sqlalchemy.mapped import is_stored, loaded, members, plain, print_of, value_classes, why_not
from tiercache.sqlalchemy.unloaded import Unloaded

# Beside the keys of attributes, which are identifiers: what identity is made of where no attributes tell it.
IDENTITY, TOKEN = "(identity)", "(token)"
ABSENT = object()
MAX_LAYOUTS = 200  # kept of one class; those of planted bytes are without number


class EntityLayout(Layout):
    """What a group of entities has loaded, and how their copies are made."""

    __slots__ = ("hidden", "identity", "keys", "lacking", "token")

    def __init__(self, entities: Entities, names: Sequence[str]) -> None:
        keys = [name for name in names if name in entities.columns]
        ones = [name for name in names if name in entities.to_one]
        many = [name for name in names if name in entities.to_many]
        hidden = [name for name in (IDENTITY, TOKEN) if name in names]
        if [*hidden, *keys, *ones, *many] != list(names):
            raise ValueError(f"{names!r} are no attributes of {entities.name}")
        values = [*keys, *hidden]  # so that a row may be longer than its keys
        super().__init__(list(names), values, ones, many)
        self.keys = tuple(keys)
        self.hidden = bool(hidden)
        self.token = values.index(TOKEN) if TOKEN in values else None
        self.identity: int | tuple[int, ...]  # where the values of the primary key stand
        if IDENTITY in values:
            self.identity = values.index(IDENTITY)
        else:
            self.identity = tuple(keys.index(key) for key in entities.primary_key)
        absent = set(entities.lazy).difference(names)
        self.lacking: dict[str, Callable[[InstanceState[Any], PassiveFlag], Any]] = {
            key: entities.lazy[key] for key in absent
        }


class Entities(Linked):
    """The instances of one mapped class."""

    def __init__(self, cls: type, mapper: Mapper[Any]) -> None:
        super().__init__(cls)
        self.mapper = mapper
        self._attributes = -1
        self._refresh()

    @property
    def print(self) -> str:
        # A class may get another mapped attribute at any time: `User.posts = relationship(...)`.
        if len(self.mapper.attrs) != self._attributes:
            self._refresh()
        return self._print

    def _refresh(self) -> None:
        mapper = self.mapper
        self._attributes = len(mapper.attrs)
        properties = [prop for prop in mapper.iterate_properties if is_stored(prop)]
        self.columns = {prop.key: prop for prop in properties if isinstance(prop, ColumnProperty)}
        self.links = {prop.key: prop for prop in properties if isinstance(prop, RelationshipProperty)}
        self.to_one = [key for key, prop in self.links.items() if not prop.uselist]
        self.to_many = [key for key, prop in self.links.items() if prop.uselist]
        self.all = (*self.columns, *self.to_one, *self.to_many)
        self.lazy = {prop.key: Unloaded(mapper, prop) for prop in properties if Unloaded.is_for(mapper, prop)}
        self.primary_key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        self.identity_class = mapper.identity_key_from_primary_key(())[0]
        self._layouts: dict[Any, EntityLayout] = {}
        self._print = print_of(mapper, properties)

    def named_in_values(self) -> Iterable[object]:
        return value_classes(self.mapper)

    # ---- into columns

    def layout(self, instance: Any) -> EntityLayout:
        state = instance_state(instance)
        if state.key is None or state.modified or state.expired or state.was_deleted:
            raise Refused(why_not(instance))
        session = state.session
        if session is not None and session.deleted and instance in session.deleted:
            raise Refused(f"this {self.mapper.class_.__name__} is to be deleted; do not return it")
        tell(state)
        if len(self.mapper.attrs) != self._attributes:
            self._refresh()
        dict_ = state.dict
        _, identity, token = state.key
        told = tuple([dict_.get(key, ABSENT) for key in self.primary_key]) == identity
        key = (told, token is None, *map(dict_.__contains__, self.all))
        layout = self._layouts.get(key)
        if layout is None:
            hidden = [IDENTITY] * (not told) + [TOKEN] * (token is not None)
            names = (*hidden, *(name for name in self.all if name in dict_))
            layout = self._kept(key, self.found(names))
        return layout

    def values(self, layout: Layout, instances: Sequence[Any]) -> Sequence[Sequence[Any]]:
        states = [instance_state(instance) for instance in instances]
        dicts = [state.dict for state in states]
        columns: list[Sequence[Any]] = []
        for name in layout.values:
            if name == IDENTITY:
                columns.append([tuple(plain(state.identity or ())) for state in states])
            elif name == TOKEN:
                columns.append([state.identity_token for state in states])
            else:
                columns.append(plain([loaded(dict_, name, self.cls) for dict_ in dicts]))
        return columns

    def ones(self, layout: Layout, instances: Sequence[Any]) -> Sequence[Sequence[Any]]:
        dicts = [instance_state(instance).dict for instance in instances]
        return [[loaded(dict_, name, self.cls) for dict_ in dicts] for name in layout.ones]

    def many(self, layout: Layout, instances: Sequence[Any]) -> Sequence[Sequence[Sequence[Any]]]:
        dicts = [instance_state(instance).dict for instance in instances]
        return [[members(loaded(dict_, name, self.cls)) for dict_ in dicts] for name in layout.many]

    # ---- and back

    def found(self, tree: Any) -> EntityLayout:
        names = tuple(tree)
        return self._layouts.get(names) or self._kept(names, EntityLayout(self, names))

    def make(self, layout: Layout, columns: Sequence[list[Any]], count: int) -> list[Any]:
        assert isinstance(layout, EntityLayout)
        new, keys, lacking = self.mapper.class_manager.new_instance, layout.keys, layout.lacking
        identity_class = self.identity_class
        made = []
        # All columns are of one length; a row is longer than its keys where its identity stands apart.
        for row, identity, token in zip(zip(*columns), *identities(layout, columns), strict=False):  # noqa: B905
            instance = new()
            state = instance._sa_instance_state
            state.key = (identity_class, identity, token)
            if token is not None:
                state.identity_token = token
            if lacking:
                state.callables = lacking.copy()
            instance.__dict__.update(zip(keys, row))  # noqa: B905
            made.append(instance)
        return made

    def refer(
        self,
        layout: Layout,
        instances: Sequence[Any],
        ones: Sequence[list[Any]],
        many: Sequence[list[list[Any]]],
    ) -> None:
        for name, column in zip(layout.ones, ones, strict=True):
            self._check(name, column)
            for instance, target in zip(instances, column, strict=True):
                instance.__dict__[name] = target
        for name, rows in zip(layout.many, many, strict=True):
            self._check(name, chain.from_iterable(rows))
            put: Any = self.mapper.class_manager[name].impl.set_committed_value
            for instance, targets in zip(instances, rows, strict=True):
                put(instance_state(instance), instance.__dict__, targets)

    def finish(self, instances: Sequence[Any]) -> None:
        load: Any = self.mapper.class_manager.dispatch.load
        if load:
            for instance in instances:
                load(instance_state(instance), None)

    def _check(self, name: str, targets: Iterable[Any]) -> None:
        wanted = self.links[name].mapper.class_
        for kind in set(map(type, targets)):
            if not issubclass(kind, wanted) and (kind is not type(None) or name in self.to_many):
                raise TypeError(f"a {kind.__name__} in {self.name}.{name}")

    def _kept(self, key: Any, layout: EntityLayout) -> EntityLayout:
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        self._layouts[key] = layout
        return layout


def identities(layout: EntityLayout, columns: Sequence[list[Any]]) -> tuple[Iterable[Any], Iterable[Any]]:
    """The primary key of each row, and its token."""
    tokens = repeat(None) if layout.token is None else columns[layout.token]
    if isinstance(layout.identity, int):
        keys: Iterable[Any] = columns[layout.identity]
        kinds = set(map(type, keys))
        if kinds != {tuple}:
            raise TypeError(f"{kinds} where a primary key belongs")
        parts: Iterable[Any] = chain(*keys)
    else:
        keys = zip(*(columns[index] for index in layout.identity), strict=True)
        parts = chain(*(columns[index] for index in layout.identity))
    if any(
        kind.__hash__ is None for kind in set(map(type, chain(parts, () if layout.token is None else tokens)))
    ):
        raise TypeError("a primary key that no session can look up")
    return keys, tokens


_entities: dict[type, Entities] = {}


def entities_of(cls: type) -> Entities | None:
    """How instances of *cls* are stored; None if it is not mapped. May raise Refused."""
    found = _entities.get(cls)
    if found is None:
        mapper: Any = inspect(cls, raiseerr=False)
        if isinstance(mapper, Mapper) and mapper.class_ is cls:
            try:
                configure_mappers()
            except SQLAlchemyError as error:
                raise Refused(f"the mappers cannot be configured: {error}", error) from error
            found = _entities[cls] = Entities(cls, mapper)
    return found
