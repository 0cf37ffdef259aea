"""Fault 4: a write of one's own and a foreign one in the same instant. Both processes keep the later one.

1. A's set is record 5, B's is record 6.  2. A hears of record 6: nothing in L1 to drop.  3. A's own
reply arrives, and A keeps its value. Other caches differ from Redis from there on, for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.peers import Peer, do, do_async
from tests.servers import RedisServer, eventually

ROUNDS = 100
SOON = 1.0


def set_at(instant: float, key: str, value: str) -> int:
    """Set it at *instant* of the clock that all processes share; the number of its record."""
    while time.monotonic() < instant:
        pass
    return int(do("set", key, value).token.number)


async def set_at_in_a_task(instant: float, key: str, value: str) -> int:
    while time.monotonic() < instant:
        pass
    return int((await do_async("set", key, value)).token.number)


@pytest.fixture(scope="module")
def two(redis_server: RedisServer) -> Iterator[tuple[Peer, Peer]]:
    # No sync brings within the test what a message did not.
    with (
        Peer(redis_server.url(), max_staleness=60) as one,
        Peer(redis_server.url(), max_staleness=60) as other,
    ):
        assert eventually(lambda: all(peer.do("health").listening for peer in (one, other)))
        yield one, other


@pytest.mark.parametrize("act", [set_at, set_at_in_a_task])
def test_two_sets_in_one_instant_leave_every_process_with_the_later_one(
    two: tuple[Peer, Peer], act: Callable[[float, str, str], int]
) -> None:
    for turn in range(ROUNDS):
        instant = time.monotonic() + 0.002
        sets = [peer.start(act, instant, "k", f"{turn} {name}") for peer, name in zip(two, "ab", strict=True)]
        first, second = (each.result(10) for each in sets)

        later = f"{turn} a" if first > second else f"{turn} b"
        assert eventually(lambda: [peer.do("get", "k") for peer in two] == [later] * 2, within=SOON)  # noqa: B023
