"""The transports: on real servers, on the fake one, on none, and behind a relay that meddles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest

from tests.contract.commands import invalidate, set_, sync
from tests.contract.relay import Relay
from tests.contract.worlds import MemoryTasks, MemoryThreads, Tasks, Threads, Transport, ask
from tests.loops import LOOPS
from tests.servers import RedisServer
from tiercache.testing import FakeServer

WORLDS: dict[str, Callable[..., Transport]] = {
    "threads": Threads,
    **{f"tasks on {name}": partial(Tasks, new_loop=new_loop) for name, new_loop in LOOPS.items()},
}
PLENTY = 10.0  # seconds; a timeout that no test waits for


@pytest.fixture(params=["newest", "6.2", "fakeredis"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of an empty server of each kind that a transport must get on with."""
    if request.param == "fakeredis":
        with closing(FakeServer()) as fake:
            yield int(fake.url.rpartition(":")[2].partition("/")[0])
    else:
        server = request.getfixturevalue("redis_server" if request.param == "newest" else "redis_server_62")
        server.flush()
        yield server.port


@pytest.fixture(params=WORLDS)
def transport(request: pytest.FixtureRequest, port: int) -> Iterator[Transport]:
    with closing(WORLDS[request.param](port, timeout=PLENTY)) as made:
        yield made


@pytest.fixture(params=[*WORLDS, "memory threads", "memory tasks"])
def any_transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Each transport, on the newest server or on none."""
    if request.param in WORLDS:
        server = request.getfixturevalue("redis_server")
        server.flush()
        made = WORLDS[request.param](server.port, timeout=PLENTY)
    else:
        made = MemoryThreads() if request.param == "memory threads" else MemoryTasks()
    with closing(made):
        yield made


@pytest.fixture
def relay(redis_server: RedisServer) -> Iterator[Relay]:
    with closing(Relay(redis_server.port)) as made:
        yield made


@pytest.fixture(params=WORLDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes a transport to a port; all are closed with the test."""
    with ExitStack() as made:
        yield lambda port, timeout=PLENTY, **options: made.enter_context(
            closing(WORLDS[request.param](port, timeout=timeout, **options))
        )


@pytest.fixture
def ready(connect: Callable[..., Any], relay: Relay) -> Transport:
    """A transport with one idle connection through the relay, to a server that knows the scripts."""
    made: Transport = connect(relay.port)
    ask(made, set_(ask(made, sync()).epoch, "warm"))
    ask(made, invalidate("warm"))
    relay.connections = relay.scripts = 0
    return made
