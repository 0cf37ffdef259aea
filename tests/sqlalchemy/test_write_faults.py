"""Writes when something is away, dies or is told to stop: the database's word, and never an old value."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, exc, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.peers import Flag, Peer
from tests.postgres import PostgresServer
from tests.servers import RedisServer, eventually
from tests.sqlalchemy.caching import Entries
from tests.sqlalchemy.models import Label, User
from tiercache import L2Unavailable, TierCache, default_cache
from tiercache.sqlalchemy import install

FENCES = "{default}1:p"


@pytest.fixture(autouse=True)
def rows(plain_engine: Engine) -> None:
    with plain_engine.begin() as connection:
        connection.execute(insert(User), [{"id": 1, "name": ""}, {"id": 2, "name": ""}])


def rename(scope: Any, number: int, name: str = "changed") -> None:
    scope.execute(update(User).where(User.id == number).values(name=name))


def name_of(engine: Engine, number: int) -> str | None:
    with engine.connect() as connection:
        return connection.scalar(select(User.name).where(User.id == number))


# ---- Redis away, a cache that is closed


@pytest.fixture
def own_entries(own_redis: RedisServer, new_node: Callable[..., TierCache]) -> Entries:
    return Entries(new_node(own_redis.url(), timeout=0.2, max_staleness=60))


def test_without_redis_a_commit_succeeds_and_is_told_when_redis_is_back(
    plain_engine: Engine, own_redis: RedisServer, own_entries: Entries, new_node: Callable[..., TierCache]
) -> None:
    other = Entries(new_node(own_redis.url(), max_staleness=60))
    install(own_entries.cache, plain_engine)
    own_entries.store(["row:users:1", "row:users:2"])
    own_redis.pause()
    with Session(plain_engine) as session:
        rename(session, 1)
        session.commit()
    assert own_entries.cache.sync.health().pending > 0
    own_redis.resume()

    assert eventually(lambda: not own_entries.cache.sync.health().pending)
    assert other.left(["row:users:1", "row:users:2"]) == {"row:users:2"}
    assert name_of(plain_engine, 1) == "changed"


@pytest.mark.parametrize("safety", ["commit", "fence"])
def test_a_closed_cache_does_not_hinder_a_commit(
    plain_engine: Engine,
    redis_server: RedisServer,
    new_node: Callable[..., TierCache],
    caplog: pytest.LogCaptureFixture,
    safety: Any,
) -> None:
    cache = new_node(redis_server.url())
    install(cache, plain_engine, write_safety=safety)
    cache.sync.close()
    with Session(plain_engine) as session:
        rename(session, 1)
        session.commit()

    assert name_of(plain_engine, 1) == "changed"
    (line,) = [each for each in caplog.records if each.name == "tiercache.sqlalchemy"]
    assert not any(isinstance(arg, Exception) for arg in line.args or ())  # with the frames of its caller
    assert line.levelno == logging.ERROR
    assert "closed" in line.getMessage()


# ---- fences


def fences(server: RedisServer) -> int:
    return int(server.cli("ZCARD", FENCES))


def test_a_fence_stands_around_the_commit(
    plain_engine: Engine, redis_server: RedisServer, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    commit = plain_engine.dialect.do_commit

    def watched(connection: Any) -> None:
        seen.append(fences(redis_server))
        commit(connection)
        seen.append(fences(redis_server))

    monkeypatch.setattr(plain_engine.dialect, "do_commit", watched)
    install(entries.cache, plain_engine, write_safety="fence")
    with plain_engine.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        rename(connection, 1)
        assert fences(redis_server) == 0
        connection.commit()
        assert (seen, fences(redis_server)) == ([1, 1], 0)


def test_without_redis_a_write_that_must_be_fenced_is_not_committed(
    plain_engine: Engine, own_redis: RedisServer, own_entries: Entries
) -> None:
    install(own_entries.cache, plain_engine, write_safety="fence", on_outage="abort")
    own_entries.store(["row:users:1"])
    own_redis.pause()
    with Session(plain_engine) as session:
        rename(session, 1)
        with pytest.raises(L2Unavailable):
            session.commit()
        session.rollback()
    own_redis.resume()
    assert name_of(plain_engine, 1) == ""

    with Session(plain_engine) as session:
        assert eventually(lambda: own_entries.cache.sync.health().problem is None)
        with own_entries.changed("row:users:2", "row:users:1"):
            rename(session, 2)
            session.commit()


def test_without_redis_a_write_that_may_go_unfenced_is_committed(
    plain_engine: Engine, own_redis: RedisServer, own_entries: Entries
) -> None:
    install(own_entries.cache, plain_engine, write_safety="fence")
    own_entries.store(["row:users:1"])
    own_redis.pause()
    with Session(plain_engine) as session:
        rename(session, 1)
        session.commit()
    own_redis.resume()

    assert name_of(plain_engine, 1) == "changed"
    assert own_entries.cache.stats().events["guarantee_suspended"] == 1
    assert eventually(lambda: not own_entries.left(["row:users:1"]))


def test_text_that_does_not_say_what_it_touches_is_refused_under_a_fence(
    plain_engine: Engine, entries: Entries
) -> None:
    install(entries.cache, plain_engine, write_safety="fence")
    with entries.unchanged("row:users:1"), Session(plain_engine) as session:
        with pytest.raises(exc.InvalidRequestError, match="invalidates="):
            session.execute(text("UPDATE users SET name = 'x'"))
        session.commit()
    assert name_of(plain_engine, 1) == ""
    with entries.changed("row:users:1", "row:users:2"), Session(plain_engine) as session:
        statement = text("UPDATE users SET name = 'x' WHERE id = 1")
        session.execute(statement, execution_options={"invalidates": ["row:users:1"]})
        session.commit()


def test_a_rollback_puts_up_no_fence(plain_engine: Engine, entries: Entries) -> None:
    install(entries.cache, plain_engine, write_safety="fence")
    before = entries.cache.sync.token()
    with Session(plain_engine) as session:
        rename(session, 1)
        session.rollback()
    assert entries.cache.sync.token() == before


def test_statements_in_autocommit_are_fenced_one_by_one(
    plain_engine: Engine, new_engine: Callable[..., Engine], entries: Entries
) -> None:
    engine = new_engine(plain_engine.url, begins=False)
    install(entries.cache, engine, write_safety="fence")
    before = entries.cache.sync.token().number
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        rename(connection, 1)
        made = entries.cache.sync.token().number
    assert made >= before + 2  # the fence, and its end
    with own.connect() as connection, entries.changed("row:labels:1 row:labels:2", "row:users:1"):
        connection.execute(insert(Label).values(id=1))


# ---- a writer that dies, in a process of its own


def write_and_hang(url: str, folder: str) -> None:
    engine = create_engine(url)
    commit = engine.dialect.do_commit

    def hang(connection: Any) -> None:
        commit(connection)
        if name_of_row(connection) == "changed":
            Flag(Path(folder) / "committed").set()
            Flag(Path(folder) / "the end").wait()

    engine.dialect.do_commit = hang  # type: ignore[method-assign]  # the database's answer has come, and no more
    install(default_cache(), engine, write_safety="fence", fence_ttl=60)
    with Session(engine) as session:
        rename(session, 1)
        session.commit()


def name_of_row(connection: Any) -> str:
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM users WHERE id = 1")
    return str(cursor.fetchone()[0])


def test_a_writer_killed_after_its_commit_leaves_misses_and_never_the_old_value(
    plain_engine: Engine, database_url: str, redis_server: RedisServer, entries: Entries, tmp_path: Path
) -> None:
    cache = entries.cache.sync

    def read() -> str | None:
        return cache.get_or_load("name", lambda: name_of(plain_engine, 1), tags=["row:users:1"])

    assert (read(), cache.get("name")) == ("", "")
    with Peer(redis_server.url()) as writer:
        writer.start(write_and_hang, database_url, str(tmp_path))
        Flag(tmp_path / "committed").wait()
        writer.kill()

    assert read() == "changed"
    assert cache.get("name") is None, "nothing about it is kept while the fence stands"
    for fence in redis_server.cli("ZRANGE", FENCES, 0, -1):
        redis_server.cli("ZADD", FENCES, 1, fence)  # as if its time had passed
    assert eventually(lambda: (read(), cache.get("name")) == ("changed", "changed"))


# ---- a cancellation


@pytest.mark.anyio
async def test_a_commit_cancelled_while_it_is_told_is_told_all_the_same(
    postgres: PostgresServer,
    postgres_database: str,
    plain_engine: Engine,
    own_redis: RedisServer,
    new_node: Callable[..., TierCache],
) -> None:
    if plain_engine.dialect.name == "sqlite":
        pytest.skip("one server is enough")
    entries = Entries(new_node(own_redis.url(), timeout=30))
    entries.store(["row:users:1", "row:users:2"])
    engine = create_async_engine(postgres.url("asyncpg", postgres_database))
    install(entries.cache, engine)
    async with AsyncSession(engine) as session:
        rename_it = update(User).where(User.id == 1).values(name="changed")
        await session.execute(rename_it)
        await entries.cache.get("warm")
        own_redis.pause()
        task = asyncio.create_task(session.commit())
        while await asyncio.to_thread(name_of, plain_engine, 1) != "changed":
            assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        own_redis.resume()
    await engine.dispose()

    def is_told() -> bool:
        return entries.left(["row:users:1", "row:users:2"]) == {"row:users:2"}

    assert await asyncio.to_thread(eventually, is_told)


# ---- fork


def test_a_child_that_is_forked_has_transactions_of_its_own(plain_engine: Engine, entries: Entries) -> None:
    install(entries.cache, plain_engine)
    with plain_engine.connect() as connection, entries.changed("row:users:1", "row:users:2"):
        if plain_engine.dialect.name == "postgresql":
            rename(connection, 1)
        pid = os.fork()
        if pid == 0:
            plain_engine.dispose(close=False)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        if plain_engine.dialect.name == "sqlite":
            rename(connection, 1)
        connection.commit()
