"""Tags as a write of a table raises them, and as a read of it depends on them: `table:users`, `row:users:7`.

A table is named with its schema where that is not the one the database takes by itself. Of a row there is a
tag only where its key has one text, the same whoever writes it: an int of an INTEGER, a str of a VARCHAR
where the database compares texts byte by byte, a UUID, a date, the member of an Enum (its value, as a tag
template renders it). Anything else, and a text that no tag can hold, counts as a row that is not known:
`row:users:*`, on which every `row:users:...` depends.
"""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, inspect
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.sql.expression import TableClause

MAX_TAG_BYTES = 512  # of tiercache
_BYTEWISE = ("postgresql", "sqlite")  # without a collation, they hold no two different texts for equal
_TEXTS = (
    sqltypes.String,
    sqltypes.Text,
    sqltypes.Unicode,
    sqltypes.UnicodeText,
    sqltypes.VARCHAR,
    sqltypes.TEXT,
)

ORDINARY = {"postgresql": "public", "mssql": "dbo"}
"""The schema that a connection takes by itself, where nobody has told it or its user of another one."""

Schemas = Mapping[Any, Any] | None
"""A `schema_translate_map`."""


def name_of(table: TableClause, dialect: Dialect, schemas: Schemas = None) -> str:
    """The name of *table* in tags; *schemas* is the `schema_translate_map` in force.

    What a dialect's own schema is called is known from its first connection on.
    """
    schema = getattr(table, "schema", None)
    if schemas:
        schema = schemas.get(schema, schema)
    if schema is None or schema == dialect.default_schema_name:
        return plain(table.name)
    return plain(f"{schema}.{table.name}")


def names_of(table: TableClause, dialect: Dialect, schemas: Schemas = None) -> tuple[str, ...]:
    """All names of *table* in tags: its own, and the one that it has where the default schema is another one.

    So who says "tenant1.users" and who has `search_path=tenant1` mean one table. Most databases have one
    default for all, and there a table has one name.
    """
    name = name_of(table, dialect, schemas)
    ordinary, default = ORDINARY.get(dialect.name), dialect.default_schema_name
    if ordinary is None or default in (None, ordinary):
        return (name,)
    if name == plain(table.name):
        return name, plain(f"{default}.{table.name}")
    return (name, plain(table.name)) if name == plain(f"{ordinary}.{table.name}") else (name,)


def plain(name: str) -> str:
    """*name* without what ends a name in a tag: "a:b" is `row:a%3Ab:7`."""
    return name.replace(":", "%3A")


def tables_of(named: Any) -> tuple[TableClause, ...]:
    """The tables of a Table or a mapped class, those it inherits included. TypeError for anything else."""
    if isinstance(named, TableClause):
        return (named,)
    try:
        mapper: Any = inspect(named)
        return tuple(mapper.mapper.tables)
    except (NoInspectionAvailable, AttributeError):
        raise TypeError(
            f"{named!r} is no table; write a Table, a mapped class, or the name of a table"
        ) from None


def tags_of_table(named: Any, dialect: Dialect, schemas: Schemas = None) -> list[str]:
    """`table:<name>`; *named* is a Table, a mapped class (its own table) or a name, "public.users" too."""
    if isinstance(named, str):
        return [f"table:{plain(named.removeprefix(f'{dialect.default_schema_name}.'))}"]
    if not isinstance(named, TableClause):
        named = getattr(named, "__table__", None) if hasattr(named, "__table__") else tables_of(named)[-1]
    return [f"table:{name}" for name in names_of(named, dialect, schemas)]


def tags_of_row(
    table: TableClause, row: Iterable[object], dialect: Dialect, schemas: Schemas = None
) -> list[str] | None:
    """`row:<name>:<key>` for the values of the primary key; None where no tag says it exactly."""
    parts = [Part(column, dialect) for column in table.primary_key if isinstance(column, Column)]
    texts = [part.text(value) for part, value in zip(parts, row, strict=True)]
    if not texts or any(text is None for text in texts):
        return None
    key = ",".join(text for text in texts if text is not None)
    tags = [row_tag(name, key) for name in names_of(table, dialect, schemas)]
    return None if None in tags else [tag for tag in tags if tag is not None]


def row_tag(name: str, key: str) -> str | None:
    """`row:<name>:<key>`, if a tag can hold that."""
    tag = f"row:{name}:{key}"
    if len(tag) * 4 > MAX_TAG_BYTES or not tag.isascii():
        try:
            if len(tag.encode()) > MAX_TAG_BYTES:
                return None
        except UnicodeEncodeError:  # a lone surrogate
            return None
    return None if "\0" in tag else tag


class Part:
    """How the values of one column are written into a tag."""

    def __init__(self, column: Column[Any], dialect: Dialect) -> None:
        # Semi-private: what `with_variant` was given, in 2.0 and 2.1.
        kind = getattr(column.type, "_variant_mapping", {}).get(dialect.name, column.type)
        plain: Any = kind.impl_instance if isinstance(kind, sqltypes.TypeDecorator) else kind
        self._is_enum = isinstance(plain, sqltypes.Enum)
        self._exact: type | None = None
        if self._is_enum:
            return
        if isinstance(plain, sqltypes.Integer):
            self._exact = int
        elif isinstance(kind, sqltypes.Uuid | sqltypes.TypeDecorator):
            self._exact = uuid.UUID
        elif isinstance(kind, sqltypes.Date):
            self._exact = datetime.date
        elif type(kind) in _TEXTS and getattr(kind, "collation", None) is None and dialect.name in _BYTEWISE:
            self._exact = str

    def text(self, value: object) -> str | None:
        """None where it has no text that is exact."""
        if type(value) is self._exact:
            # PostgreSQL cuts spaces off that a VARCHAR(2) has no room for: 'ab ' is the row 'ab'.
            return None if self._exact is str and str(value).endswith(" ") else str(value)
        if self._is_enum and isinstance(value, enum.Enum):
            return format(value.value)
        return None

    def texts(self, values: Sequence[object]) -> Sequence[str | None]:
        """The text of each: as quick as it can be had, for the many rows of one flush."""
        if self._exact is not str and set(map(type, values)) == {self._exact}:
            return list(map(str, values))
        return [self.text(value) for value in values]
