"""What type checkers make of the public surface. Never run; `make types` has mypy and pyright read it.

An ignored line is an error that a user must get: both checkers complain of an ignore that they do not need.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any, assert_type

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette

import tiercache
from tiercache import CacheInfo, Collected, Health, Stats, SyncCache, TierCache, Token, Written, cached
from tiercache.causal import CausalTokens, WSGIApp, WSGICausalTokens
from tiercache.sqlalchemy import cached_dependency, from_cache


class User:
    name: str


cache = TierCache("redis://127.0.0.1:6379/0", namespace="shop", ttl="10m", max_staleness=5)


def tags_of(user_id: int) -> list[str]:
    raise NotImplementedError


@cache.cached(ttl=600, tags=["user:{user_id}"])
def get_user(user_id: int, *, active: bool = True) -> User:
    raise NotImplementedError


@cache.cached(ttl=timedelta(minutes=10), tags=tags_of, key="{user_id}", ignore=["log"])
async def fetch_user(user_id: int, log: bool = False) -> User | None:
    raise NotImplementedError


def calls_keep_their_types() -> None:
    assert_type(get_user(7), User)
    assert_type(get_user(user_id=7, active=False), User)
    get_user("7")  # type: ignore[arg-type]
    get_user()  # type: ignore[call-arg]
    get_user(7, False)  # type: ignore[call-arg]
    get_user(7, aktive=True)  # type: ignore[call-arg]


async def awaited_calls_keep_their_types() -> None:
    assert_type(await fetch_user(7), User | None)
    await assert_type(fetch_user(7, log=True), Coroutine[Any, Any, User | None])
    await fetch_user("7")  # type: ignore[arg-type]
    await get_user(7)  # type: ignore[misc]


def a_decorated_function_goes_where_a_function_goes() -> None:
    def twice(function: Callable[[int], User]) -> None: ...

    def in_a_task(function: Callable[[int], Coroutine[Any, Any, User | None]]) -> None: ...

    twice(get_user)
    in_a_task(fetch_user)
    in_a_task(get_user)  # type: ignore[arg-type]


def verbs_of_a_def_block() -> None:
    assert_type(get_user.invalidate(7, active=True), Written)
    assert_type(get_user.invalidate_all(), Written)
    assert_type(get_user.refresh(7), User)
    assert_type(get_user.key(user_id=7), str)
    assert_type(get_user.cache_info(), CacheInfo)
    get_user.invalidate("7")  # type: ignore[arg-type]
    get_user.refresh()  # type: ignore[call-arg]
    get_user.expire(7)  # type: ignore[attr-defined]


async def verbs_of_an_async_def_are_awaited() -> None:
    assert_type(await fetch_user.invalidate(7), Written)
    assert_type(await fetch_user.invalidate_all(), Written)
    assert_type(await fetch_user.refresh(7, log=True), User | None)
    assert_type(fetch_user.key(7), str)
    assert_type(fetch_user.cache_info(), CacheInfo)
    print(fetch_user.invalidate(7).token)  # type: ignore[attr-defined]


@cached
def count() -> int:
    raise NotImplementedError


@cached
async def count_later(of: str) -> int:
    raise NotImplementedError


@cached(ttl=None, version=2, l1=False, cache=cache)
def count_again(of: str = "all") -> int:
    raise NotImplementedError


@cache.cached
def names() -> list[str]:
    raise NotImplementedError


async def bare_decorators_keep_signatures() -> None:
    assert_type(count(), int)
    assert_type(await count_later("users"), int)
    assert_type(await count_later.invalidate("users"), Written)
    assert_type(count_again(), int)
    assert_type(count_again.key(of="users"), str)
    assert_type(names(), list[str])
    await count_later(3)  # type: ignore[arg-type]


class Repository:
    @cache.cached(tags=["user:{user_id}"])
    def get(self, user_id: int) -> User:
        raise NotImplementedError

    @cached
    async def fetch(self, user_id: int, fresh: bool = False) -> User:
        raise NotImplementedError

    @classmethod
    @cache.cached(ttl="1h")
    def count(cls, kind: str) -> int:
        raise NotImplementedError

    @staticmethod
    @cache.cached
    def parse(text: str) -> list[int]:
        raise NotImplementedError

    @staticmethod
    @cached(ttl=60)
    async def download(url: str) -> str:
        raise NotImplementedError

    @cache.cached
    @classmethod
    def count_bare(cls, kind: str) -> int:
        raise NotImplementedError

    @cache.cached
    @staticmethod
    def parse_bare(text: str) -> list[int]:
        raise NotImplementedError


async def methods_bind(repository: Repository) -> None:
    assert_type(repository.get(7), User)
    assert_type(repository.get(user_id=7), User)
    assert_type(await repository.fetch(7, fresh=True), User)
    assert_type(repository.count("all"), int)
    assert_type(Repository.count(kind="all"), int)
    assert_type(Repository.parse("1"), list[int])
    assert_type(repository.parse("1"), list[int])
    assert_type(await repository.download("https://"), str)
    assert_type(repository.count_bare("all"), int)
    assert_type(repository.parse_bare("1"), list[int])
    repository.get("7")  # type: ignore[arg-type]
    repository.get(repository, 7)  # type: ignore[call-arg, arg-type]


async def verbs_of_a_method_take_its_object(repository: Repository) -> None:
    assert_type(Repository.get(repository, 7), User)
    assert_type(Repository.get.invalidate(repository, 7), Written)
    assert_type(Repository.get.refresh(repository, 7), User)
    assert_type(Repository.get.key(repository, user_id=7), str)
    assert_type(Repository.get.cache_info(), CacheInfo)
    assert_type(await Repository.fetch.invalidate(repository, 7), Written)
    Repository.get.invalidate(7)  # type: ignore[call-arg, arg-type]


def wrong_declarations_are_errors() -> None:
    cached(tll=60)  # type: ignore[call-overload]
    cached(ttl=[60])  # type: ignore[call-overload]
    cache.cached(l1="no")  # type: ignore[call-overload]
    cache.cached(cache=cache)  # type: ignore[call-overload]
    cached(60)  # type: ignore[call-overload]


def settings_are_known_by_name_and_type() -> None:
    TierCache(
        ttl=None,
        l1_ttl=30,
        jitter=0.1,
        l1_maxsize=10,
        l1_maxbytes=None,
        on_lapse="raise",
        load_timeout="30s",
        timeout=0.5,
        pool_size=4,
        listen=False,
        assume_no_failover_loss=True,
        audit=1e-5,
        compression="zstd",
        compression_above=4_096,
        private=True,
        clock=lambda: 0.0,
    )
    TierCache(l1_maxsise=10)  # type: ignore[call-arg]
    TierCache(l1_maxsize="10")  # type: ignore[arg-type]
    TierCache(compression="gzip")  # type: ignore[arg-type]
    TierCache(on_lapse="explode")  # type: ignore[arg-type]
    TierCache(audit="1e-5")  # type: ignore[arg-type]
    TierCache(max_staleness=None)  # type: ignore[arg-type]
    TierCache.from_env({"TIERCACHE_URL": "memory://"}, l1maxsize=10)  # type: ignore[call-arg]
    TierCache.embedded(pool_sise=4)  # type: ignore[call-arg]
    tiercache.configure("memory://", names_pace="x")  # type: ignore[call-arg]
    assert_type(tiercache.configure(namespace="shop"), TierCache)
    assert_type(tiercache.default_cache(), TierCache)


async def verbs_are_awaited(token: Token) -> None:
    await cache.get("k", default=3)
    await cache.get_or_load("k", names, ttl="10m", tags="users", share=True)
    assert_type(await cache.exists("k"), bool)
    assert_type(await cache.get_many(["a", "b"]), dict[str, Any])
    assert_type(await cache.get_or_load_many(["a"], lambda keys: dict.fromkeys(keys, 1)), dict[str, Any])
    assert_type(await cache.set("k", object(), ttl=None, tags=["t"], token=token), Written)
    assert_type(await cache.set_many({"a": 1}, tags=lambda key: [key]), Written)
    assert_type(await cache.touch("k", ttl=timedelta(hours=1)), bool)
    assert_type(await cache.delete("k", on_error="raise"), Written)
    assert_type(await cache.delete_many(["a"]), Written)
    assert_type(await cache.invalidate_tags("users"), Written)
    assert_type(await cache.clear(), Written)
    assert_type(await cache.token(), Token)
    assert_type(await cache.health(), Health)
    assert_type(cache.max_staleness, float)
    with cache.collect_token() as collected:
        assert_type(collected, Collected)
        assert_type(collected.token, Token | None)
    assert_type(cache.stats(), Stats)
    assert_type(cache.stats().audit, dict[str, Counter[str]])
    async with cache.invalidating(tags="users") as block:
        assert_type(block.written, Written | None)
    async with TierCache("memory://") as own:
        assert_type(own, TierCache)
    await cache.delete("k", on_error="retry")  # type: ignore[arg-type]
    await cache.set("k")  # type: ignore[call-arg]
    await cache.get(b"k")  # type: ignore[arg-type]
    with cache.invalidating(tags="users"):  # type: ignore[attr-defined]
        pass


def verbs_of_sync_block(token: Token) -> None:
    assert_type(cache.sync, SyncCache)
    cache.sync.get("k", default=3)
    cache.sync.get_or_load("k", lambda: 1, ttl=60, tags=["users"])
    assert_type(cache.sync.exists("k"), bool)
    assert_type(cache.sync.get_many(["a"]), dict[str, Any])
    assert_type(cache.sync.get_or_load_many(["a"], lambda keys: dict.fromkeys(keys, 1)), dict[str, Any])
    assert_type(cache.sync.set("k", 1, token=token), Written)
    assert_type(cache.sync.set_many({"a": 1}), Written)
    assert_type(cache.sync.touch("k"), bool)
    assert_type(cache.sync.delete("k"), Written)
    assert_type(cache.sync.delete_many(["a"]), Written)
    assert_type(cache.sync.invalidate_tags(["users", "posts"]), Written)
    assert_type(cache.sync.clear(), Written)
    assert_type(cache.sync.token(), Token)
    assert_type(cache.sync.health(), Health)
    assert_type(cache.sync.stats(), Stats)
    with cache.sync.invalidating(keys=["k"]) as block:
        assert_type(block.written, Written | None)
    with TierCache("memory://").sync as own:
        assert_type(own, SyncCache)
    cache.sync.invalidate_tags(7)  # type: ignore[arg-type]


def results_say_what_happened(written: Written) -> None:
    assert_type(written.token, Token | None)
    assert_type(written.pending, bool)
    assert_type(written.stored, bool)
    written.token = None  # type: ignore[misc]


def middleware_goes_where_middleware_goes(wsgi: WSGIApp) -> None:
    app = Starlette()
    app.add_middleware(CausalTokens, cache=cache)
    app.add_middleware(CausalTokens, cache=cache, cookie=None, header="X-Shop-Token", secure=True, max_age=60)
    CausalTokens(app, cache, secure=True)
    WSGICausalTokens(wsgi, cache, cookie="shop")
    CausalTokens(app, cookie_name="shop")  # type: ignore[call-arg]
    WSGICausalTokens(app, max_age="1h")  # type: ignore[arg-type]


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def queries_keep_their_types(session: Session) -> None:
    option = from_cache(ttl="10m", tables=[Row, "posts"], relationships=True, cache=cache)
    assert_type(session.scalars(select(Row).options(option)).one(), Row)
    assert_type(session.get(Row, 7, options=[from_cache(ttl=timedelta(minutes=5))]), Row | None)
    assert_type(session.scalar(select(Row.name).options(from_cache())), str | None)
    session.query(Row).options(from_cache(300)).all()
    from_cache(ttl=[])  # type: ignore[arg-type]
    from_cache(300, [Row])  # type: ignore[call-arg]


async def awaited_queries_keep_their_types(session: AsyncSession) -> None:
    assert_type((await session.scalars(select(Row).options(from_cache(ttl=None)))).all(), Sequence[Row])


def dependencies_keep_their_types() -> None:
    def get_session(engine: Engine, echo: bool = False) -> Iterator[Session]:
        raise NotImplementedError

    async def get_async_session() -> AsyncGenerator[AsyncSession, None]:
        raise NotImplementedError
        yield

    users = cached_dependency(get_session, cache=cache, ttl=300, table_name="users")
    assert_type(next(users(create_engine("sqlite://"), echo=True)), Session)
    users("sqlite://")  # type: ignore[arg-type]
    tiercache.cached_dependency(get_async_session, ttl="5m")
    assert_type(cached_dependency(get_async_session)(), AsyncGenerator[AsyncSession, None])
    cached_dependency("users")  # type: ignore[type-var]
    cached_dependency(get_session, tables="users")  # type: ignore[call-arg]
