"""Where a transaction begins and ends: the methods of the dialect by which every Connection and Session does
it.

The `commit` event of an engine comes before COMMIT, and none comes after it on a Core connection; its
`savepoint` event does not know the name. So those methods of the `Dialect` interface that send COMMIT,
ROLLBACK and SAVEPOINT are wrapped, on the instance that the engine has. They get what the pool gave out, or
the Connection: both have `info`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Dialect

from tiercache.sqlalchemy.listening import Listener, hearing
from tiercache.sqlalchemy.noting import noting
from tiercache.sqlalchemy.publishing import Publisher
from tiercache.sqlalchemy.transactions import KEY, Transaction, transaction_of

WRAPPED = (
    "do_begin",
    "do_commit",
    "do_rollback",
    "do_savepoint",
    "do_rollback_to_savepoint",
    "do_release_savepoint",
    "do_begin_twophase",
    "do_prepare_twophase",
    "do_commit_twophase",
    "do_rollback_twophase",
)


class Hooks:
    """The wrapped methods of one dialect."""

    def __init__(self, dialect: Dialect, publisher: Publisher, listener: Listener) -> None:
        self._dialect, self._publisher, self._listener = dialect, publisher, listener
        self._made: dict[str, Any] = {}

    def put_on(self) -> None:
        for name in WRAPPED:
            original = getattr(self._dialect, name)
            self._made[name] = functools.partial(getattr(self, name), original)
            setattr(self._dialect, name, self._made[name])
        self._made["statement_compiler"] = noting(self._dialect.statement_compiler)
        self._made["execution_ctx_cls"] = hearing(self._dialect.execution_ctx_cls, self._listener)
        self._dialect.statement_compiler = self._made["statement_compiler"]
        self._dialect.execution_ctx_cls = self._made["execution_ctx_cls"]

    def take_off(self) -> None:
        """Where somebody else has wrapped them since, ours stay, and do nothing without caches."""
        for name, made in self._made.items():
            if self._dialect.__dict__.get(name) is made:
                delattr(self._dialect, name)

    def do_begin(self, original: Callable[..., None], connection: Any) -> None:
        transaction_of(connection.info).begin()
        original(connection)

    def do_commit(self, original: Callable[..., None], connection: Any) -> None:
        transaction = state_of(connection)
        if transaction is None or transaction.is_busy:
            original(connection)
            return
        with self._publisher.around(transaction):
            original(connection)

    def do_rollback(self, original: Callable[..., None], connection: Any) -> None:
        transaction = state_of(connection)
        if transaction is None or transaction.is_busy:
            original(connection)
            return
        try:
            original(connection)
        finally:
            self._drop(transaction)

    def lose(self, connection: Any, record: Any, error: BaseException | None) -> None:
        """An event of the pool: the driver's connection goes, and its transaction with it.

        So it does where a cancellation, or what a signal's handler raised, cut off the answer of a statement.
        """
        self._drop(transaction_of(record.info))

    def _drop(self, transaction: Transaction) -> None:
        transaction.leave_fence()
        if transaction.may_be_public:
            self._publisher.publish(transaction)
        transaction.end()

    def do_savepoint(self, original: Callable[..., None], connection: Any, name: str) -> None:
        original(connection, name)
        transaction_of(connection.info).savepoint(name)

    def do_rollback_to_savepoint(self, original: Callable[..., None], connection: Any, name: str) -> None:
        original(connection, name)
        transaction_of(connection.info).rollback_to(name)

    def do_release_savepoint(self, original: Callable[..., None], connection: Any, name: str) -> None:
        original(connection, name)
        transaction_of(connection.info).release(name)

    def do_begin_twophase(self, original: Callable[..., None], connection: Any, xid: Any) -> None:
        transaction = transaction_of(connection.info)
        transaction.begin()
        with busy(transaction):
            original(connection, xid)

    def do_prepare_twophase(self, original: Callable[..., None], connection: Any, xid: Any) -> None:
        transaction = transaction_of(connection.info)
        with busy(transaction):
            original(connection, xid)
        transaction.prepared = xid

    def do_commit_twophase(
        self,
        original: Callable[..., None],
        connection: Any,
        xid: Any,
        is_prepared: bool = True,
        recover: bool = False,
    ) -> None:
        transaction = transaction_of(connection.info)
        is_ours = not recover or transaction.prepared == xid
        with self._publisher.around(transaction):
            try:
                with busy(transaction):
                    original(connection, xid, is_prepared, recover)
            finally:
                if not is_ours:  # prepared by another connection, of whatever process
                    self._publisher.everything()

    def do_rollback_twophase(
        self,
        original: Callable[..., None],
        connection: Any,
        xid: Any,
        is_prepared: bool = True,
        recover: bool = False,
    ) -> None:
        transaction = transaction_of(connection.info)
        try:
            with busy(transaction):
                original(connection, xid, is_prepared, recover)
        finally:
            self._drop(transaction)


class busy:
    """While the dialect executes for itself, nothing is gathered and nothing ends."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def __enter__(self) -> None:
        self._transaction.is_busy = True

    def __exit__(self, *_: object) -> None:
        self._transaction.is_busy = False


def state_of(connection: Any) -> Transaction | None:
    """What *connection* has gathered; None of one that did nothing yet, or is a bare one of the driver."""
    try:
        info = connection.info
    except (
        AttributeError,
        NotImplementedError,
    ):  # the latter while the dialect looks at its first connection
        return None
    known: Transaction | None = info.get(KEY)
    return known
