"""What a SELECT reads, told by its own compiler: tables, rows known by key, and what cannot be seen.

A statement is compiled here as SQLAlchemy itself will compile it, by a subclass of the dialect's compiler that
notes each table it renders: so a join, a subquery, a CTE, an alias, the tables of an inheritance and those that
loader criteria bring are found, and nothing is parsed. Text, and functions that are not known to compute their
value from their arguments alone, may read what nobody sees: a statement with such a part is `unseen`.

Compiling takes about as long as a query; so one reading serves all statements of one structure, and the bound
values come from each.
"""

from __future__ import annotations

import functools
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, BooleanClauseList, Column, ColumnElement, Select, Table
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression

MOST = 500  # readings of one dialect that are remembered; as many as an engine's own compiled cache

# Functions whose value follows from their arguments and the rows they are given. Any other may read a table
# of its own, a clock, a sequence or a setting of the session.
PURE = frozenset(
    """
    abs any array_agg array_append array_length array_position array_to_string avg bit_and bit_length bit_or
    bool_and bool_or btrim cardinality cast ceil ceiling char_length character_length coalesce concat concat_ws
    count cube cume_dist date_part date_trunc dense_rank div every exp extract first_value floor generate_series
    greatest group_concat grouping grouping_sets ifnull initcap instr json_agg json_array json_array_elements
    json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text
    json_extract json_extract_path json_extract_path_text json_group_array json_group_object json_object
    json_object_agg json_type json_valid jsonb_agg jsonb_array_elements jsonb_array_elements_text
    jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
    jsonb_extract_path_text jsonb_object_agg jsonb_path_query lag last_value lead least left length ln log log10
    log2 lower lpad ltrim max md5 min mod mode nth_value ntile nullif octet_length percent_rank percentile_cont
    percentile_disc phraseto_tsquery plainto_tsquery position pow power rank regexp_match regexp_replace
    regexp_split_to_array repeat replace reverse right rollup round row_number row_to_json rpad rtrim sign
    similarity split_part sqrt stddev stddev_pop stddev_samp string_agg strpos substr substring sum to_char
    to_json to_jsonb to_number to_tsquery to_tsvector total translate trim trunc ts_headline ts_rank ts_rank_cd
    unnest upper var_pop var_samp variance websearch_to_tsquery width_bucket word_similarity
    aggregate_strings array_cat array_remove array_replace json_quote jsonb_pretty date_diff datediff char ascii
    """.split()  # noqa: SIM905  # two hundred quoted words are harder to read, and to keep sorted
)
_HARMLESS = re.compile(r"\*|[\w.\"]+|'[^'\\]*'|-?\d+(\.\d+)?")  # a literal column: a name or a constant
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


class Name(NamedTuple):
    """A table as its statement names it; schema None is whatever the connection takes for it."""

    schema: str | None
    name: str


class Reading:
    """What is known of all SELECTs of one structure, on one dialect. Safe from any thread."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.columns: Any = None  # of its result, for who replays it
        self.tables: tuple[Table, ...] = tuple(compiled.noted_tables)
        self.unseen: tuple[str, ...] = tuple(compiled.noted_unseen)
        """Its parts that may read what is not seen here, for a message; () where there are none."""
        self.writes: bool = compiled.noted_writes
        """Whether it locks rows or changes some: such a statement has to reach the database."""
        self.row_parameters = tuple(row_parameters(compiled, self.tables))
        """Where it reads one table by its whole primary key: the parameter of each column, else ()."""
        self.names: tuple[str, ...] = tuple(compiled.bind_names.values())
        """Those of its parameters, in an order that does not depend on the process."""
        self.title = ",".join(table.name for table in self.tables)[:80] or "-"
        self.text = self._text()
        """SQL and types, the same in every process."""

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
        for column, name in self.row_parameters:
            value = parameters[name]
            values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
            if len(several) * len(values) > 50 or not all(is_exact(column, each) for each in values):
                return None
            several = [(*key, each) for key in several for each in values]
        return several

    def _text(self) -> str:
        bound = (parameter.type for parameter in self.compiled.bind_names)
        results = (entry.type for entry in self.compiled._result_columns)
        return "\n".join((str(self.compiled), *map(type_text, results), "", *map(type_text, bound)))


def type_text(kind: Any) -> str:
    return f"{type(kind).__module__}.{type(kind).__qualname__} {_ADDRESS.sub('', repr(kind))}"


def is_exact(column: Column[Any], value: object) -> bool:
    """Whether the column equals *value* only where both have one text, so that a tag can say so."""
    kind = column.type
    if type(value) is int:
        return isinstance(kind, sqltypes.Integer)
    if type(value) is UUID:
        return isinstance(kind, sqltypes.Uuid) and kind.as_uuid
    # Under a collation, in CHAR and in CITEXT, texts that differ may be equal.
    return type(value) is str and type(kind) in _TEXTS and getattr(kind, "collation", None) is None


_TEXTS = (
    sqltypes.String,
    sqltypes.Text,
    sqltypes.Unicode,
    sqltypes.UnicodeText,
    sqltypes.VARCHAR,
    sqltypes.TEXT,
)


def row_parameters(compiled: Any, tables: Sequence[Table]) -> Iterator[tuple[Column[Any], str]]:
    select = getattr(compiled.compile_state, "statement", None)
    if (
        len(tables) != 1
        or not isinstance(select, Select)
        or compiled.dialect.name not in ("postgresql", "sqlite")
    ):
        return
    table = tables[0]
    keys = list(table.primary_key)
    if select.get_final_froms() != [table] or compiled.noted_renderings != 1 or select.whereclause is None:
        return
    found = dict(equalities(select.whereclause, set(keys)))
    if not keys or len(found) != len(keys):
        return
    for column in keys:
        name = compiled.bind_names.get(found[column])
        if name is None:
            return
    yield from ((column, compiled.bind_names[found[column]]) for column in keys)


def equalities(
    where: ColumnElement[Any], keys: set[Column[Any]]
) -> Iterator[tuple[Column[Any], BindParameter[Any]]]:
    """Each key column that a conjunct of *where* sets equal to a bound value, or to one of several."""
    if isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for clause in where.clauses:
            yield from equalities(clause, keys)
    elif isinstance(where, BinaryExpression) and where.operator in (operators.eq, operators.in_op):
        column, bound = where.left, where.right
        if isinstance(column, Column) and isinstance(bound, BindParameter) and column in keys:
            yield next(key for key in keys if key == column or key is column), bound


class Readings:
    """The readings of one dialect, the last MOST of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: OrderedDict[object, Reading] = OrderedDict()  # under `_lock`

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
            return reading, dict(reading.compiled.construct_params(given or None, escape_names=False))
        # Options of the user are no part of SQLAlchemy's key, but what a reading replays holds them.
        options = tuple(
            getattr(option, "propagate_to_loaders", False)
            if getattr(option, "_is_user_defined", False)
            else None
            for option in getattr(statement, "_with_options", ())
        )
        key = made.key, options, tuple(names), bool(schemas)
        with self._lock:
            reading_or_none = self._by_key.get(key)
            if reading_or_none is not None:
                self._by_key.move_to_end(key)
        reading = reading_or_none or self._keep(key, read(dialect, statement, made, names, schemas))
        return reading, reading.parameters(made[1], made[2] if len(made) > 2 else None, given)

    def _keep(self, key: object, reading: Reading) -> Reading:
        with self._lock:
            self._by_key[key] = reading
            while len(self._by_key) > MOST:
                self._by_key.popitem(last=False)
        return reading


_readings: weakref.WeakKeyDictionary[Dialect, Readings] = weakref.WeakKeyDictionary()


def reading_of(
    dialect: Dialect, statement: Any, given: Mapping[str, Any], schemas: Mapping[Any, Any] | None
) -> tuple[Reading, dict[str, Any]]:
    readings = _readings.get(dialect)
    if readings is None:
        readings = _readings.setdefault(dialect, Readings())
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


@functools.cache
def noting(compiler: Any) -> Any:
    """*compiler*, noting what it renders."""

    class Noting(compiler):  # type: ignore[misc]  # the dialect's own class, known when it runs
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.noted_tables: dict[Table, None] = {}
            self.noted_unseen: dict[str, None] = {}
            self.noted_renderings = 0
            self.noted_writes = False
            super().__init__(*args, **kwargs)

        def visit_table(self, table: Any, *args: Any, **kwargs: Any) -> Any:
            self.noted_renderings += 1
            if isinstance(table, Table):
                self.noted_tables[table] = None
            else:
                self.noted_unseen[f"table({table.name!r})"] = None
            return super().visit_table(table, *args, **kwargs)

        def visit_function(self, function: Any, *args: Any, **kwargs: Any) -> Any:
            if function.packagenames or function.name.lower() not in PURE:
                self.noted_unseen[f"func.{function.name}()"] = None
            return super().visit_function(function, *args, **kwargs)

        def visit_sequence(self, sequence: Any, *args: Any, **kwargs: Any) -> Any:
            self.noted_writes = True
            return super().visit_sequence(sequence, *args, **kwargs)

        def visit_textclause(self, text: Any, *args: Any, **kwargs: Any) -> Any:
            if not _HARMLESS.fullmatch(text.text.strip()):
                self.noted_unseen[f"text({text.text!r})"] = None
            return super().visit_textclause(text, *args, **kwargs)

        def visit_column(self, column: Any, *args: Any, **kwargs: Any) -> Any:
            if column.is_literal and not _HARMLESS.fullmatch(column.name.strip()):
                self.noted_unseen[f"literal_column({column.name!r})"] = None
            return super().visit_column(column, *args, **kwargs)

        def visit_tablesample(self, sample: Any, *args: Any, **kwargs: Any) -> Any:
            self.noted_unseen["tablesample()"] = None
            return super().visit_tablesample(sample, *args, **kwargs)

        def for_update_clause(self, *args: Any, **kwargs: Any) -> Any:
            self.noted_writes = True
            return super().for_update_clause(*args, **kwargs)

        def visit_insert(self, *args: Any, **kwargs: Any) -> Any:
            self.noted_writes = True
            return super().visit_insert(*args, **kwargs)

        def visit_update(self, *args: Any, **kwargs: Any) -> Any:
            self.noted_writes = True
            return super().visit_update(*args, **kwargs)

        def visit_delete(self, *args: Any, **kwargs: Any) -> Any:
            self.noted_writes = True
            return super().visit_delete(*args, **kwargs)

    return Noting if issubclass(compiler, SQLCompiler) else compiler
