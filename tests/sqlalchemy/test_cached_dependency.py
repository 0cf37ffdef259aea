"""A session as an application's dependency yields it: the same session, its reads cached, its writes told."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from httpx import ASGITransport, AsyncClient
from sqlalchemy import Engine, create_engine, event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, selectinload, sessionmaker

import tiercache
from tests.sqlalchemy.query_models import Base, Post, User, fill
from tiercache import TierCache
from tiercache.sqlalchemy import cached_dependency

Made = Callable[..., Any]


class Shop:
    """A database with an engine of each kind, and what reached it."""

    def __init__(self, path: Path) -> None:
        self.engine = create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            fill(session)
        self.async_engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        self.statements: list[str] = []
        for engine in (self.engine, self.async_engine.sync_engine):
            event.listen(engine, "before_cursor_execute", self._note)
        self.happened: list[str] = []

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements.append(statement)

    def get_session(self) -> Generator[Session, None, None]:
        session = Session(self.engine)
        self.happened.append("begin")
        try:
            yield session
            session.commit()
            self.happened.append("commit")
        except BaseException as error:
            session.rollback()
            self.happened.append(f"rollback {type(error).__name__}")
            raise
        finally:
            session.close()
            self.happened.append("close")

    async def get_async_session(self) -> AsyncGenerator[AsyncSession, None]:
        session = AsyncSession(self.async_engine)
        self.happened.append("begin")
        try:
            yield session
            await session.commit()
            self.happened.append("commit")
        except BaseException as error:
            await session.rollback()
            self.happened.append(f"rollback {type(error).__name__}")
            raise
        finally:
            await session.close()
            self.happened.append("close")

    def names(self) -> list[str]:
        """What the database says, by another engine."""
        engine = create_engine(self.engine.url)
        with Session(engine) as session:
            found = list(session.scalars(select(User.name).order_by(User.id)))
        engine.dispose()
        return found


@pytest.fixture
def cache(new_node: Callable[..., TierCache]) -> TierCache:
    return new_node("memory://")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path / "shop.db")
    yield made
    made.engine.dispose()
    await made.async_engine.dispose()


@pytest.fixture
def sync_shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop.db")
    yield made
    made.engine.dispose()


ALL = select(User).order_by(User.id)


# ---- as a plain generator


def test_the_session_is_the_users_own_and_its_reads_are_cached(sync_shop: Shop, cache: TierCache) -> None:
    dependency = cached_dependency(sync_shop.get_session, cache)
    for expected in (1, 0):
        sync_shop.statements.clear()
        for session in dependency():
            assert type(session) is Session
            assert session.scalars(ALL).all()[0].name == "user 1"
            assert inspect.isgenerator(dependency())
        assert len(sync_shop.statements) == expected
    assert sync_shop.happened == ["begin", "commit", "close"] * 2


def test_next_and_a_context_manager_work_on_it(sync_shop: Shop, cache: TierCache) -> None:
    dependency = cached_dependency(sync_shop.get_session, cache)
    generator = dependency()
    assert isinstance(next(generator), Session)
    with pytest.raises(StopIteration):
        next(generator)
    with contextlib.contextmanager(dependency)() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 4
    assert sync_shop.happened == ["begin", "commit", "close"] * 2


def test_writes_invalidate_what_was_read(sync_shop: Shop, cache: TierCache) -> None:
    with_session = contextlib.contextmanager(cached_dependency(sync_shop.get_session, cache))
    with with_session() as session:
        assert session.get_one(User, 1).name == "user 1"
        assert len(session.scalars(ALL).all()) == 4
    with with_session() as session:
        session.get_one(User, 1).name = "new"
    with with_session() as session:
        assert session.get_one(User, 1).name == "new"
        assert session.scalars(ALL).first() is session.get_one(User, 1)


def test_a_transaction_sees_its_own_writes(sync_shop: Shop, cache: TierCache) -> None:
    with_session = contextlib.contextmanager(cached_dependency(sync_shop.get_session, cache))
    with with_session() as session:
        session.scalars(ALL).all()
    with with_session() as session:
        session.add(User(id=9, name="new"))
        assert len(session.scalars(ALL).all()) == 5
    with with_session() as session:
        assert len(session.scalars(ALL).all()) == 5


def test_what_was_thrown_reaches_the_users_generator_at_its_yield(sync_shop: Shop, cache: TierCache) -> None:
    dependency = cached_dependency(sync_shop.get_session, cache)
    generator = dependency()
    session = next(generator)
    session.get_one(User, 1).name = "never"
    session.flush()
    with pytest.raises(KeyError, match="mine"):
        generator.throw(KeyError("mine"))
    assert sync_shop.happened == ["begin", "rollback KeyError", "close"]
    assert sync_shop.names()[0] == "user 1"
    for session in dependency():
        assert session.get_one(User, 1).name == "user 1"


def test_closing_reaches_it_too_and_once(sync_shop: Shop, cache: TierCache) -> None:
    generator = cached_dependency(sync_shop.get_session, cache)()
    next(generator)
    generator.close()
    generator.close()
    assert sync_shop.happened == ["begin", "rollback GeneratorExit", "close"]


def test_what_the_generator_swallows_sends_and_returns_stays_its_own(
    sync_shop: Shop, cache: TierCache
) -> None:
    def get_session(first: int, *, second: int = 2) -> Generator[Session, str, str]:
        with Session(sync_shop.engine) as session:
            sent = yield session
            try:
                yield session
            except ValueError:
                pass
            return f"{sent} {first} {second}"

    generator = cached_dependency(get_session, cache)(1, second=3)
    next(generator)
    generator.send("sent")
    with pytest.raises(StopIteration) as stopped:
        generator.throw(ValueError())
    assert stopped.value.value == "sent 1 3"


def test_a_table_name_limits_what_is_cached(sync_shop: Shop, cache: TierCache) -> None:
    with_session = contextlib.contextmanager(cached_dependency(sync_shop.get_session, cache, 60, "users"))
    for expected in (4, 3):
        sync_shop.statements.clear()
        with with_session() as session:
            session.scalars(select(User)).all()
            session.scalars(select(Post)).all()
            session.execute(select(User.id, Post.id).join(Post)).all()
            session.scalars(select(Post.id)).all()
        assert len(sync_shop.statements) == expected
    with with_session() as session:
        users = session.scalars(select(User).options(selectinload(User.posts))).all()
        assert len(users[0].posts) == 3


def test_other_statements_are_left_alone(sync_shop: Shop, cache: TierCache) -> None:
    with_session = contextlib.contextmanager(cached_dependency(sync_shop.get_session, cache))
    for _ in range(2):
        sync_shop.statements.clear()
        with with_session() as session:
            session.execute(text("SELECT 1"))
            session.execute(select(func.now()))
            session.execute(select(User.id).where(func.random() > 0)).all()
            user = session.scalars(select(User).where(User.id == 1).with_for_update()).one()
            session.refresh(user)
        assert len(sync_shop.statements) == 5


def test_after_its_end_the_session_is_as_it_was(sync_shop: Shop, cache: TierCache) -> None:
    registry = scoped_session(sessionmaker(sync_shop.engine))

    def get_session() -> Iterator[Session]:
        yield registry()

    for session in cached_dependency(get_session, cache)():
        session.scalars(ALL).all()
    sync_shop.statements.clear()
    registry().scalars(ALL).all()
    assert len(sync_shop.statements) == 1
    registry.remove()


def test_lazy_loads_are_cached_and_deletes_cascade(sync_shop: Shop, cache: TierCache) -> None:
    with_session = contextlib.contextmanager(cached_dependency(sync_shop.get_session, cache))
    for expected in (2, 0):
        sync_shop.statements.clear()
        with with_session() as session:
            assert len(session.get_one(User, 1).posts) == 3
        assert len(sync_shop.statements) == expected
    with with_session() as session:
        post = session.get_one(Post, 11)
        session.delete(post)
    with with_session() as session:
        assert [each.id for each in session.get_one(User, 1).posts] == [10, 12]


def test_what_the_generator_itself_writes_before_its_yield_invalidates(
    sync_shop: Shop, new_node: Callable[..., TierCache]
) -> None:
    """As with what the function does at a login: the first time, nothing is installed when it does it."""
    cache = new_node("memory://")

    def get_session() -> Iterator[Session]:
        with Session(sync_shop.engine) as session:
            session.execute(update(User).where(User.id == 1).values(name="seen"))
            yield session
            session.commit()

    cache.sync.set("kept", 1, tags=["table:users"])
    for session in cached_dependency(get_session, cache)():
        assert session.get_one(User, 1).name == "seen"
    assert cache.sync.get("kept") is None


def test_a_session_with_an_engine_for_each_class_is_installed_as_it_goes(
    sync_shop: Shop, cache: TierCache
) -> None:
    def get_session() -> Iterator[Session]:
        with Session(binds={User: sync_shop.engine}) as session:
            yield session
            session.commit()

    with_session = contextlib.contextmanager(cached_dependency(get_session, cache))
    for name in ("user 1", "new"):
        for expected in (1, 0):
            sync_shop.statements.clear()
            with with_session() as session:
                assert session.get_one(User, 1).name == name
            assert len(sync_shop.statements) == expected
        with with_session() as session:
            session.get_one(User, 1).name = "new"


def test_a_context_manager_stays_one(sync_shop: Shop, cache: TierCache) -> None:
    managed = cached_dependency(contextlib.contextmanager(sync_shop.get_session), cache)
    for expected in (1, 0):
        sync_shop.statements.clear()
        with managed() as session:
            session.scalars(ALL).all()
        assert len(sync_shop.statements) == expected
    with pytest.raises(KeyError), managed():
        raise KeyError
    assert sync_shop.happened[-2:] == ["rollback KeyError", "close"]


def test_a_function_that_returns_a_session_stays_one(sync_shop: Shop, cache: TierCache) -> None:
    def get_session() -> Session:
        return Session(sync_shop.engine)

    for expected in (1, 0):
        sync_shop.statements.clear()
        with cached_dependency(get_session, cache)() as session:
            session.scalars(ALL).all()
        assert len(sync_shop.statements) == expected


def test_what_is_no_session_is_refused_and_the_generator_closed(cache: TierCache) -> None:
    closed = []

    def get_session() -> Iterator[str]:
        try:
            yield "session"
        finally:
            closed.append(1)

    with pytest.raises(TypeError, match="'session'"):
        next(cached_dependency(get_session, cache)())
    assert closed == [1]
    with pytest.raises(TypeError, match="function"):
        cached_dependency("users")  # type: ignore[type-var]


def test_without_a_cache_it_is_the_default_one_as_of_the_first_use(sync_shop: Shop) -> None:
    dependency = tiercache.cached_dependency(sync_shop.get_session)
    default = tiercache.configure("memory://", namespace="dependency")
    for _ in range(2):
        for session in dependency():
            session.scalars(ALL).all()
    assert default.stats().loads == 1
    default.sync.close()


def test_it_looks_like_the_function_it_stands_for(sync_shop: Shop, cache: TierCache) -> None:
    def get_session(
        engine: Annotated[Engine, Depends(lambda: sync_shop.engine)], many: int = 3
    ) -> Iterator[Session]:
        """Mine."""
        yield Session(engine)

    dependency: Any = cached_dependency(get_session, cache)
    assert list(inspect.signature(dependency).parameters) == ["engine", "many"]
    assert inspect.isgeneratorfunction(dependency)
    assert (dependency.__name__, dependency.__doc__) == ("get_session", "Mine.")
    assert dependency.__wrapped__ is get_session
    assert inspect.isasyncgenfunction(cached_dependency(sync_shop.get_async_session, cache))
    assert dependency == get_session
    assert dependency != cached_dependency(get_session, cache, table_name="users")


# ---- async


@pytest.mark.anyio
async def test_an_async_session_is_the_users_own_and_its_reads_are_cached(
    shop: Shop, cache: TierCache
) -> None:
    dependency = cached_dependency(shop.get_async_session, cache)
    for expected in (2, 0):
        shop.statements.clear()
        async for session in dependency():
            assert type(session) is AsyncSession
            users = (await session.scalars(ALL.options(selectinload(User.posts)))).all()
            assert (users[0].name, len(users[0].posts)) == ("user 1", 3)
        assert len(shop.statements) == expected
    async for session in dependency():
        (await session.get_one(User, 1)).name = "new"
    async for session in dependency():
        assert (await session.scalars(ALL)).first().name == "new"


@pytest.mark.anyio
async def test_errors_reach_an_async_generator_at_its_yield(shop: Shop, cache: TierCache) -> None:
    managed = contextlib.asynccontextmanager(cached_dependency(shop.get_async_session, cache))

    async def request() -> None:
        async with managed() as session:
            (await session.get_one(User, 1)).name = "never"
            await session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        await request()
    generator = cached_dependency(shop.get_async_session, cache)()
    await anext(generator)
    await generator.aclose()
    assert shop.happened == [
        "begin", "rollback KeyError", "close", "begin", "rollback GeneratorExit", "close",
    ]  # fmt: skip
    assert shop.names()[0] == "user 1"


@pytest.mark.anyio
async def test_a_cancellation_reaches_the_generator(shop: Shop, cache: TierCache) -> None:
    inside = asyncio.Event()

    async def request() -> None:
        async with contextlib.asynccontextmanager(
            cached_dependency(shop.get_async_session, cache)
        )() as session:
            await session.scalars(ALL)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shop.happened == ["begin", "rollback CancelledError", "close"]


@pytest.mark.anyio
async def test_an_async_context_manager_and_a_coroutine_function_stay_what_they_are(
    shop: Shop, cache: TierCache
) -> None:
    managed = cached_dependency(contextlib.asynccontextmanager(shop.get_async_session), cache)
    async with managed() as session:
        await session.scalars(ALL)

    async def get_session() -> AsyncSession:
        return AsyncSession(shop.async_engine)

    shop.statements.clear()
    async with await cached_dependency(get_session, cache)() as session:
        await session.scalars(ALL)
    assert shop.statements == []


# ---- in FastAPI


def get_engine() -> Engine:
    raise NotImplementedError


def get_session(engine: Annotated[Engine, Depends(get_engine)]) -> Iterator[Session]:
    with Session(engine) as session:
        yield session
        session.commit()


async def get_async_session(
    engine: Annotated[AsyncEngine, Depends(get_engine)],
) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session
        await session.commit()


@dataclass
class Site:
    shop: Shop
    app: FastAPI
    client: AsyncClient
    get_session: Any

    async def names(self) -> Any:
        return (await self.client.get("/users")).json()


@pytest.fixture(params=["sync", "async"])
async def site(request: pytest.FixtureRequest, shop: Shop, cache: TierCache) -> AsyncIterator[Site]:
    app = FastAPI()
    if request.param == "sync":
        function: Any = get_session
        _sync_routes(app, cached_dependency(get_session, cache))
        app.dependency_overrides[get_engine] = lambda: shop.engine
    else:
        function = get_async_session
        _async_routes(app, cached_dependency(get_async_session, cache))
        app.dependency_overrides[get_engine] = lambda: shop.async_engine
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://shop") as client:
        yield Site(shop, app, client, function)


def _sync_routes(app: FastAPI, dependency: Any) -> None:
    given: Any = Depends(dependency)

    @app.get("/users")
    def read(session: Session = given) -> list[str]:
        return [user.name for user in session.scalars(ALL)]

    @app.post("/users/{user_id}/{name}")
    def write(user_id: int, name: str, session: Session = given) -> list[str]:
        session.get_one(User, user_id).name = name
        found = [user.name for user in session.scalars(ALL)]
        if name == "teapot":
            raise HTTPException(418)
        if name == "crash":
            raise KeyError(name)
        return found


def _async_routes(app: FastAPI, dependency: Any) -> None:
    given: Any = Depends(dependency)

    @app.get("/users")
    async def read(session: AsyncSession = given) -> list[str]:
        return [user.name for user in await session.scalars(ALL)]

    @app.post("/users/{user_id}/{name}")
    async def write(user_id: int, name: str, session: AsyncSession = given) -> list[str]:
        (await session.get_one(User, user_id)).name = name
        found = [user.name for user in await session.scalars(ALL)]
        if name == "teapot":
            raise HTTPException(418)
        if name == "crash":
            raise KeyError(name)
        return found


@pytest.mark.anyio
async def test_requests_are_answered_from_the_cache_and_see_writes(site: Site) -> None:
    before = ["user 1", "user 2", "user 3", "user 4"]
    for expected in (1, 0):
        site.shop.statements.clear()
        assert await site.names() == before
        assert len(site.shop.statements) == expected
    after = ["user 1", "new", "user 3", "user 4"]
    assert (await site.client.post("/users/2/new")).json() == after
    assert await site.names() == after
    assert site.shop.names() == after


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "status"), [("teapot", 418), ("crash", 500)])
async def test_a_request_that_fails_commits_nothing(site: Site, name: str, status: int) -> None:
    before = await site.names()
    assert (await site.client.post(f"/users/1/{name}")).status_code == status
    assert await site.names() == before
    assert site.shop.names() == before


class Fake:
    def scalars(self, statement: Any) -> list[User]:
        return [User(name="fake")]


class AsyncFake:
    async def scalars(self, statement: Any) -> list[User]:
        return [User(name="fake")]


@pytest.mark.anyio
@pytest.mark.parametrize("which", ["the user's function", "the dependency"])
async def test_an_override_works(site: Site, cache: TierCache, which: str) -> None:
    overridden = site.get_session
    if which == "the dependency":
        route: Any = next(route for route in site.app.routes if getattr(route, "path", "") == "/users")
        overridden = route.dependant.dependencies[0].call
    is_sync = site.get_session is get_session
    site.app.dependency_overrides[overridden] = lambda: Fake() if is_sync else AsyncFake()
    assert await site.names() == ["fake"]
    del site.app.dependency_overrides[overridden]
    assert len(await site.names()) == 4
