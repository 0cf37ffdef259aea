"""Fault 4: a write of one's own and a foreign one in the same instant. Both processes keep the later one.

1. A's set is record 5, B's is record 6.  2. A hears of record 6: nothing in L1 to drop.  3. A's own
reply arrives, and A keeps its value. Other caches differ from Redis from there on, for good.

A set that Redis refuses twice, because another came after its call each time, says that it was not
stored, and invalidates: then both processes have no value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.peers import Peer, do, do_async
from tests.servers import RedisServer, eventually
from tiercache import Written

ROUNDS = 100
SOON = 1.0


class Outcome(NamedTuple):
    number: int  # of its record
    value: str | None  # what a read finds from that record on: None where it was not stored


def set_at(instant: float, key: str, value: str) -> Outcome:
    """Set it at *instant* of the clock that all processes share."""
    while time.monotonic() < instant:
        pass
    return outcome_of(do("set", key, value), value)


async def set_at_in_a_task(instant: float, key: str, value: str) -> Outcome:
    while time.monotonic() < instant:
        pass
    return outcome_of(await do_async("set", key, value), value)


def outcome_of(written: Written, value: str) -> Outcome:
    assert written.token is not None
    return Outcome(written.token.number, value if written.stored else None)


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
    two: tuple[Peer, Peer], act: Callable[[float, str, str], Outcome]
) -> None:
    kept = 0
    for turn in range(ROUNDS):
        instant = time.monotonic() + 0.002
        sets = [peer.start(act, instant, "k", f"{turn} {name}") for peer, name in zip(two, "ab", strict=True)]
        later = max(each.result(10) for each in sets)

        assert eventually(lambda: [peer.do("get", "k") for peer in two] == [later.value] * 2, within=SOON)  # noqa: B023
        kept += later.value is not None
    assert kept > ROUNDS / 2
