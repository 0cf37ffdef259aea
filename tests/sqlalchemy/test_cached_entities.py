"""Functions that return entities, cached: from L1, from L2, detached and in the caller's session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload, sessionmaker

from tests.servers import RedisServer
from tests.sqlalchemy.entity_models import User
from tests.sqlalchemy.entity_world import fill, no_statements
from tiercache import SettingError, TierCache, Unstorable
from tiercache.sqlalchemy import NotLoaded, install


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    engine = create_engine(f"sqlite:///{tmp_path}/db")
    fill(engine)
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def caches(redis_server: RedisServer) -> Iterator[tuple[TierCache, TierCache]]:
    """Two processes' worth: what one stores, the other has from L2."""
    one, other = (TierCache(redis_server.url(), private=True) for _ in range(2))
    with one.sync, other.sync:
        yield one, other


@pytest.fixture
def cache(caches: tuple[TierCache, TierCache]) -> TierCache:
    return caches[0]


def users_with_posts(db: Session) -> list[User]:
    return list(db.scalars(select(User).options(selectinload(User.posts)).order_by(User.id)))


@pytest.mark.parametrize("tier", ["L1", "L2"])
def test_a_hit_is_the_callers_own_detached_copy(
    sessions: sessionmaker[Session], caches: tuple[TierCache, TierCache], tier: str
) -> None:
    def get_users() -> list[User]:
        with sessions() as db:
            return users_with_posts(db)

    loaded = caches[0].cached(get_users)()
    function = caches[0 if tier == "L1" else 1].cached(get_users)
    one, other = function(), function()

    assert [user.name for user in one] == [user.name for user in loaded]
    assert one[0].posts[0].title == "post 1.0"
    assert len({id(users[0]) for users in (loaded, one, other)}) == 3
    assert inspect(one[0]).detached
    with pytest.raises(NotLoaded):
        _ = one[0].company


@pytest.mark.parametrize("tier", ["L1", "L2"])
def test_a_hit_joins_the_session_that_is_named(
    sessions: sessionmaker[Session], caches: tuple[TierCache, TierCache], tier: str
) -> None:
    def get_users(db: Session) -> list[User]:
        return users_with_posts(db)

    first = caches[0].cached(session="db")(get_users)
    with sessions() as db:
        own = first(db)
        assert own[0] is db.get_one(User, 1)
    hit = first if tier == "L1" else caches[1].cached(session="db")(get_users)
    with sessions() as db:
        with no_statements(db):
            users = hit(db)
            assert users[0].posts[0].title == "post 1.0"
            assert hit(db=db)[0] is users[0]

        users[0].name = "changed"
        assert users[0].company is not None
        db.commit()
    with sessions() as db:
        assert db.get_one(User, 1).name == "changed"
    assert (first.cache_info().loads, hit.cache_info().loads) == (1, 1 if tier == "L1" else 0)


def test_the_session_may_be_an_attribute_and_may_be_none(
    sessions: sessionmaker[Session], cache: TierCache
) -> None:
    class Users:
        def __init__(self, session: Session | None) -> None:
            self.session = session

        @cache.cached(session="self.session", key="{user_id}")
        def get(self, user_id: int) -> User | None:
            assert self.session is not None
            return self.session.get(User, user_id)

    with sessions() as db:
        assert Users(db).get(1) is db.get_one(User, 1)
        assert Users(db).get(99) is None
    with sessions() as db:
        user = Users(db).get(1)
        assert inspect(user).session is db
    detached = Users(None).get(1)
    assert detached is not None
    assert inspect(detached).detached
    with sessions() as db:
        Users(db).get.invalidate(Users(db), 1)
        assert Users.get.refresh(Users(db), 1) is db.get_one(User, 1)


@pytest.mark.anyio
async def test_a_coroutine_joins_an_async_session(
    sessions: sessionmaker[Session], cache: TierCache, tmp_path: Path
) -> None:
    @cache.cached(session="db")
    async def get_user(db: AsyncSession, user_id: int) -> User | None:
        return await db.get(User, user_id)

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/db")
    async with AsyncSession(engine) as db:
        assert await get_user(db, 1) is await db.get(User, 1)
    async with AsyncSession(engine) as db:
        user = await get_user(db, 1)
        assert user in db
        assert await get_user.refresh(db, 1) is user
    assert get_user.cache_info().loads == 2
    await engine.dispose()


def test_a_caller_who_waited_for_anothers_load_gets_a_copy(
    sessions: sessionmaker[Session], cache: TierCache
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    results: list[User] = []

    @cache.cached(session="db")
    def get_user(db: Session) -> User:
        begun.set()
        assert go_on.wait(10)
        return db.get_one(User, 1)

    def call() -> None:
        with sessions() as db:
            user = get_user(db)
            assert inspect(user).session is db
            results.append(user)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go_on.set()
    for thread in threads:
        thread.join()

    assert len({id(user) for user in results}) == 4
    assert get_user.cache_info().loads == 1


@pytest.mark.parametrize("l2", [True, False])
def test_sharing_is_not_for_entities(sessions: sessionmaker[Session], cache: TierCache, l2: bool) -> None:
    @cache.cached(share=True, l2=l2)
    def get_user() -> User:
        with sessions() as db:
            return db.get_one(User, 1)

    users = [get_user() for _ in range(3)]
    assert len(set(map(id, users))) == 3


def test_an_expired_entity_says_what_to_do(sessions: sessionmaker[Session], cache: TierCache) -> None:
    @cache.cached(session="db")
    def rename(db: Session) -> User:
        user = db.get_one(User, 1)
        user.name = "renamed"
        db.commit()
        return user

    with sessions() as db, pytest.raises(Unstorable, match="expire_on_commit=False"):
        rename(db)


@pytest.mark.parametrize("path", ["session", "self.session", 7, "db.", "db.a b"])
def test_a_session_that_is_no_parameter_is_an_error_of_the_declaration(cache: TierCache, path: Any) -> None:
    def get_user(db: Session) -> User | None:
        return db.get(User, 1)

    with pytest.raises(SettingError, match="session="):
        cache.cached(session=path)(get_user)


def test_verbs_and_names_stay(sessions: sessionmaker[Session], cache: TierCache) -> None:
    @cache.cached(session="db", tags=["users"])
    def get_user(db: Session, user_id: int) -> User | None:
        """The user."""
        return db.get(User, user_id)

    with sessions() as db:
        get_user(db, 1)
        assert get_user.key(db, 1).endswith("get_user(user_id=1)")
        get_user.invalidate(db, 1)
        get_user(db, 1)
        get_user.invalidate_all()
        get_user(db, 1)
    assert get_user.cache_info().loads == 3
    assert (get_user.__name__, get_user.__doc__) == ("get_user", "The user.")
    wrapped: Callable[..., Any] = get_user.__wrapped__
    with sessions() as db:
        assert wrapped(db, 2) is db.get_one(User, 2)


@pytest.mark.parametrize("known_by", ["session=", "a statement", "its own write"])
def test_what_another_context_wrote_in_the_same_transaction_is_known(
    sessions: sessionmaker[Session], cache: TierCache, known_by: str
) -> None:
    def name_of(db: Session, user_id: int) -> Any:
        return db.scalars(select(User.name).where(User.id == user_id)).one()

    def write(name: str) -> None:
        db.execute(update(User).where(User.id == 1).values(name=name))

    options: Any = {"session": "db"} if known_by == "session=" else {"ignore": ["db"]}
    cached = cache.cached(tags=["row:users:{user_id}"], **options)(name_of)
    install(cache, sessions)
    with sessions() as db:
        cached(db, 1)
    with sessions() as db:
        copy_context().run(write, "new")
        if known_by == "a statement":
            name_of(db, 2)
        elif known_by == "its own write":
            write("new")

        assert cached(db, 1) == "new"


def test_a_none_and_a_scalar_are_values_like_any_other(
    sessions: sessionmaker[Session], cache: TierCache
) -> None:
    @cache.cached(session="db")
    def count(db: Session, kind: str) -> Any:
        return None if kind == "none" else len(db.scalars(select(User)).all())

    with sessions() as db:
        found = [count(db, kind) for kind in ("none", "none", "all", "all")]
    assert found == [None, None, 5, 5]
    assert count.cache_info().loads == 2
