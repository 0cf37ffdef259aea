"""When a write is told: after the outermost COMMIT, and not before it, nor without it."""

from __future__ import annotations

import gc
import logging
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    delete,
    event,
    exc,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from tests.sqlalchemy.caching import Entries
from tests.sqlalchemy.models import Base, Label, Note, Post, User
from tiercache.sqlalchemy import from_cache, install, noting_reads, uninstall
from tiercache.sqlalchemy.statements import analysis_of
from tiercache.sqlalchemy.texts import Effect, effects_of, ends_transaction

USERS = User.__table__


@pytest.fixture(autouse=True)
def rows(plain_engine: Engine) -> None:
    with plain_engine.begin() as connection:
        connection.execute(insert(User), [{"id": 1, "name": ""}, {"id": 2, "name": ""}])


def rename(scope: Any, number: int) -> None:
    scope.execute(update(User).where(User.id == number).values(name="changed"))


def fail_after(done: None) -> None:
    raise ZeroDivisionError


def within_a_savepoint(session: Session) -> None:
    with session.begin_nested():
        rename(session, 2)
        session.add(User(id=1))
        session.flush()


# ---- the end of a transaction


def test_nothing_is_told_before_the_commit(engine: Engine, entries: Entries) -> None:
    with Session(engine) as session, entries.changed("row:users:1", "row:users:2"):
        rename(session, 1)
        assert entries.left(["row:users:1"]) == {"row:users:1"}
        session.commit()


def test_a_rollback_is_not_told(engine: Engine, entries: Entries) -> None:
    with entries.unchanged("row:users:1", "table:users"), Session(engine) as session:
        rename(session, 1)
        session.rollback()
    with entries.changed("row:users:2", "row:users:1"), Session(engine) as session:
        rename(session, 1)
        session.rollback()
        rename(session, 2)
        session.commit()


def test_a_close_without_a_commit_is_not_told(engine: Engine, entries: Entries) -> None:
    with entries.unchanged("row:users:1", "table:users"):
        with Session(engine) as session:
            rename(session, 1)
        with engine.connect() as connection:
            rename(connection, 1)
    with entries.changed("row:users:2", "row:users:1"), Session(engine) as session:
        rename(session, 2)
        session.commit()


def test_an_exception_is_not_told(engine: Engine, entries: Entries) -> None:
    with entries.unchanged("row:users:1", "table:users"):
        with pytest.raises(ZeroDivisionError), Session(engine) as session, session.begin():
            fail_after(rename(session, 1))
        with pytest.raises(ZeroDivisionError), engine.begin() as connection:
            fail_after(rename(connection, 1))


def test_what_the_pool_takes_back_leaves_nothing_behind(
    database_url: str, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    engine = new_engine(database_url, pool_size=1, max_overflow=0)
    install(entries.cache, engine)
    connection = engine.connect()
    rename(connection, 1)
    del connection  # forgotten, with a transaction open
    gc.collect()
    with entries.changed("row:users:2", "row:users:1"), engine.begin() as connection:
        rename(connection, 2)


def test_a_connection_that_was_invalidated_leaves_nothing_behind(
    database_url: str, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    engine = new_engine(database_url, pool_size=1, max_overflow=0)
    install(entries.cache, engine)
    with engine.connect() as connection:
        rename(connection, 1)
        entries.store(["row:users:1"])
        assert entries.cache.sync.get("under row:users:1") is None, (
            "it is inside of a transaction that changed it"
        )
        connection.invalidate()
        assert entries.cache.sync.get("under row:users:1") == "there"
        connection.rollback()
        with entries.changed("row:users:2", "row:users:1"):
            rename(connection, 2)
            connection.commit()


def test_a_detached_connection_is_told_all_the_same(engine: Engine, entries: Entries) -> None:
    with engine.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        connection.detach()
        rename(connection, 1)
        connection.commit()


def test_a_statement_that_failed_half_way_counts(engine: Engine, entries: Entries) -> None:
    """What it had changed by then, SQLite keeps and commits."""
    if engine.dialect.name == "postgresql":
        pytest.skip("PostgreSQL commits nothing of a transaction in which a statement failed")
    with (
        entries.changed("table:users row:users:7 row:users:2", "table:labels"),
        engine.connect() as connection,
    ):
        with pytest.raises(exc.IntegrityError):
            connection.execute(insert(User), [{"id": 7, "name": ""}, {"id": 1, "name": ""}])
        connection.commit()
        assert connection.execute(select(User.id).where(User.id == 7)).all() == [(7,)]


def test_writes_of_events_count(engine: Engine, entries: Entries) -> None:
    session = Session(engine)

    @event.listens_for(session, "after_flush")
    def add_label(session: Session, context: Any) -> None:
        session.execute(insert(Label).values(id=5))

    @event.listens_for(session, "before_commit")
    def add_note(session: Session) -> None:
        session.add(Note(id=5))

    goes = "row:users:1 table:labels row:labels:5 table:notes row:notes:5"
    with session, entries.changed(goes, "row:users:2"):
        session.get_one(User, 1).name = "changed"
        session.commit()


# ---- savepoints


def test_a_released_savepoint_is_told_with_its_transaction(engine: Engine, entries: Entries) -> None:
    with Session(engine) as session, entries.changed("row:users:1", "row:users:2"):
        with session.begin_nested():
            rename(session, 1)
        assert entries.left(["row:users:1"]) == {"row:users:1"}
        session.commit()
    with entries.unchanged("row:users:1"), Session(engine) as session:
        with session.begin_nested():
            rename(session, 1)
        session.rollback()


def test_a_savepoint_rolled_back_takes_what_came_after_it(engine: Engine, entries: Entries) -> None:
    with Session(engine) as session, entries.changed("row:users:1 row:labels:1", "row:users:2 row:labels:2"):
        rename(session, 1)
        savepoint = session.begin_nested()
        rename(session, 2)
        session.execute(insert(Label).values(id=2))
        savepoint.rollback()
        session.execute(insert(Label).values(id=1))
        session.commit()


def test_savepoints_within_savepoints(engine: Engine, entries: Entries) -> None:
    goes, stays = "row:labels:1 row:labels:2 row:labels:6", "row:labels:3 row:labels:4 row:labels:5"

    def add(number: int) -> None:
        connection.execute(insert(Label).values(id=number))

    with engine.connect() as connection, entries.changed(goes, stays):
        add(1)
        with connection.begin_nested():
            add(2)
            undone = connection.begin_nested()
            add(3)
            with connection.begin_nested():
                add(4)
            add(5)
            undone.rollback()
            add(6)
        connection.commit()


def test_an_error_within_a_savepoint_takes_what_came_after_it(engine: Engine, entries: Entries) -> None:
    with Session(engine) as session, entries.changed("row:users:1", "row:users:2 row:labels:1"):
        rename(session, 1)
        with pytest.raises(exc.IntegrityError):
            within_a_savepoint(session)
        session.commit()


def test_a_release_by_which_sqlite_commits_is_told_at_once(
    tmp_path: Path, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    """In its old mode sqlite3 begins no transaction before a savepoint, whose release is a COMMIT then."""
    engine = new_engine(f"sqlite:///{tmp_path / 'other.db'}", begins=False)
    install(entries.cache, engine)
    Base.metadata.create_all(engine)
    with entries.changed("row:labels:1", "row:labels:2"), engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(insert(Label).values(id=1))
        connection.rollback()
        assert connection.execute(select(Label.id)).all() == [(1,)]


def test_a_session_within_a_transaction_from_outside_is_told_by_that(
    engine: Engine, entries: Entries
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with entries.unchanged("row:users:1"):
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                rename(session, 1)
                session.commit()
        with entries.changed("row:users:1", "row:users:2"):
            outer.commit()


# ---- other ways to commit


def test_a_commit_in_two_phases(postgres_url: str, engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("PostgreSQL's")
    with entries.changed("row:users:1", "row:users:2"), Session(engine, twophase=True) as session:
        rename(session, 1)
        session.prepare()
        assert entries.left(["row:users:1"]) == {"row:users:1"}
        session.commit()
    with entries.unchanged("row:users:1", "table:labels"), engine.connect() as connection:
        undone = connection.begin_twophase()
        rename(connection, 1)
        undone.prepare()
        undone.rollback()
    with entries.changed("row:users:2", "row:users:1"), engine.connect() as connection:
        whole = connection.begin_twophase()
        rename(connection, 2)
        whole.commit()


def test_what_another_connection_prepared_is_everything(engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("PostgreSQL's")
    with engine.connect() as connection:
        prepared = connection.begin_twophase("left-behind")
        rename(connection, 1)
        prepared.prepare()
        connection.invalidate()
    with entries.changed("row:users:1 row:users:2 table:labels", ""), engine.connect() as connection:
        connection.commit_prepared("left-behind", recover=True)


def test_each_statement_in_autocommit_is_told_at_once(
    plain_engine: Engine, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    engine = new_engine(plain_engine.url, begins=False)
    install(entries.cache, engine)
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection:
        with entries.changed("row:users:1", "row:users:2"):
            rename(connection, 1)
        with entries.changed("row:labels:1", "row:labels:2"):
            connection.execute(insert(Label).values(id=1))
        with entries.changed("row:labels:7 table:labels", "row:users:1"):
            with pytest.raises(exc.IntegrityError):
                connection.execute(insert(Label), [{"id": 7}, {"id": 1}])
        with entries.changed("row:users:2", "row:users:1"):
            statement = text("UPDATE users SET name = 'x' WHERE id = 2")
            connection.execute(statement, execution_options={"invalidates": ["row:users:2"]})
        with entries.unchanged("row:users:1", "row:users:2", "table:labels"):
            connection.rollback()


@pytest.mark.parametrize("safety", ["commit", "fence"])
@pytest.mark.parametrize("driver", ["", "psycopg2"])
def test_a_transaction_by_text_in_autocommit_is_told_at_its_commit(
    plain_engine: Engine, new_engine: Callable[..., Engine], entries: Entries, driver: str, safety: Any
) -> None:
    if driver and plain_engine.dialect.name == "sqlite":
        pytest.skip("PostgreSQL's")
    url = plain_engine.url.set(drivername=f"postgresql+{driver}") if driver else plain_engine.url
    engine = new_engine(url, isolation_level="AUTOCOMMIT", begins=False)
    install(entries.cache, engine, write_safety=safety)
    with engine.connect() as connection:
        with entries.changed("row:users:1 row:users:3", "row:users:2"):
            connection.exec_driver_sql("BEGIN")
            rename(connection, 1)
            connection.execute(insert(User).values(id=3, name=""))
            assert entries.left(["row:users:1", "row:users:3"]) == {"row:users:1", "row:users:3"}
            connection.exec_driver_sql("COMMIT")
        with entries.changed("row:users:2", "row:users:1"):
            rename(connection, 2)


def test_the_autocommit_of_a_driver_is_told_at_once(
    database_url: str, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    is_sqlite = database_url.startswith("sqlite")
    given = {"isolation_level": None} if is_sqlite else {"autocommit": True}
    engine = new_engine(database_url, connect_args=given, begins=not is_sqlite)
    install(entries.cache, engine)
    with engine.connect() as connection:
        with entries.changed("row:users:1", "row:users:2"):
            rename(connection, 1)
        with entries.unchanged("row:users:1"):
            connection.rollback()


@pytest.mark.parametrize("way", ["statement", "text"])
def test_what_the_last_row_commits_is_not_told_before(
    new_engine: Callable[..., Engine], entries: Entries, tmp_path: Path, way: str
) -> None:
    """SQLite commits an UPDATE ... RETURNING when its rows were fetched."""
    engine = new_engine(f"sqlite:///{tmp_path / 'own.db'}", begins=False, isolation_level="AUTOCOMMIT")
    install(entries.cache, engine)
    Base.metadata.create_all(engine)
    statement: Any = {
        "statement": update(User).values(name="changed").returning(User.name),
        "text": text("UPDATE users SET name = 'changed' RETURNING name"),
    }[way]
    with engine.connect() as connection, engine.connect() as other:
        connection.execute(insert(User), [{"id": n, "name": ""} for n in (1, 2, 3)])
        with entries.changed("table:users row:users:1", ""):
            result = connection.execution_options(stream_results=True).execute(statement)
        assert other.scalars(select(User.name)).all() == ["changed"] * 3
        assert result.scalars().all() == ["changed"] * 3


def test_a_commit_by_text_is_a_commit(engine: Engine, entries: Entries) -> None:
    with engine.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        rename(connection, 1)
        connection.execute(text("COMMIT"))
        connection.rollback()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE users SET name = '' WHERE id = 3; COMMIT", None),
        ("UPDATE users SET name = '' WHERE id = 3; COMMIT", ["row:users:3"]),
        ("COMMIT; UPDATE users SET name = '' WHERE id = 3", None),
        ("COMMIT; UPDATE users SET name = '' WHERE id = 3", ["row:users:3"]),
        ("SELECT 1; COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ", ["row:users:3"]),
    ],
)
@pytest.mark.parametrize("way", ["text", "driver"])
def test_a_commit_by_text_that_does_more_is_a_commit(
    engine: Engine, entries: Entries, sql: str, said: list[str] | None, way: str
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("sqlite3 executes one statement at a time")
    options = {} if said is None else {"invalidates": said}
    goes, stays = "table:users row:users:1 row:users:3", "row:users:2"
    with entries.changed(goes if said else f"{goes} {stays}", stays if said else ""):
        with engine.connect() as connection:
            rename(connection, 1)
            if way == "text":
                connection.execute(text(sql), execution_options=options)
            else:
                connection.exec_driver_sql(sql, execution_options=options)
            connection.rollback()


def test_a_statement_by_which_mysql_commits_is_a_commit(
    engine: Engine, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no MySQL here: another database is taken for one, and does not commit."""
    assert all(
        map(ends_transaction, ("CREATE INDEX a ON users (name)", "/* a */ SELECT 1; LOCK TABLE users"))
    )
    assert not ends_transaction("UPDATE users SET name = 'set'; SELECT 1")
    with engine.connect() as connection:
        monkeypatch.setattr(engine.dialect, "name", "mysql")
        with entries.changed("table:users row:users:1", "table:labels"):
            connection.execute(update(User).where(User.id == 1).values(name="x"))
            Table("other", MetaData(), Column("id", Integer)).create(connection)
        with entries.changed("table:users row:users:2", "table:labels"):
            connection.execute(update(User).where(User.id == 2).values(name="x"))
            connection.execute(text("CREATE INDEX b ON users (name)"))
        monkeypatch.undo()
        connection.rollback()


@pytest.mark.parametrize("sql", ["COMMIT; BEGIN; UPDATE users SET name = ''", "SELECT '; COMMIT'"])
def test_what_may_follow_a_commit_in_a_text_is_told_at_the_next(
    engine: Engine, entries: Entries, sql: str
) -> None:
    """A constant may look like a COMMIT, too: what was told before it was committed is told again."""
    if engine.dialect.name == "sqlite" and sql.startswith("COMMIT"):
        pytest.skip("sqlite3 executes one statement at a time")
    with engine.connect() as connection:
        rename(connection, 1)
        connection.exec_driver_sql(sql, execution_options={"invalidates": ["row:users:2"]})
        with entries.changed("row:users:1 row:users:2", "row:users:3"):
            connection.commit()


@pytest.mark.parametrize("safety", ["commit", "fence"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("way", ["autocommit", "commit by text"])
def test_a_write_whose_answer_was_cut_off_is_told(
    plain_engine: Engine,
    new_engine: Callable[..., Engine],
    entries: Entries,
    way: str,
    error: type[BaseException],
    safety: Any,
) -> None:
    """What a signal's handler raises then, no part of SQLAlchemy tells the statement's context."""
    level = {"isolation_level": "AUTOCOMMIT"} if way == "autocommit" else {}
    engine = new_engine(plain_engine.url, begins=not level, **level)
    install(entries.cache, engine, write_safety=safety)

    def cut_off(connection: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if sql.startswith("UPDATE" if level else "COMMIT"):
            raise error

    def write() -> None:
        with engine.connect() as connection:
            rename(connection, 1)
            connection.exec_driver_sql("COMMIT")

    event.listen(engine, "after_cursor_execute", cut_off)
    with entries.changed("row:users:1", "row:users:2"):
        with pytest.raises(error):
            write()
        with plain_engine.connect() as connection:
            assert connection.scalar(select(User.name).where(User.id == 1)) == "changed"


def test_what_was_not_committed_goes_with_a_connection_that_is_lost(engine: Engine, entries: Entries) -> None:
    with entries.unchanged("row:users:1"), engine.connect() as connection:
        rename(connection, 1)
        connection.invalidate()


def test_several_binds_of_a_session_are_each_told(
    engine: Engine, tmp_path: Path, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    other = new_engine(f"sqlite:///{tmp_path / 'other.db'}")
    Base.metadata.create_all(other)
    maker = sessionmaker(engine, binds={Label: other})
    install(entries.cache, maker)
    with entries.changed("row:users:1 row:labels:1", "row:users:2 row:labels:2"), maker() as session:
        session.add(Label(id=1))
        session.get_one(User, 1).name = "changed"
        session.commit()


def test_one_connection_for_all_is_told_of_all(new_engine: Callable[..., Engine], entries: Entries) -> None:
    engine = new_engine("sqlite://", poolclass=StaticPool, begins=False)
    install(entries.cache, engine)
    Base.metadata.create_all(engine)
    with entries.changed("row:labels:1 row:labels:2", "row:labels:3"):
        with engine.connect() as one, engine.connect() as other:
            one.execute(insert(Label).values(id=1))
            other.execute(insert(Label).values(id=2))
            one.commit()


# ---- what it is installed on


@pytest.mark.parametrize(
    "make",
    [
        lambda engine: (sessionmaker(engine),) * 2,
        lambda engine: (scoped_session(sessionmaker(engine)),) * 2,
        lambda engine: (kind := type("Own", (Session,), {}), lambda: kind(engine)),
        lambda engine: (session := Session(engine), lambda: session),
        lambda engine: (engine.execution_options(stream_results=False), lambda: Session(engine)),
    ],
    ids=["sessionmaker", "scoped_session", "class", "session", "options of an engine"],
)
def test_it_is_installed_by_whatever_makes_sessions(
    plain_engine: Engine, entries: Entries, make: Callable[[Engine], Any]
) -> None:
    target, session_of = make(plain_engine)
    install(entries.cache, target)
    install(entries.cache, target)
    with entries.changed("row:users:1", "row:users:2"), session_of() as session:
        session.get(User, 1).name = "changed"
        session.commit()
    uninstall(entries.cache, target)
    with entries.unchanged("row:users:1", "row:users:2"), session_of() as session:
        session.get(User, 2).name = "changed"
        session.commit()


def test_an_engine_is_as_it_was_after_uninstall(plain_engine: Engine, entries: Entries) -> None:
    def state() -> dict[str, Any]:  # without what SQLAlchemy notes of events once there were some
        return {
            name: value for name, value in vars(dialect).items() if name not in ("_has_events", "dispatch")
        }

    dialect = plain_engine.dialect
    before = state()
    install(entries.cache, plain_engine)
    assert state() != before
    uninstall(entries.cache, plain_engine)
    uninstall(entries.cache, plain_engine)

    assert state() == before


def test_what_was_compiled_before_is_understood(plain_engine: Engine, entries: Entries) -> None:
    def write() -> None:
        with Session(plain_engine) as session:
            session.get_one(User, 1).name += "x"
            session.flush()
            rename(session, 2)
            session.commit()

    write()
    install(entries.cache, plain_engine)
    with entries.changed("table:users row:users:1 row:users:2", "row:users:3"):
        write()


def test_two_caches_are_both_told(
    engine: Engine, entries: Entries, new_node: Callable[..., Any], redis_server: Any
) -> None:
    other = Entries(new_node(redis_server.url(), namespace="other"))
    install(other.cache, engine)
    with entries.changed("row:users:1", "row:users:2"), other.changed("row:users:1", "row:users:2"):
        with Session(engine) as session:
            rename(session, 1)
            session.commit()


def test_the_pool_that_follows_a_dispose_is_heard(engine: Engine, entries: Entries) -> None:
    engine.dispose()
    with entries.changed("row:users:1", "row:users:2"), engine.begin() as connection:
        rename(connection, 1)
    uninstall(entries.cache, engine)
    with entries.unchanged("row:users:1"), engine.begin() as connection:
        rename(connection, 1)


@pytest.mark.parametrize("wrong", [None, "engine", 7, Base, User])
def test_what_is_no_engine_and_no_session_is_refused(entries: Entries, wrong: Any) -> None:
    with pytest.raises(TypeError, match="target must be an Engine"):
        install(entries.cache, wrong)


def test_settings_are_checked(entries: Entries, engine: Engine) -> None:
    for wrong in ({"write_safety": "maybe"}, {"on_outage": "hope"}, {"fence_ttl": 0}):
        with pytest.raises(ValueError, match="must be"):
            install(entries.cache, engine, **wrong)  # type: ignore[arg-type]  # wrong on purpose


# ---- nothing changes its nature


def test_results_are_what_they_were(engine: Engine) -> None:
    with Session(engine) as session:
        user = session.get_one(User, 1)
        assert session.execute(update(User).values(name="x")).rowcount == 2  # type: ignore[attr-defined]  # a CursorResult
        assert session.execute(insert(Label).values(id=3)).inserted_primary_key == (3,)  # type: ignore[attr-defined]
        assert session.scalars(insert(Label).returning(Label.id), [{"id": 4}, {"id": 5}]).all() == [4, 5]
        assert session.commit() is None  # type: ignore[func-returns-value]  # as it says
        assert "name" not in vars(user)
    with engine.connect() as connection:
        assert connection.execute(delete(Label)).rowcount == 3
        assert connection.commit() is None  # type: ignore[func-returns-value]  # as it says


def test_an_error_of_the_commit_is_the_callers(engine: Engine, entries: Entries) -> None:
    with engine.begin() as connection:
        deferred = "CREATE TABLE d (u INT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED)"
        connection.execute(text(deferred))
    with Session(engine) as session:
        statement = text("INSERT INTO d VALUES (99)").execution_options(invalidates=["d"])
        session.execute(statement)
        with pytest.raises(exc.IntegrityError):
            session.commit()
        session.rollback()
        with entries.changed("row:users:1", "row:users:2"):
            rename(session, 1)
            session.commit()


# ---- one's own reads


def test_a_transaction_reads_its_own_writes_and_nobody_else_does(engine: Engine, entries: Entries) -> None:
    cache = entries.cache

    @cache.cached(tags=["row:users:{number}"])
    def name(number: int) -> str | None:
        with engine.connect() as connection:
            return connection.scalar(select(User.name).where(User.id == number))

    def mine(number: int) -> str | None:
        return cache.sync.get_or_load(
            f"mine {number}",
            lambda: session.scalar(select(User.name).where(User.id == number)),
            tags=[f"row:users:{number}"],
        )

    with Session(engine) as session:
        assert (name(2), mine(1)) == ("", "")
        rename(session, 1)
        assert mine(1) == "changed"
        assert mine(1) == "changed"
        session.rollback()
        assert mine(1) == ""
        loads = cache.stats().loads
        assert mine(1) == ""
        assert cache.stats().loads == loads


def test_what_is_read_from_a_dirty_transaction_is_not_kept(engine: Engine, entries: Entries) -> None:
    cache = entries.cache.sync

    def load() -> int:
        return session.scalar(select(User.id).where(User.name == "changed")) or 0

    with Session(engine) as session:
        rename(session, 1)
        assert cache.get_or_load("untagged", load) == 1
        session.rollback()
        assert cache.get_or_load("untagged", load) == 0

        rename(session, 1)
        # Of a loader nobody knows what it took from objects that its session has: so nothing of it is kept.
        assert cache.get_or_load("other table", lambda: session.scalar(select(Label.id)) or 0) == 0
        assert cache.get_or_load("other table", lambda: 1) == 1
        assert cache.get_or_load("by text", lambda: session.scalar(text("SELECT 1"))) == 1
        assert cache.get_or_load("by text", lambda: 2) == 2


@pytest.mark.parametrize("how", ["connection", "engine", "text", "text in autocommit"])
def test_what_a_snapshot_shows_is_as_old_as_its_begin(
    database_url: str, new_engine: Callable[..., Engine], engine: Engine, entries: Entries, how: str
) -> None:
    if how == "engine":
        engine = new_engine(
            database_url,
            isolation_level="SERIALIZABLE" if engine.dialect.name == "sqlite" else "REPEATABLE READ",
        )
        install(entries.cache, engine)
    elif how == "text in autocommit":
        engine = new_engine(database_url, isolation_level="AUTOCOMMIT", begins=False)
        install(entries.cache, engine)
    cache = entries.cache.sync
    cache.get("warm")
    with engine.connect() as connection:
        if how == "connection":
            connection = connection.execution_options(isolation_level="SERIALIZABLE")
        elif how == "text in autocommit":
            repeats = " ISOLATION LEVEL REPEATABLE READ" if engine.dialect.name == "postgresql" else ""
            connection.exec_driver_sql(f"BEGIN{repeats}")
        elif how == "text" and engine.dialect.name == "postgresql":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        connection.execute(select(Label.id)).all()
        cache.invalidate_tags("row:users:1")

        def load() -> str | None:
            return connection.scalar(select(User.name).where(User.id == 1))

        assert cache.get_or_load("old", load, tags=["row:users:1"]) == ""
        assert cache.get("old") is None
        assert cache.get_or_load("other", load, tags=["row:users:2"]) == ""
        assert cache.get("other") == ""


def test_sqlite_reads_snapshots_at_any_level(
    new_engine: Callable[..., Engine], plain_engine: Engine, entries: Entries
) -> None:
    if plain_engine.dialect.name == "postgresql":
        pytest.skip("SQLite's")
    engine = new_engine(plain_engine.url, isolation_level="READ UNCOMMITTED")
    install(entries.cache, engine)
    cache = entries.cache.sync
    cache.get("warm")
    with closing(sqlite3.connect(plain_engine.url.database or "")) as plainly:
        plainly.execute("PRAGMA journal_mode = wal")
    with engine.connect() as connection, plain_engine.connect() as other:
        connection.execute(select(Label.id)).all()
        rename(other, 1)
        other.commit()
        cache.invalidate_tags("row:users:1")
        by_key = select(USERS.c.name).where(USERS.c.id == 1)
        assert cache.get_or_load("old", lambda: connection.scalar(by_key), tags=["row:users:1"]) == ""
        assert cache.get("old") is None


def test_what_may_be_rolled_back_is_not_kept(
    new_engine: Callable[..., Engine], entries: Entries, tmp_path: Path
) -> None:
    url = f"sqlite:///file:{tmp_path / 'own.db'}?cache=shared&uri=true"
    engine = new_engine(url, begins=False, isolation_level="READ UNCOMMITTED")
    install(entries.cache, engine)
    Base.metadata.create_all(engine)

    @entries.cache.cached(ttl=60, tags=["table:users"])
    def by_function() -> list[str]:
        with Session(engine) as session:
            return list(session.scalars(select(User.name)))

    def by_query() -> list[str]:
        with Session(engine) as session:
            return list(session.scalars(select(User.name).options(from_cache(ttl=60))))

    with Session(engine) as session:
        session.add(User(id=1, name=""))
        session.commit()
        rename(session, 1)
        assert Context().run(by_function) == Context().run(by_query) == ["changed"]
        session.rollback()
    assert by_function() == by_query() == [""]


def test_autocommit_keeps_what_it_loads_outside_of_a_transaction_by_text(
    database_url: str, plain_engine: Engine, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    engine = new_engine(database_url, isolation_level="AUTOCOMMIT", begins=False)
    install(entries.cache, engine)
    cache = entries.cache.sync
    cache.get("warm")
    for end in ("COMMIT", "ROLLBACK"):
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            connection.execute(select(User.name)).all()
            cache.invalidate_tags("table:users")
            connection.exec_driver_sql(end)
            cache.get_or_load(
                end, lambda: len(connection.execute(select(User.name)).all()), tags=["table:users"]
            )
        assert cache.get(end) == 2


def test_an_object_is_as_old_as_the_transaction_that_has_it(
    engine: Engine, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    """At READ COMMITTED, too: a session does not overwrite what it has with what a later row says."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite reads snapshots")
    cache = entries.cache.sync
    cache.get("warm")

    def load() -> str:
        return session.scalars(select(User).where(User.id == 1)).one().name

    with Session(engine) as session:
        kept = session.get_one(User, 1)
        with engine.begin() as other:
            rename(other, 1)
        assert cache.get_or_load("old", load, tags=["row:users:1"]) == kept.name == ""
        assert cache.get("old") is None
        assert cache.get_or_load("columns", lambda: names_of(session), tags=["row:users:2"]) == ["changed"]
        session.rollback()
        assert cache.get_or_load("old", load, tags=["row:users:1"]) == "changed"
        assert cache.get("old") == "changed"


def names_of(session: Session) -> list[str]:
    return list(session.connection().scalars(select(USERS.c.name).where(USERS.c.id == 1)))


def test_what_is_read_is_noted(engine: Engine) -> None:
    with Session(engine) as session:
        with noting_reads() as reads:
            session.get(User, 1)
            session.execute(select(Post.id).join(User)).all()
        assert set(reads.tags) == {"row:users:1", "table:users", "table:posts"}
        assert not reads.is_opaque
        with noting_reads() as reads:
            session.execute(text("SELECT 1"))
        assert (set(reads.tags), reads.is_opaque) == (set(), True)


# ---- text


def test_text_says_what_it_touches(engine: Engine, entries: Entries) -> None:
    def write(*invalidates: Any) -> None:
        with Session(engine) as session:
            session.execute(text("UPDATE users SET name = name").execution_options(invalidates=invalidates))
            session.commit()

    with entries.changed("table:users row:users:1 row:users:2", "table:labels row:labels:1"):
        write(User)
    with entries.changed("table:users row:users:1 row:users:2", "table:labels row:labels:1"):
        write(USERS)
    with entries.changed("table:users row:users:1 row:users:2", "table:labels row:labels:1"):
        write("users")
    with entries.changed("table:users row:users:1 row:users:2", "table:labels row:labels:1"):
        write("table:users")
    with entries.changed("table:users row:users:1", "row:users:2"):
        write("row:users:1")
    with entries.changed("front-page:1", "table:users"):
        write("front-page:1")
    with entries.unchanged("table:users", "row:users:1"):
        write()


@pytest.mark.parametrize("wrong", ["", "search:" + "x" * 600, "a\0b", "row:a\0b:7"])
def test_what_can_be_no_tag_is_refused_before_the_statement(
    engine: Engine, entries: Entries, wrong: str
) -> None:
    with entries.changed("row:users:1", "row:users:2"), Session(engine) as session:
        rename(session, 1)
        with pytest.raises(ValueError, match="a tag"):
            session.execute(text("UPDATE users SET name = 'x'").execution_options(invalidates=[wrong]))
        session.commit()
        assert session.scalars(select(User.name).where(User.id == 2)).one() == ""


@pytest.mark.parametrize("safety", ["commit", "fence"])
def test_a_name_that_is_refused_at_the_commit_is_everything(
    plain_engine: Engine, entries: Entries, safety: Any
) -> None:
    install(entries.cache, plain_engine, write_safety=safety)
    statement = text("UPDATE users SET name = name").execution_options(invalidates=["x" * 510])
    with entries.changed("row:users:1 table:labels", ""), Session(plain_engine) as session:
        rename(session, 1)
        session.execute(statement)  # "table:xxx..." has 516 bytes
        session.commit()


def test_driver_sql_says_what_it_touches(engine: Engine, entries: Entries) -> None:
    with entries.changed("table:users row:users:1", "table:labels"), engine.begin() as connection:
        connection.exec_driver_sql(
            "DELETE FROM users WHERE id = 1", execution_options={"invalidates": [User]}
        )


@pytest.mark.parametrize("way", ["text", "driver", "from_statement", "cte"])
def test_text_that_does_not_say_it_is_everything(
    engine: Engine, entries: Entries, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    sql = "DELETE FROM labels WHERE id = 1 RETURNING id"
    with entries.changed("table:users row:users:1 table:labels anything", ""), Session(engine) as session:
        if way == "text":
            session.execute(text(sql))
        elif way == "driver":
            session.connection().exec_driver_sql(sql)
        elif way == "from_statement":
            session.execute(select(Label).from_statement(text(sql))).all()
        elif engine.dialect.name == "postgresql":
            gone = text(sql).columns(Label.id).cte()
            session.execute(select(gone)).all()
        else:
            session.execute(text(sql))
        session.commit()
    (warning,) = [each for each in caplog.records if each.name == "tiercache.sqlalchemy"]
    assert warning.levelno == logging.WARNING
    assert "invalidates=" in warning.getMessage()


def test_text_that_reads_is_nothing(engine: Engine, entries: Entries) -> None:
    with entries.unchanged("table:users", "row:users:1"), engine.begin() as connection:
        for sql in (
            "SELECT 1",
            "-- a remark\n /* another */ SELECT 1",
            "WITH a AS (SELECT 1 AS n) SELECT n FROM a",
            "VALUES (1)",
            "SAVEPOINT x",
            "RELEASE SAVEPOINT x",
            "EXPLAIN SELECT 1",
            "CREATE TABLE made (id int)",
        ):
            connection.execute(text(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; DELETE FROM users",
        "WITH gone AS (DELETE FROM users RETURNING id) SELECT id FROM gone",
        "EXPLAIN ANALYZE DELETE FROM users",
        "/*!50000 DELETE */ FROM users",
        "DECLARE @n int UPDATE users SET id = 1",
        "TRUNCATE labels",
        "CALL it()",
        "DO $$ BEGIN END $$",
        "COPY users FROM STDIN",
        "MERGE INTO users",
        "ALTER TABLE users ADD x INT",
        "CREATE OR REPLACE VIEW v AS SELECT 1",
        "COMMIT PREPARED 'x'",
        "/* a /* b */ select */ UPDATE users SET id = 1",
        "-- renames\rUPDATE users SET id = 1",
        "-- one\rSELECT 1\nUPDATE users SET id = 1",
        "EXPLAIN ANALYZE EXECUTE prepared",
        "SET NOCOUNT ON UPDATE users SET id = 1",
        "SET NOCOUNT ON EXEC it",
        "DECLARE @n INT = 1 UPDATE users SET id = @n",
        "USE shop DELETE FROM users",
        "BEGIN it(1); END;",
        "BEGIN TRAN UPDATE users SET id = 1 COMMIT",
        "BEGIN TRAN -- renames\nUPDATE users SET id = 1",
    ],
)
def test_text_that_may_write_is_everything(sql: str) -> None:
    assert Effect.EVERYTHING in effects_of(sql)


@pytest.mark.parametrize(
    ("statement", "effects"),
    [
        (select(User.id).suffix_with(text("; DELETE FROM users")), (Effect.READS, Effect.EVERYTHING)),
        (select(User.id).where(text("name <> 'a' ; DELETE FROM users")), (Effect.READS, Effect.EVERYTHING)),
        (select(User.id).where(text(r"name <> 'a\'; DELETE FROM users")), (Effect.READS, Effect.EVERYTHING)),
        (select(User.id).where(text("""name <> ';' AND ";" = 'it''s'""")), (Effect.READS,)),
        (select(User.id.label("a;b")).where(User.name == ";"), (Effect.READS,)),
    ],
)
def test_a_semicolon_in_a_select_ends_it(statement: Any, effects: tuple[Effect, ...]) -> None:
    dialect = postgresql.dialect()
    assert analysis_of(statement.compile(dialect=dialect), dialect).effects == effects


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "begin immediate -- it's so",
        "SET search_path TO call_center",
        "SET TRANSACTION READ ONLY",
        "USE shop",
        "DECLARE c CURSOR FOR SELECT 1",
    ],
)
def test_text_that_begins_or_sets_is_no_write(sql: str) -> None:
    assert Effect.EVERYTHING not in effects_of(sql)


def test_a_comment_before_a_select_is_none_of_it() -> None:
    for sql in ("/* a */ SELECT 1", "-- a\r\nSELECT 1", "-- a\n/* b\n c */ (SELECT 1)"):
        assert effects_of(sql) == (Effect.READS,)


def test_a_long_text_is_not_kept() -> None:
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20):
            effects_of(f"SELECT '{number}{'x' * 1_000_000}'")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
