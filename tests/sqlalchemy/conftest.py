"""Databases for these tests: a real PostgreSQL, and in it an empty one for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event

from tests.postgres import PostgresServer
from tests.servers import RedisServer
from tests.sqlalchemy.caching import Entries
from tests.sqlalchemy.models import Base
from tiercache import TierCache
from tiercache.sqlalchemy import install


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL that all tests share: one that hurts it takes `own_postgres`."""
    with closing(PostgresServer()) as server:
        yield server


@pytest.fixture
def own_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, to stop, kill, pause and bring back."""
    with closing(PostgresServer(like=postgres)) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of an empty database for this test: `postgres.url("asyncpg", postgres_database)`."""
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_database: str) -> str:
    """An empty database for this test, through psycopg 3."""
    return postgres.url("psycopg", postgres_database)


@pytest.fixture
def entries(redis_server: RedisServer, new_node: Callable[..., TierCache]) -> Entries:
    """A cache that shares its node with no other."""
    return Entries(new_node(redis_server.url()))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def new_engine() -> Iterator[Callable[..., Engine]]:
    """Makes engines; all are disposed of with the test.

    On SQLite, foreign keys act, and transactions begin where SQLAlchemy says, as its manual advises; not
    *begins*: where the driver does, which is before some of the statements.
    """
    made: list[Engine] = []

    def make(url: str, *, begins: bool = True, **settings: Any) -> Engine:
        engine = create_engine(url, **settings)
        made.append(engine)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", set_up_sqlite)
            if begins:
                event.listen(engine, "connect", leave_begin_to_us)
                event.listen(engine, "begin", begin)
        return engine

    yield make
    for engine in made:
        engine.dispose()


def set_up_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("ATTACH ':memory:' AS tenant")
    cursor.close()


def leave_begin_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@pytest.fixture
def plain_engine(database_url: str, new_engine: Callable[..., Engine]) -> Engine:
    """A database with the tables of `models`, each of which has rows; nothing is installed."""
    engine = new_engine(database_url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("CREATE SCHEMA tenant")
        Base.metadata.create_all(connection)
    return engine


@pytest.fixture
def engine(plain_engine: Engine, entries: Entries) -> Engine:
    """The same, with the cache of `entries` installed."""
    install(entries.cache, plain_engine)
    return plain_engine
