"""What else a write of a table changes, as its metadata declares it: foreign keys that act, and rows that
stand for others.

A DELETE reaches the tables whose foreign keys say CASCADE, SET NULL or SET DEFAULT, and what these reach in
turn; an UPDATE of a referenced column likewise. A row whose key is made of foreign keys alone (an
association's, or the part of an object that a joined subclass adds) stands for the rows it points to: theirs
change with it. What is not in the metadata, such as an action of the database's own schema or a trigger, is
not seen. What is declared after the first write counts from then on.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ForeignKeyConstraint, MetaData, Table, event
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import mapperlib
from sqlalchemy.sql.expression import TableClause

KEY = "tiercache"  # in a metadata's `info`
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


def reached(table: Table, *, deleted: bool, changed: Sequence[Column[object]] = ()) -> tuple[Reach, ...]:
    """What the database changes when rows of *table* are deleted, or some of its columns change.

    *table* itself is among it where rows of it go with others.
    """
    found: dict[Table, Reach] = {}
    ahead: list[tuple[Table, bool, tuple[Column[object], ...], bool]] = [
        (table, deleted, tuple(changed), True)
    ]
    while ahead:
        parent, is_deleted, columns, keeps_key = ahead.pop()
        for constraint in _referring(parent):
            child = constraint.table
            action = _action(constraint, is_deleted, columns)
            if action is None:
                continue
            same = keeps_key and is_deleted and _same_key(constraint, parent)
            known = found.get(child)
            if known is not None and (same or not known.same_key):
                continue
            found[child] = Reach(child, same, points(child, constraint))
            gone = is_deleted and action == "CASCADE"
            ahead.append((child, gone, () if gone else tuple(constraint.columns), same))
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


def _action(
    constraint: ForeignKeyConstraint, is_deleted: bool, changed: Sequence[Column[object]]
) -> str | None:
    said = None
    if is_deleted:
        said = constraint.ondelete
    elif any(element.column in changed for element in constraint.elements):
        said = constraint.onupdate
    said = " ".join((said or "").upper().split())
    return next((action for action in ACTIONS if said.startswith(action)), None)


def _same_key(constraint: ForeignKeyConstraint, parent: Table) -> bool:
    """Whether a row of the one has the key of the row of *parent* it refers to."""
    local = {element.column: element.parent for element in constraint.elements}
    key = tuple(parent.primary_key)
    return (
        bool(key) and set(local) == set(key) and [local[c] for c in key] == list(constraint.table.primary_key)
    )


def declared() -> int:
    """How many foreign keys were declared in this process since it was first asked."""
    return _declared.count


def _referring(table: Table) -> Sequence[ForeignKeyConstraint]:
    """The foreign keys that refer to *table*, of all tables of whichever metadata."""
    now = declared(), len(table.metadata.tables)
    # With the metadata, which it refers to: what is keyed by it elsewhere would keep it alive.
    known = table.metadata.info.get(KEY)
    if known is None or known[0] != now:
        by_table: dict[Table, list[ForeignKeyConstraint]] = defaultdict(list)
        for metadata in dict.fromkeys((table.metadata, *_declared.metadatas())):
            for other in list(metadata.tables.values()):
                for constraint in _constraints(other):
                    referred = target(constraint)
                    if referred is not None and referred.metadata is table.metadata:
                        by_table[referred].append(constraint)
        known = table.metadata.info[KEY] = now, by_table
    found: Sequence[ForeignKeyConstraint] = known[1].get(table, ())
    return found


class Declared:
    """The foreign keys of this process, heard of as they are declared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metadatas: weakref.WeakSet[MetaData] = weakref.WeakSet()  # under `_lock`
        self.count = 0  # changed under `_lock`

    def hear(self, constraint: ForeignKeyConstraint, table: Table) -> None:
        with self._lock:
            self._metadatas.add(table.metadata)
            self.count += 1

    def metadatas(self) -> list[MetaData]:
        """Those that have foreign keys. Of what was declared before this module, those of mapped classes."""
        with self._lock:
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
