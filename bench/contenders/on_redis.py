"""Every contender that keeps things in Redis: blocking, awaited, and those with a tier in the process."""

from __future__ import annotations

from bench.contenders.aiocache_on_redis import Aiocache
from bench.contenders.cashews_on_redis import (
    Cashews,
    CashewsClientSide,
    CashewsClientSideResp2,
    CashewsLocked,
)
from bench.contenders.coredis_tracking import Coredis
from bench.contenders.dogpile_on_redis import Dogpile
from bench.contenders.facade import Contender
from bench.contenders.fastapi_cache_on_redis import FastapiCache
from bench.contenders.glide_client_side import Glide
from bench.contenders.hand_redis import HandBatched, HandRedis, HandRedisAsync, HandWake
from bench.contenders.py_cachify_on_redis import PyCachify, PyCachifyAsync
from bench.contenders.redis_py_client_side import RedisPyClientSide
from bench.contenders.tiercache import Tiercache, TiercacheAsync
from bench.contenders.yokedcache_on_redis import Yokedcache

BLOCKING: tuple[type[Contender], ...] = (HandRedis, Tiercache, Dogpile, PyCachify, RedisPyClientSide)
AWAITED: tuple[type[Contender], ...] = (
    *(HandRedisAsync, HandBatched, TiercacheAsync, Cashews, CashewsLocked, Aiocache, PyCachifyAsync),
    *(Coredis, Glide, Yokedcache, FastapiCache),
)
CLIENT_SIDE: tuple[type[Contender], ...] = (CashewsClientSide, CashewsClientSideResp2)
STAMPEDE: tuple[type[Contender], ...] = (HandWake,)
EVERYONE = (*BLOCKING, *AWAITED, *CLIENT_SIDE, *STAMPEDE)
