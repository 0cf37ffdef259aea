"""The bridge: a thread that takes what the triggers wrote down, and invalidates it.

What it promises stands in `tiercache.sqlalchemy.postgres`.

One transaction a batch:

    BEGIN; DELETE FROM outbox ... SKIP LOCKED RETURNING tags;  invalidate the tags;  COMMIT

A bridge that dies anywhere before COMMIT leaves the rows to the next one, which invalidates them again, or
for the first time. Rows that another bridge has in hand are passed over. What stands in the outbox is
committed, so nobody can load the old value after its invalidation, but from a replica that lags.

A long absence needs no other way: a batch is reduced in the database, to each tag once, and to all rows of a
table where it holds more than a thousand of them. `clear()` and TRUNCATE would not be quicker, and TRUNCATE
waits for every open transaction that has written, while all new ones wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

from sqlalchemy import URL, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from tiercache import TierCache, TierCacheError
from tiercache.sqlalchemy.catalog import quote
from tiercache.sqlalchemy.notifications import Ears, engine_for
from tiercache.sqlalchemy.triggers import CHANNEL, MOST_ROWS, SCHEMA

logger = logging.getLogger("tiercache.sqlalchemy")

POLL = 5.0
BATCH = 1_000
FIRST_BACKOFF, MOST_BACKOFF = 0.1, 5.0
STOP_TIMEOUT = 5.0

_TAKE = """
WITH gone AS (
    DELETE FROM {schema}.outbox WHERE id = ANY (ARRAY(
        SELECT id FROM {schema}.outbox ORDER BY id LIMIT CAST(:batch AS int) FOR UPDATE SKIP LOCKED
    )) RETURNING tags
), one AS (
    SELECT DISTINCT unnest(tags) AS tag FROM gone
), kind AS (
    SELECT tag, substring(tag FROM '^row\\:[^\\:]+\\:') AS prefix FROM one
)
SELECT (SELECT count(*) FROM gone),
       CASE WHEN prefix IS NOT NULL AND count(*) > {most} THEN ARRAY[prefix || '*'] ELSE array_agg(tag) END
FROM kind GROUP BY prefix
"""


@dataclass(frozen=True)
class BridgeHealth:
    """What a bridge does right now. `problem` is None where it listens and what it took is invalidated."""

    listening: bool
    problem: str | None
    taken: int  # rows of the outbox, each a statement, since start()
    connects: int  # connections made since start()


class Bridge:
    """Invalidates in *caches* what anybody commits to the tables that have triggers, as long as it runs.

    *database* is an Engine, an AsyncEngine or a URL. An Engine of psycopg or psycopg2 is used as it is; of
    anything else the URL alone, through one of these. It keeps one connection of its own open. *poll* is
    after how many seconds it looks without having been told, *batch* how many rows it takes at once.

    Runs in a thread: for sync and async programs alike, by `with`, `async with`, or start() and stop(). A
    fork has no such thread: start it after the fork, in each worker or in one process apart.
    """

    def __init__(
        self,
        caches: TierCache | Sequence[TierCache],
        database: Engine | AsyncEngine | URL | str,
        *,
        schema: str = SCHEMA,
        poll: float = POLL,
        batch: int = BATCH,
    ) -> None:
        if not poll > 0:
            raise ValueError(f"poll must be a positive number of seconds, not {poll!r}")
        if not 0 < batch < 1_000_000:
            raise ValueError(f"batch must be a number of rows below 1,000,000, not {batch!r}")
        self._caches = (caches,) if isinstance(caches, TierCache) else tuple(caches)
        if not self._caches:
            raise ValueError("a bridge needs a cache: what it takes from the outbox is gone")
        self._engine = engine_for(database)
        self._poll, self._batch = poll, batch
        self._take = text(_TAKE.format(schema=quote(schema).replace(":", r"\:"), most=MOST_ROWS))
        self._health = BridgeHealth(False, "it has not been started", 0, 0)
        self._failures = 0  # since rows were last taken, or found to be none
        self._thread: threading.Thread | None = None
        self._ears: Ears | None = None

    @property
    def health(self) -> BridgeHealth:
        """Without a question to anybody."""
        return self._health

    def start(self) -> None:
        """Begin, and return at once: a database that is away is tried again. RuntimeError where it runs."""
        if self._thread is not None:
            raise RuntimeError("this bridge has been started; stop() it first")
        self._health = BridgeHealth(False, "it is not connected yet", 0, 0)
        self._process = os.getpid()
        self._stopping = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="tiercache-bridge", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End: a batch in hand is finished, or after 5 seconds given back. Not running: nothing."""
        if self._thread is None or self._process != os.getpid():
            return  # a fork has no thread, but the same sockets
        self._stopping.set()
        with suppress(OSError):  # the thread has ended, and closed the other side
            self._wake.send(b"x")
        self._thread.join(STOP_TIMEOUT)
        ears = self._ears
        if ears is not None and self._thread.is_alive():
            ears.cut()
            self._thread.join(STOP_TIMEOUT)
        self._thread = None
        self._wake.close()
        self._say(listening=False, problem="it has been stopped")

    def __enter__(self) -> Bridge:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Bridge:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        return f"<Bridge {self._engine.url!r} {self._health}>"

    def _run(self) -> None:
        """Connect and serve, again and again, until stop(); longer apart each time that nothing was done."""
        errors = (SQLAlchemyError, TierCacheError, OSError, self._engine.dialect.loaded_dbapi.Error)
        try:
            while not self._stopping.is_set():
                try:
                    self._serve()
                except errors as error:
                    self._complain(error)
                    pause = min(MOST_BACKOFF, FIRST_BACKOFF * 2**self._failures)
                    self._failures = min(self._failures + 1, 10)
                    self._stopping.wait(pause * random.uniform(0.5, 1.0))
        finally:
            # Before stop() an error that is none of these ends the thread, which says it in its own way.
            self._say(listening=False, problem="it has ended")
            self._woken.close()

    def _serve(self) -> None:
        ears = Ears(self._engine, CHANNEL)
        self._ears = ears
        try:
            self._say(connects=self._health.connects + 1)
            while not self._stopping.is_set():
                if self._take_some(ears) < self._batch:
                    ears.wait(self._woken, self._poll)
        finally:
            self._ears = None
            ears.close()

    def _take_some(self, ears: Ears) -> int:
        """How many rows were taken: invalidated in every cache, and gone. Where one raises they stay."""
        with ears.connection.begin():
            found = ears.connection.execute(self._take, {"batch": self._batch}).all()
            tags = [tag for _, some in found for tag in some]
            for cache in self._caches if tags else ():
                _invalidate(cache, tags)
        rows: int = found[0][0] if found else 0
        if not self._health.listening:
            logger.info("the bridge from PostgreSQL listens")
        self._failures = 0
        self._say(listening=True, problem=None, taken=self._health.taken + rows)
        return rows

    def _complain(self, error: BaseException) -> None:
        away = "Redis" if isinstance(error, TierCacheError) else "PostgreSQL"
        problem = f"{away}: {error}".splitlines()[0]
        if self._health.problem != problem:
            logger.warning("the bridge from PostgreSQL waits and tries again: %s", problem)
        self._say(listening=False, problem=problem)

    def _say(self, **changes: bool | int | str | None) -> None:
        self._health = replace(self._health, **changes)  # type: ignore[arg-type] # by the names of its fields


def _invalidate(cache: TierCache, tags: list[str]) -> None:
    try:
        cache.sync.invalidate_tags(tags, on_error="raise")
    except (TypeError, ValueError) as error:
        # Only a row that somebody else wrote has what is no tag. It meant something; it must not come back.
        logger.warning("the outbox names what can be no tag, so everything is invalidated: %s", error)
        cache.sync.clear(on_error="raise")
