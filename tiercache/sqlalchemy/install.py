"""`install`: from now on, what is committed through an engine or a session makes entries of a cache invalid.

It is heard at the engine, where the unit of work, ORM and Core statements, bulk operations and text all come
by; a session brings its engines as it begins to use them. What does not come by there is not seen: cursors of
the driver's own, COPY through them, triggers and functions of the database, other programs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tiercache import TierCache
from tiercache._locks import Guard
from tiercache.sqlalchemy.hooks import Hooks
from tiercache.sqlalchemy.listening import Listener
from tiercache.sqlalchemy.publishing import OnOutage, Publisher, Told, WriteSafety
from tiercache.sqlalchemy.transactions import Transaction, transaction_of

Wish = weakref.ref[Any] | None
"""On whose behalf: a session's, or what makes some; None: an engine's own, or of who is no more."""


class Installed:
    """What is installed on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.publisher = Publisher(engine.dialect.is_async)
        self._engine = weakref.ref(engine)
        self._listener = Listener(self.publisher)
        self._hooks = Hooks(engine.dialect, self.publisher, self._listener)
        self._told: dict[tuple[Wish, int], Told] = {}  # by wish and cache; under `_guard`

    def add(self, told: Told, wish: Wish) -> None:
        engine = self._engine()
        if not self._told and engine is not None:
            self._hooks.put_on()
            event.listen(engine, "invalidate", self._hooks.lose)
        for (other, cache), known in list(self._told.items()):
            if other is not None and other() is None:  # one session after the other, each for itself
                del self._told[other, cache]
                self._told.setdefault((None, cache), known)
        self._told[wish, id(told.cache)] = told
        self._publish()

    def remove(self, cache: TierCache, wish: Wish) -> None:
        engine = self._engine()
        if self._told.pop((wish, id(cache)), None) is None:
            return
        self._publish()
        if not self._told and engine is not None:
            event.remove(engine, "invalidate", self._hooks.lose)
            self._hooks.take_off()

    def has(self, cache: TierCache, wish: Wish) -> bool:
        return (wish, id(cache)) in self._told

    def _publish(self) -> None:
        """Each cache once, and with a fence if anybody wants one."""
        by_cache: dict[int, Told] = {}
        for (_, cache), told in self._told.items():
            known = by_cache.get(cache)
            if known is None or known.write_safety == "commit":
                by_cache[cache] = told
        self.publisher.told = tuple(by_cache.values())


_guard = Guard()
_engines: weakref.WeakKeyDictionary[Engine, Installed] = weakref.WeakKeyDictionary()  # under `_guard`
_sessions: weakref.WeakKeyDictionary[Any, dict[int, tuple[Wish, Callable[..., None]]]] = (
    weakref.WeakKeyDictionary()
)  # by what `event.listen` was given, and by cache; under `_guard`


def install(
    cache: TierCache,
    target: Any,
    *,
    write_safety: WriteSafety = "commit",
    on_outage: OnOutage = "commit",
    fence_ttl: float = 10.0,
) -> None:
    """Make entries of *cache* invalid by what is committed through *target*.

    *target* is an Engine or AsyncEngine, a Session or AsyncSession, or what makes these: sessionmaker,
    async_sessionmaker, scoped_session, a subclass. Of a session it is each engine that the session uses.
    """
    if write_safety not in ("commit", "fence"):
        raise ValueError(f"write_safety must be 'commit' or 'fence', not {write_safety!r}")
    if on_outage not in ("commit", "abort"):
        raise ValueError(f"on_outage must be 'commit' or 'abort', not {on_outage!r}")
    if not fence_ttl > 0:
        raise ValueError(f"fence_ttl must be a positive number of seconds, not {fence_ttl!r}")
    told = Told(cache, write_safety, on_outage, fence_ttl)
    engine = engine_of(target)
    if engine is not None:
        _put(engine, told, None)
    else:
        _listen(session_target(target), told)


def uninstall(cache: TierCache, target: Any) -> None:
    """Undo `install` of *cache* on *target*; nothing where it is not installed."""
    engine = engine_of(target)
    if engine is not None:
        _take(engine, cache, None)
        return
    target = session_target(target)
    with _guard.lock:
        found = _sessions.get(target, {}).pop(id(cache), None)
    if found is None:
        return
    wish, listener = found
    event.remove(target, "after_begin", listener)
    for engine in list(_engines):
        _take(engine, cache, wish)


def caches_of(engine: Engine | AsyncEngine) -> tuple[TierCache, ...]:
    """The caches that are told what *engine* commits, in the order in which they were installed."""
    found = engine_of(engine)
    installed = _engines.get(found) if found is not None else None
    return () if installed is None else tuple(told.cache for told in installed.publisher.told)


def is_tuned(engine: Engine) -> bool:
    """Whether text has told a connection of *engine* by what its questions mean something else."""
    found = engine_of(engine)
    installed = _engines.get(found) if found is not None else None
    return installed is not None and installed.publisher.is_tuned


def writing_of(connection: Connection) -> Transaction | None:
    """What the transaction of *connection* has changed and not committed; None where that is nothing."""
    transaction = transaction_of(connection.info)
    return transaction if transaction.is_dirty else None


def engine_of(target: Any) -> Engine | None:
    """The engine that *target* is, for all that share its pool; None where it is something else."""
    if isinstance(target, AsyncEngine):
        target = target.sync_engine
    # Semi-private: what `Engine.execution_options` returns has the original as `_proxied`, in 2.0 and 2.1.
    while isinstance(target, Engine) and "_proxied" in vars(target):
        target = vars(target)["_proxied"]
    return target if isinstance(target, Engine) else None


def session_target(target: Any) -> Any:
    """What `event.listen` takes for *target*."""
    if isinstance(target, AsyncSession):
        return target.sync_session
    if isinstance(target, async_scoped_session):
        target = target.session_factory
    if isinstance(target, async_sessionmaker):
        current = target.kw.get("sync_session_class", target.class_.sync_session_class)
        own = own_class(current, target)
        target.configure(sync_session_class=own)
        return own
    if isinstance(target, type) and issubclass(target, AsyncSession):
        target.sync_session_class = own_class(target.sync_session_class, target)
        return target.sync_session_class
    if isinstance(target, Session | sessionmaker | scoped_session) or (
        isinstance(target, type) and issubclass(target, Session)
    ):
        return target
    raise TypeError(
        f"target must be an Engine, AsyncEngine, Session, AsyncSession, or a maker of them, not {target!r}"
    )


def own_class(current: type[Session], maker: Any) -> type[Session]:
    """For the sync sessions under the async ones of *maker*: they have events, and only theirs are meant."""
    if getattr(current, "tiercache_of", lambda: None)() is maker:
        return current
    return type("Session", (current,), {"tiercache_of": weakref.ref(maker)})


def _put(engine: Engine, told: Told, wish: Wish) -> None:
    with _guard.lock:
        installed = _engines.get(engine)
        if installed is None:
            installed = _engines[engine] = Installed(engine)
        installed.add(told, wish)


def _take(engine: Engine, cache: TierCache, wish: Wish) -> None:
    with _guard.lock:
        installed = _engines.get(engine)
        if installed is not None:
            installed.remove(cache, wish)


def _listen(target: Any, told: Told) -> None:
    wish: Wish = weakref.ref(target)

    def after_begin(session: Session, transaction: Any, connection: Connection) -> None:
        engine = engine_of(connection.engine)
        assert engine is not None
        installed = _engines.get(engine)
        if installed is None or not installed.has(told.cache, wish):
            _put(engine, told, wish)
            transaction_of(connection.info).begin()  # as when BEGIN was sent, before this was there to see it

    with _guard.lock:
        by_cache = _sessions.setdefault(target, {})
        if id(told.cache) in by_cache:
            return
        by_cache[id(told.cache)] = wish, after_begin
    event.listen(target, "after_begin", after_begin)
