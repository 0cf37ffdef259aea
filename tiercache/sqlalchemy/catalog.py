"""What PostgreSQL's catalog says of the tables that have our triggers, and of those above and below them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, text

from tiercache.sqlalchemy.names import plain

# Types whose values are the same text in PostgreSQL, under any setting, and in Python. Not: numeric,
# timestamps, float, bytea (settings decide), boolean (true, True), char(n) (padding), enums (labels). Nor is
# a text that a collation holds to be equal to another.
EXACT = frozenset({"int2", "int4", "int8", "text", "varchar", "uuid"})

# A trigger's arguments, each with a NUL behind it, are in the encoding of the database: split as hexadecimal
# pairs, "[63][00]", since text has no NUL.
_RELATIONS = r"""
WITH ours AS (
    SELECT t.tgrelid, s.nspname::text AS schema, ARRAY(
        SELECT convert_from(decode(translate(part, '[]', ''), 'hex'), getdatabaseencoding())
        FROM unnest(string_to_array(regexp_replace(encode(t.tgargs, 'hex'), '(..)', '[\1]', 'g'), '[00]'))
             WITH ORDINALITY AS split(part, place) ORDER BY place) AS arguments
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace s ON s.oid = p.pronamespace
    WHERE NOT t.tgisinternal AND t.tgname = 'tiercache_insert' AND p.proname = 'changed'
)
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind,
       ARRAY(SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT ours.schema FROM ours WHERE ours.tgrelid = c.oid),
       (SELECT ours.arguments FROM ours WHERE ours.tgrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

_KEY = """
WITH RECURSIVE part AS (
    SELECT k.place, a.attname::text AS name, a.atttypid AS type,
           NOT EXISTS (SELECT FROM pg_collation l
                       WHERE l.oid = a.attcollation AND NOT l.collisdeterministic) AS bytewise
    FROM unnest(coalesce(CAST(:names AS text[]), ARRAY(
        SELECT b.attname::text
        FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS n(number, place)
        JOIN pg_attribute b ON b.attrelid = i.indrelid AND b.attnum = n.number
        WHERE i.indrelid = :oid AND i.indisprimary ORDER BY n.place
    ))) WITH ORDINALITY AS k(name, place)
    JOIN pg_attribute a ON a.attrelid = :oid AND a.attname::text = k.name
                       AND a.attnum > 0 AND NOT a.attisdropped
), base AS (
    SELECT place, name, type, bytewise FROM part
    UNION ALL
    SELECT base.place, base.name, t.typbasetype, bytewise
    FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT base.name, CASE WHEN bytewise THEN t.typname ELSE '' END FROM base JOIN pg_type t ON t.oid = base.type
WHERE t.typtype <> 'd' ORDER BY base.place
"""


@dataclass
class Relation:
    """A table, plain or partitioned: what its triggers say now, and under which name it is watched."""

    quoted: str
    parents: list[int]
    columns: set[str]
    arguments: tuple[str, ...] | None  # of the triggers it has; None: it has none
    name: str = ""  # under which it was named; "" for one that was not
    key: tuple[str, ...] = ()  # the columns of its key in tags, where its text is certain
    other: str = ""  # the schema of another outbox that its triggers write into
    children: list[int] = field(default_factory=list)


class Catalog:
    """All tables of the database, and which of them are watched; changed by watch() and forget() alone."""

    def __init__(self, connection: Connection, schema: str) -> None:
        """What the database says now, of triggers that write into *schema*'s outbox: one query."""
        self.relations: dict[int, Relation] = {}
        for oid, quoted, _, parents, columns, at, said in _rows(connection, _RELATIONS):
            arguments = tuple(said[:-1]) if at == schema else None
            relation = Relation(quoted, list(parents), set(columns), arguments)
            relation.other = at if at not in (schema, None) else ""
            self.relations[oid] = relation
            if relation.arguments and relation.arguments[0]:
                relation.name = relation.arguments[0]
                relation.key = tuple(json.loads(dict(_pairs(relation.arguments))[relation.name]))
        for oid, relation in self.relations.items():
            for parent in relation.parents:
                self.relations[parent].children.append(oid)
        self._keys: dict[int, list[tuple[str, str]]] = {}
        self._names: dict[int, str] = {}

    def find(self, connection: Connection, table: Table | str) -> int:
        """The oid of *table*, found as a statement would find it."""
        schema, name = _where(connection, table)
        path = ".".join(quote(part) for part in (schema, name) if part)
        oid: int | None
        ((oid,),) = _rows(connection, "SELECT CAST(to_regclass(:path) AS oid)", path=path)
        if oid is None:
            raise LookupError(f"there is no table {path} in the database, or not on the search path")
        if oid not in self.relations:
            raise ValueError(
                f"{path} is no table that can have these triggers: a view, foreign or temporary table"
            )
        default = connection.dialect.default_schema_name
        self._names[oid] = plain(name if schema in (None, default) else f"{schema}.{name}")
        # The application's own key, which its tags have, whether or not it is the database's.
        names = [str(column.name) for column in table.primary_key] if isinstance(table, Table) else []
        key = [(column, kind) for column, kind in _rows(connection, _KEY, oid=oid, names=names or None)]
        self._keys[oid] = key if len(key) == len(names) or not names else []
        return oid

    def watch(self, oid: int, is_exact: bool) -> None:
        relation = self.relations[oid]
        relation.name = self._names[oid]
        exact = is_exact and all(kind in EXACT for _, kind in self._keys[oid])
        relation.key = tuple(column for column, _ in self._keys[oid]) if exact else ()

    def forget(self, oid: int) -> None:
        self.relations[oid].name = ""

    def arguments(self, relation: Relation) -> tuple[str, ...] | None:
        """What the triggers of *relation* should say; None where it should have none.

        A row that changes in a table changes in what it is a part of; a statement over a table may change
        rows of its parts.
        """
        above, below = self._all(relation, "parents"), self._all(relation, "children")
        if not relation.name and not any(each.name for each in above):
            return None
        said = [relation.name]
        for each in sorted({each.name: each for each in (relation, *above, *below) if each.name}.items()):
            name, other = each
            said += (name, json.dumps(other.key if relation.columns.issuperset(other.key) else ()))
        return tuple(said)

    def _all(self, relation: Relation, direction: str) -> list[Relation]:
        met: dict[int, Relation] = {}
        ahead: list[int] = list(getattr(relation, direction))
        while ahead:
            oid = ahead.pop()
            if oid not in met:
                met[oid] = self.relations[oid]
                ahead += getattr(met[oid], direction)
        return list(met.values())

    @staticmethod
    def has_schema(connection: Connection, schema: str) -> bool:
        return bool(_rows(connection, "SELECT 1 FROM pg_namespace WHERE nspname = :schema", schema=schema))

    @staticmethod
    def may_go(connection: Connection, schema: str) -> bool:
        """Whether *schema* is ours to drop, and holds nothing that would go with it."""
        query = """
            SELECT 1 FROM pg_namespace n WHERE nspname = :schema AND pg_has_role(nspowner, 'USAGE')
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid = n.oid AND d.deptype = 'n'
                            AND d.refclassid = CAST('pg_namespace' AS regclass))
        """
        return bool(_rows(connection, query, schema=schema))


def quote(name: str) -> str:
    """*name* as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _where(connection: Connection, table: Table | str) -> tuple[str | None, str]:
    """Schema and name of *table*, as the connection translates them."""
    if isinstance(table, str):
        schema, _, name = table.rpartition(".")
        return schema or None, name
    translation: Any = connection.get_execution_options().get("schema_translate_map") or {}
    return translation.get(table.schema, table.schema), table.name


def _rows(connection: Connection, query: str, **parameters: Any) -> list[Any]:
    return list(connection.execute(text(query).execution_options(invalidates=[]), parameters))


def _pairs(arguments: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return zip(arguments[1::2], arguments[2::2], strict=True)
