"""What a compiled statement changes and reads, found once for each compiled form and kept with it.

The compiler's notes (`noting`) say which tables; conditions of the kind `key = value` in the WHERE clause of
an UPDATE or DELETE, the values and the result of an INSERT say which rows. Where they do not, any row of the
table counts as changed: INSERT from SELECT, ON CONFLICT but for one on the key itself, prefixes such as OR
REPLACE, a key that is changed or computed, parts (CTEs) that insert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from sqlalchemy import BindParameter, Column, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.expression import SelectBase, TableClause

from tiercache.sqlalchemy.actions import Point, Reach, declared, identity, kin, namesakes, points, reached
from tiercache.sqlalchemy.conditions import (
    equalities,
    is_custom,
    is_plain,
    keeps_to_key,
    key_of,
    set_columns,
    tables_in,
)
from tiercache.sqlalchemy.ddl import written_by
from tiercache.sqlalchemy.names import Part, Schemas, names_of
from tiercache.sqlalchemy.noting import Noted, noting
from tiercache.sqlalchemy.texts import Effect, effects_of, is_several

MAX_ROWS = 1000  # of one table that are told by name; more count as any row

Rows = list[tuple[str | None, ...]]
"""Of each row the texts of what identifies it; None in place of what is not known."""


class Named:
    """The names of what a write changes, under one `schema_translate_map`."""

    def __init__(self, write: Write, dialect: Dialect, schemas: Schemas) -> None:
        def names(table: TableClause) -> tuple[str, ...]:
            # Who reads under the declared name, by another map, is told, too.
            return tuple(dict.fromkeys((*names_of(table, dialect, schemas), *names_of(table, dialect))))

        reach = write.reach
        same = (write.table, *(r.table for r in reach if r.same_key))
        self.tables = tuple(dict.fromkeys(n for t in (*same, *(r.table for r in reach)) for n in names(t)))
        self.same = tuple(dict.fromkeys(n for t in same for n in names(t)))
        away = [r.table for r in reach if not r.same_key] + [p.table for r in reach for p in r.points]
        self.any = tuple(dict.fromkeys(n for t in away for n in names(t)))
        self.points = tuple(dict.fromkeys((n, p.columns) for p in write.points for n in names(p.table)))


class Write:
    """One INSERT, UPDATE or DELETE within statements of one compiled form. Safe from any thread."""

    def __init__(
        self,
        table: TableClause,
        dialect: Dialect,
        *,
        parameters: tuple[str | None, ...] | None = None,
        more: Sequence[tuple[str, ...]] = (),
        is_insert: bool = False,
        asks_result: bool = False,
        reach: tuple[Reach, ...] = (),
    ) -> None:
        columns = identity(table) if isinstance(table, Table) else ()
        self.points: tuple[Point, ...] = points(table) if isinstance(table, Table) else ()
        for other in namesakes(table, dialect.default_schema_name):
            is_alike = [each.name for each in columns] == [each.name for each in identity(other)]
            self.points += points(other) if is_alike else ()
            reach += (Reach(other, is_alike, () if is_alike else points(other)),)
        shown = [
            other for each in (table, *(r.table for r in reach)) for other in kin(each, below=not is_insert)
        ]
        self.table, self.is_insert = table, is_insert
        self.reach = (*reach, *(Reach(other, False, points(other)) for other in dict.fromkeys(shown)))
        self.parameters = parameters
        """The parameter that has each part of what identifies the row; None where any row may be meant."""
        self.more = more  # the same of each row but the first, where one statement brings several
        self.asks_result = asks_result  # whether the database's answer may tell what the parameters do not
        self.has_key = isinstance(table, Table) and bool(list(table.primary_key))
        self._parts = tuple(Part(column, dialect) for column in columns)
        self._dialect = dialect
        self._named: dict[Any, Named] = {}

    def named(self, schemas: Schemas) -> Named:
        key = frozenset(schemas.items()) if schemas else None
        named = self._named.get(key)
        if named is None:
            if len(self._named) > 100:  # a schema for each of many tenants
                self._named.clear()
            named = self._named[key] = Named(self, self._dialect, schemas)
        return named

    def rows(self, parameters: Sequence[Mapping[str, Any]]) -> Rows | None:
        """The rows that the statement can have changed, by what it was given; None: any."""
        if self.parameters is None or len(parameters) > MAX_ROWS:
            return None
        if len(self._parts) == 1 and not self.more:
            return self._single(parameters)
        rows: Rows = []
        for given in parameters:
            for names in (self.parameters, *self.more):
                columns = [
                    (None,) if name is None else part.texts(values_of(given, name))
                    for part, name in zip(self._parts, names, strict=True)
                ]
                for row in product(*columns):
                    rows.append(row)
                    if len(rows) > MAX_ROWS:
                        return None
        return rows

    def _single(self, parameters: Sequence[Mapping[str, Any]]) -> Rows | None:
        assert self.parameters is not None
        (name,), (part,) = self.parameters, self._parts
        if name is None:
            return None
        try:
            values: list[object] = [given[name] for given in parameters]
        except KeyError:
            values = [value for given in parameters for value in values_of(given, name)]
        if len(values) == 1:
            values = list(values_of({name: values[0]}, name))
        return list(zip(part.texts(values), strict=True)) if len(values) <= MAX_ROWS else None

    def inserted(self, context: Any) -> Rows | None:
        """The rows that the database says were inserted, together with what it was given."""
        given = context.compiled_parameters
        if self.parameters is None or len(given) > MAX_ROWS:
            return None
        if all(name in given[0] for name in self.parameters):
            rows = self.rows(given)
            if rows is None or all(None not in row for row in rows):
                return rows
        if not self.asks_result or not self.has_key:
            return None
        found = context.inserted_primary_key_rows
        if len(found) != len(given):
            return None
        columns = zip(*found, strict=True)
        return list(zip(*(p.texts(c) for p, c in zip(self._parts, columns, strict=True)), strict=True))


def values_of(given: Mapping[str, Any], name: str) -> Sequence[object]:
    """The value of a parameter, or the values of one of IN; what is not there is None."""
    if name in given:
        value = given[name]
        return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    # By the time of its execution, those of IN are parameters of their own, numbered from 1.
    found: list[object] = []
    while (numbered := f"{name}_{len(found) + 1}") in given and len(found) <= MAX_ROWS:
        found.append(given[numbered])
    return found or [None]


class Analysis:
    """What is known of all statements of one compiled form."""

    __slots__ = ("_declared", "_sizes", "effects", "is_orm", "rows_read", "tables", "unseen", "writes")

    def __init__(self, compiled: Any, dialect: Dialect) -> None:
        self._declared = declared()
        self.writes: tuple[Write, ...] = ()
        self.tables: tuple[Table, ...] = ()
        self.unseen = True
        """Whether it may read what is not seen here."""
        # Semi-private: by what SQLAlchemy tells statements of the ORM, in 2.0 and 2.1.
        attributes = getattr(compiled.statement, "_propagate_attrs", {})
        self.is_orm = attributes.get("compile_state_plugin") == "orm"
        self.effects: tuple[Effect, ...] = (Effect.READS,)
        """Of what is not told by `writes`."""
        self.rows_read: Write | None = None
        """Where it reads one table by its whole key alone: which rows."""
        if isinstance(compiled, DDLCompiler):
            self.writes, self.effects = written_by(compiled, lambda table: whole(table, dialect))
        elif isinstance(compiled, SQLCompiler):
            self._analyse(compiled, dialect)
        tables = (each.table for each in self.writes)
        self._sizes = {each.metadata: len(each.metadata.tables) for each in tables if isinstance(each, Table)}

    @property
    def is_true(self) -> bool:
        """Whether nothing was declared since that may be reached by its writes, too."""
        if not self._sizes:
            return True
        return self._declared == declared() and all(len(m.tables) == n for m, n in self._sizes.items())

    def _analyse(self, compiled: Any, dialect: Dialect) -> None:
        if not hasattr(compiled, "noted_dml"):  # compiled before the compiler took notes
            compiled = again(compiled)
        self.tables = tuple(compiled.noted_tables)
        self.unseen = bool(compiled.noted_unseen) or is_custom(compiled.statement)
        statement = compiled.statement
        self.writes = tuple(write for noted in compiled.noted_dml for write in writes_of(noted, compiled))
        is_known = isinstance(statement, SelectBase | FromStatement) and not is_custom(statement)
        is_known = (is_known or self.writes or is_plain(statement)) and not is_several(compiled.string)
        if compiled.noted_text or not is_known:
            self.effects = effects_of(compiled.string)
        elif not self.writes:
            self.rows_read = read_by_key(compiled, dialect)


def analysis_of(compiled: Any, dialect: Dialect) -> Analysis:
    """What *compiled* changes and reads; kept with it, so that it is found once for the tables there are."""
    known: Analysis | None = compiled.__dict__.get("tiercache_analysis")
    if known is None or not known.is_true:
        known = compiled.tiercache_analysis = Analysis(compiled, dialect)
    return known


def again(compiled: Any) -> Any:
    """The same statement, by a compiler that takes notes. Its parameters have the same names."""
    return noting(type(compiled))(
        compiled.dialect,
        compiled.statement,
        cache_key=compiled.cache_key,
        column_keys=compiled.column_keys,
        for_executemany=compiled.for_executemany,
        schema_translate_map=compiled.schema_translate_map,
    )


def whole(table: TableClause, dialect: Dialect, *, deletes: bool = True) -> Write:
    """A write that may have changed any row of *table*, and, if it *deletes*, deleted some."""
    default = dialect.default_schema_name
    reach = reached(table, default, deleted=False, changed=table.columns)
    if deletes:
        reach += reached(table, default, deleted=True)
    return Write(table, dialect, reach=reach)


def writes_of(noted: Noted, compiled: Any) -> Iterator[Write]:
    first, *others = tables_in(noted.statement.table)
    dialect = compiled.dialect
    yield from (whole(other, dialect) for other in others)
    if not isinstance(first, Table):
        statement = noted.statement
        is_plain_insert = (
            noted.kind == "insert" and not statement._prefixes and statement._post_values_clause is None
        )
        deletes = noted.kind != "update"
        yield Write(first, dialect) if is_plain_insert else whole(first, dialect, deletes=deletes)
    elif noted.kind == "insert":
        yield insertion(first, noted, compiled)
    else:
        yield change(first, noted, compiled)
        # An UPDATE of several tables, as MySQL has it.
        for column in set_columns(noted):
            if isinstance(column, Column) and column.table not in (None, first, noted.statement.table):
                yield from (whole(other, dialect) for other in tables_in(column.table))


def change(table: Table, noted: Noted, compiled: Any) -> Write:
    columns = identity(table)
    by_column: dict[Any, BindParameter[Any]] = {}
    if noted.statement.whereclause is not None:
        by_column = dict(equalities(noted.statement.whereclause, set(columns)))
    names = [compiled.bind_names.get(by_column[c]) if c in by_column else None for c in columns]
    changed: list[Column[Any]] = []
    if noted.kind == "update":
        keys = {*map(key_of, set_columns(noted)), *((compiled.column_keys or ()) if noted.state else ())}
        changed = [column for column in table.columns if column.key in keys or changes_by_itself(column)]
    is_known = any(names) and not any(column in changed for column in columns)
    return Write(
        table,
        compiled.dialect,
        parameters=tuple(names) if is_known else None,
        reach=reached(
            table, compiled.dialect.default_schema_name, deleted=noted.kind == "delete", changed=changed
        ),
    )


def changes_by_itself(column: Column[Any]) -> bool:
    """Whether an UPDATE that does not name it may give it another value."""
    return not (column.onupdate is None and column.server_onupdate is None and column.computed is None)


def insertion(table: Table, noted: Noted, compiled: Any) -> Write:
    # `_prefixes` and `_post_values_clause` are where Insert keeps what has no public name, in 2.0 and 2.1.
    statement, state = noted.statement, noted.state
    columns = identity(table)
    rest = statement._post_values_clause
    default = compiled.dialect.default_schema_name
    reach: tuple[Reach, ...] = ()
    is_plain_insert = statement.select is None and state is not None and not statement._prefixes
    if statement._prefixes:  # OR REPLACE, and what else there is, may delete rows
        reach = reached(table, default, deleted=True)
    if rest is not None:
        is_plain_insert = is_plain_insert and keeps_to_key(compiled.noted_conflicts, table)
        reach += reached(table, default, deleted=False, changed=table.columns)
    if not is_plain_insert:
        return Write(table, compiled.dialect, is_insert=True, reach=reach)
    names: tuple[str | None, ...] = tuple(column.key for column in columns)
    more: list[tuple[str, ...]] = []
    if state._has_multi_parameters:
        names = tuple(f"{column.key}_m0" for column in columns)
        count = len(state._multi_parameters)
        more = [tuple(f"{column.key}_m{n}" for column in columns) for n in range(1, count)]
    return Write(
        table,
        compiled.dialect,
        parameters=names,
        more=more,
        is_insert=True,
        asks_result=rest is None and not more,
        reach=reach,
    )


def read_by_key(compiled: Any, dialect: Dialect) -> Write | None:
    select = getattr(compiled.compile_state, "statement", None)
    tables = list(compiled.noted_tables)
    where = getattr(select, "whereclause", None)
    if len(tables) != 1 or compiled.noted_renderings != 1 or compiled.noted_unseen or where is None:
        return None
    (table,) = tables_in(tables[0])
    columns = tuple(table.primary_key) if isinstance(table, Table) else ()
    by_column = dict(equalities(where, set(columns)))
    names = [compiled.bind_names.get(by_column[c]) if c in by_column else None for c in columns]
    if not names or None in names:
        return None
    return Write(table, dialect, parameters=tuple(names))
