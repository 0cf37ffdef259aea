"""Fault 13 of others, over SQLAlchemy: what they lose, leak or never invalidate, we do not.

A cached query that refreshes an object loses its pending change; uncommitted rows are cached; loader options
and the engine are not in the key; nothing is ever invalidated; a blocking `commit()` becomes a coroutine that
nobody awaits, and the write is lost; and of a request that failed, what it had written is committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, ForeignKey, create_engine, event, inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from tests.servers import RedisServer
from tiercache import TierCache, cached_dependency
from tiercache.sqlalchemy import from_cache, install


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship()


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


class Gone(Exception):
    pass


def engine_with_ada(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(User(id=7, name="Ada", posts=[Post(id=1)]))
    return engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = engine_with_ada(tmp_path / "one.db")
    yield made
    made.dispose()


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[TierCache]:
    with TierCache(redis_server.url(), private=True).sync as sync:
        yield sync._cache


@pytest.fixture
def sessions(engine: Engine, cache: TierCache) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    install(cache, maker)
    return maker


ADA = select(User).where(User.id == 7).options(from_cache(ttl=60))


def name_of(maker: sessionmaker[Session]) -> str:
    with maker() as session:
        return session.scalars(ADA).one().name


def test_a_cached_query_does_not_lose_a_pending_change(sessions: sessionmaker[Session]) -> None:
    name_of(sessions)
    with sessions() as session:
        user = session.get_one(User, 7)
        user.name = "Grace"
        with session.no_autoflush:
            assert session.scalars(ADA).one() is user
            assert user.name == "Grace"
        session.commit()

    assert name_of(sessions) == "Grace"


def test_rows_that_are_not_committed_are_not_cached(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        session.get_one(User, 7).name = "nobody"
        assert session.scalars(ADA).one().name == "nobody"
        session.rollback()

    assert name_of(sessions) == "Ada"


def test_loader_options_tell_queries_apart(sessions: sessionmaker[Session]) -> None:
    name_of(sessions)
    with sessions() as session:
        session.scalars(ADA.options(selectinload(User.posts))).one()
    with sessions() as session:
        user = session.scalars(ADA.options(selectinload(User.posts))).one()
        assert "posts" not in inspect(user).unloaded
    with sessions() as session:
        assert "posts" in inspect(session.scalars(ADA).one()).unloaded


def test_two_databases_do_not_share_entries(
    sessions: sessionmaker[Session], cache: TierCache, tmp_path: Path
) -> None:
    other = engine_with_ada(tmp_path / "two.db")
    install(cache, other)
    with Session(other) as session, session.begin():
        session.get_one(User, 7).name = "another Ada"

    assert name_of(sessions) == "Ada"
    assert name_of(sessionmaker(other)) == "another Ada"
    other.dispose()


def test_a_commit_invalidates(sessions: sessionmaker[Session]) -> None:
    assert name_of(sessions) == "Ada"
    with sessions.begin() as session:
        session.get_one(User, 7).name = "Grace"

    assert name_of(sessions) == "Grace"


def test_a_blocking_commit_stays_one(sessions: sessionmaker[Session], cache: TierCache) -> None:
    def get_session() -> Iterator[Session]:
        with sessions() as session:
            yield session

    dependency = cached_dependency(get_session, cache=cache)
    for session in dependency():
        session.get_one(User, 7).name = "Grace"
        assert not iscoroutinefunction(session.commit)
        assert session.commit() is None  # type: ignore[func-returns-value]  # that it is nothing is what is tested

    assert name_of(sessions) == "Grace"


def test_a_request_that_fails_commits_nothing(
    sessions: sessionmaker[Session], cache: TierCache, engine: Engine
) -> None:
    rolled_back: list[Session] = []
    event.listen(sessions, "after_rollback", rolled_back.append)

    def get_session() -> Iterator[Session]:
        with sessions.begin() as session:  # commits at the end, if all went well
            yield session

    app = FastAPI()
    dependency = cached_dependency(get_session, cache=cache)

    @app.post("/users")
    def write(session: Session = Depends(dependency)) -> None:  # noqa: B008  # as FastAPI has it
        session.get_one(User, 7).name = "half written"
        session.flush()
        raise Gone

    with TestClient(app) as client, pytest.raises(Gone):
        client.post("/users")

    assert len(rolled_back) == 1
    assert name_of(sessions) == "Ada"
    with Session(engine) as session:
        assert session.get_one(User, 7).name == "Ada"
