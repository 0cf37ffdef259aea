"""What a session has already may be older than a load that takes it: it is not stored as if it were new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, select, update
from sqlalchemy.orm import Session, sessionmaker

from tests.servers import RedisServer
from tests.sqlalchemy.entity_models import User
from tests.sqlalchemy.entity_world import fill
from tiercache import TierCache
from tiercache.sqlalchemy import from_cache, install


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = create_engine(url)
    fill(made)
    yield made
    made.dispose()


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[TierCache]:
    with TierCache(redis_server.url(), private=True).sync as sync:
        sync.exists("-")  # or the first transactions are of no epoch yet, and nothing of them is kept
        yield sync._cache


@pytest.fixture
def sessions(engine: Engine, cache: TierCache) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    install(cache, maker)
    return maker


Find = Callable[[Session, int], User]


@pytest.fixture
def find(cache: TierCache) -> Find:
    """Under a tag of the table, and one of the user's own."""

    @cache.cached(ttl=60, tags=["table:users", "mine"])
    def find(session: Session, number: int) -> User:
        return session.get_one(User, number)

    return find


def rename(sessions: sessionmaker[Session], name: str) -> None:
    with sessions.begin() as session:
        session.execute(update(User).where(User.id == 1).values(name=name))


def elsewhere(sessions: sessionmaker[Session], find: Find) -> str:
    """What another request gets, in a thread of its own."""
    names: list[str] = []

    def ask() -> None:
        with sessions() as session:
            names.append(find(session, 1).name)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return names[0]


def test_what_a_session_loaded_before_a_commit_elsewhere_is_not_stored_after_it(
    sessions: sessionmaker[Session], find: Find
) -> None:
    with sessions() as session:
        loaded = session.get_one(User, 1)
        rename(sessions, "new")
        assert find(session, 1) is loaded  # from the session: no SQL
        assert loaded.name == "user 1"

    assert elsewhere(sessions, find) == "new"


def test_what_a_session_keeps_over_its_commits_is_not_stored_as_new(
    sessions: sessionmaker[Session], find: Find
) -> None:
    with sessions(expire_on_commit=False) as session:
        loaded = session.get_one(User, 1)
        session.commit()
        rename(sessions, "new")
        assert find(session, 1) is loaded

    assert elsewhere(sessions, find) == "new"


def test_a_query_that_leaves_an_object_as_it_is_does_not_make_it_new(
    sessions: sessionmaker[Session], cache: TierCache
) -> None:
    @cache.cached(ttl=60, tags=["table:users"])
    def select_one(session: Session, number: int) -> User:
        return session.scalars(select(User).where(User.id == number)).one()

    with sessions(expire_on_commit=False) as session:
        kept = session.get_one(User, 1)
        session.commit()
        rename(sessions, "new")
        assert select_one(session, 1) is kept

    assert elsewhere(sessions, select_one) == "new"


def test_what_was_flushed_and_not_committed_is_not_stored(
    sessions: sessionmaker[Session], find: Find
) -> None:
    with sessions() as session:
        held = session.get_one(User, 1)  # or the session would forget it, and ask again
        held.name = "nobody"
        session.flush()
        assert find(session, 1).name == "nobody"
        session.rollback()

    assert elsewhere(sessions, find) == "user 1"


def test_what_another_context_flushed_is_not_stored_either(
    sessions: sessionmaker[Session], find: Find
) -> None:
    """As of a session that a dependency made in a thread of its own."""
    with sessions() as session:
        held = session.get_one(User, 1)

        def write() -> None:
            held.name = "nobody"
            session.flush()

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert find(session, 1).name == "nobody"
        session.rollback()

    assert elsewhere(sessions, find) == "user 1"


def test_a_part_of_an_object_that_was_flushed_is_not_stored(
    sessions: sessionmaker[Session], cache: TierCache
) -> None:
    @cache.cached(ttl=60, tags=["mine"])
    def name(session: Session, number: int) -> str:
        return session.get_one(User, number).name

    with sessions() as session:
        held = session.get_one(User, 1)  # or the session would forget it, and ask again
        held.name = "nobody"
        session.flush()
        assert name(session, 1) == "nobody"
        session.rollback()
    with sessions() as session:
        assert name(session, 1) == "user 1"


def test_what_a_session_loads_for_the_load_is_stored(
    sessions: sessionmaker[Session], find: Find, engine: Engine
) -> None:
    with sessions() as session:
        find(session, 1)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    assert elsewhere(sessions, find) == "user 1"
    assert statements == []


def test_what_had_expired_and_is_loaded_again_is_stored(sessions: sessionmaker[Session], find: Find) -> None:
    with sessions() as session:
        user = session.get_one(User, 1)
        session.commit()  # expires it
        rename(sessions, "new")
        assert user.name == "new"
        find(session, 1)
    with sessions() as session:
        find(session, 1)
    assert find.cache_info().loads == 1  # type: ignore[attr-defined]  # of a decorated function


def test_what_the_cache_gave_a_session_is_as_old_as_the_cache_could_be(
    sessions: sessionmaker[Session], cache: TierCache, find: Find
) -> None:
    with sessions() as session:
        user = session.get_one(User, 1, options=[from_cache(ttl=60)])
        rename(sessions, "new")
        assert find(session, 1) is user

    assert elsewhere(sessions, find) == "new"


def test_a_load_made_of_cached_queries_is_stored(sessions: sessionmaker[Session], cache: TierCache) -> None:
    @cache.cached(ttl=60, tags=["table:users"])
    def by_query(session: Session, number: int) -> User:
        return session.scalars(select(User).where(User.id == number).options(from_cache(ttl=60))).one()

    for _ in range(3):
        with sessions() as session:
            by_query(session, 1)

    assert by_query.cache_info().loads == 1


def test_a_copy_that_joined_a_session_is_of_an_unknown_age(
    sessions: sessionmaker[Session], cache: TierCache, find: Find
) -> None:
    @cache.cached(ttl=60, tags=["table:users"], session="session")
    def joined(session: Session, number: int) -> User:
        return session.get_one(User, number)

    with sessions() as session:
        joined(session, 1)
    with sessions() as session:
        copy = joined(session, 1)
        rename(sessions, "new")
        assert find(session, 1) is copy

    assert elsewhere(sessions, find) == "new"
