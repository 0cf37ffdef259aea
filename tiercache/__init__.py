"""A two-tier cache: an LRU in each process, a shared Redis behind it, and a bound on how stale a read can be.

from tiercache import TierCache

cache = TierCache("redis://127.0.0.1:6379/0", namespace="shop")

@cache.cached(ttl="10m", tags=["user:{user_id}"])
def get_user(user_id: int) -> dict: ...

cache.sync.invalidate_tags("user:7")        # or, in a coroutine: await cache.invalidate_tags("user:7")
"""

from typing import TYPE_CHECKING, Any

from tiercache._cache import TierCache
from tiercache._core.collect import Collected
from tiercache._core.keys import register_uncounted
from tiercache._core.writes import Token, Written
from tiercache._decorator import cached
from tiercache._default import configure, default_cache
from tiercache._errors import (
    L2Refused,
    L2Unavailable,
    LoadTimeout,
    ServerNotFound,
    SettingError,
    TierCacheError,
    UnstableKey,
    Unstorable,
)
from tiercache._report import CacheInfo, Health, Stats
from tiercache._sync import SyncCache
from tiercache._warm import Failure, Warmed

if TYPE_CHECKING:
    from tiercache.sqlalchemy.dependency import cached_dependency as cached_dependency

__version__ = "0.1.0"

__all__ = [
    "CacheInfo",
    "Collected",
    "Failure",
    "Health",
    "L2Refused",
    "L2Unavailable",
    "LoadTimeout",
    "ServerNotFound",
    "SettingError",
    "Stats",
    "SyncCache",
    "TierCache",
    "TierCacheError",
    "Token",
    "UnstableKey",
    "Unstorable",
    "Warmed",
    "Written",
    "__version__",
    "cached",
    "configure",
    "default_cache",
    "register_uncounted",
]


def __getattr__(name: str) -> Any:
    if name == "cached_dependency":  # not in __all__: it needs SQLAlchemy, and this package does not
        from tiercache.sqlalchemy.dependency import cached_dependency

        return cached_dependency
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
