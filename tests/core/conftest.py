"""Two nodes and a simulated server, for tests that step plans by hand."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, Node, nodes
from tests.core.sim_server import SimServer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> SimServer:
    return SimServer(clock)


@pytest.fixture
def pair(server: SimServer, clock: Clock) -> list[Node]:
    return nodes(server, clock)


@pytest.fixture
def a(pair: list[Node]) -> Node:
    """A node with a lease that has just begun."""
    return pair[0]


@pytest.fixture
def b(pair: list[Node]) -> Node:
    """Another process."""
    return pair[1]
