"""Triggers by which PostgreSQL itself writes down what each statement changed.

What they promise stands in `tiercache.sqlalchemy.postgres`.

In a schema of its own, which no migration tool looks into, stand one table and one function:

    tiercache.outbox     a row a statement: the tags it touched. A bridge takes them.
    tiercache.changed()  called after each statement with the rows before and after, in transition tables

A trigger's arguments say what a change of its table means: the tag name under which the table itself was
named, or "", then pairs of a tag name and the columns of its key, as JSON; `[]` where the text of a
key in PostgreSQL may not be its text in Python. Pairs are of the table, and of those above and below it in
its inheritance or partitioning that were named too: a statement fires the triggers of the table it names,
and of no other.

The function runs as its owner, so that a writer needs no right to the outbox, and is executable by nobody
else, so that nobody hangs it on a table of theirs. Its search path is fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from sqlalchemy import Connection, Table, inspect, text
from sqlalchemy import types as sqltypes
from sqlalchemy.orm import DeclarativeBase, Mapper

from tiercache.sqlalchemy.catalog import Catalog, Relation, quote

Watched: TypeAlias = "Table | type[DeclarativeBase] | type[Any] | str"

SCHEMA = "tiercache"
CHANNEL = "tiercache"
MOST_ROWS = 1_000  # a statement; beyond that all rows of the table count as touched

_OUTBOX = """
CREATE TABLE IF NOT EXISTS {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    tags text[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
"""

# A key is read at most MOST_ROWS + 1 times a side: a statement over a million rows costs no more.
# 512: MAX_TAG_BYTES of the core.
_FUNCTION = """
CREATE OR REPLACE FUNCTION {schema}.changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $tiercache$
DECLARE
    sides text[] := CASE TG_OP WHEN 'INSERT' THEN '{{tiercache_new}}'::text[]
                               WHEN 'DELETE' THEN '{{tiercache_old}}'::text[]
                               WHEN 'UPDATE' THEN '{{tiercache_old,tiercache_new}}'::text[]
                               ELSE '{{}}'::text[] END;
    side text; key text; prefix text; found text[]; touched text[]; tags text[];
    every_row boolean; some_row boolean := TG_OP = 'TRUNCATE';
BEGIN
    IF current_setting('tiercache.skip', true) = 'on' THEN
        RETURN NULL;
    END IF;
    FOR pair IN 1 .. TG_NARGS - 2 BY 2 LOOP
        prefix := 'row:' || TG_ARGV[pair] || ':';
        -- NULL where there is no certain key, or where a column of it has another name by now.
        SELECT CASE WHEN count(a.attname) = count(*) THEN
                   string_agg(format('t.%I::text', name), ' || '','' || ' ORDER BY place) END INTO key
            FROM json_array_elements_text(TG_ARGV[pair + 1]::json) WITH ORDINALITY AS part(name, place)
            LEFT JOIN pg_attribute a ON a.attrelid = TG_RELID AND a.attname = name AND NOT a.attisdropped;
        touched := '{{}}';
        every_row := TG_OP = 'TRUNCATE' OR key IS NULL;
        FOREACH side IN ARRAY sides LOOP
            EXECUTE format('SELECT array_agg(%L || key)
                            FROM (SELECT %s AS key FROM %s AS t LIMIT {most} + 1) AS read',
                           prefix, coalesce(key, ''''''), side) INTO found;
            some_row := some_row OR found IS NOT NULL;
            every_row := every_row OR cardinality(found) > {most};
            touched := touched || found;
        END LOOP;
        IF NOT some_row THEN
            RETURN NULL;
        END IF;
        IF every_row OR EXISTS (SELECT FROM unnest(touched) AS tag
                                WHERE tag IS NULL OR octet_length(tag) > 512) THEN
            touched := ARRAY[prefix || '*'];
        END IF;
        tags := tags || ('table:' || TG_ARGV[pair]) || touched;
    END LOOP;
    INSERT INTO {schema}.outbox (tags) SELECT array_agg(DISTINCT tag) FROM unnest(tags) AS tag;
    IF current_setting('tiercache.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_notify('{channel}', '');
    END IF;
    RETURN NULL;
END
$tiercache$
"""

_EVENTS = {
    "insert": "REFERENCING NEW TABLE AS tiercache_new",
    "update": "REFERENCING OLD TABLE AS tiercache_old NEW TABLE AS tiercache_new",
    "delete": "REFERENCING OLD TABLE AS tiercache_old",
    "truncate": "",
}

# Types of SQLAlchemy whose values Python writes as PostgreSQL does, where the column is one of EXACT, too.
# A TypeDecorator is none: what the application calls the key is not what is in the database.
_PLAIN = (sqltypes.Integer, sqltypes.String, sqltypes.Uuid)


def create_triggers(
    connection: Connection, tables: Iterable[Watched] | Watched, *, schema: str = SCHEMA
) -> None:
    """Have each of *tables* write down its changes, made by whomever, in *schema*'s outbox.

    A table is a Table, a mapped class (all its tables) or a name, "users" or "sales.orders". Rows are named
    by the primary key that a Table or class declares, in its order; under a name, by the database's. May be
    called again, and should be when a watched table gets partitions or children, which a statement may name.
    In the caller's transaction; each new trigger takes SHARE ROW EXCLUSIVE on its table: it waits for
    writers, and they for it. LookupError for a table that is not there, ValueError for what has no such
    triggers: a view, a foreign table, or a table that has those of another *schema*. The role must own the
    tables or have TRIGGER on them, and own *schema* or may create it.
    With an AsyncConnection: `await connection.run_sync(create_triggers, [User, Post])`.
    """
    catalog = _open(connection, schema)
    _make_outbox(connection, catalog, schema)
    for given in _each(tables):
        for table in _tables_of(given):
            catalog.watch(catalog.find(connection, table), _is_exact(table))
    _arrange(connection, catalog, schema)


def drop_triggers(
    connection: Connection, tables: Iterable[Watched] | Watched, *, schema: str = SCHEMA
) -> None:
    """Have *tables* write down nothing any more; with the last of them the outbox goes.

    Rows that no bridge has taken go with it: let a bridge run until it is empty, or call `cache.clear()`.
    A table that has no triggers is passed over; LookupError for one that is not there.
    """
    catalog = _open(connection, schema)
    for given in _each(tables):
        for table in _tables_of(given):
            catalog.forget(catalog.find(connection, table))
    _arrange(connection, catalog, schema)
    if not any(relation.name for relation in catalog.relations.values()):
        quoted = quote(schema)
        _run(connection, f"DROP FUNCTION IF EXISTS {quoted}.changed()")
        _run(connection, f"DROP TABLE IF EXISTS {quoted}.outbox")
        if schema == SCHEMA and catalog.may_go(connection, schema):
            _run(connection, f"DROP SCHEMA IF EXISTS {quoted}")


def _open(connection: Connection, schema: str) -> Catalog:
    if connection.dialect.name != "postgresql":
        raise ValueError(f"triggers are for PostgreSQL, not for {connection.dialect.name}")
    # Of two processes that start at once the second waits, and finds all done.
    _run(connection, "SELECT pg_advisory_xact_lock(hashtext('tiercache triggers'))")
    return Catalog(connection, schema)


def _make_outbox(connection: Connection, catalog: Catalog, schema: str) -> None:
    quoted = quote(schema)
    if not catalog.has_schema(
        connection, schema
    ):  # IF NOT EXISTS asks for the right to create one all the same
        _run(connection, f"CREATE SCHEMA {quoted}")
    _run(connection, _OUTBOX.format(schema=quoted))
    _run(connection, _FUNCTION.format(schema=quoted, most=MOST_ROWS, channel=CHANNEL))
    _run(connection, f"REVOKE ALL ON FUNCTION {quoted}.changed() FROM PUBLIC")


def _arrange(connection: Connection, catalog: Catalog, schema: str) -> None:
    """Give each table the triggers that it should have, and touch none that has them."""
    for relation in catalog.relations.values():
        wanted = catalog.arguments(relation)
        if wanted is not None and relation.other:
            raise ValueError(
                f"{relation.quoted} writes into the outbox in {relation.other!r}, and a table has one: "
                f"not in {schema!r}, too; a Bridge tells several caches, or call drop_triggers() first"
            )
        if wanted != relation.arguments:
            for event in _EVENTS if relation.arguments is not None else ():
                _run(connection, f"DROP TRIGGER tiercache_{event} ON {relation.quoted}")
            for event in _EVENTS if wanted is not None else ():
                _create_trigger(connection, relation, event, wanted or (), schema)


def _create_trigger(
    connection: Connection, relation: Relation, event: str, arguments: tuple[str, ...], schema: str
) -> None:
    listed = ", ".join("'" + argument.replace("'", "''") + "'" for argument in arguments)
    _run(
        connection,
        f"CREATE TRIGGER tiercache_{event} AFTER {event.upper()} ON {relation.quoted} {_EVENTS[event]} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {quote(schema)}.changed({listed})",
    )


def _each(tables: Iterable[Watched] | Watched) -> Iterator[Watched]:
    if isinstance(tables, str | Table | type):
        yield tables
    else:
        yield from tables


def _tables_of(given: Watched) -> Iterator[Table | str]:
    if isinstance(given, str | Table):
        yield given
        return
    mapper = inspect(given, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise TypeError(f"a table is a Table, a mapped class or a name, not {given!r}")
    yield from (table for table in mapper.tables if isinstance(table, Table))


def _is_exact(table: Table | str) -> bool:
    """Whether the application writes the keys of *table* as PostgreSQL does; of a name nothing is known."""
    if isinstance(table, str):
        return True
    types = [column.type for column in table.primary_key]
    return all(isinstance(each, _PLAIN) and not isinstance(each, sqltypes.Enum) for each in types)


def _run(connection: Connection, statement: str) -> None:
    """One statement, in which ":name" is no parameter; it says of itself that it changes no data."""
    escaped = statement.replace(":", r"\:")
    connection.execute(text(escaped).execution_options(invalidates=[]))
