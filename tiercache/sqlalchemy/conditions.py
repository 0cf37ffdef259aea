"""What SQLAlchemy's constructs say of themselves: their tables, conditions and conflicts.

What has no public name is looked at here and in `statements.insertion`, and is the same in 2.0 and 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BindParameter, BooleanClauseList, Column, Table
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, ColumnElement
from sqlalchemy.sql.expression import TableClause

from tiercache.sqlalchemy.noting import Noted


def tables_in(element: Any) -> list[TableClause]:
    """The tables of a Table, an alias or a join, as their metadata has them: without annotations."""
    found = [each for each in visitors.iterate(element) if isinstance(each, TableClause)]
    return [
        each.metadata.tables.get(each.key, each) if isinstance(each, Table) else each
        for each in found or [element]
    ]


def is_custom(statement: Any) -> bool:
    """Whether its SQL is written by a function of `sqlalchemy.ext.compiler`."""
    return hasattr(type(statement), "_compiler_dispatcher")


def is_plain(statement: Any) -> bool:
    """Savepoints, and expressions as such: defaults and sequences."""
    return not is_custom(statement) and (
        isinstance(statement, ColumnElement)
        or type(statement).__name__
        in ("SavepointClause", "RollbackToSavepointClause", "ReleaseSavepointClause", "Sequence")
    )


def equalities(where: Any, columns: set[Column[Any]]) -> Iterator[tuple[Column[Any], BindParameter[Any]]]:
    """Each of *columns* that a conjunct of *where* sets equal to a bound value, or to one of several."""
    if isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for clause in where.clauses:
            yield from equalities(clause, columns)
    elif isinstance(where, BinaryExpression) and where.operator in (operators.eq, operators.in_op):
        column, bound = where.left, where.right
        if isinstance(column, Column) and isinstance(bound, BindParameter) and column in columns:
            yield next(each for each in columns if each is column or each == column), bound


def keeps_to_key(conflicts: Sequence[Any], table: Table) -> bool:
    """Whether, on a conflict, nothing is changed but the row whose key was given."""
    if len(conflicts) != 1:
        return False
    (conflict,) = conflicts
    if not hasattr(conflict, "update_values_to_set"):  # DO NOTHING
        return True
    key = {column.name for column in table.primary_key}
    set_ = {key_of(each) for each in dict(conflict.update_values_to_set)}
    on = {key_of(each) for each in conflict.inferred_target_elements or ()}
    return bool(key) and on == key and not set_ & {*key, *(column.key for column in table.primary_key)}


def set_columns(noted: Noted) -> Sequence[Any]:
    """What `values()` names; of a part, which has no state, what it was told."""
    if noted.kind != "update":
        return ()
    # Semi-private, the same in 2.0 and 2.1: `_dict_parameters` of the compiled state, `_values` before that.
    if noted.state is not None:
        return tuple(noted.state._dict_parameters or ())
    ordered = getattr(noted.statement, "_ordered_values", None) or ()
    return (*(noted.statement._values or ()), *(each for each, _ in ordered))


def key_of(column: Any) -> str:
    return column if isinstance(column, str) else getattr(column, "key", "")
