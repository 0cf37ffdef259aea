"""How old the objects of a session are: as old as the transaction in which they were loaded.

A load may take its value from objects that its session has already. `session.get` asks nobody then, and a
query leaves them as they are, at READ COMMITTED, too:

    1. A session loads user 7: v1.  2. Elsewhere v2 is committed, and invalidated.  3. A cached function
    misses, gets a token, and asks the session for user 7: v1.  4. It is stored under the new token.

So an object bears the moment at which the transaction began that loaded it, or as of which the cache gave it;
and when it is stored, its load hears of it. One that was expired has nothing, and bears what loads it again.
Of an object that its session made, or that `attach` brought, nothing is known: a load of it is not kept.

Attributes of objects alone are seen: a loader that returns `user.name` of an object that was there before
says nothing of its age.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Mapper, Session, SessionTransaction
from sqlalchemy.orm.state import InstanceState

from tiercache import source
from tiercache.sqlalchemy.transactions import Transaction, transaction_of

OPTION = "tiercache_since"  # of an execution: the moment as of which its rows are
INFO = "tiercache"  # in the session's `info`
STAMP = "tiercache_since"  # on the state of an object
UNKNOWN = source.Moment(())


class Age:
    """When the transaction of a session began, and which of ours go with it."""

    __slots__ = ("since", "transactions")

    def __init__(self) -> None:
        self.since: source.Moment | None = None  # None: between two transactions
        self.transactions: list[Transaction] = []


def tell(state: InstanceState[Any]) -> None:
    """Let the running loads know how old the object is, and whether its session may yet roll it back."""
    since: source.Moment | None = state.__dict__.get(STAMP)
    session = state.session
    age: Age | None = None if session is None else session.info.get(INFO)
    if age is not None:
        if any(transaction.is_dirty for transaction in age.transactions):
            source.uncommitted()
        since = since or UNKNOWN
    if since is not None:
        source.as_of(since)


def join(session: Session) -> None:
    """This context knows of what the transactions of *session* have changed, also where another one did."""
    age: Age | None = session.info.get(INFO)
    for transaction in () if age is None else age.transactions:
        transaction.join()


def stamp(state: InstanceState[Any], context: Any) -> None:
    """The object got its attributes by the load *context*; None: from a copy."""
    if context is None:
        if state.session_id is not None:
            state.__dict__[STAMP] = UNKNOWN
        return
    since = context.execution_options.get(OPTION)
    if since is None:
        age: Age | None = context.session.info.get(INFO)
        since = None if age is None else age.since or UNKNOWN
    state.__dict__[STAMP] = since


def restamp(state: InstanceState[Any], context: Any, attributes: Any) -> None:
    # What was not loaded again is as old as before.
    if attributes is None or context is None or state.__dict__.get(STAMP) is None:
        stamp(state, context)


def forget(state: InstanceState[Any], attributes: Any) -> None:
    if attributes is None:
        state.__dict__[STAMP] = None


def note_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    age: Age = session.info.setdefault(INFO, Age())
    known = transaction_of(connection.info)
    if known not in age.transactions:
        age.transactions.append(known)
    if age.since is None:
        age.since = known.moment or source.moment()


def note_end(session: Session, transaction: SessionTransaction) -> None:
    age: Age | None = session.info.get(INFO)
    if age is not None and transaction.parent is None:
        age.since = None
        age.transactions.clear()


event.listen(Mapper, "load", stamp, raw=True)
event.listen(Mapper, "refresh", restamp, raw=True)
event.listen(Mapper, "expire", forget, raw=True)
event.listen(Session, "after_begin", note_begin)
event.listen(Session, "after_transaction_end", note_end)
