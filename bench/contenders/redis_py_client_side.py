"""redis-py's own client-side cache: blocking, RESP3.

It wants a Redis of 7.4 or later, by name and by version, and so refuses every Valkey. Where the server is
one that is new enough, its look at the name is lifted here: else it could not be measured on what can be
installed from a package.
"""

from __future__ import annotations

import redis

from bench.contenders.facade import Unable
from bench.contenders.hand_redis import HandRedis


class RedisPyClientSide(HandRedis):
    name = "redis-py client-side cache"
    packages = ("redis", "hiredis", "orjson")
    setting = (
        "redis.Redis(protocol=3, cache_config=CacheConfig(max_size)), orjson; allowed on Valkey by force"
    )

    async def open(self) -> None:
        from redis.cache import CacheConfig
        from redis.connection import CacheProxyConnection

        assert self.place.url is not None
        if not self.place.maxsize:
            raise Unable("without its cache it is redis-py GET + orjson, the first line")
        with redis.Redis.from_url(self.place.url) as client:
            if "valkey_version" in client.info("server"):
                CacheProxyConnection.DEFAULT_SERVER_NAME = "valkey"
        self.client = redis.Redis.from_url(
            self.place.url, protocol=3, cache_config=CacheConfig(max_size=self.place.maxsize)
        )
        try:
            self.client.ping()
        except redis.ConnectionError as error:
            raise Unable(f"refuses this server: {error}") from error
