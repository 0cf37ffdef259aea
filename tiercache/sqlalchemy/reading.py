"""What a SELECT reads, told by its own compiler: tables, rows known by key, and what cannot be seen.

A statement is compiled here as SQLAlchemy itself will compile it, by a subclass of the dialect's compiler
that notes each table it renders: so a join, a subquery, a CTE, an alias, the tables of an inheritance and
those that loader criteria bring are found, and nothing is parsed. Text, and functions that are not known to
compute their value from their arguments alone, may read what nobody sees: a statement with such a part is
`unseen`.

Compiling takes about as long as a query; so one reading serves all statements of one structure, and the bound
values come from each.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, Table, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from tiercache import UnstableKey, source
from tiercache._locks import Guard
from tiercache.sqlalchemy.conditions import equalities
from tiercache.sqlalchemy.noting import noting

MOST_ROWS = 50  # of a table, by name, in one entry; above, the table
MOST = 500  # readings of one dialect that are remembered; as many as an engine's own compiled cache

KEPT = "tiercache_readings"

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


class Reading:
    """What is known of all SELECTs of one structure, on one dialect. Safe from any thread."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.first: Reading | None = None  # of those with this SQL, where each statement has its own
        self.columns: Any = None  # of its result, for who replays it
        self.tables: tuple[Table, ...] = tuple(compiled.noted_tables)
        self.unseen: tuple[str, ...] = tuple(compiled.noted_unseen)
        """Its parts that may read what is not seen here, for a message; () where there are none."""
        self.writes: bool = compiled.noted_writes
        """Whether it locks rows or changes some: such a statement has to reach the database."""
        self.row_parameters = row_parameters(compiled, self.tables)
        """Where it reads one table by its whole primary key: the parameter of each column, else ()."""
        self.names: tuple[str, ...] = tuple(compiled.bind_names.values())
        """Those of its parameters, in an order that does not depend on the process."""
        self.title = ",".join(table.name for table in self.tables)[:80] or "-"
        self.text, self.unkeyed = self._text()
        """SQL and types, the same in every process; and why there is no such text, where there is none."""

    def parameters(
        self, extracted: Sequence[Any], collected: Any, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Each bound value of one statement of this structure, by its name in the SQL."""
        more = {"_collected_params": collected} if collected is not None else {}
        return dict(
            self.compiled.construct_params(
                given or None, extracted_parameters=extracted, escape_names=False, **more
            )
        )

    def rows(self, parameters: Mapping[str, Any]) -> list[tuple[object, ...]] | None:
        """The primary keys of all rows that can be in the result; None where it may be any."""
        if not self.row_parameters:
            return None
        several: list[tuple[object, ...]] = [()]
        for name in self.row_parameters:
            value = parameters[name]
            values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
            if len(several) * len(values) > MOST_ROWS:
                return None
            several = [(*key, each) for key in several for each in values]
        return several

    def _text(self) -> tuple[str, str]:
        bound = (parameter.type for parameter in self.compiled.bind_names)
        results = (entry.type for entry in self.compiled._result_columns)
        try:
            types = (*map(type_text, results), "", *map(type_text, bound))
        except UnstableKey as unstable:
            return "", str(unstable)
        return "\n".join((str(self.compiled), *types)), ""


def type_text(kind: Any) -> str:
    """What tells *kind* from other types, arguments included. UnstableKey where nobody can tell them."""
    text = f"{type(kind).__module__}.{type(kind).__qualname__} {_ADDRESS.sub('', repr(kind))}"
    if isinstance(kind, TypeDecorator):
        text += decorator_text(kind)
    if isinstance(getattr(kind, "item_type", None), TypeEngine):  # an ARRAY's
        text += f" of {type_text(kind.item_type)}"
    # Semi-private: what `with_variant` was given, in 2.0 and 2.1.
    variants: Mapping[str, Any] = getattr(kind, "_variant_mapping", {})
    return text + "".join(f" {name}: {type_text(variants[name])}" for name in sorted(variants))


def decorator_text(kind: TypeDecorator[Any]) -> str:
    """What the repr of *kind* does not say, which shows the arguments of the type beneath alone."""
    own = f" on {type_text(kind.impl_instance)}"
    if type(kind).__init__ is TypeDecorator.__init__:
        return own
    # Semi-private: what SQLAlchemy's own key has, each argument that is kept as an attribute of its name.
    made: Any = kind._static_cache_key if type(kind).__dict__.get("cache_ok") is True else None
    try:
        return own + "".join(f" {name}={argument_text(value)}" for name, value in made[1:])
    except (TypeError, UnstableKey):
        raise UnstableKey(
            f"nobody can tell what {type(kind).__qualname__} was made with; it needs cache_ok = True and its "
            "arguments, values that a key can hold, as attributes of their names"
        ) from None


def argument_text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(argument_text, value))})"
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else source.text_of(value)


def row_parameters(compiled: Any, tables: Sequence[Table]) -> tuple[str, ...]:
    select = getattr(compiled.compile_state, "statement", None)
    if len(tables) != 1 or compiled.noted_renderings != 1 or not isinstance(select, Select):
        return ()
    keys = list(tables[0].primary_key)
    if select.get_final_froms() != [tables[0]] or select.whereclause is None:
        return ()
    found = dict(equalities(select.whereclause, set(keys)))
    names = [compiled.bind_names.get(found.get(column)) for column in keys]
    return () if None in names else tuple(names)


class Readings:
    """The readings of one dialect, the last MOST of them."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._by_key: OrderedDict[object, Reading] = OrderedDict()  # under `_guard`

    def of(
        self, dialect: Dialect, statement: Any, given: Mapping[str, Any], schemas: Mapping[Any, Any] | None
    ) -> tuple[Reading, dict[str, Any]]:
        """What *statement* reads, and its bound values."""
        # Semi-private, but what every execution in SQLAlchemy does: 2.0 gives (key, bound parameters), 2.1
        # those and what `params()` set, and None where some part of the statement cannot be told by a key.
        made = statement._generate_cache_key()
        names = sorted(given)
        if made is None:
            reading = read(dialect, statement, None, names, schemas)
            reading.first = self._first(reading)
            return reading, dict(reading.compiled.construct_params(given or None, escape_names=False))
        # Options of the user are no part of SQLAlchemy's key, but what a reading replays holds them.
        options = tuple(
            getattr(option, "propagate_to_loaders", False)
            if getattr(option, "_is_user_defined", False)
            else None
            for option in getattr(statement, "_with_options", ())
        )
        key = made.key, options, tuple(names), bool(schemas)
        with self._guard.lock:
            reading_or_none = self._by_key.get(key)
            if reading_or_none is not None:
                self._by_key.move_to_end(key)
        reading = reading_or_none or self._keep(key, read(dialect, statement, made, names, schemas))
        return reading, reading.parameters(made[1], made[2] if len(made) > 2 else None, given)

    def _first(self, reading: Reading) -> Reading | None:
        with self._guard.lock:
            first = self._by_key.get(str(reading.compiled))
        if first is None:
            self._keep(str(reading.compiled), reading)
        return first

    def _keep(self, key: object, reading: Reading) -> Reading:
        with self._guard.lock:
            self._by_key[key] = reading
            while len(self._by_key) > MOST:
                self._by_key.popitem(last=False)
        return reading


def reading_of(
    dialect: Dialect, statement: Any, given: Mapping[str, Any], schemas: Mapping[Any, Any] | None
) -> tuple[Reading, dict[str, Any]]:
    # An attribute of the dialect, since readings hold it: in a table they would keep it for ever.
    kept = vars(dialect)
    readings: Readings = kept.get(KEPT) or kept.setdefault(KEPT, Readings())
    return readings.of(dialect, statement, given, schemas)


def read(
    dialect: Dialect, statement: Any, key: Any, names: list[str], schemas: Mapping[Any, Any] | None
) -> Reading:
    compiler: Any = noting(dialect.statement_compiler)
    compiled = compiler(
        dialect,
        statement,
        cache_key=key,
        column_keys=names,
        for_executemany=False,
        schema_translate_map=schemas,
    )
    for element in visitors.iterate(statement):
        if hasattr(type(element), "_compiler_dispatcher"):  # of sqlalchemy.ext.compiler: writes what it likes
            compiled.noted_unseen[type(element).__name__] = None
    return Reading(compiled)
