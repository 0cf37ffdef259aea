"""The suite's own PostgreSQL: it can be hurt, comes back, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from tests.postgres import PostgresServer
from tests.servers import eventually, is_alive

SUITE = """
import os, signal
from tests.postgres import PostgresServer
server = PostgresServer()
print(server.pid, server.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_keeps_its_data_over_a_stop_and_over_a_crash(own_postgres: PostgresServer) -> None:
    own_postgres.execute("CREATE TABLE kept AS SELECT 7 AS number")

    own_postgres.stop()
    own_postgres.start()
    own_postgres.kill()
    own_postgres.start()

    assert own_postgres.execute("SELECT number FROM kept") == [(7,)]


def test_a_paused_server_accepts_and_does_not_answer(own_postgres: PostgresServer) -> None:
    own_postgres.pause()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(own_postgres.url(""), connect_timeout=2)
    own_postgres.resume()

    assert own_postgres.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_each_test_has_an_empty_database(
    postgres: PostgresServer, postgres_database: str, driver: str
) -> None:
    engine = create_engine(postgres.url(driver, postgres_database))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alone (here int)"))
    engine.dispose()

    assert (
        postgres.psql(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=postgres_database
        )
        == "alone\n"
    )


def test_a_server_is_gone_when_its_suite_was_killed() -> None:
    suite = subprocess.run(
        [sys.executable, "-c", SUITE], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert suite.returncode == -signal.SIGKILL, suite.stderr
    pid, directory = suite.stdout.split()

    assert eventually(lambda: not is_alive(int(pid)) and not os.path.exists(directory))
