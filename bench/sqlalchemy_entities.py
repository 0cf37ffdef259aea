"""What does a cached list of 100 entities cost, against the query that loads it?

Workload: a `select` of 100 entities of 10 columns (integers, text, a datetime, a Decimal, a UUID, JSON), and
the same with a loaded one-to-many of 5 entities each, on a PostgreSQL of this machine through psycopg 3. Each
call is in a session of its own, as a request is; those that attach end with persistent entities in it.

How to read it: the first line is the query, and `x` its multiple, as a median over the rounds. "detached" is
what @cached gives without session=, "attached" what it gives with it. `merge_frozen_result` is SQLAlchemy's
own way to put a kept result into a session (load=False: no query), as its caching recipe does; what it merges
is in the memory of the process already. It does not follow relationships for itself: those merge by cascade.
`from_cache` keeps rows, of which SQLAlchemy makes the entities: what it saves is the database.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, Numeric, Select, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.orm.loading import merge_frozen_result

from bench.results import Result, against
from bench.runs import Run
from tests.postgres import PostgresServer
from tiercache import TierCache
from tiercache.sqlalchemy import from_cache, install

ENTITIES = 100
MEMBERS = 5


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str | None]
    active: Mapped[bool]
    age: Mapped[int]
    score: Mapped[float]
    created_at: Mapped[datetime]
    balance: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    token: Mapped[uuid.UUID]
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
    posts: Mapped[list[Post]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    content: Mapped[str]
    published: Mapped[bool]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    author: Mapped[User] = relationship(back_populates="posts")


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(60, 5)
    with closing(PostgresServer()) as database, run.server() as url:
        engine, installed = (create_engine(database.url("psycopg")) for _ in range(2))
        fill(engine)
        cache = TierCache(url, namespace=run.prefix)
        install(cache, installed)
        with cache.sync:
            flat = select(User).order_by(User.id)
            tables = [
                compared(f"{ENTITIES} entities of 10 columns", (engine, installed), cache, flat, run, rounds),
                compared(
                    f"the same, with {MEMBERS} entities of 5 columns each in a relationship",
                    (engine, installed),
                    cache,
                    flat.options(selectinload(User.posts)),
                    run,
                    rounds,
                ),
            ]
        engine.dispose()
        installed.dispose()
        return tables


def compared(
    title: str, engines: tuple[Engine, Engine], cache: TierCache, query: Select[Any], run: Run, rounds: int
) -> Result:
    engine, installed = engines
    name = f"users {'with posts' if 'relationship' in title else 'alone'}"

    def get_users(kind: str, db: Session) -> list[User]:
        return list(db.scalars(query))

    detached = cache.cached(key=f"{{kind}} {name}")(get_users)
    attached = cache.cached(key=f"{{kind}} {name}", session="db")(get_users)
    from_l2 = cache.cached(key=f"{{kind}} {name}", session="db", l1=False)(get_users)
    with Session(engine) as session:
        frozen = session.execute(query).freeze()

    candidates: dict[str, Callable[[Session], Any]] = {
        "query": lambda db: list(db.scalars(query)),
        "merge_frozen_result": lambda db: list(
            merge_frozen_result(db, query, frozen, load=False)().scalars()
        ),
        "L1, detached": lambda db: detached("detached", db),
        "L1, attached": lambda db: attached("attached", db),
        "L2, attached": lambda db: from_l2("from L2", db),
        "from_cache, L1": lambda db: list(db.scalars(query.options(from_cache(ttl=300)))),
    }
    times: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for order in run.turns(candidates, rounds, title):
        for candidate in order:
            call = candidates[candidate]
            on = installed if candidate.startswith("from_cache") else engine
            times[candidate].append(timed(on, call))
    return against(title, times, calls=1, unit="us")


def timed(engine: Engine, call: Callable[[Session], Any]) -> float:
    """Seconds of the quicker of two calls: the first one may have to load."""
    taken = []
    for _ in range(2):
        with Session(engine) as session:
            begun = time.perf_counter()
            users = call(session)
            taken.append(time.perf_counter() - begun)
            assert len(users) == ENTITIES
    return min(taken)


def fill(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number in range(ENTITIES):
            posts = [
                Post(title=f"post {serial} of {number}", content="words " * 10, published=serial % 2 == 0)
                for serial in range(MEMBERS)
            ]
            session.add(
                User(
                    name=f"user {number}",
                    email=f"user{number}@example.com",
                    active=True,
                    age=number,
                    score=number / 7,
                    created_at=datetime(2026, 1, 2, 3, 4, number % 60, 567, tzinfo=UTC).replace(tzinfo=None),
                    balance=Decimal(number) / 100,
                    token=uuid.UUID(int=number),
                    settings={"theme": "dark", "columns": [1, 2, 3]},
                    posts=posts,
                )
            )
