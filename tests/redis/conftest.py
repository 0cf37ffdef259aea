"""A domain on each server the scripts must run on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis

from tests.redis.domain import Domain
from tests.servers import RedisServer


def client_of(server: RedisServer, **options: Any) -> redis.Redis:
    return redis.Redis("127.0.0.1", server.port, protocol=2, socket_timeout=10, **options)


@pytest.fixture(params=["newest", "6.2", "fakeredis"])
def domain(request: pytest.FixtureRequest) -> Iterator[Domain]:
    """A domain nobody has used, on each server in turn."""
    with _client(request) as client:
        yield Domain(client)


@pytest.fixture
def real(any_redis: RedisServer) -> Iterator[Domain]:
    """A domain nobody has used, on each real server in turn: for what fakeredis does not do."""
    with client_of(any_redis) as client:
        yield Domain(client)


def _client(request: pytest.FixtureRequest) -> Any:
    if request.param == "fakeredis":
        return fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)), protocol=2)
    server = request.getfixturevalue("redis_server" if request.param == "newest" else "redis_server_62")
    server.flush()
    return client_of(server)
