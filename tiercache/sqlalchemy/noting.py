"""What a statement names, noted by its own compiler while it renders it; nothing is parsed.

`noting(compiler)` is a subclass of a dialect's compiler. So a join, a subquery, a CTE, an alias, the tables
of an inheritance and those that loader criteria bring are found, because they are rendered. Text, and
functions that are not known to compute their value from their arguments alone, may read what nobody sees.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Table
from sqlalchemy.sql.compiler import SQLCompiler

# Functions whose value follows from their arguments and the rows they are given. Any other may read a table
# of its own, a clock, a sequence or a setting of the session.
PURE = frozenset(
    """
    abs aggregate_strings any array_agg array_append array_cat array_length array_position
    array_remove array_replace array_to_string ascii avg bit_and bit_length bit_or bool_and bool_or
    btrim cardinality cast ceil ceiling char char_length character_length coalesce concat concat_ws
    count cube cume_dist date_diff date_part date_trunc datediff dense_rank div every exp extract
    first_value floor generate_series greatest group_concat grouping grouping_sets ifnull initcap
    instr json_agg json_array json_array_elements json_array_elements_text json_array_length
    json_build_array json_build_object json_each json_each_text json_extract json_extract_path
    json_extract_path_text json_group_array json_group_object json_object json_object_agg json_quote
    json_type json_valid jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length
    jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
    jsonb_extract_path_text jsonb_object_agg jsonb_path_query jsonb_pretty lag last_value lead least
    left length ln log log10 log2 lower lpad ltrim max md5 min mod mode nth_value ntile nullif
    octet_length percent_rank percentile_cont percentile_disc phraseto_tsquery plainto_tsquery
    position pow power rank regexp_match regexp_replace regexp_split_to_array repeat replace reverse
    right rollup round row_number row_to_json rpad rtrim sign similarity split_part sqrt stddev
    stddev_pop stddev_samp string_agg strpos substr substring sum to_char to_json to_jsonb to_number
    to_tsquery to_tsvector total translate trim trunc ts_headline ts_rank ts_rank_cd unnest upper
    var_pop var_samp variance websearch_to_tsquery width_bucket word_similarity
    """.split()  # noqa: SIM905  # two hundred quoted words are harder to read, and to keep sorted
)
_HARMLESS = re.compile(r"\*|[\w.\"]+|'[^'\\]*'|-?\d+(\.\d+)?")  # a literal column: a name or a constant
# Names that are no column: who asks, when, or a sequence.
_ASKING = re.compile(
    r"(current|local|session|system|utc|sys|db)_?(catalog|date|role|schema|time|timestamp|timezone|user)"
    r"|user|uid|(.*\.)?(nextval|currval)",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_LONGEST_TIME = 64  # characters


def is_harmless(text: str) -> bool:
    """Whether a literal column reads nothing but the rows it stands beside."""
    text = text.strip()
    return bool(_HARMLESS.fullmatch(text)) and not (_ASKING.fullmatch(text) or is_clock(text))


def is_clock(value: object) -> bool:
    """Whether PostgreSQL, and who is like it, may take *value* for a time that is another one later: 'now'.

    So it does where a time is expected, which many a cast can do: each short text with such a word counts.
    """
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(is_clock, value))
    return isinstance(value, str) and len(value) <= _LONGEST_TIME and bool(_CLOCK.search(value))


def is_temporary(table: Table) -> bool:
    """Whether each connection has a *table* of its own."""
    prefixes = (str(prefix).upper() for prefix in table._prefixes)
    return table.name.startswith("#") or any({"TEMP", "TEMPORARY"} & {*each.split()} for each in prefixes)


class Noted(NamedTuple):
    """One INSERT, UPDATE or DELETE of a statement, which may be a part of it: a CTE."""

    kind: str
    """insert, update or delete"""
    statement: Any
    state: Any
    """What SQLAlchemy made of it when it compiled it; None of a part."""


def noting(compiler: Any) -> Any:
    """*compiler*, noting what it renders; itself where it is no compiler of SQL, or does so already."""
    if hasattr(compiler, "_note"):
        return compiler
    return _noting(compiler) if issubclass(compiler, SQLCompiler) else compiler


@functools.cache
def _noting(compiler: Any) -> Any:
    return type("Noting", (Notes, compiler), {})


# Mixed in before a compiler of a dialect, which is known when it runs.
class Notes(SQLCompiler if TYPE_CHECKING else object):  # type: ignore[misc]
    """What a compiler has rendered."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.noted_tables: dict[Table, None] = {}
        self.noted_unseen: dict[str, None] = {}  # parts that may read what is not seen here
        self.noted_renderings = 0  # of tables
        self.noted_writes = False  # it changes or locks something
        self.noted_dml: list[Noted] = []
        self.noted_conflicts: list[Any] = []  # ON CONFLICT and its kin
        self.noted_text = False  # text stands where a statement may
        super().__init__(*args, **kwargs)

    def visit_table(self, table: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted_renderings += 1
        if isinstance(table, Table):
            self.noted_tables[table] = None
            if is_temporary(table):
                self.noted_unseen[f"temporary table({table.name!r})"] = None
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

    def visit_textual_select(self, select: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted_text = True
        return super().visit_textual_select(select, *args, **kwargs)

    def visit_textclause(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted_text = self.noted_text or not self.stack
        if kwargs.get("asfrom") or not is_harmless(text.text):
            self.noted_unseen[f"text({text.text!r})"] = None
        return super().visit_textclause(text, *args, **kwargs)

    def visit_tstring(self, tstring: Any, *args: Any, **kwargs: Any) -> Any:  # since 2.1
        self.noted_text = self.noted_text or not self.stack
        self.noted_unseen["tstring()"] = None
        return super().visit_tstring(tstring, *args, **kwargs)

    def visit_column(self, column: Any, *args: Any, **kwargs: Any) -> Any:
        if column.is_literal and not is_harmless(column.name):
            self.noted_unseen[f"literal_column({column.name!r})"] = None
        return super().visit_column(column, *args, **kwargs)

    def visit_tablesample(self, sample: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted_unseen["tablesample()"] = None
        return super().visit_tablesample(sample, *args, **kwargs)

    def get_statement_hint_text(self, hints: Any) -> Any:
        self.noted_unseen[f"with_statement_hint({', '.join(map(str, hints))!r})"] = None
        return super().get_statement_hint_text(hints)

    def for_update_clause(self, *args: Any, **kwargs: Any) -> Any:
        self.noted_writes = True
        return super().for_update_clause(*args, **kwargs)

    def visit_insert(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        return self._note("insert", statement, super().visit_insert, args, kwargs)

    def visit_update(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        return self._note("update", statement, super().visit_update, args, kwargs)

    def visit_delete(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        return self._note("delete", statement, super().visit_delete, args, kwargs)

    def visit_on_conflict_do_nothing(self, clause: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted_conflicts.append(clause)
        return super().visit_on_conflict_do_nothing(clause, *args, **kwargs)

    def visit_on_conflict_do_update(self, clause: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted_conflicts.append(clause)
        return super().visit_on_conflict_do_update(clause, *args, **kwargs)

    def _note(self, kind: str, statement: Any, render: Any, args: Any, kwargs: Any) -> Any:
        self.noted_writes = True
        is_whole = not self.stack and kwargs.get("visiting_cte") is None
        text = render(statement, *args, **kwargs)
        state = self.dml_compile_state if is_whole else None
        self.noted_dml.append(Noted(kind, statement if state is None else state.statement, state))
        return text
