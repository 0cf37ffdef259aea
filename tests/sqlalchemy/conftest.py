"""Databases for these tests: a real PostgreSQL, and in it an empty one for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.postgres import PostgresServer


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
