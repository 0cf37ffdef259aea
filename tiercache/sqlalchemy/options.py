"""`from_cache`: the option that has a SELECT answered from the cache."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.orm.interfaces import UserDefinedOption

from tiercache import TierCache, source

Ttl = float | str | timedelta | None
TableName = Table | type[Any] | str


class CachesOwn:
    def __repr__(self) -> str:
        return "the cache's own"


CACHES_OWN: Final = CachesOwn()


class FromCache(UserDefinedOption):
    """What `from_cache` gives."""

    def __init__(
        self,
        ttl: Ttl | CachesOwn,
        tables: tuple[TableName, ...] | None,
        relationships: bool,
        cache: TierCache | None,
    ) -> None:
        super().__init__()
        if not isinstance(ttl, CachesOwn):
            source.lifetime_of(ttl)
        self.ttl, self.tables, self.cache = ttl, tables, cache
        self.quiet = False  # whether it is said, once, why a statement cannot be kept
        # SQLAlchemy's own word: loaded instances remember the option, and their lazy loads bear it.
        self.propagate_to_loaders = relationships

    def __reduce__(self) -> Any:
        # Of a pickled instance, which remembers it: a cache is no part of what another process gets.
        return type(self), (self.ttl, self.tables, self.propagate_to_loaders, None)

    def __repr__(self) -> str:
        return f"<from_cache ttl={self.ttl!r}>"


def from_cache(
    ttl: Ttl | CachesOwn = CACHES_OWN,
    *,
    tables: TableName | Iterable[TableName] | None = None,
    relationships: bool = False,
    cache: TierCache | None = None,
) -> FromCache:
    """An option for a SELECT: answer it from the cache, and keep what the database says for *ttl*.

    For `select(...).options(...)`, `session.get(..., options=[...])` and `session.query(...).options(...)`.
    What comes back is what the query would give, in the same session. *ttl* is seconds, a timedelta, or text
    such as "10m"; None: until something invalidates it. *tables* are mapped classes, Tables or names, besides
    those that are seen in the statement: text, views and functions of the database need them. With
    *relationships* lazy loads of what was read are cached, too. *cache* is one of those that are installed on
    the session's engine; left out, the first of them. SettingError for a *ttl* that is none, ValueError where
    the statement runs and no cache is installed.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float | str | timedelta | CachesOwn | None):
        raise TypeError(f"ttl must be seconds, a timedelta, text such as '10m' or None, not {ttl!r}")
    if isinstance(tables, str | Table | type):
        tables = (tables,)
    return FromCache(ttl, None if tables is None else tuple(tables), relationships, cache)
