"""Entities as PostgreSQL's drivers give them: what a copy of each kind of column is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    create_engine,
    select,
)
from sqlalchemy.dialects.postgresql import INT4RANGE, JSONB, Range
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.postgres import PostgresServer
from tests.sqlalchemy.entity_world import copy_of
from tiercache.sqlalchemy import attach


class Base(DeclarativeBase):
    pass


class Everything(Base):
    __tablename__ = "everything"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    big: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 3))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    day: Mapped[date]
    hour: Mapped[time]
    long: Mapped[timedelta] = mapped_column(Interval)
    data: Mapped[Any] = mapped_column(JSONB)
    numbers: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    span: Mapped[Range[int]] = mapped_column(INT4RANGE)


VALUES: dict[str, Any] = {
    "id": UUID(int=7),
    "big": 2**62,
    "amount": Decimal("12345.678"),
    "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "day": date(2026, 1, 2),
    "hour": time(3, 4, 5),
    "long": timedelta(days=1, seconds=2),
    "data": {"a": [1, None, {"!x": 1.5}]},
    "numbers": [1, 2, 3],
    "raw": b"\x00\xff",
    "span": Range(1, 5),
}


def check(copy: Everything, original: Everything) -> None:
    for name, value in VALUES.items():
        assert getattr(copy, name) == getattr(original, name) == value, name


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_copy_has_every_kind_of_column(
    postgres: PostgresServer, postgres_database: str, driver: str
) -> None:
    engine = create_engine(postgres.url(driver, postgres_database))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Everything(**VALUES))
    with Session(engine) as session:
        original = session.scalars(select(Everything)).one()
        copy, row = copy_of([original, session.execute(select(Everything.id, Everything.at)).one()])
        check(copy, original)
        assert row == (VALUES["id"], VALUES["at"])
        assert attach(session, copy) is original
    engine.dispose()


@pytest.mark.anyio
async def test_a_copy_has_every_kind_of_column_through_asyncpg(
    postgres: PostgresServer, postgres_database: str
) -> None:
    engine = create_async_engine(postgres.url("asyncpg", postgres_database))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add(Everything(**VALUES))
        await session.commit()
    async with AsyncSession(engine) as session:
        original = (await session.scalars(select(Everything))).one()
        row = (await session.execute(select(Everything.id, Everything.at))).one()
        copy, row_copy = copy_of([original, row])
        check(copy, original)
        assert type(copy.id) is UUID
        assert row_copy == row
        assert attach(session, copy) is original
        session.expunge_all()
        assert attach(session, copy_of(original)) is await session.get(Everything, UUID(int=7))
    await engine.dispose()
