"""One process of the differential test: sessions in pairs, and a pipe by which acts come in.

An act goes to both sessions of a pair, the cached one and the plain one on its own database; what comes back
is what each could see of it. A database error is something to see, too, and takes the transaction with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from tests.sqlalchemy.blog import READS, WRITES, Desk, Person
from tiercache import TierCache, Token
from tiercache.sqlalchemy import install

Act = tuple[Any, ...]
SESSIONS = 2


@dataclass
class Half:
    """A desk, and the savepoints open on it."""

    desk: Desk
    savepoints: list[SessionTransaction] = field(default_factory=list)

    def do(self, act: Act) -> Any:
        try:
            return self._do(*act)
        except DBAPIError as error:
            self._reset()
            return type(error).__name__
        except SQLAlchemyError as error:  # of the unit of work: a row that went away, two of one key
            self._reset()
            return type(error).__name__

    def _do(self, kind: str, *rest: Any) -> Any:
        session = self.desk.session
        match kind:
            case "read":
                return READS[rest[0]](self.desk, rest[1])
            case "write":
                return WRITES[rest[0]](self.desk, rest[1], rest[2])
            case "savepoint":
                self.savepoints.append(session.begin_nested())
            case "release" | "undo" if self.savepoints:
                savepoint = self.savepoints.pop()
                savepoint.commit() if kind == "release" else savepoint.rollback()
            case "commit":
                self.savepoints.clear()
                session.commit()
            case "rollback":
                self._reset()
        return None

    def _reset(self) -> None:
        self.savepoints.clear()
        self.desk.session.rollback()
        self.desk.session.expunge_all()


def engine_of(url: str) -> Any:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA busy_timeout = 0")  # who is locked out will be so until we go on
            connection.execute("PRAGMA journal_mode = WAL")
        else:
            connection.cursor().execute("SET lock_timeout = 40")
            connection.commit()

    return engine


def serve(pipe: Connection, redis_url: str, cached_url: str, plain_url: str) -> None:
    """Do what comes through *pipe*, until it is None."""
    cache = TierCache(redis_url, namespace="blog")
    makers = [sessionmaker(engine_of(url)) for url in (cached_url, plain_url)]
    install(cache, makers[0])

    @cache.cached(ttl=60, tags=["row:people:{number}"])
    def name_of(number: int) -> str | None:
        with makers[0]() as session:
            return session.scalar(select(Person.name).where(Person.id == number))

    def plainly(number: int) -> str | None:
        with makers[1]() as session:
            return session.scalar(select(Person.name).where(Person.id == number))

    pairs: list[tuple[Half, Half]] = []
    while (message := pipe.recv()) is not None:
        act, number, token = message
        if token is not None:
            cache.sync.at_least(token)
        if act[0] == "begin":
            close(pairs)
            pairs = [(half(makers[0], True), half(makers[1], False)) for _ in range(SESSIONS)]
            pipe.send((None, None, None, cache.stats().l1_hits + cache.stats().l2_hits))
            continue
        if act[0] == "function":
            pipe.send((name_of(act[1]), plainly(act[1]), None, 0))
            continue
        with cache.collect_token() as collected:
            seen, expected = (each.do(act) for each in pairs[number])
        made: Token | None = collected.token
        pipe.send((seen, expected, made, 0))
    close(pairs)
    cache.sync.close()


def half(maker: Any, is_cached: bool) -> Half:
    session: Session = maker()
    return Half(Desk(session, is_cached))


def close(pairs: list[tuple[Half, Half]]) -> None:
    for pair in pairs:
        for each in pair:
            each.desk.session.close()
