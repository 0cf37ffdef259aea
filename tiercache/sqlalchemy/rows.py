"""Rows as values: they come back as sqlalchemy's Row and RowMapping, with the names they had.

A row of a fresh query can be asked for a column by the Column object, too; what was stored knows names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import IteratorResult, Row, RowMapping
from sqlalchemy.engine.result import SimpleResultMetaData

from tiercache.shapes import Shape
from tiercache.sqlalchemy.mapped import plain


def made_row(keys: Sequence[str], values: Sequence[Any]) -> Row[Any]:
    """A row of *values*, called *keys*."""
    if len(keys) != len(values) or not set(map(type, keys)) <= {str}:
        raise ValueError(f"{keys!r} do not name {len(values)} values")
    rows: Any = IteratorResult(SimpleResultMetaData(keys), iter([tuple(values)]))
    row: Row[Any] = rows.one()
    return row


def take_row(row: Row[Any]) -> Sequence[Any]:
    return list(row._fields), list(plain(tuple(row)))


def take_mapping(mapping: RowMapping) -> Sequence[Any]:
    return list(map(str, mapping.keys())), list(plain(list(mapping.values())))


ROW = Shape(Row, "row", (".keys()", ""), False, take_row, lambda parts: made_row(*parts))
MAPPING = Shape(
    RowMapping, "row", (".keys()", ", value"), False, take_mapping, lambda parts: made_row(*parts)._mapping
)
