"""All that the shop runs on, started for the example and gone with it: a database, a Redis, four workers."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import create_engine, insert, text

from examples.shop.models import Base, Product, User
from tests.postgres import PostgresServer, binaries
from tiercache import embedded
from tiercache.sqlalchemy.postgres import create_triggers

TLS = ssl.create_default_context()  # never used, and 20 ms to make: once, not for each connection
USERS, PRODUCTS, CATEGORIES = 50, 100, 10
START_TIMEOUT = 60.0


@dataclass(frozen=True)
class Database:
    """One that is empty but for the shop's rows; `psycopg` is None where it is SQLite."""

    url: str  # for the workers' async engine
    sync_url: str
    psycopg: str | None  # as psql would be given it

    @property
    def name(self) -> str:
        return "SQLite" if self.psycopg is None else "PostgreSQL"


@contextmanager
def database(directory: Path, driver: str) -> Iterator[Database]:
    """PostgreSQL from PATH or the wheel; SQLite where there is neither, or where *driver* is aiosqlite."""
    if driver == "aiosqlite" or not _has_postgres():
        path = directory / "shop.sqlite"
        yield Database(f"sqlite+aiosqlite:///{path}", f"sqlite:///{path}", None)
    else:
        with closing(PostgresServer()) as server:
            yield Database(server.url(driver), server.url("psycopg"), server.url(""))


def fill(database: Database) -> None:
    """The shop's tables, with nothing but what a first day has; on PostgreSQL with the bridge's triggers."""
    engine = create_engine(database.sync_url)
    with engine.begin() as connection:
        if database.psycopg is None:
            connection.execute(text("PRAGMA journal_mode = WAL"))
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        connection.execute(insert(User), [{"id": n, "name": f"user {n}"} for n in range(1, USERS + 1)])
        products = [
            {"id": n, "name": f"product {n}", "category": 1 + n % CATEGORIES, "price": 1_000}
            for n in range(1, PRODUCTS + 1)
        ]
        connection.execute(insert(Product), products)
        if database.psycopg is not None:
            create_triggers(connection, [User, Product])
    engine.dispose()


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis of its own."""
    with embedded.start() as server:
        yield server.url


@contextmanager
def shop(database: Database, redis: str, counts: Path, *, workers: int, cache: bool) -> Iterator[str]:
    """The base URL of a shop, once all its workers have answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    counts.mkdir()
    environment = {
        **os.environ,
        "SHOP_DATABASE": database.url,
        "SHOP_REDIS": redis,
        "SHOP_CACHE": "on" if cache else "off",
        "SHOP_COUNTS": str(counts),
    }
    options = ["--workers", str(workers), "--port", str(port), "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "examples.shop.app:app", *options]
    with ExitStack() as stack:
        serving = stack.enter_context(_process(command, environment))
        if cache and database.psycopg is not None:
            stack.enter_context(_process([sys.executable, "-m", "examples.shop.bridge"], environment))
        url = f"http://127.0.0.1:{port}"
        _await_all(url, serving, workers)
        yield url


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a group of its own, with nobody else in it
            process.wait()


def _await_all(url: str, serving: subprocess.Popen[bytes], workers: int) -> None:
    met: set[str] = set()
    deadline = time.monotonic() + START_TIMEOUT
    while len(met) < workers:
        if time.monotonic() > deadline or serving.poll() is not None:
            raise RuntimeError(f"the shop did not start: {len(met)} of {workers} workers answered")
        try:  # each time on a connection of its own, which any worker may take
            met.add(httpx.get(f"{url}/products/1", timeout=5, verify=TLS).headers["X-Worker"])
        except httpx.TransportError:
            time.sleep(0.1)


def _has_postgres() -> bool:
    try:
        binaries()
    except AssertionError:
        return False
    return True
