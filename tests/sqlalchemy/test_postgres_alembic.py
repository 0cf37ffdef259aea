"""The triggers as operations of a migration, in a real Alembic environment."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.operations import ops
from alembic.util import CommandError

from tests.postgres import PostgresServer
from tiercache.sqlalchemy.alembic import CreateTriggers, DropTriggers

ENVIRONMENT = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
from sqlalchemy.pool import NullPool

metadata = MetaData()
Table("users", metadata, Column("id", Integer, primary_key=True))
url = context.config.get_main_option("sqlalchemy.url")

if context.is_offline_mode():
    context.configure(url=url, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
"""

USERS = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "1", None

def upgrade():
    op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))

def downgrade():
    op.drop_table("users")
"""

TRIGGERS = """
import tiercache.sqlalchemy.alembic
from alembic import op
revision, down_revision = "2", "1"

def upgrade():
    op.create_tiercache_triggers("users")

def downgrade():
    op.drop_tiercache_triggers("users")
"""


@pytest.fixture
def migrations(postgres: PostgresServer, postgres_url: str, tmp_path: Path) -> Config:
    """An environment of two migrations: one makes a table, the next its triggers."""
    (tmp_path / "env.py").write_text(ENVIRONMENT)
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "1_users.py").write_text(USERS)
    (tmp_path / "versions" / "2_triggers.py").write_text(TRIGGERS)
    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", postgres_url)
    return config


@pytest.fixture
def outbox(postgres: PostgresServer, postgres_database: str) -> Callable[[], list[list[str]]]:
    """The tags that wait in it."""

    def read() -> list[list[str]]:
        rows = postgres.execute("SELECT tags FROM tiercache.outbox ORDER BY id", database=postgres_database)
        return [tags for (tags,) in rows]

    return read


def test_an_upgrade_makes_the_triggers(
    migrations: Config,
    postgres: PostgresServer,
    postgres_database: str,
    outbox: Callable[[], list[list[str]]],
) -> None:
    command.upgrade(migrations, "head")

    postgres.psql("INSERT INTO users VALUES (7)", database=postgres_database)

    assert outbox() == [["row:users:7", "table:users"]]


def test_a_downgrade_leaves_the_table_as_it_was(
    migrations: Config, postgres: PostgresServer, postgres_database: str
) -> None:
    command.upgrade(migrations, "head")
    command.downgrade(migrations, "1")

    postgres.psql("INSERT INTO users VALUES (7)", database=postgres_database)
    left = "SELECT nspname FROM pg_namespace WHERE nspname = 'tiercache'"

    assert postgres.execute(left, database=postgres_database) == []


def test_autogenerate_does_not_propose_to_drop_what_the_operation_made(migrations: Config) -> None:
    command.upgrade(migrations, "head")

    command.check(migrations)  # raises where it would generate anything


def test_an_offline_migration_is_refused(migrations: Config) -> None:
    with pytest.raises(CommandError, match="online"):
        command.upgrade(migrations, "head", sql=True)


def test_each_operation_is_the_other_s_reverse() -> None:
    made: ops.MigrateOperation = CreateTriggers(("users", "posts"), "elsewhere")

    dropped = made.reverse()

    assert isinstance(dropped, DropTriggers)
    assert (dropped.tables, dropped.schema) == (("users", "posts"), "elsewhere")
    assert isinstance(dropped.reverse(), CreateTriggers)
