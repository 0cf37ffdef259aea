"""Queries answered from the cache: what `from_cache` does when its statement is executed.

A listener of `do_orm_execute` on every Session. It flushes as an execution would; looks whether the
statement has to reach the database; asks the tiers for its rows, with the query as the loader; and has
SQLAlchemy load from them what the query would have given.

It has to be the last listener: one that came after it might add a tenant's criteria, and an entry would hold
the rows of all. So whoever is registered later is heard before it answers.

A leader has its connection before it leads. Otherwise, in a pool of one:
1. A leads, and waits for a connection.  2. B holds the connection, in a transaction, and waits for A's load.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import Result
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.util import await_only, greenlet_spawn

from tiercache import L2Unavailable, SettingError, TierCache, UnstableKey
from tiercache.source import answered_by
from tiercache.sqlalchemy.install import caches_of, install, is_tuned, writing_of
from tiercache.sqlalchemy.names import tables_of, tags_of_row, tags_of_table
from tiercache.sqlalchemy.options import CachesOwn, FromCache
from tiercache.sqlalchemy.passed import passed
from tiercache.sqlalchemy.query_keys import query_key
from tiercache.sqlalchemy.reaching import merged, must_reach
from tiercache.sqlalchemy.reading import Reading, reading_of
from tiercache.sqlalchemy.replay import (
    Kept,
    Prepared,
    begin,
    fetch,
    listeners_after,
    prepare,
    replay,
    speak_first,
)
from tiercache.sqlalchemy.transactions import transaction_of

_MISS = object()


class Always(NamedTuple):
    """How the reads of a session are answered that bear no option of their own."""

    option: FromCache
    only: frozenset[str] | None
    """The tables a statement may read; None: any."""


_always: weakref.WeakKeyDictionary[Session, list[Always]] = weakref.WeakKeyDictionary()  # the last counts
_begun: weakref.WeakKeyDictionary[Session, dict[Any, weakref.ref[Connection]]] = weakref.WeakKeyDictionary()


def answer_always(session: Session, always: Always, *, for_good: bool = False) -> None:
    """Until `stop_answering`, each SELECT of *session* is answered as if it bore `always.option`.

    What it writes invalidates: its engine is installed here, another one by its first connection.
    """
    if for_good:
        _always[session] = []
    _always.setdefault(session, []).append(always)
    try:
        engine = session.get_bind().engine
    except UnboundExecutionError:  # it depends on the statement
        return
    connection = begun(session, engine)
    if see_to(always.option.cache, engine) and connection is not None:
        transaction_of(connection.info).write_everything()  # what it has written so far, nobody saw


def always_of(session: Session) -> Always | None:
    several = _always.get(session)
    return several[-1] if several else None


def stop_answering(session: Session) -> None:
    """Answer *session* as before the last `answer_always`."""
    several = _always.get(session)
    if several:
        several.pop()


def answer(state: ORMExecuteState) -> Result[Any] | None:
    """The result, if the cache may give it; None: it is for the database."""
    asked = asked_of(state)
    if asked is None:
        return None
    later = listeners_after(state)
    if not later:
        return answered(state, asked)
    given = speak_first(state, later, answer)
    return given or answered(state, asked) or state.invoke_statement()


def asked_of(state: ORMExecuteState) -> Always | None:
    if state.is_executemany or state.session._flushing:
        return None
    for option in state.user_defined_options:
        if isinstance(option, FromCache):
            is_text = not (state.is_insert or state.is_update or state.is_delete)
            return Always(option, None) if state.is_select or (option.tables and is_text) else None
    return always_of(state.session) if state.is_select else None


def answered(state: ORMExecuteState, asked: Always) -> Result[Any] | None:
    asking = Asking.of(state, asked)
    if asking is None:
        return None
    since = answered_by(asking.cache)
    kept = asking.kept()
    if kept is None:
        return None
    begin(state.session)
    return replay(state, asking.prepared, asking.reading, kept, since)


@dataclass
class Asking:
    """One statement that the cache may answer."""

    state: ORMExecuteState
    prepared: Prepared
    reading: Reading
    cache: TierCache
    bind: Engine | Connection  # asked for once: a session may route each question elsewhere
    engine: Engine
    connection: Connection | None
    key: str
    tags: Sequence[str]
    lifetime: Mapping[str, Any]
    loaded: Kept | None = field(default=None, init=False)
    error: BaseException | None = field(default=None, init=False)

    @classmethod
    def of(cls, state: ORMExecuteState, asked: Always) -> Asking | None:
        """None where the statement has to reach the database."""
        option = asked.option
        prepared = prepare(state)
        bind = state.session.get_bind(**state.bind_arguments)
        engine = bind.engine
        # Not a Connection it is bound to: that has to begin as the session's, or its COMMIT is not sent.
        connection = begun(state.session, engine)
        options = merged(prepared, connection or bind)
        cache, connection = cache_of(option, state, bind, connection)
        if must_reach(connection or bind, options, prepared):
            return None
        schemas = options.get("schema_translate_map")
        reading, parameters = reading_of(engine.dialect, prepared.statement, prepared.parameters, schemas)
        if not may_be_kept(reading, asked):
            return None
        tags = tags_of(reading, parameters, option, engine, schemas)
        used = connection or bind
        writing = writing_of(used) if isinstance(used, Connection) else None
        if writing is not None and writing.touches(tags):
            passed.count("written to")
            return None
        try:
            key = query_key(engine, reading, parameters, schemas)
        except UnstableKey as unstable:
            passed.count("no key", reading, str(unstable))
            return None
        lifetime = {} if isinstance(option.ttl, CachesOwn) else {"ttl": option.ttl}
        return cls(state, prepared, reading, cache, bind, engine, connection, key, tags, lifetime)

    def kept(self) -> Kept | None:
        """The rows, from a tier or the database; None where another's query failed, and ours has to run."""
        if self.connection is None:
            found = waited(self.engine, self.cache.get, self.cache.sync.get, self.key, _MISS)
            if found is not _MISS:
                return checked(found)
            self.connection = self.state.session.connection({"bind": self.bind})
            if is_tuned(self.engine):  # by who listens to the beginning of a transaction
                return None
        is_async = self.engine.dialect.is_async
        try:
            found = waited(
                self.engine,
                self.cache.get_or_load,
                self.cache.sync.get_or_load,
                self.key,
                self._load_async if is_async else self._load,
                tags=self.tags,
                **self.lifetime,
            )
        except (L2Unavailable, SettingError):  # on_lapse="raise", which the cache was told; a call to mend
            raise
        except Exception as error:  # of whatever driver
            if error is self.error:
                raise
            # Somebody else's load failed or took too long; or our rows cannot be stored.
            passed.count(type(error).__name__, self.reading if self.loaded else None, str(error))
            return self.loaded
        return checked(found)

    def _load(self) -> Kept:
        assert self.connection is not None
        try:
            self.loaded = fetch(self.connection, self.prepared)
        except BaseException as error:
            self.error = error
            raise
        return self.loaded

    async def _load_async(self) -> Kept:
        return await greenlet_spawn(self._load)


def waited(engine: Engine, awaited: Any, blocking: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of a verb, in the world of *engine*."""
    return await_only(awaited(*args, **kwargs)) if engine.dialect.is_async else blocking(*args, **kwargs)


def checked(found: Any) -> Kept | None:
    """What was found, if it is what a query stores."""
    fits = isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, tuple) for part in found)
    return found if fits else None


def may_be_kept(reading: Reading, asked: Always) -> bool:
    if reading.writes:
        return False
    if asked.only is not None and not all(
        {table.name, table.fullname} & asked.only for table in reading.tables
    ):
        return False
    if asked.option.tables is None and (reading.unseen or not reading.tables):
        told = None if asked.only is not None or asked.option.quiet else reading
        parts = ", ".join(reading.unseen) or "no table"
        passed.count("unseen", told, f"it has {parts}; name what it reads, from_cache(tables=[...])")
        return False
    return True


def tags_of(
    reading: Reading,
    parameters: Mapping[str, Any],
    option: FromCache,
    engine: Engine,
    schemas: Mapping[Any, Any] | None,
) -> list[str]:
    rows = None if option.tables else reading.rows(parameters)
    if rows is not None:
        known = [tags_of_row(reading.tables[0], row, engine.dialect, schemas) for row in rows]
        if None not in known:
            return [tag for tags in known for tag in tags or ()]
    named = [
        table
        for each in option.tables or ()
        for table in ((each,) if isinstance(each, str) else tables_of(each))
    ]
    tables = (*reading.tables, *named)
    return list(dict.fromkeys(tag for each in tables for tag in tags_of_table(each, engine.dialect, schemas)))


def cache_of(
    option: FromCache, state: ORMExecuteState, bind: Engine | Connection, connection: Connection | None
) -> tuple[TierCache, Connection | None]:
    """The cache that answers, and the connection if it took one to know."""
    engine = bind.engine
    installed = caches_of(engine)
    if connection is None and (not installed or engine.dialect.default_schema_name is None):
        # From its first connection on, an engine is installed by its session, and knows its own schema:
        # without that, a tag might have another name than the one that a write raises.
        cache = option.cache or next(iter(installed), None)
        if cache is not None:  # a snapshot from before the cache has met its server cannot be told its age
            waited(engine, cache.exists, cache.sync.exists, "sql:-")
        connection = state.session.connection({"bind": bind})
        installed = caches_of(engine)
    named = option.cache
    if named is None and installed:
        return installed[0], connection
    if named is not None and named in installed:
        return named, connection
    what = "no cache" if named is None else f"{named!r} is not"
    raise ValueError(
        f"from_cache: {what} installed on {engine!r}, and what is written there would never invalidate what "
        "is kept; first write tiercache.sqlalchemy.install(cache, engine)"
    )


def begun(session: Session, engine: Engine) -> Connection | None:
    """The connection that *session* has in use, if it has one."""
    known = _begun.get(session, {}).get(engine)
    connection = None if known is None else known()
    if connection is None or connection.closed or not connection.in_transaction():
        return None
    return connection


def note_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    _begun.setdefault(session, {})[connection.engine] = weakref.ref(connection)
    always = always_of(session)
    if always is not None and see_to(always.option.cache, connection.engine):
        transaction_of(connection.info).begin()  # as when BEGIN was sent, just before


def see_to(cache: TierCache | None, engine: Engine) -> bool:
    """Install *cache* on *engine* if it is not; whether it was not."""
    if cache is None or cache in caches_of(engine):
        return False
    install(cache, engine)
    return True


event.listen(Session, "do_orm_execute", answer)
event.listen(Session, "after_begin", note_begin)
