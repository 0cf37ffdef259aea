"""What an engine executes, heard: which statement writes what, and what a running load has read.

By the rule of `statements` for what SQLAlchemy compiled, by that of `texts` for what it did not; the
execution option `invalidates` says it instead. A write is noted before it is sent, since one that fails
half-way may have changed something all the same; what keys an INSERT made is known when it has been answered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.cursor import CursorFetchStrategy, FullyBufferedCursorFetchStrategy
from sqlalchemy.exc import InvalidRequestError

from tiercache import source
from tiercache._locks import Guard
from tiercache.sqlalchemy.names import Schemas, name_of, names_of
from tiercache.sqlalchemy.publishing import Publisher
from tiercache.sqlalchemy.saying import said_of
from tiercache.sqlalchemy.statements import Analysis, analysis_of
from tiercache.sqlalchemy.texts import IMPLICIT, Effect, changes_what_is_read, effects_of, ends_transaction
from tiercache.sqlalchemy.transactions import Transaction, row_tags, transaction_of

log = logging.getLogger("tiercache.sqlalchemy")

SNAPSHOTS = frozenset({"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"})
READS = (Effect.READS,)
ADVICE = (
    'say what it touches: .execution_options(invalidates=[User, "posts", "row:users:7"]), or [] where it '
    "changes nothing that is cached"
)


@dataclass
class Reads:
    """What the statements executed inside `noting_reads` depend on."""

    tags: dict[str, None] = field(default_factory=dict)
    is_opaque: bool = False
    """Whether one may have read what is not in `tags`: text, or a function that nobody knows."""


@contextmanager
def noting_reads() -> Iterator[Reads]:
    """The tags of all that is read inside, on engines where a cache is installed; by this context alone."""
    reads = Reads()
    reset = _reads.set((*_reads.get(), reads))
    try:
        yield reads
    finally:
        _reads.reset(reset)


_reads: ContextVar[tuple[Reads, ...]] = ContextVar("tiercache_sqlalchemy_reads", default=())


def hearing(contexts: Any, listener: Listener) -> Any:
    """A class of execution contexts as *contexts* that tells *listener*, once an execution.

    By `pre_exec` and `handle_dbapi_exception` of the `ExecutionContext` interface, and, since it has nothing
    for when the keys that an INSERT made are known, by `_setup_result_proxy`, which 2.0 and 2.1 have. The
    events of an engine would do, but come once a batch: that any is listened to costs 7 to 10 % of a flush of
    1,000 new objects on SQLite, which are as many batches.
    """

    class Heard(contexts):  # type: ignore[misc]  # the dialect's own class, known when it runs
        tiercache_expected: Any = ()  # INSERTs whose keys the answer may tell
        tiercache_effects: Any = ()
        tiercache_transaction: Any = None

        def pre_exec(self) -> None:
            listener.before(self.root_connection, self)
            super().pre_exec()

        def _setup_result_proxy(self) -> Any:
            if self.tiercache_transaction is not None and listener.is_half_done(self):
                self.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                    self.cursor, initial_buffer=self.cursor.fetchall()
                )
            result = super()._setup_result_proxy()
            listener.after(self.root_connection, self)
            return result

        def handle_dbapi_exception(self, error: BaseException) -> None:
            super().handle_dbapi_exception(error)
            if not self.root_connection.invalidated:
                listener.executed(self.root_connection, self)

    return Heard


class Listener:
    """What is made of what the execution contexts of one engine tell."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._guard = Guard()
        self._has_warned = False  # under `_guard`

    def before(self, connection: Connection, context: Any) -> None:
        """*context* is about to be executed."""
        transaction = context.tiercache_transaction = of_connection(connection)
        if transaction is None or transaction.is_busy:
            return
        if transaction.is_new:
            settle(transaction, connection)
        transaction.join()
        options = context.execution_options
        schemas: Schemas = options.get("schema_translate_map")
        compiled = context.compiled
        if compiled is None:
            analysis, effects = None, effects_of(context.statement)
        else:
            analysis = analysis_of(compiled, connection.dialect)
            effects = analysis.effects
        if connection.dialect.name in IMPLICIT and ends_transaction(context.statement):
            effects = (Effect.COMMITS, *effects)
        context.tiercache_effects = effects
        if (analysis is None or analysis.unseen or {*effects} <= {Effect.NEITHER}) and changes_what_is_read(
            context.statement
        ):
            self._publisher.is_tuned = True
        if transaction.is_autocommit:
            is_within = is_inside(connection.connection.dbapi_connection)
            transaction.go_on(is_within=is_within, may_begin=effects != READS)
        said = options.get("invalidates")
        if said is not None:
            transaction.write_others(said_of(said, context.statement, connection.dialect, schemas))
        if analysis is not None and analysis.writes:
            write(transaction, analysis, context, schemas)
        elif Effect.READS in effects:
            read(transaction, analysis, context, schemas)
        if effects != READS:
            self._effects(transaction, effects, context.statement, is_said=said is not None)
        transaction.is_committing = Effect.COMMITS in effects
        if not (self._publisher.fences and transaction.is_dirty):
            return
        if (transaction.is_autocommit and not is_within) or transaction.is_committing:
            fence = self._publisher.around(transaction, keeps=len(effects) > 1)
            fence.__enter__()
            transaction.fence = fence

    def after(self, connection: Connection, context: Any) -> None:
        """*context* has been executed, and what it brought back is known."""
        if context.tiercache_expected:
            for insert, place in context.tiercache_expected:
                context.tiercache_transaction.answer(place, insert.inserted(context))
            context.tiercache_expected = ()
        self.executed(connection, context)

    def is_half_done(self, context: Any) -> bool:
        """Whether what was just executed is committed by the fetch of its last row, so that it has to come.

        SQLite in autocommit: 1. an UPDATE ... RETURNING gives its first row.  2. It is told.  3. Another
        loads, and keeps, what was.  4. The last row is fetched, and what is committed will not be told.
        """
        transaction = context.tiercache_transaction
        return (
            context.cursor.description is not None
            and type(context.cursor_fetch_strategy) is CursorFetchStrategy
            and transaction.is_dirty
            and not transaction.is_busy
            and is_public(transaction, context.root_connection)
        )

    def executed(self, connection: Connection, context: Any) -> None:
        """What is public as soon as it is executed is told at once."""
        transaction = context.tiercache_transaction
        if transaction is None or transaction.is_busy:
            return
        is_committing, transaction.is_committing = transaction.is_committing, False
        if transaction.fence is not None:
            transaction.leave_fence()
        elif not transaction.is_dirty:
            pass
        elif is_public(transaction, connection):
            self._publisher.publish(transaction)
        elif is_committing:
            # What came after the COMMIT is not committed, nor is anything where it stands in a constant.
            self._publisher.publish(transaction, keeps=len(context.tiercache_effects) > 1)

    def _effects(
        self, transaction: Transaction, effects: tuple[Effect, ...], statement: str, *, is_said: bool
    ) -> None:
        if Effect.EVERYTHING in effects and not is_said:
            if self._publisher.fences:
                raise InvalidRequestError(
                    f'under write_safety="fence" nothing is executed of which nobody knows what it writes: '
                    f"{statement[:200]!r}; {ADVICE}"
                )
            self._warn(statement)
            transaction.write_everything()
            source.uncommitted()
        transaction.wants_snapshots |= Effect.SNAPSHOTS in effects
        transaction.is_snapshot |= Effect.SNAPSHOT in effects or Effect.SNAPSHOTS in effects

    def _warn(self, statement: str) -> None:
        with self._guard.lock:
            if self._has_warned:
                return
            self._has_warned = True
        log.warning(
            "%r counts as a write to everything: at its commit all that is cached goes (said once); %s",
            statement[:200],
            ADVICE,
        )


def settle(transaction: Transaction, connection: Connection) -> None:
    level = level_of(connection.dialect, connection.get_execution_options())
    # SQLite reads snapshots at any level: READ UNCOMMITTED says nothing without a shared cache.
    is_snapshot = level in SNAPSHOTS or connection.dialect.name == "sqlite"
    transaction.settle(is_snapshot, level == "AUTOCOMMIT")
    transaction.sees_uncommitted = sees_uncommitted(connection.engine, level)


def write(transaction: Transaction, analysis: Analysis, context: Any, schemas: Schemas) -> None:
    expected = []
    for each in analysis.writes:
        if each.is_insert:
            expected.append((each, transaction.expect(each, schemas)))
        else:
            transaction.write(each, schemas, each.rows(context.compiled_parameters))
    if expected:
        context.tiercache_expected = expected
    source.uncommitted()


def read(transaction: Transaction, analysis: Analysis | None, context: Any, schemas: Schemas) -> None:
    """A load learns whether what it reads is committed, and as of when; `noting_reads`, what it is."""
    if transaction.is_dirty:
        tables = () if analysis is None else analysis.tables
        names = (name_of(t, context.dialect, schemas) for t in tables)
        if analysis is None or analysis.unseen or transaction.touches_tables(names):
            source.uncommitted()
    if transaction.sees_uncommitted:
        source.uncommitted()
    # An object that a session has already keeps the attributes it has, whatever this row says.
    if transaction.moment is not None and (transaction.is_snapshot or (analysis and analysis.is_orm)):
        source.as_of(transaction.moment)
    for reads in _reads.get():
        reads.is_opaque |= analysis is None or analysis.unseen
        if analysis is not None:
            reads.tags.update(dict.fromkeys(tags_read(analysis, context, schemas)))


def tags_read(analysis: Analysis, context: Any, schemas: Schemas) -> list[str]:
    by_key = analysis.rows_read
    rows = by_key.rows(context.compiled_parameters) if by_key is not None else None
    if by_key is not None and rows and len(rows) <= 50 and not any(None in row for row in rows):
        keys = {",".join(row) for row in rows}  # type: ignore[arg-type]  # no None
        names = names_of(by_key.table, context.dialect, schemas)
        tags = [tag for name in names for tag in row_tags(name, keys)]
        if not any(tag.endswith(":*") for tag in tags):
            return tags
    return [f"table:{name}" for each in analysis.tables for name in names_of(each, context.dialect, schemas)]


def sees_uncommitted(engine: Engine, level: str) -> bool:
    """Whether who reads at *level* is shown what others may roll back, of which nobody will be told."""
    if level != "READ UNCOMMITTED" or engine.dialect.name == "postgresql":  # to which it is READ COMMITTED
        return False
    return engine.dialect.name != "sqlite" or "cache=shared" in str(engine.url)


def level_of(dialect: Dialect, options: Mapping[str, Any]) -> str:
    """The isolation level, as far as SQLAlchemy has it, without asking the database; "" where it does not."""
    # Semi-private: what create_engine(isolation_level=...) was given; there in 2.0 and 2.1.
    level = (
        options.get("isolation_level")
        or getattr(dialect, "_on_connect_isolation_level", None)
        or getattr(dialect, "default_isolation_level", None)  # known from the first connection on
        or ""
    )
    return str(level).replace("_", " ").upper()


def of_connection(connection: Connection) -> Transaction | None:
    """None while the dialect looks at its first connection, which has no `info`."""
    try:
        return transaction_of(connection.info)
    except NotImplementedError:
        return None


def is_public(transaction: Transaction, connection: Connection) -> bool:
    """Whether what was just executed is committed: the connection, or the driver's own, is in autocommit."""
    driver: Any = connection.connection.dbapi_connection
    if transaction.is_autocommit:
        return not is_inside(driver)
    try:
        if getattr(driver, "autocommit", False) is True:  # psycopg, psycopg2, sqlite3 since Python 3.12
            return True
        # sqlite3 without a transaction of its own: DDL in its old mode, or isolation_level=None.
        return getattr(getattr(driver, "driver_connection", driver), "in_transaction", True) is False
    except (
        Exception
    ):  # a driver's own, of a connection that is closed: after an error that the caller has to see
        return False


def is_inside(driver: Any) -> bool:
    """Whether *driver*, a connection in autocommit, is in a transaction that a text began, if it can tell."""
    driver = getattr(driver, "driver_connection", driver)
    try:
        if hasattr(driver, "is_in_transaction"):  # asyncpg
            return driver.is_in_transaction() is True
        if hasattr(driver, "in_transaction"):  # sqlite3, aiosqlite
            return driver.in_transaction is True
        return driver.info.transaction_status in (2, 3)  # psycopg, psycopg2: INTRANS, INERROR
    except Exception:  # another driver, or a driver's own error, of a connection that is closed
        return False
