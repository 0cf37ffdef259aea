"""Databases with something in them, their caches, and a count of what reaches the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Row, create_engine, event, inspect
from sqlalchemy.engine import RowMapping
from sqlalchemy.orm import Session

from tests.sqlalchemy.query_models import Base, fill
from tiercache import TierCache
from tiercache.sqlalchemy import install


@dataclass
class Database:
    """One engine, with a cache on it, as a process has it."""

    engine: Engine
    cache: TierCache
    statements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        event.listen(self.engine, "before_cursor_execute", self._note)
        install(self.cache, self.engine)

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements.append(statement)

    @contextmanager
    def session(self, **options: Any) -> Iterator[Session]:
        with Session(self.engine, **options) as session:
            yield session

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        self.statements.clear()
        yield self.statements

    def ask(self, question: Callable[[Session], Any]) -> tuple[Any, int]:
        """What *question* gives in a session of its own, and how many statements that took."""
        with self.counting() as statements, self.session() as session:
            return shown(question(session)), len(statements)


def make_database(url: str, cache: TierCache, *, filled: bool = True, **options: Any) -> Database:
    engine = create_engine(url, **options)
    if filled:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            fill(session)
    return Database(engine, cache)


def shown(value: Any) -> Any:
    """*value* with instances told by class, loaded attributes and state, so that two can be compared."""
    return _shown(value, ())


def _shown(value: Any, above: tuple[object, ...]) -> Any:
    if isinstance(value, RowMapping | dict):
        return {str(key): _shown(part, above) for key, part in value.items()}
    if isinstance(value, Row):
        return "row", value._fields, [_shown(part, above) for part in value]
    if isinstance(value, list | tuple | set):
        return type(value).__name__, [_shown(part, above) for part in value]
    state = inspect(value, raiseerr=False)
    if state is None or not hasattr(state, "persistent"):
        return value
    if any(value is each for each in above):
        return type(value).__name__, state.identity
    loaded = {key: _shown(part, (*above, value)) for key, part in sorted(state.dict.items()) if key[0] != "_"}
    return type(value).__name__, state.identity, state.persistent, sorted(state.unloaded), loaded
