"""What a connection was told by text changes what a question means; no key holds it, so nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.servers import RedisServer
from tiercache import TierCache
from tiercache.sqlalchemy import from_cache, install
from tiercache.sqlalchemy.texts import changes_what_is_read


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(postgres_url: str, redis_server: RedisServer) -> Iterator[Engine]:
    """Two tenants, each with a schema."""
    engine = create_engine(postgres_url)
    for tenant in ("one", "two"):
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {tenant}"))
            connection.execute(text(f"SET search_path TO {tenant}"))
            Base.metadata.create_all(connection)
            connection.execute(text(f"INSERT INTO items VALUES (1, 'of {tenant}')"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION public.use_tenant(tenant text) RETURNS text LANGUAGE sql "
            "AS $$ SELECT set_config('search_path', tenant, true) $$"
        )
    engine.dispose()
    with TierCache(redis_server.url(), private=True).sync as sync:
        install(sync._cache, engine)
        yield engine
    engine.dispose()


ITEM = select(Item.name).where(Item.id == 1).options(from_cache(ttl=60))
Ask = Callable[[Engine, str], str]


def by_itself(engine: Engine, tenant: str) -> str:
    with Session(engine) as session:
        session.execute(text(f"SET search_path TO {tenant}"))
        return session.execute(ITEM).scalar_one()


def by_function(engine: Engine, tenant: str) -> str:
    with Session(engine) as session:
        session.execute(text("SELECT set_config('search_path', :tenant, true)"), {"tenant": tenant})
        return session.execute(ITEM).scalar_one()


def by_own_function(engine: Engine, tenant: str) -> str:
    with Session(engine) as session:
        session.execute(select(func.public.use_tenant(tenant)))
        return session.execute(ITEM).scalar_one()


def by_listener(engine: Engine, tenant: str) -> str:
    with Session(engine) as session:

        @event.listens_for(session, "after_begin")
        def tell(session: Session, transaction: Any, connection: Any) -> None:
            connection.execute(text(f"SET LOCAL search_path TO {tenant}"))

        return session.execute(ITEM).scalar_one()


@pytest.mark.parametrize("ask", [by_itself, by_function, by_own_function, by_listener])
def test_two_tenants_of_one_search_path_do_not_share_an_entry(engine: Engine, ask: Ask) -> None:
    told = [ask(engine, tenant) for tenant in ("one", "two", "one", "two")]

    assert told == ["of one", "of two", "of one", "of two"]


def test_a_serializable_transaction_is_asked_by_the_database_alone(engine: Engine) -> None:
    """Of a read that it does not see it cannot tell whether it conflicts."""
    serializable = engine.execution_options(isolation_level="SERIALIZABLE")
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    whole = (
        select(Item.name).execution_options(schema_translate_map={None: "one"}).options(from_cache(ttl=60))
    )
    for _ in range(2):
        with Session(serializable) as session:
            session.execute(whole).all()

    assert len([each for each in statements if "items" in each]) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "SET search_path TO tenant",
        "set local app.tenant = '7'",
        "SET ROLE reader",
        "SET SESSION AUTHORIZATION reader",
        "RESET ALL",
        "DISCARD ALL",
        "USE other",
        "SELECT set_config('app.tenant', '7', false)",
        "SELECT 1; SET TIME ZONE 'UTC'",
        "SELECT use_tenant(%(tenant)s::VARCHAR) AS use_tenant_1",
        "select 1, app.\"use_tenant\"('7')",
        "/* who */ SET app.tenant = '7'",
    ],
)
def test_what_changes_the_meaning_of_a_question_is_noticed(sql: str) -> None:
    assert changes_what_is_read(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SET statement_timeout = 100",
        "SET LOCAL lock_timeout = '1s'",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET tiercache.skip = 'on'",
        "SELECT 1",
        "SELECT pg_advisory_xact_lock(7), now(), upper('use_tenant(7)')",
        "SELECT pg_catalog.version()",
        "SELECT EXISTS (SELECT 1)",
        "SELECT my_price(id) FROM items",
        "UPDATE users SET name = 'x'",
    ],
)
def test_what_does_not_is_not(sql: str) -> None:
    assert not changes_what_is_read(sql)
