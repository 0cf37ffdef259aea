"""The database of one worker process, its cache, and a count of the statements it sends.

The environment says which: SHOP_DATABASE (a URL for an async engine), SHOP_REDIS, SHOP_CACHE (`off` calls
every function, as if there were no cache), SHOP_COUNTS (a directory: each process keeps its count there).
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from examples.shop.counts import Count
from tiercache import TierCache
from tiercache.sqlalchemy import install

MAX_STALENESS = 1.0
CACHE_IS_ON = os.environ.get("SHOP_CACHE", "on") == "on"

engine = create_async_engine(os.environ.get("SHOP_DATABASE", "sqlite+aiosqlite:///shop.sqlite"))
sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine, expire_on_commit=False)

cache = TierCache(
    os.environ.get("SHOP_REDIS", "memory://"), namespace="shop", max_staleness=MAX_STALENESS, ttl="10m"
)
if CACHE_IS_ON:
    # From here on whatever a session commits invalidates what was cached of it, in every worker.
    install(cache, engine)


def count_statements(directory: Path) -> None:
    """Count what this process's engine sends, SAVEPOINT and the like apart: each is a round trip."""
    count = Count(directory / str(os.getpid()))

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def _(*_: object) -> None:
        count.increase()


if "SHOP_COUNTS" in os.environ:
    count_statements(Path(os.environ["SHOP_COUNTS"]))
