"""Rows that a database gave once, given to a session again: what is kept of a query, and how it comes back.

Kept are rows, not instances. An instance in a session may be older than its row, or changed and not flushed;
a row is what the database said. It comes back through SQLAlchemy's own loading, in the session that asks, so
identity, expired attributes, pending changes, eager loads, `unique()` and events are what they are after a
query; the statements of eager loads are executed, and answered, one by one.

SQLAlchemy gives no public way to load from rows, so this module stands on parts of it that are not. All of it
is in 2.0.40 and in 2.1:

    CompileState.orm_pre_session_exec      flushes, and makes the options of the load
    CompileState.orm_setup_cursor_result   loads from a result
    SimpleResultMetaData, IteratorResult   a result of rows at hand
    SQLCompiler._result_columns            which columns the rows have
    Session._autobegin_t                   begins, or says that the user has to
    TransactionalContext._trans_ctx_check, SessionTransaction._state, ._raise_for_prerequisite_state
                                           say why nothing can be executed
    ORMExecuteState._remaining_events, ._events_todo, ._starting_event_idx, ._compile_state_cls
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.engine.util import TransactionalContext
from sqlalchemy.exc import NoSuchColumnError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.session import SessionTransactionState

from tiercache import source
from tiercache.sqlalchemy.ages import OPTION
from tiercache.sqlalchemy.reading import Reading

Kept = tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]
"""What is stored: the names of the columns, and the rows."""


class Prepared(NamedTuple):
    """A statement that is about to be executed, after the flush."""

    statement: Any
    parameters: Mapping[str, Any]
    options: Mapping[str, Any]


def listeners_after(state: ORMExecuteState) -> Sequence[Any]:
    """The listeners of `do_orm_execute` that run later than the one that asks."""
    return state._remaining_events()


def prepare(state: ORMExecuteState) -> Prepared:
    """Flush as an execution would, and give what it would execute."""
    loading: Any = state._compile_state_cls
    statement: Any = state.statement
    parameters: Any = state.parameters or {}
    options: Any = state.execution_options
    if loading is None:
        state.session._autoflush()
        return Prepared(statement, parameters, options)
    prepared = loading.orm_pre_session_exec(
        state.session, statement, parameters, options, state.bind_arguments, False
    )
    return Prepared(prepared[0], prepared[2] if len(prepared) > 2 else parameters, prepared[1])


def begin(session: Session) -> None:
    """As an execution does, and nothing is sent: what is loaded expires with the transaction.

    What an execution raises in a transaction that has failed, or is over, is raised.
    """
    TransactionalContext._trans_ctx_check(session)
    transaction = session._autobegin_t()
    if transaction._state is not SessionTransactionState.ACTIVE:
        transaction._raise_for_prerequisite_state("connection", transaction._state)


def fetch(connection: Connection, prepared: Prepared) -> Kept:
    """Execute, and keep all rows."""
    found = connection.execute(prepared.statement, prepared.parameters, execution_options=prepared.options)
    names = tuple(map(str, found.keys()))  # some are of a subclass of str, which is not storable
    rows = found.fetchall()
    foreign = {i for row in rows[:1] for i, value in enumerate(row) if type(value).__module__ == _ASYNCPG}
    if not foreign:
        return names, tuple([tuple(row) for row in rows])
    return names, tuple([tuple(map(plain, row)) for row in rows])


_ASYNCPG = "asyncpg.pgproto.pgproto"


def plain(value: Any) -> Any:
    """*value*, as other drivers give it."""
    return UUID(int=value.int) if isinstance(value, UUID) and type(value) is not UUID else value


def replay(
    state: ORMExecuteState, prepared: Prepared, reading: Reading, kept: Kept, since: source.Moment
) -> Result[Any]:
    """What executing *prepared* would give, from rows that were kept, and are as of *since*."""
    loading: Any = state._compile_state_cls
    result = Replayed(reading, prepared.statement, kept)
    if loading is None:
        return result
    loaded: Result[Any] = loading.orm_setup_cursor_result(
        state.session,
        prepared.statement,
        prepared.parameters,
        {**prepared.options, OPTION: since},
        state.bind_arguments,
        result,
    )
    return loaded


class Columns(SimpleResultMetaData):
    """The columns of rows at hand; as with a real result, asking whether one is there is no error."""

    __slots__ = ()

    def _index_for_key(self, key: Any, raiseerr: bool = True) -> Any:
        if not raiseerr and not isinstance(key, int) and key not in self._keymap:
            return None
        return super()._index_for_key(key, raiseerr)

    def _key_fallback(self, key: Any, err: Exception | None, raiseerr: bool = True) -> Any:
        if raiseerr:
            raise NoSuchColumnError(f"Could not locate column in row for column '{key}'") from err


class Context:
    """What the loading asks an execution."""

    _is_server_side = False
    requires_uniquing = False

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled


class Replayed(IteratorResult[Any]):
    context: Any

    def __init__(self, reading: Reading, statement: Any, kept: Kept) -> None:
        super().__init__(columns_of(reading, statement, kept[0]), iter(kept[1]))
        self.context = Context(reading.compiled)


def columns_of(reading: Reading, statement: Any, names: Sequence[str]) -> Columns:
    """Told by the reading once; for Core by each statement again, for its expressions are its own."""
    compiled = reading.compiled
    described = compiled._result_columns
    if len(described) != len(names):  # text that does not say its columns
        return Columns(names)
    if (
        compiled.compile_state is not None
        and getattr(compiled.compile_state, "compile_options", None) is not None
    ):
        if reading.columns is None:
            reading.columns = Columns(names, [entry.objects for entry in described])
        columns: Columns = reading.columns
        return columns
    own = getattr(statement, "exported_columns", None)
    each = [(column,) for column in own] if own is not None and len(own) == len(names) else [()] * len(names)
    extra = [(*entry.objects, *more) for entry, more in zip(described, each, strict=True)]
    return Columns(names, extra)


def speak_first(state: ORMExecuteState, later: Sequence[Any], last: Any) -> Result[Any] | None:
    """Call the listeners *later* as SQLAlchemy is about to, and give what one of them returns.

    One that executes the statement itself, `state.invoke_statement()`, meets *last* as the last one there.
    """
    state._events_todo.append(last)  # a copy that belongs to this execution
    for listener in later:
        state._starting_event_idx += 1
        given: Result[Any] | None = listener(state)
        if given:
            return given
    state._starting_event_idx += 1
    return None
