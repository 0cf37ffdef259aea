"""`install` and the bridge together: each tells the cache what the other cannot see."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.postgres import PostgresServer
from tests.servers import RedisServer, eventually
from tiercache import TierCache
from tiercache.sqlalchemy import install
from tiercache.sqlalchemy.postgres import Bridge, create_triggers


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Application:
    """Users 7 and 8 behind a cached function, and an engine whose commits invalidate; watched."""

    def __init__(self, engine: Engine, cache: TierCache) -> None:
        self.engine, self.cache, self.calls = engine, cache, 0
        install(cache, engine)
        with engine.begin() as connection:
            Base.metadata.create_all(connection)
            create_triggers(connection, [User])
        with Session(engine) as session, session.begin():
            session.add_all([User(id=7, name="old"), User(id=8, name="old")])

        @cache.cached(tags=["row:users:{user_id}"])
        def name_of(user_id: int) -> str:
            self.calls += 1
            with Session(engine) as session:
                return session.scalars(select(User.name).where(User.id == user_id)).one()

        self.name_of = name_of

    def rename(self, user_id: int) -> None:
        with Session(self.engine) as session, session.begin():
            session.get_one(User, user_id).name = "new"


@pytest.fixture
def application(
    request: pytest.FixtureRequest,
    postgres_url: str,
    redis_server: RedisServer,
    new_node: Callable[..., TierCache],
) -> Iterator[Application]:
    """With the options of its connections that the test gives."""
    options = getattr(request, "param", "")
    engine = create_engine(postgres_url, connect_args={"options": options})
    yield Application(engine, new_node(redis_server.url()))
    engine.dispose()


def waiting(postgres: PostgresServer, database: str) -> int:
    ((rows,),) = postgres.execute("SELECT count(*) FROM tiercache.outbox", database=database)
    return int(rows)


def test_a_bridge_on_the_application_s_own_engine_invalidates_nothing_of_itself(
    application: Application, postgres: PostgresServer, postgres_database: str
) -> None:
    with Bridge(application.cache, application.engine):
        assert eventually(lambda: waiting(postgres, postgres_database) == 0)
        application.name_of(7), application.name_of(8)

        postgres.psql("UPDATE users SET name = 'new' WHERE id = 7", database=postgres_database)

        assert eventually(lambda: application.name_of(7) == "new")
        assert eventually(lambda: waiting(postgres, postgres_database) == 0)
        assert (application.name_of(8), application.calls) == ("old", 3)


def test_a_commit_of_the_application_is_known_at_once_and_to_the_bridge_later(
    application: Application, postgres: PostgresServer, postgres_database: str
) -> None:
    postgres.execute("DELETE FROM tiercache.outbox", database=postgres_database)
    application.name_of(7)
    application.rename(7)
    assert application.name_of(7) == "new"

    with Bridge(application.cache, application.engine) as bridge:
        assert eventually(lambda: bridge.health.taken == 1)

    assert application.name_of(7) == "new"


@pytest.mark.parametrize("application", ["-c tiercache.skip=on"], indirect=True)
def test_an_application_may_spare_itself_the_outbox(
    application: Application, postgres: PostgresServer, postgres_database: str
) -> None:
    application.name_of(7)

    application.rename(7)

    assert application.name_of(7) == "new"
    assert waiting(postgres, postgres_database) == 0
