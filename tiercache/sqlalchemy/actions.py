"""What else a write of a table changes, as its metadata declares it: foreign keys that act, and rows that
stand for others.

A DELETE reaches the tables whose foreign keys say CASCADE, SET NULL or SET DEFAULT, and what these reach in
turn; an UPDATE of a referenced column likewise. A row whose key is made of foreign keys alone (an
association's, or the part of an object that a joined subclass adds) stands for the rows it points to: theirs
change with it. Two objects with one schema and one name are one table, so what is declared for one of them
holds for a write through the other. What is in no metadata, such as an action of the database's own schema or
a trigger, is not seen. What is declared after the first write counts from then on.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, ForeignKey, ForeignKeyConstraint, MetaData, Table, event
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import mapperlib
from sqlalchemy.sql.expression import TableClause

from tiercache._locks import Guard

ACTIONS = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


class Point(NamedTuple):
    """A row that another one stands for."""

    table: Table
    columns: tuple[int, ...]
    """Which of the columns that identify the one are, in order, the key of the other."""


class Reach(NamedTuple):
    """A table that the database changes by itself when another one is written to."""

    table: Table
    same_key: bool
    """Whether the rows have the keys of those that were written to."""
    points: tuple[Point, ...]


def identity(table: Table) -> tuple[Column[object], ...]:
    """The columns that tell its rows apart: its primary key, or all of them."""
    return tuple(table.primary_key) or tuple(table.columns)


def points(
    table: Table, but: ForeignKeyConstraint | None = None, below: tuple[Table, ...] = ()
) -> tuple[Point, ...]:
    """The rows that one of *table* stands for; *but* is the foreign key by which it was reached."""
    columns = identity(table)
    if not columns or not all(column.foreign_keys for column in columns):
        return ()
    found: dict[Point, None] = {}
    for constraint in _constraints(table):
        referred = target(constraint)
        if constraint is but or referred is None or referred in (table, *below):
            continue
        local = {element.column: element.parent for element in constraint.elements}
        key = tuple(referred.primary_key)
        if set(local) == set(key) and all(local[column] in columns for column in key):
            places = tuple(columns.index(local[column]) for column in key)
            found[Point(referred, places)] = None
            if len(key) == len(columns):  # a subclass of a subclass
                for above in points(referred, below=(*below, table)):
                    found[Point(above.table, tuple(places[place] for place in above.columns))] = None
    return tuple(found)


def reached(
    table: TableClause, default: str | None, *, deleted: bool, changed: Iterable[ColumnElement[Any]] = ()
) -> tuple[Reach, ...]:
    """What the database changes when rows of *table* are deleted, or some of its columns change.

    *table* itself is among it where rows of it go with others. *default* is the schema that is meant where
    none is named.
    """
    if isinstance(table, Table):
        _declared.add(table.metadata)
    by_place = _declared.referring()
    found: dict[Table, Reach] = {}
    ahead: list[tuple[TableClause, bool, frozenset[str], bool]] = [
        (table, deleted, frozenset(each.name for each in changed), True)
    ]
    met: set[tuple[Table, bool, frozenset[str], bool]] = set()
    while ahead:
        parent, is_deleted, columns, keeps_key = ahead.pop()
        for constraint in _referring(parent, default, by_place):
            child = constraint.table
            action = _action(constraint, is_deleted, columns)
            if action is None:
                continue
            same = keeps_key and is_deleted and _same_key(constraint, parent)
            gone = is_deleted and action == "CASCADE"
            names = frozenset[str]() if gone else frozenset(column.name for column in constraint.columns)
            if (child, gone, names, same) in met:
                continue
            met.add((child, gone, names, same))
            ahead.append((child, gone, names, same))
            known = found.get(child, Reach(child, same, ()))
            stood_for = dict.fromkeys((*known.points, *points(child, constraint)))
            found[child] = Reach(child, known.same_key and same, tuple(stood_for))
    return tuple(found.values())


def kin(table: TableClause, *, below: bool = True) -> list[Table]:
    """The tables that show rows of *table*, as PostgreSQL has it; *below*: and those whose rows it shows."""
    tables = list(table.metadata.tables.values()) if isinstance(table, Table) else []
    above = {other: names for other in tables if (names := _inherits(other))}
    if not above:
        return []
    met: list[Any] = [table]
    for one in met if below else ():  # grows meanwhile
        met += [other for other, names in above.items() if one.name in names and other not in met]
    for one in met:
        met += [other for other in tables if other.name in above.get(one, ()) and other not in met]
    return met[1:]


def _inherits(table: Table) -> tuple[str, ...]:
    """The names of the tables that *table* inherits, as declared, without their schemas."""
    said = table.kwargs.get("postgresql_inherits") or ()
    names = (said,) if isinstance(said, str) else tuple(said)
    return tuple(name.rpartition(".")[2] for name in names)


def namesakes(table: TableClause, default: str | None) -> list[Table]:
    """Other objects for the table that *table* is in the database; *default* is its default schema."""
    keys = [f"{schema}.{name}" if schema else name for schema, name in _places(table, default)]
    found = [metadata.tables.get(key) for metadata in _declared.metadatas() for key in keys]
    return [each for each in dict.fromkeys(found) if each is not None and each is not table]


def _places(table: TableClause, default: str | None) -> list[tuple[str | None, str]]:
    schema = getattr(table, "schema", None)
    schemas = dict.fromkeys((None, default)) if schema in (None, default) else (schema,)
    return [(each, table.name) for each in schemas]


def _action(constraint: ForeignKeyConstraint, is_deleted: bool, changed: Collection[str]) -> str | None:
    said = None
    if is_deleted:
        said = constraint.ondelete
    elif any(_referred(element)[1] in changed for element in constraint.elements):
        said = constraint.onupdate
    said = " ".join((said or "").upper().split())
    return next((action for action in ACTIONS if said.startswith(action)), None)


def _same_key(constraint: ForeignKeyConstraint, parent: TableClause) -> bool:
    """Whether a row of the one has the key of the row of *parent* it refers to."""
    local = {_referred(element)[1]: element.parent for element in constraint.elements}
    key = [column.name for column in parent.primary_key]
    return (
        bool(key) and set(local) == set(key) and [local[c] for c in key] == list(constraint.table.primary_key)
    )


def _referred(element: ForeignKey) -> tuple[tuple[str | None, str], str]:
    """Schema and name of the table, and name of the column, that *element* refers to."""
    try:
        column = element.column
        return (column.table.schema, column.table.name), column.name
    except NoReferenceError:  # its metadata does not have it, but another one may
        path, _, name = element.target_fullname.rpartition(".")
        schema, _, table = path.rpartition(".")
        return (schema or element.parent.table.metadata.schema, table), name


def declared() -> int:
    """How many foreign keys, and tables where there are such, this process has declared so far."""
    return _declared.count


def _referring(
    table: TableClause, default: str | None, by_place: Referring
) -> Iterator[ForeignKeyConstraint]:
    """The foreign keys that refer to the table of the database that *table* is, of whichever metadata."""
    for place in _places(table, default):
        for reference in by_place.get(place, ()):
            constraint = reference()
            if constraint is not None:
                yield constraint


Referring = Mapping[tuple[str | None, str], Sequence["weakref.ref[ForeignKeyConstraint]"]]
"""The foreign keys by schema and name of the table that they refer to; weak, to keep no metadata alive."""


class Declared:
    """The foreign keys of this process, heard of as they are declared."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._metadatas: weakref.WeakSet[MetaData] = weakref.WeakSet()  # under `_guard`
        self.count = 0  # changed under `_guard`
        self._referring: tuple[object, Referring] = None, {}

    def hear(self, constraint: ForeignKeyConstraint, table: Table) -> None:
        with self._guard.lock:
            self._metadatas.add(table.metadata)
            self.count += 1

    def hear_table(self, table: Table, metadata: MetaData) -> None:
        """One to which foreign keys that were there before it may refer."""
        with self._guard.lock:
            self.count += metadata in self._metadatas

    def add(self, metadata: MetaData) -> None:
        with self._guard.lock:
            self._metadatas.add(metadata)

    def referring(self) -> Referring:
        metadatas = dict.fromkeys(self.metadatas())
        now = self.count, sum(len(metadata.tables) for metadata in metadatas)
        known, by_place = self._referring
        if known != now:
            found: dict[tuple[str | None, str], list[weakref.ref[ForeignKeyConstraint]]] = defaultdict(list)
            for metadata in metadatas:
                for table in list(metadata.tables.values()):
                    for constraint in _constraints(table):
                        found[_referred(constraint.elements[0])[0]].append(weakref.ref(constraint))
            self._referring = now, by_place = now, found
        return by_place

    def metadatas(self) -> list[MetaData]:
        """Those that have foreign keys. Of what was declared before this module, those of mapped classes."""
        with self._guard.lock:
            heard = list(self._metadatas)
        # The registries that are alive are listed nowhere in public; 2.0 and 2.1 have this.
        for registry in mapperlib._all_registries():
            tables = (each.local_table for each in registry.mappers)
            heard += [registry.metadata, *(each.metadata for each in tables if isinstance(each, Table))]
        return heard


def _constraints(table: Table) -> list[ForeignKeyConstraint]:
    """In the order in which they were declared: the set of them is in any."""
    return sorted(table.foreign_key_constraints, key=lambda each: [c.key for c in each.columns])


def target(constraint: ForeignKeyConstraint) -> Table | None:
    """The table referred to; None where the metadata does not have it."""
    try:
        return constraint.referred_table
    except NoReferenceError:
        return None


_declared = Declared()
event.listen(ForeignKeyConstraint, "after_parent_attach", _declared.hear)
event.listen(Table, "after_parent_attach", _declared.hear_table)
