"""What does `install` cost a flush of 1,000 objects, and a commit?

Workload: sessions that add 1,000 objects, or change 1,000, and flush; and that change one and commit; on
a SQLite file and on PostgreSQL (where one is found), against the same engine without a cache installed.

How to read it: `x` is the multiple of the line without, as a median over the rounds. A flush asks Redis
nothing, so it is measured in the time of its thread, which what else runs on the machine disturbs less;
what the database takes is not in it, so the share is smaller in truth. A commit asks Redis once; the
last line is that round trip by itself. "fenced" is a commit under `write_safety="fence"`, which asks
twice.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench.results import Result, against
from bench.runs import Run
from tests.postgres import PostgresServer
from tiercache import TierCache
from tiercache.sqlalchemy import install

OBJECTS = 1000
COMMITS = 20  # a candidate and a round


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(50))


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(20, 2)
    with run.server() as url, databases() as urls:
        cache = TierCache(url, namespace=run.prefix)
        with cache.sync:
            return [
                table for name, url in urls.items() for table in of_database(name, url, cache, run, rounds)
            ]


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        found = {"SQLite": f"sqlite:///{Path(folder) / 'bench.db'}"}
        try:
            server = PostgresServer()
        except AssertionError:
            yield found
            return
        try:
            yield {**found, "PostgreSQL": server.url("psycopg")}
        finally:
            server.close()


def of_database(name: str, url: str, cache: TierCache, run: Run, rounds: int) -> Iterator[Result]:
    objects, commits = run.calls(OBJECTS), run.calls(5 if run.quick else COMMITS)
    plain, installed, fenced = (create_engine(url) for _ in range(3))
    Base.metadata.create_all(plain)
    install(cache, installed)
    install(cache, fenced, write_safety="fence")
    engines = {"without": plain, "installed": installed}
    for what, flush in (("adds", add), ("changes", change)):
        times = in_turn(
            run,
            {label: timed(partial(flush, objects=objects), engine) for label, engine in engines.items()},
            rounds,
        )
        yield against(
            f"{name}: a flush that {what} {objects:,} objects, {rounds} rounds", times, calls=1, unit="us"
        )

    def told() -> None:
        for number in range(commits):
            cache.sync.invalidate_tags(["table:users", f"row:users:{number}"])

    candidates: dict[str, Callable[[], float]] = {
        label: timed(partial(commit, commits=commits), engine)
        for label, engine in {**engines, "fenced": fenced}.items()
    }
    candidates["an invalidation alone"] = elapsed(told)
    with Session(plain) as session:
        session.add_all([User(id=number, name="", email="") for number in range(1, 10)])
        session.commit()
    times = in_turn(run, candidates, rounds)
    yield against(
        f"{name}: one object changed and committed, {rounds} rounds of {commits}",
        times,
        calls=commits,
        unit="us",
    )
    for engine in (plain, installed, fenced):
        engine.dispose()


def in_turn(run: Run, candidates: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    for act in candidates.values():
        act()  # what is compiled, and connected, once
    times: dict[str, list[float]] = {label: [] for label in candidates}
    for order in run.turns(candidates, rounds):
        for label in order:
            gc.collect()
            times[label].append(candidates[label]())
    return times


def timed(act: Callable[[Session], float], engine: Engine) -> Callable[[], float]:
    def measured() -> float:
        with Session(engine) as session:
            return act(session)

    return measured


def elapsed(act: Callable[[], None]) -> Callable[[], float]:
    def measured() -> float:
        begun = time.perf_counter()
        act()
        return time.perf_counter() - begun

    return measured


def add(session: Session, objects: int) -> float:
    session.add_all([User(name=f"n{number}", email="e@example.org") for number in range(objects)])
    return flushed(session)


def change(session: Session, objects: int) -> float:
    session.add_all(users := [User(name=f"n{number}", email="e@example.org") for number in range(objects)])
    session.flush()
    for user in users:
        user.name += "!"
    return flushed(session)


def flushed(session: Session) -> float:
    begun = time.thread_time()
    session.flush()
    return time.thread_time() - begun


def commit(session: Session, commits: int) -> float:
    user = session.get_one(User, 1)
    taken = 0.0
    for number in range(commits):
        user.name = f"n{number} {id(session)}"
        begun = time.perf_counter()
        session.commit()
        taken += time.perf_counter() - begun
        session.refresh(user)
    return taken
