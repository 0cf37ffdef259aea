"""What PostgreSQL writes down of statements that no application of ours made: read from the outbox itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, TypeDecorator, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import ForeignKey

from tests.postgres import PostgresServer
from tiercache.sqlalchemy.postgres import create_triggers, drop_triggers

USERS = "CREATE TABLE users (id int PRIMARY KEY, name text)"


class Database:
    """An empty database, spoken to through psql, whose outbox is read through a driver."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server, self.name = server, name
        self.engine: Engine = create_engine(server.url("psycopg", name))

    def psql(self, script: str) -> str:
        return self.server.psql(script, database=self.name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.server.execute(query, database=self.name)

    def watch(self, *tables: Any) -> None:
        with self.engine.begin() as connection:
            create_triggers(connection, tables)

    def raised(self) -> list[set[str]]:
        """The tags of each statement since the last time."""
        with self.engine.begin() as connection:
            gone = "WITH gone AS (DELETE FROM tiercache.outbox RETURNING *) SELECT tags FROM gone ORDER BY id"
            found = connection.exec_driver_sql(gone)
            return [set(tags) for (tags,) in found]


@pytest.fixture
def database(postgres: PostgresServer, postgres_database: str) -> Iterator[Database]:
    database = Database(postgres, postgres_database)
    yield database
    database.engine.dispose()


@pytest.fixture
def users(database: Database) -> Database:
    """Users 1, 2 and 3, watched; nothing raised yet."""
    database.psql(f"{USERS}; INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger')")
    database.watch("users")
    return database


@pytest.mark.parametrize(
    ("statement", "tags"),
    [
        ("INSERT INTO users VALUES (4, 'Tony'), (5, 'Barbara')", {"row:users:4", "row:users:5"}),
        ("UPDATE users SET name = 'A.' WHERE id < 3", {"row:users:1", "row:users:2"}),
        ("UPDATE users SET id = 7 WHERE id = 1", {"row:users:1", "row:users:7"}),
        ("DELETE FROM users WHERE id = 2", {"row:users:2"}),
        ("TRUNCATE users", {"row:users:*"}),
        ("COPY users FROM stdin;\n8\tGuido\n\\.\n", {"row:users:8"}),
        ("WITH gone AS (DELETE FROM users WHERE id = 3 RETURNING *) SELECT FROM gone", {"row:users:3"}),
    ],
)
def test_a_statement_of_psql_raises_its_table_and_the_rows_it_touched(
    users: Database, statement: str, tags: set[str]
) -> None:
    users.psql(statement)

    assert users.raised() == [{"table:users", *tags}]


def test_an_upsert_raises_what_it_inserted_and_what_it_updated(users: Database) -> None:
    users.psql("INSERT INTO users VALUES (1, 'A.'), (9, 'New') ON CONFLICT (id) DO UPDATE SET name = 'again'")

    assert set().union(*users.raised()) == {"table:users", "row:users:1", "row:users:9"}


def test_a_merge_raises_what_each_of_its_branches_touched(users: Database) -> None:
    users.psql(
        "MERGE INTO users USING (VALUES (1), (9)) AS given (id) ON users.id = given.id "
        "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (given.id, 'New')"
    )

    assert set().union(*users.raised()) == {"table:users", "row:users:1", "row:users:9"}


def test_a_statement_that_touches_no_row_raises_nothing(users: Database) -> None:
    users.psql("UPDATE users SET name = '' WHERE id = 99; DELETE FROM users WHERE id = 99")

    assert users.raised() == []


def test_what_is_rolled_back_raises_nothing(users: Database) -> None:
    users.psql(
        "BEGIN; DELETE FROM users; ROLLBACK; BEGIN; UPDATE users SET name = 'kept' WHERE id = 1;"
        "SAVEPOINT s; UPDATE users SET name = 'lost' WHERE id = 2; ROLLBACK TO s; COMMIT"
    )

    assert users.raised() == [{"table:users", "row:users:1"}]


@pytest.mark.parametrize(("rows", "one_by_one"), [(1_000, True), (1_001, False)])
def test_beyond_a_thousand_rows_all_of_the_table_count_as_touched(
    users: Database, rows: int, one_by_one: bool
) -> None:
    users.psql(f"INSERT INTO users SELECT n, '' FROM generate_series(10, {9 + rows}) AS n")

    rows_raised = {f"row:users:{n}" for n in range(10, 10 + rows)} if one_by_one else {"row:users:*"}
    assert users.raised() == [{"table:users"} | rows_raised]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("smallint", -7),
        ("bigint", 2**60),
        ("text", "Ada, 100 % 'é' \\ \""),
        ("varchar(40)", " padded "),
        ("uuid", UUID("0123abcd-0000-4000-8000-00000000000f")),
        ("positive", 12),
    ],
)
def test_a_key_is_written_as_python_writes_it(database: Database, kind: str, value: object) -> None:
    database.psql(
        f"CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TABLE keyed (k {kind} PRIMARY KEY)"
    )
    database.watch("keyed")

    with psycopg.connect(database.server.url("", database.name)) as connection:
        connection.execute("INSERT INTO keyed VALUES (%s)", (value,))

    assert database.raised() == [{"table:keyed", f"row:keyed:{value}"}]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("numeric", Decimal("1.50")),
        ("timestamptz", "2024-01-01"),
        ("bytea", b"\x00\xff"),
        ("char(9)", "padded"),
        ("boolean", True),
        ("float8", 1e20),
        ("date", "2024-01-01"),
        ("text", "x" * 600),
    ],
)
def test_a_key_whose_text_is_not_certain_raises_all_rows(
    database: Database, kind: str, value: object
) -> None:
    database.psql(f"CREATE TABLE keyed (k {kind} PRIMARY KEY)")
    database.watch("keyed")

    with psycopg.connect(database.server.url("", database.name)) as connection:
        connection.execute("INSERT INTO keyed VALUES (%s)", (value,))

    assert database.raised() == [{"table:keyed", "row:keyed:*"}]


def test_a_key_that_is_equal_to_another_text_raises_all_rows(database: Database) -> None:
    collation = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    try:
        database.psql(collation)
    except AssertionError as error:
        assert "ICU is not supported" in str(error)  # noqa: PT017  # then this PostgreSQL has no such texts
        return
    database.psql("CREATE TABLE keyed (k text COLLATE nocase PRIMARY KEY)")
    database.watch("keyed")

    database.psql("INSERT INTO keyed VALUES ('ada')")

    assert database.raised() == [{"table:keyed", "row:keyed:*"}]


def test_a_key_of_several_columns_is_joined_in_the_order_of_the_key(database: Database) -> None:
    database.psql("CREATE TABLE lines (note text, line int, number int, PRIMARY KEY (number, line))")
    database.watch("lines")

    database.psql("INSERT INTO lines VALUES ('', 2, 1)")

    assert database.raised() == [{"table:lines", "row:lines:1,2"}]


def test_a_key_is_the_one_that_the_application_declares(database: Database) -> None:
    database.psql(
        "CREATE TABLE seats (place int, number int, name text, PRIMARY KEY (number, place));"
        "CREATE TABLE docs (id int PRIMARY KEY, uid text NOT NULL); CREATE TABLE odd (id int PRIMARY KEY)"
    )
    key = [Column(name, Integer, primary_key=True) for name in ("place", "number", "id")]
    seats = Table("seats", MetaData(), *key[:2])
    docs = Table("docs", MetaData(), Column("uid", String, primary_key=True))
    database.watch(seats, docs, Table("odd", MetaData(), key[2], Column("gone", Integer, primary_key=True)))

    database.psql(
        "INSERT INTO seats VALUES (1, 2); INSERT INTO docs VALUES (1, 'k'); INSERT INTO odd VALUES (1)"
    )

    assert database.raised() == [
        {"table:seats", "row:seats:1,2"},
        {"table:docs", "row:docs:k"},
        {"table:odd", "row:odd:*"},
    ]


def test_a_table_without_a_key_raises_all_rows(database: Database) -> None:
    database.psql("CREATE TABLE log (line text)")
    database.watch("log")

    database.psql("INSERT INTO log VALUES ('x')")

    assert database.raised() == [{"table:log", "row:log:*"}]


class Prefixed(TypeDecorator[str]):
    """Says "usr_7" where the database says 7."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> int | None:
        return None if value is None else int(value.removeprefix("usr_"))


def test_a_key_that_the_application_writes_in_its_own_way_raises_all_rows(database: Database) -> None:
    table = Table("users", MetaData(), Column("id", Prefixed, primary_key=True), Column("name", String))
    table.create(database.engine)
    database.watch(table)

    database.psql("INSERT INTO users VALUES (7, 'Ada')")

    assert database.raised() == [{"table:users", "row:users:*"}]


def test_a_mapped_class_is_all_its_tables(database: Database) -> None:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        __tablename__ = "engineers"
        id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)

    Base.metadata.create_all(database.engine)
    database.watch(Engineer)

    database.psql("INSERT INTO people VALUES (1); INSERT INTO engineers VALUES (1)")

    assert database.raised() == [{"table:people", "row:people:1"}, {"table:engineers", "row:engineers:1"}]


def test_rows_that_a_foreign_key_deletes_are_raised(database: Database) -> None:
    database.psql(
        f"{USERS}; CREATE TABLE posts (id int PRIMARY KEY, author int REFERENCES users ON DELETE CASCADE);"
        "INSERT INTO users VALUES (1, ''); INSERT INTO posts VALUES (10, 1), (11, 1)"
    )
    database.watch("users", "posts")

    database.psql("DELETE FROM users")

    assert set().union(*database.raised()) == {
        "table:users", "row:users:1", "table:posts", "row:posts:10", "row:posts:11"
    }  # fmt: skip


PARTITIONED = """
CREATE TABLE orders (id int, year int, PRIMARY KEY (id, year)) PARTITION BY LIST (year);
CREATE TABLE orders_23 PARTITION OF orders FOR VALUES IN (2023);
CREATE TABLE orders_24 PARTITION OF orders FOR VALUES IN (2024);
"""


def test_a_write_to_a_partition_is_a_write_to_its_table(database: Database) -> None:
    database.psql(PARTITIONED)
    database.watch("orders")

    database.psql("INSERT INTO orders_23 VALUES (1, 2023); INSERT INTO orders VALUES (2, 2024)")

    assert database.raised() == [{"table:orders", "row:orders:1,2023"}, {"table:orders", "row:orders:2,2024"}]


def test_a_row_that_moves_to_another_partition_is_raised_under_both_keys(database: Database) -> None:
    database.psql(f"{PARTITIONED} INSERT INTO orders VALUES (1, 2023)")
    database.watch("orders")

    database.psql("UPDATE orders SET year = 2024 WHERE id = 1")

    assert set().union(*database.raised()) == {"table:orders", "row:orders:1,2023", "row:orders:1,2024"}


def test_a_partition_that_is_read_by_its_own_name_is_watched_under_it(database: Database) -> None:
    database.psql(PARTITIONED)
    database.watch("orders")
    database.watch("orders_23")  # later, and the trigger of its table learns of it

    database.psql("INSERT INTO orders VALUES (1, 2023)")

    (tags,) = database.raised()
    assert {"table:orders", "row:orders:1,2023", "table:orders_23", "row:orders_23:1,2023"} == tags


def test_a_partition_made_later_is_watched_after_another_call(database: Database) -> None:
    database.psql(PARTITIONED)
    database.watch("orders")
    database.psql("CREATE TABLE orders_25 PARTITION OF orders FOR VALUES IN (2025)")
    database.watch("orders")

    database.psql("DELETE FROM orders_25; INSERT INTO orders_25 VALUES (1, 2025)")

    assert database.raised() == [{"table:orders", "row:orders:1,2025"}]


def test_a_write_to_an_inherited_table_is_a_write_to_its_parents(database: Database) -> None:
    database.psql(
        "CREATE TABLE cities (name text PRIMARY KEY);"
        "CREATE TABLE capitals (state text PRIMARY KEY) INHERITS (cities)"
    )
    database.watch("cities", "capitals")

    database.psql(
        "INSERT INTO capitals VALUES ('Paris', 'F'); UPDATE cities SET name = 'P.' WHERE name = 'Paris'"
    )

    inserted, updated = database.raised()
    assert inserted == {"table:capitals", "row:capitals:F", "table:cities", "row:cities:Paris"}
    # Of the cities alone the statement sees no state: which capitals it touched cannot be told.
    assert updated == {
        "table:capitals",
        "row:capitals:*",
        "table:cities",
        "row:cities:Paris",
        "row:cities:P.",
    }


def test_a_table_of_another_schema_is_raised_with_it(database: Database) -> None:
    database.psql("CREATE SCHEMA sales; CREATE TABLE sales.users (id int PRIMARY KEY)")
    database.watch("sales.users")

    database.psql("SET search_path = sales; INSERT INTO users VALUES (1)")

    assert database.raised() == [{"table:sales.users", "row:sales.users:1"}]


def test_a_translated_schema_is_where_the_triggers_go(database: Database) -> None:
    database.psql("CREATE SCHEMA tenant; CREATE TABLE tenant.users (id int PRIMARY KEY)")
    table = Table("users", MetaData(), Column("id", Integer, primary_key=True))
    with database.engine.begin() as connection:
        create_triggers(connection.execution_options(schema_translate_map={None: "tenant"}), [table])

    database.psql("INSERT INTO tenant.users VALUES (1)")

    assert database.raised() == [{"table:tenant.users", "row:tenant.users:1"}]


def test_names_that_need_quotes_are_quoted(database: Database) -> None:
    database.psql("""CREATE TABLE "Odd 'n' % Name" ("the "" key" int PRIMARY KEY)""")
    database.watch("Odd 'n' % Name")

    database.psql("""INSERT INTO "Odd 'n' % Name" VALUES (1)""")

    assert database.raised() == [{"table:Odd 'n' % Name", "row:Odd 'n' % Name:1"}]


def test_a_colon_in_a_name_is_written_as_the_application_writes_it(database: Database) -> None:
    database.psql("""CREATE TABLE "a:b" (id int PRIMARY KEY)""")
    database.watch("a:b")

    database.psql("""INSERT INTO "a:b" VALUES (1)""")

    assert database.raised() == [{"table:a%3Ab", "row:a%3Ab:1"}]


def test_a_key_that_was_renamed_breaks_no_write(users: Database) -> None:
    users.psql("ALTER TABLE users RENAME id TO user_id; DELETE FROM users WHERE user_id = 1")
    assert users.raised() == [{"table:users", "row:users:*"}]

    users.watch("users")

    users.psql("DELETE FROM users WHERE user_id = 2")
    assert users.raised() == [{"table:users", "row:users:2"}]


def test_a_table_that_was_renamed_is_watched_under_its_name_after_another_call(users: Database) -> None:
    users.psql("ALTER TABLE users RENAME TO members")
    users.watch("members")

    users.psql("DELETE FROM members WHERE id = 1")

    assert users.raised() == [{"table:members", "row:members:1"}]


def test_a_session_that_tells_the_cache_itself_is_skipped(users: Database) -> None:
    users.psql("SET tiercache.skip = 'on'; DELETE FROM users WHERE id = 1")
    users.psql("BEGIN; SET LOCAL tiercache.skip = 'on'; COMMIT; DELETE FROM users WHERE id = 2")

    assert users.raised() == [{"table:users", "row:users:2"}]


def test_a_prepared_transaction_is_raised_when_it_commits(users: Database) -> None:
    users.psql(
        "SET tiercache.notify = 'off'; BEGIN; DELETE FROM users WHERE id = 1; PREPARE TRANSACTION 'two'"
    )
    before = users.raised()
    users.psql("COMMIT PREPARED 'two'")

    assert (before, users.raised()) == ([], [{"table:users", "row:users:1"}])


@pytest.fixture
def stranger(users: Database) -> Iterator[str]:
    """The name of a role that owns nothing and may do nothing."""
    users.psql("CREATE ROLE stranger")
    yield "stranger"
    users.psql("DROP OWNED BY stranger; DROP ROLE stranger")


def test_a_writer_needs_no_right_to_the_outbox(users: Database, stranger: str) -> None:
    users.psql(f"GRANT SELECT, UPDATE ON users TO {stranger}")

    users.psql(f"SET ROLE {stranger}; UPDATE users SET name = '' WHERE id = 1")

    assert users.raised() == [{"table:users", "row:users:1"}]


def test_nobody_else_can_have_the_function_run_as_its_owner(users: Database, stranger: str) -> None:
    users.psql(f"GRANT CREATE ON SCHEMA public TO {stranger}; GRANT USAGE ON SCHEMA tiercache TO {stranger}")
    trigger = "CREATE TRIGGER t AFTER DELETE ON mine EXECUTE FUNCTION tiercache.changed('', 'x', '[]')"

    with pytest.raises(AssertionError, match="permission denied for function"):
        users.psql(f"SET ROLE {stranger}; CREATE TABLE mine (id int); {trigger}")


def test_a_second_call_leaves_the_triggers_as_they_are(users: Database) -> None:
    triggers = "SELECT oid, tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY oid"
    before = users.rows(triggers)
    users.watch("users")

    assert users.rows(triggers) == before
    assert len(before) == 4


def test_dropping_the_last_triggers_leaves_nothing_behind(users: Database) -> None:
    users.psql("CREATE TABLE posts (id int PRIMARY KEY)")
    users.watch("posts")
    with users.engine.begin() as connection:
        drop_triggers(connection, ["users"])
    users.psql("DELETE FROM users; INSERT INTO posts VALUES (1)")
    assert users.raised() == [{"table:posts", "row:posts:1"}]

    with users.engine.begin() as connection:
        drop_triggers(connection, "posts")

    assert users.rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
    assert users.rows("SELECT nspname FROM pg_namespace WHERE nspname = 'tiercache'") == []


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        ("nobody", LookupError, 'no table "nobody"'),
        ("public.nobody", LookupError, 'no table "public"."nobody"'),
        ("seen", ValueError, "a view"),
        (7, TypeError, "a mapped class"),
    ],
)
def test_what_can_have_no_triggers_is_refused(
    users: Database, table: Any, error: type[Exception], says: str
) -> None:
    users.psql("CREATE VIEW seen AS SELECT * FROM users")

    with pytest.raises(error, match=says):
        users.watch(table)


def test_a_second_outbox_for_a_table_is_refused(users: Database) -> None:
    with (
        users.engine.begin() as connection,
        pytest.raises(ValueError, match="'tiercache', and a table has one"),
    ):
        create_triggers(connection, "users", schema="other")

    users.psql("DELETE FROM users WHERE id = 1")
    assert users.raised() == [{"table:users", "row:users:1"}]


def test_names_are_read_in_the_encoding_of_the_database(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    database = Database(postgres, "latin")
    try:
        database.psql("SET client_encoding = 'UTF8'; CREATE TABLE café (id int PRIMARY KEY)")
        database.watch("café")
        before = database.rows("SELECT oid FROM pg_trigger ORDER BY oid")
        database.watch("café")

        assert database.rows("SELECT oid FROM pg_trigger ORDER BY oid") == before
    finally:
        database.engine.dispose()
        postgres.drop_database("latin")


def test_another_database_is_refused() -> None:
    with (
        create_engine("sqlite://", poolclass=NullPool).connect() as connection,
        pytest.raises(ValueError, match="not for sqlite"),
    ):
        create_triggers(connection, "users")


@pytest.mark.anyio
async def test_an_async_connection_makes_them_too(database: Database) -> None:
    database.psql(USERS)
    engine = create_async_engine(database.server.url("asyncpg", database.name))
    async with engine.begin() as connection:
        await connection.run_sync(create_triggers, ["users"])
    await engine.dispose()

    database.psql("INSERT INTO users VALUES (1, '')")

    assert database.raised() == [{"table:users", "row:users:1"}]


def test_two_processes_may_make_them_at_once(database: Database) -> None:
    database.psql(USERS)
    barrier = Barrier(4)

    def watch(_: int) -> None:
        barrier.wait(10)
        database.watch("users")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(watch, range(4)))

    database.psql("INSERT INTO users VALUES (1, '')")
    assert database.raised() == [{"table:users", "row:users:1"}]
