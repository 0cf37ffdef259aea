"""The contenders, one library a file; what each needs is imported when one of them is made."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from bench.contenders.aiocache_memory import AiocacheMemory
from bench.contenders.async_lru import AsyncLru, AsyncLruNow
from bench.contenders.cachebox import Cachebox, CacheboxLater, CacheboxLru, CacheboxLruLater
from bench.contenders.cachetools import CachetoolsLater, CachetoolsLru, CachetoolsTtl
from bench.contenders.cashews_memory import CashewsMemory
from bench.contenders.dogpile_memory import DogpileMemory, DogpileMemoryLater
from bench.contenders.facade import Contender
from bench.contenders.hand_written import BareCoroutine, BareWrapper, BareWrapperLater
from bench.contenders.lru_cache import LruCache, LruCacheLater
from bench.contenders.theine import Theine, TheineLater
from bench.contenders.tiercache import Tiercache, TiercacheAsync

# The first is what the multiples are multiples of.
IN_MEMORY_SYNC: tuple[type[Contender], ...] = (
    LruCache,
    BareWrapper,
    Tiercache,
    CacheboxLru,
    Cachebox,
    CachetoolsLru,
    CachetoolsTtl,
    Theine,
    DogpileMemory,
    AsyncLruNow,
)
IN_MEMORY_ASYNC: tuple[type[Contender], ...] = (
    BareCoroutine,
    BareWrapperLater,
    TiercacheAsync,
    CacheboxLruLater,
    CacheboxLater,
    AsyncLru,
    TheineLater,
    CashewsMemory,
    AiocacheMemory,
    LruCacheLater,
    CachetoolsLater,
    DogpileMemoryLater,
)


def every_contender() -> Iterator[type[Contender]]:
    """The classes of every module beside this one, whether or not what they need is installed."""
    for module in pkgutil.iter_modules(__path__):
        for found in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(found, type) and issubclass(found, Contender) and "name" in vars(found):
                yield found
