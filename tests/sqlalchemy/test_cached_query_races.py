"""Cached queries of several sessions at once: threads, tasks, processes' worth of caches, and two tiers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.util import await_only

from tests.postgres import PostgresServer
from tests.servers import RedisServer, eventually
from tests.sqlalchemy.query_models import Base, Post, User, fill
from tests.sqlalchemy.query_world import Database, make_database
from tests.world import Tasks
from tiercache import TierCache, source
from tiercache.sqlalchemy import from_cache, install

CACHED = from_cache(ttl=300)
ALL = select(User).order_by(User.id).options(CACHED)
FIRST_NAME = select(User.name).where(User.id == 1).options(CACHED)
Nodes = Callable[..., TierCache]


@pytest.fixture
def two(postgres_url: str, redis_server: RedisServer, new_node: Nodes) -> Iterator[tuple[Database, Database]]:
    """Two processes' worth: each an engine and a node of its own, on one PostgreSQL and one Redis."""
    one = make_database(postgres_url, new_node(redis_server.url()))
    other = make_database(postgres_url, new_node(redis_server.url()), filled=False)
    yield one, other
    one.engine.dispose()
    other.engine.dispose()


def first_name(db: Database, **options: Any) -> str:
    with db.session() as session:
        found: str = session.scalar(FIRST_NAME, execution_options=options)
        return found


def rename(db: Database, name: str) -> None:
    with db.session() as session:
        session.execute(update(User).where(User.id == 1).values(name=name))
        session.commit()


def test_what_one_process_read_the_other_has_from_l2(two: tuple[Database, Database]) -> None:
    one, other = two
    statement = ALL.options(selectinload(User.posts))

    def question(session: Session) -> list[Any]:
        return [(user.name, [post.title for post in user.posts]) for user in session.scalars(statement)]

    fresh, statements = one.ask(question)
    other.ask(lambda session: session.execute(text("SELECT 1")))
    assert statements == 2
    assert other.ask(question) == (fresh, 0)
    assert other.cache.stats().l2_hits == 2


def test_a_write_of_one_process_ends_what_the_other_kept(two: tuple[Database, Database]) -> None:
    one, other = two
    assert (first_name(one), first_name(other)) == ("user 1", "user 1")
    rename(one, "new")
    assert first_name(one) == "new"
    token = one.cache.sync.token()
    other.cache.sync.at_least(token)
    assert first_name(other) == "new"


def test_a_query_that_a_commit_overtakes_is_not_kept(two: tuple[Database, Database]) -> None:
    one, other = two
    read, written = threading.Event(), threading.Event()

    def hold(*_: Any) -> None:
        read.set()
        assert written.wait(10)

    with ThreadPoolExecutor() as pool:
        event.listen(one.engine, "after_cursor_execute", hold, once=True)
        slow = pool.submit(first_name, one)
        assert read.wait(10)
        rename(other, "new")
        written.set()
        assert slow.result() == "user 1"
    assert first_name(one) == "new"
    assert first_name(other) == "new"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_from_before_a_commit_fills_nothing(two: tuple[Database, Database], level: str) -> None:
    one, other = two
    assert first_name(one) == "user 1"  # so that the cache has met its server
    with Session(one.engine.execution_options(isolation_level=level)) as session:
        assert session.scalar(select(func.count()).select_from(Post)) == 12  # the snapshot
        rename(other, "new")
        other.cache.sync.token()
        one.cache.sync.at_least(one.cache.sync.token())
        assert session.scalar(FIRST_NAME) == "user 1"
        assert first_name(other) == "new"
    assert first_name(one) == "new"
    assert first_name(other) == "new"


def test_a_snapshot_that_nothing_overtook_fills(two: tuple[Database, Database]) -> None:
    one, _ = two
    assert first_name(one) == "user 1"
    statement = select(Post.title).where(Post.id == 10).options(CACHED)
    with Session(one.engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        assert session.scalar(statement) == "post 1.0"
    assert one.ask(lambda session: session.scalar(statement)) == ("post 1.0", 0)


def test_many_who_ask_at_once_cost_one_query(two: tuple[Database, Database]) -> None:
    one, _ = two
    gate = threading.Barrier(8)

    def ask() -> list[str]:
        with one.session() as session:
            gate.wait(10)
            return [user.name for user in session.scalars(ALL)]

    first_name(one)
    one.statements.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [each.result() for each in [pool.submit(ask) for _ in range(8)]]
    assert found == [found[0]] * 8
    assert len(one.statements) == 1


def test_a_pool_that_is_used_up_by_those_who_wait_is_no_deadlock(postgres_url: str, new_node: Nodes) -> None:
    """A leader without a connection would wait for one that a follower holds."""
    db = make_database(postgres_url, new_node("memory://"), pool_size=2, max_overflow=0, pool_timeout=30)
    first_name(db)
    held = [Session(db.engine), Session(db.engine)]
    for session in held:
        session.execute(text("SELECT 1"))  # has a connection from here on

    def ask(session: Session) -> int:
        with session:
            return len(session.scalars(ALL).all())

    before = db.cache.stats().misses
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, Session(db.engine))
        assert eventually(lambda: db.cache.stats().misses > before)
        others = [pool.submit(ask, session) for session in held]
        assert [each.result(10) for each in (*others, first)] == [4, 4, 4]
    db.engine.dispose()


def followers(cache: TierCache) -> int:
    return sum(flight.followers for flight in cache._node.tiers.board._flights.values())


def test_the_error_of_a_leader_is_not_its_followers(two: tuple[Database, Database]) -> None:
    one, _ = two
    first_name(one)
    led, failing = threading.Event(), threading.Event()
    outcomes: list[str] = []

    def hold(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "users.tenant" in statement and not led.is_set():
            led.set()
            assert failing.wait(10)

    def broken() -> None:
        with one.session() as session:
            with pytest.raises(DBAPIError):
                session.execute(text("SELECT nothing FROM nowhere"))
            with pytest.raises(DBAPIError, match="aborted"):
                session.scalars(ALL).all()
            outcomes.append("its own error")

    def healthy() -> int:
        with one.session() as session:
            session.execute(text("SELECT 1"))
            return len(session.scalars(ALL).all())

    event.listen(one.engine, "before_cursor_execute", hold)
    with ThreadPoolExecutor() as pool:
        leader = pool.submit(broken)
        assert led.wait(10)
        follower = pool.submit(healthy)
        assert eventually(lambda: followers(one.cache) == 1)
        failing.set()
        assert follower.result(10) == 4
        leader.result(10)
    assert outcomes == ["its own error"]


def test_while_redis_is_away_the_query_runs(
    postgres_url: str, own_redis: RedisServer, new_node: Nodes
) -> None:
    db = make_database(postgres_url, new_node(own_redis.url(), max_staleness=1.0))
    assert first_name(db) == "user 1"
    own_redis.kill()
    rename(db, "new")
    assert first_name(db) == "new"
    db.engine.dispose()


# ---- tasks


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    url = f"sqlite+aiosqlite:///{tmp_path}/test.db"
    if request.param != "aiosqlite":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(request.param, request.getfixturevalue("postgres_database"))
    made = create_async_engine(url)
    async with made.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(made) as session:
        await session.run_sync(fill)
    yield made
    await made.dispose()


@pytest.fixture
def statements(engine: AsyncEngine) -> list[str]:
    noted: list[str] = []
    event.listen(
        engine.sync_engine, "before_cursor_execute", lambda c, cursor, statement, *_: noted.append(statement)
    )
    return noted


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest, engine: AsyncEngine, new_node: Nodes) -> TierCache:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url()
    made = new_node(url)
    install(made, engine)
    return made


@pytest.mark.anyio
async def test_an_async_session_is_answered_as_a_query_answers_it(
    engine: AsyncEngine, cache: TierCache, statements: list[str]
) -> None:
    for expected in (4, 0):
        statements.clear()
        async with AsyncSession(engine) as session:
            users = (await session.scalars(ALL.options(selectinload(User.posts)))).all()
            assert [(user.name, len(user.posts)) for user in users] == [(f"user {n}", 3) for n in range(1, 5)]
            assert (await session.execute(FIRST_NAME)).scalar_one() == "user 1"
            assert (await session.get_one(Post, 12, options=[CACHED])).title == "post 1.2" or expected == 0
            assert await session.scalar(select(func.count()).select_from(Post).options(CACHED)) == 12
        assert len(statements) <= expected
    async with AsyncSession(engine) as session:
        user = await session.get_one(User, 1, options=[CACHED])
        user.name = "new"
        assert (await session.execute(FIRST_NAME)).scalar_one() == "new"
        async with AsyncSession(engine) as other:
            assert (await other.execute(FIRST_NAME)).scalar_one() == "user 1"
        await session.commit()
    async with AsyncSession(engine) as session:
        assert (await session.execute(FIRST_NAME)).scalar_one() == "new"


@pytest.mark.anyio
async def test_what_an_async_transaction_rolls_back_is_nowhere(engine: AsyncEngine, cache: TierCache) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(update(User).where(User.id == 1).values(name="never"))
        assert await session.scalar(FIRST_NAME) == "never"
        await session.rollback()
        assert await session.scalar(FIRST_NAME) == "user 1"
    async with AsyncSession(engine) as session:
        assert await session.scalar(FIRST_NAME) == "user 1"


@pytest.mark.anyio
async def test_a_stream_asks_the_database(
    engine: AsyncEngine, cache: TierCache, statements: list[str]
) -> None:
    for _ in range(2):
        statements.clear()
        async with AsyncSession(engine) as session:
            assert len([user async for user in await session.stream_scalars(ALL)]) == 4
        assert len(statements) == 1


@pytest.mark.anyio
async def test_tasks_that_ask_at_once_cost_one_query(
    engine: AsyncEngine, cache: TierCache, statements: list[str]
) -> None:
    async def ask() -> int:
        async with AsyncSession(engine) as session:
            return len((await session.scalars(ALL)).all())

    await ask()
    await cache.clear()
    statements.clear()
    assert await asyncio.gather(*(ask() for _ in range(5))) == [4] * 5
    assert len(statements) == 1


@pytest.mark.anyio
async def test_a_cancelled_leader_leaves_its_followers_an_answer(
    engine: AsyncEngine, cache: TierCache
) -> None:
    async def ask() -> int:
        async with AsyncSession(engine) as session:
            return len((await session.scalars(ALL)).all())

    await ask()
    await cache.clear()
    held = []

    def hold(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "users.tenant" in statement and not held:
            held.append(statement)
            await_only(asyncio.Event().wait())

    event.listen(engine.sync_engine, "before_cursor_execute", hold)
    leader = asyncio.create_task(ask())
    await Tasks().until(lambda: held)
    others = [asyncio.create_task(ask()) for _ in range(3)]
    await Tasks().until(lambda: followers(cache) == 3)
    leader.cancel()
    assert await asyncio.gather(*others) == [4, 4, 4]
    with pytest.raises(asyncio.CancelledError):
        await leader


@pytest.mark.anyio
async def test_what_a_query_is_told_of_its_load_reaches_it_in_a_task(
    engine: AsyncEngine, cache: TierCache
) -> None:
    """The load runs in a greenlet of its own, and has the context of who waits."""
    once = []

    def dirty(*_: Any) -> None:
        if not once:
            once.append(1)
            source.uncommitted()

    async with AsyncSession(engine) as session:
        await session.scalar(FIRST_NAME)
    await cache.clear()
    event.listen(engine.sync_engine, "after_cursor_execute", dirty)
    for _ in range(2):
        async with AsyncSession(engine) as session:
            await session.scalar(FIRST_NAME)
    assert cache.stats().events["uncommitted"] == 1
