"""What the execution option `invalidates` says that a statement touches, and what that reaches.

A mapped class, a table, or the name of one is any row of it; `row:users:7` is that row. From there foreign
keys are followed as from a statement of SQLAlchemy's: those that act on a DELETE unless the text is an UPDATE
or INSERT. Any other tag is what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import Table
from sqlalchemy import table as table_named
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import TableClause

from tiercache import source
from tiercache.sqlalchemy.actions import declared, identity, namesakes
from tiercache.sqlalchemy.names import Schemas, plain, tables_of
from tiercache.sqlalchemy.statements import Rows, Write, whole
from tiercache.sqlalchemy.transactions import Touched

T = TypeVar("T")

KEPT = "tiercache_said"
MOST = 500  # things that are remembered

_CHANGES_ALONE = re.compile(r"\s*(update\b|insert\b(?!\s+(or\s+replace|overwrite)))")


def said_of(said: Iterable[Any], sql: str, dialect: Dialect, schemas: Schemas) -> Touched:
    """*said* is what the option was given, for the text *sql*. ValueError for what can be no tag."""
    touched = Touched()
    deletes = not _CHANGES_ALONE.match(sql.lower()) or ";" in sql
    for each in [said] if isinstance(said, str) else said:
        if not isinstance(each, str):
            for table in tables_of(each):
                touched.add(known(table, dialect, deletes=deletes).named(schemas), None)
            continue
        kind, _, rest = each.partition(":")
        name, has_key, key = rest.partition(":")
        is_row = bool(kind == "row" and name and has_key)  # of the empty text, too
        # A key that no tag can hold counts as any row; what is wrong with a name is told here.
        source.check_tags(f"row:{name}:*" if is_row else each)
        if is_row:
            touched.tables.add(name)
            touched.add_rows(name, None if key == "*" else [key])
            follow(touched, name, key, dialect, deletes=deletes)
            continue
        touched.others.add(each)
        table_name = plain(rest) if kind == "table" else "" if rest else each
        if table_name:
            touched.tables.add(table_name)
            touched.add_rows(table_name, None)
            follow(touched, table_name, "*", dialect, deletes=deletes)
    return touched


def follow(touched: Touched, name: str, key: str, dialect: Dialect, *, deletes: bool) -> None:
    """What is reached from a row of the table that is called *name*, or from any where *key* is "*"."""
    for table in remembered(dialect, name, lambda: named_so(name, dialect)):
        columns = identity(table)
        parts = [key] if len(columns) == 1 else key.split(",")
        rows: Rows | None = [tuple(parts)] if key != "*" and len(parts) == len(columns) else None
        touched.add(known(table, dialect, deletes=deletes).named(None), rows)


def named_so(name: str, dialect: Dialect) -> list[Table]:
    schema, _, bare = name.replace("%3A", ":").rpartition(".")
    return namesakes(table_named(bare, schema=schema or None), dialect.default_schema_name)


def known(table: TableClause, dialect: Dialect, *, deletes: bool) -> Write:
    size = len(table.metadata.tables) if isinstance(table, Table) else 0
    return remembered(dialect, (table, size, deletes), lambda: whole(table, dialect, deletes=deletes))


def remembered(dialect: Dialect, key: object, find: Callable[[], T]) -> T:
    """What *find* gives, until more is declared: it takes milliseconds where a hundred tables are reached."""
    # An attribute of the dialect, since writes hold it: in a table they would keep it for ever.
    kept: dict[object, Any] = vars(dialect).setdefault(KEPT, {})
    now = declared(), dialect.default_schema_name
    since, found = kept.get(key, (None, None))
    if since != now:
        if len(kept) >= MOST:
            kept.clear()
        found = find()
        kept[key] = now, found
    return found  # type: ignore[no-any-return]  # what `find` gave for this key
