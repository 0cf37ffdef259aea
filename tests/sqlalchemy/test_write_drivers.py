"""The same, through each driver: what is gathered, told and dropped does not depend on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, bindparam, delete, event, exc, insert, select, text, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from tests.postgres import PostgresServer
from tests.sqlalchemy.caching import Entries
from tests.sqlalchemy.conftest import set_up_sqlite
from tests.sqlalchemy.models import Base, Label, User
from tiercache.sqlalchemy import install, uninstall

USERS = User.__table__


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
async def plain(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine with two users and nothing installed."""
    if request.param == "aiosqlite":
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'data.db'}")
        event.listen(engine.sync_engine, "connect", set_up_sqlite)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        engine = create_async_engine(server.url(request.param, request.getfixturevalue("postgres_database")))
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("CREATE SCHEMA tenant"))
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(User), [{"id": 1, "name": ""}, {"id": 2, "name": ""}])
    yield engine
    await engine.dispose()


@pytest.fixture
async def engine(plain: AsyncEngine, entries: Entries) -> AsyncEngine:
    install(entries.cache, plain)
    return plain


@pytest.mark.anyio
async def test_an_async_session_tells_its_commit(engine: AsyncEngine, entries: Entries) -> None:
    async with AsyncSession(engine) as session:
        with entries.changed("table:users row:users:1", "row:users:2 table:labels"):
            user = await session.get_one(User, 1)
            user.name = "changed"
            await session.flush()
            assert entries.left(["row:users:1"]) == {"row:users:1"}
            await session.commit()
        with entries.unchanged("row:users:1", "row:users:2"):
            await session.execute(delete(User).where(User.id == 2))
            await session.rollback()
        with entries.changed("table:users row:users:7 row:users:8", "row:users:2"):
            session.add_all([User(id=7), User(id=8)])
            await session.commit()


@pytest.mark.anyio
async def test_keys_from_the_database_are_known(engine: AsyncEngine, entries: Entries) -> None:
    async with AsyncSession(engine) as session:
        with entries.changed("table:labels row:labels:1 row:labels:2", "row:labels:3 table:users"):
            session.add_all([Label(), Label()])
            await session.commit()
        with entries.changed("table:labels row:labels:3", "row:labels:1"):
            session.add(Label())
            await session.commit()


@pytest.mark.anyio
async def test_an_async_connection_tells_its_commit(engine: AsyncEngine, entries: Entries) -> None:
    with entries.changed("table:users row:users:1", "row:users:2"):
        async with engine.begin() as connection:
            await connection.execute(update(User).where(User.id == 1).values(name="x"))
    with entries.unchanged("row:users:1"):
        async with engine.connect() as connection:
            await connection.execute(update(User).where(User.id == 1).values(name="x"))
    statement = update(USERS).where(USERS.c.id == bindparam("key")).values(name=bindparam("to"))
    with entries.changed("row:users:1 row:users:2", "row:users:3"):
        async with engine.begin() as connection:
            await connection.execute(statement, [{"key": 1, "to": "x"}, {"key": 2, "to": "y"}])


@pytest.mark.anyio
async def test_savepoints_of_an_async_session(engine: AsyncEngine, entries: Entries) -> None:
    async with AsyncSession(engine) as session:
        with entries.changed("row:users:1 row:labels:1", "row:users:2"):
            await session.execute(insert(Label).values(id=1))
            async with session.begin_nested():
                await session.execute(update(User).where(User.id == 1).values(name="x"))
            undone = await session.begin_nested()
            await session.execute(update(User).where(User.id == 2).values(name="x"))
            await undone.rollback()
            await session.commit()


@pytest.mark.anyio
async def test_autocommit_is_told_at_once(engine: AsyncEngine, entries: Entries) -> None:
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with own.connect() as connection:
        with entries.changed("row:users:1", "row:users:2"):
            await connection.execute(update(User).where(User.id == 1).values(name="x"))
        with entries.changed("row:labels:1", "row:labels:2"):
            await connection.execute(insert(Label).values(id=1))


@pytest.mark.anyio
async def test_an_autocommit_whose_task_is_cancelled_is_told(engine: AsyncEngine, entries: Entries) -> None:
    own = engine.execution_options(isolation_level="AUTOCOMMIT")

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def cancel(connection: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if sql.startswith("UPDATE"):
            raise asyncio.CancelledError

    with entries.changed("row:users:1", "row:users:2"):
        with pytest.raises(asyncio.CancelledError):
            async with own.connect() as connection:
                await connection.execute(update(User).where(User.id == 1).values(name="x"))


@pytest.mark.anyio
async def test_text_of_an_async_session(engine: AsyncEngine, entries: Entries) -> None:
    async with AsyncSession(engine) as session:
        with entries.changed("row:users:1", "row:users:2"):
            statement = text("UPDATE users SET name = 'x' WHERE id = 1")
            await session.execute(statement.execution_options(invalidates=["row:users:1"]))
            await session.commit()
        with entries.changed("row:users:1 anything", ""):
            await session.execute(text("UPDATE users SET name = 'x' WHERE id = 1"))
            await session.commit()


@pytest.mark.anyio
async def test_a_task_reads_its_own_writes_and_another_does_not(
    engine: AsyncEngine, entries: Entries
) -> None:
    cache = entries.cache

    @cache.cached(tags=["row:users:{number}"])
    async def name(number: int, session: AsyncSession) -> str | None:
        return await session.scalar(select(User.name).where(User.id == number))

    async with AsyncSession(engine) as one, AsyncSession(engine) as other:
        assert await name(1, one) == ""
        await one.execute(update(User).where(User.id == 1).values(name="changed"))
        assert await name(1, one) == "changed"
        if engine.dialect.name == "postgresql":  # SQLite has one writer, who keeps readers of its file out
            assert await asyncio.create_task(name(1, other), context=Context()) == ""
        await one.rollback()
        assert await name(1, one) == ""


@pytest.mark.anyio
@pytest.mark.parametrize(
    "make",
    [
        lambda engine: (engine, lambda: AsyncSession(engine)),
        lambda engine: (async_sessionmaker(engine),) * 2,
        lambda engine: (async_sessionmaker(engine, sync_session_class=Session),) * 2,
        lambda engine: (kind := type("Own", (AsyncSession,), {}), lambda: kind(engine)),
        lambda engine: (session := AsyncSession(engine), lambda: session),
        lambda engine: (
            async_scoped_session(maker := async_sessionmaker(engine), scopefunc=lambda: None),
            maker,
        ),
    ],
    ids=["engine", "maker", "maker with a class", "class", "session", "scoped"],
)
async def test_it_is_installed_by_whatever_makes_async_sessions(
    plain: AsyncEngine, entries: Entries, make: Callable[[AsyncEngine], Any]
) -> None:
    target, session_of = make(plain)
    install(entries.cache, target)
    install(entries.cache, target)
    with entries.changed("row:users:1", "row:users:2"):
        async with session_of() as session:
            (await session.get_one(User, 1)).name = "changed"
            await session.commit()
    uninstall(entries.cache, target)
    with entries.unchanged("row:users:1", "row:users:2"):
        async with session_of() as session:
            (await session.get_one(User, 2)).name = "changed"
            await session.commit()


@pytest.mark.anyio
async def test_other_sessions_are_not_concerned(plain: AsyncEngine, entries: Entries) -> None:
    install(entries.cache, async_sessionmaker(plain))
    with entries.unchanged("row:users:1"):
        async with AsyncSession(plain) as session:
            (await session.get_one(User, 1)).name = "changed"
            await session.commit()


# ---- sync drivers


@pytest.fixture(params=["psycopg", "psycopg2"])
def sync_engine(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    postgres_database: str,
    entries: Entries,
    new_engine: Callable[..., Engine],
) -> Engine:
    engine = new_engine(postgres.url(request.param, postgres_database))
    install(entries.cache, engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"), execution_options={"invalidates": []})
        Base.metadata.create_all(connection)
        connection.execute(insert(User), [{"id": 1, "name": ""}, {"id": 2, "name": ""}])
    return engine


def test_a_session_tells_its_commit(sync_engine: Engine, entries: Entries) -> None:
    with Session(sync_engine) as session:
        with entries.changed("table:users row:users:1", "row:users:2 table:labels"):
            session.get_one(User, 1).name = "changed"
            session.commit()
        with entries.unchanged("row:users:1", "row:users:2"):
            session.execute(delete(User).where(User.id == 2))
            session.rollback()
        with entries.changed("table:labels row:labels:1 row:labels:2", "row:labels:3"):
            session.add_all([Label(), Label()])
            session.commit()


def test_batches_of_an_insert_are_one_insert(sync_engine: Engine, entries: Entries) -> None:
    engine = sync_engine.execution_options(insertmanyvalues_page_size=3)
    goes = " ".join(["table:labels", *(f"row:labels:{n}" for n in range(1, 11))])
    with entries.changed(goes, "row:labels:11"), Session(engine) as session:
        session.add_all([Label() for _ in range(10)])
        session.commit()


def test_autocommit_of_a_driver_is_told_at_once(sync_engine: Engine, entries: Entries) -> None:
    own = sync_engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        connection.execute(update(User).where(User.id == 1).values(name="x"))


def test_two_phases_of_a_driver(sync_engine: Engine, entries: Entries) -> None:
    with entries.changed("row:users:1", "row:users:2"), Session(sync_engine, twophase=True) as session:
        session.get_one(User, 1).name = "changed"
        session.commit()


def test_a_commit_that_the_server_cut_short_is_told(sync_engine: Engine, entries: Entries) -> None:
    """Whether it took place nobody knows."""
    with sync_engine.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        connection.execute(update(User).where(User.id == 1).values(name="x"))
        (pid,) = connection.execute(text("SELECT pg_backend_pid()")).one()
        with sync_engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(exc.OperationalError):
            connection.commit()
