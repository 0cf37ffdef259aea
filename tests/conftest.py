"""Fixtures for the whole suite. Each test finds the shared servers empty."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.loops import LOOPS, NewLoop
from tests.servers import RedisServer
from tests.source import Source
from tests.world import Tasks, Threads, World
from tiercache import TierCache
from tiercache._accelerator import compiled


def pytest_configure() -> None:
    """What a script starts in the background ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    if compiled is not None:
        return "hit path: both halves"
    return (
        "hit path: Python only; it was not compiled here for want of a C compiler, or TIERCACHE_PURE is set"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_each_loop = metafunc.definition.get_closest_marker("on_each_loop") is not None
    if "world" in metafunc.fixturenames:
        worlds = [Threads(), *map(Tasks, LOOPS if on_each_loop else ["asyncio"])]
        metafunc.parametrize("world", worlds, indirect=True, ids=lambda world: world.name)
    elif "anyio_backend" in metafunc.fixturenames and on_each_loop:
        backends = [("asyncio", {"loop_factory": new_loop}) for new_loop in LOOPS.values()]
        metafunc.parametrize("anyio_backend", backends, ids=LOOPS)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """redis-py runs on asyncio alone."""
    return "asyncio"


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    """The test runs once on each event loop; one of tasks, which makes none, is marked `on_each_loop`."""
    return LOOPS[request.param]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The newest server of this machine, shared: a test that hurts it takes `own_redis`."""
    with closing(RedisServer(servers.newest())) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server_62() -> Iterator[RedisServer]:
    """The oldest server that tiercache supports, shared."""
    with closing(RedisServer(servers.oldest_supported())) as server:
        yield server


@pytest.fixture(scope="session", params=["redis_server", "redis_server_62"])
def any_redis(request: pytest.FixtureRequest) -> RedisServer:
    """The test runs once on each shared server."""
    server: RedisServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server for this test alone, to stop, kill or pause."""
    with closing(RedisServer(servers.newest())) as server:
        yield server


@pytest.fixture(autouse=True)
def empty_servers(request: pytest.FixtureRequest) -> None:
    for name in ("redis_server", "redis_server_62", "any_redis"):
        if name in request.fixturenames:
            request.getfixturevalue(name).flush()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """The test runs once with threads and once with tasks; with these on each loop if it is marked so."""
    made: World = request.param
    return made


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty database."""
    return Source.new(tmp_path)


@pytest.fixture(params=["redis", "memory"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The test runs once with two tiers and once without a server."""
    if request.param == "memory":
        return "memory://"
    server: RedisServer = request.getfixturevalue("redis_server")
    server.flush()
    return server.url()


@pytest.fixture
def new_node() -> Iterator[Callable[..., TierCache]]:
    """Makes a cache that shares its node with no other; all end with the test, at once."""
    made: list[TierCache] = []

    def make(url: str | None = None, **settings: Any) -> TierCache:
        made.append(TierCache(url, private=True, **settings))
        return made[-1]

    yield make
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda cache: cache.sync.close(), made))
