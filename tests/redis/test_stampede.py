"""A cold key that 800 callers in eight processes want at once: one load, and few words with Redis."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.loops import LOOPS, run
from tests.peers import Peer, do
from tests.servers import RedisServer, eventually
from tests.source import Source
from tiercache import default_cache

PROCESSES, CALLERS = 8, 100
MOST_REQUESTS = 60  # a script call counts as one
LOAD = 0.2  # seconds, as slow queries are


def load(folder: str) -> int:
    time.sleep(LOAD)
    return Source(folder).load()


def rush_in_threads(folder: str) -> set[int]:
    together = threading.Barrier(CALLERS)

    def call(_: int) -> int:
        together.wait()
        return int(do("get_or_load", folder, lambda: load(folder)))

    with ThreadPoolExecutor(CALLERS) as pool:
        return set(pool.map(call, range(CALLERS)))


async def rush_in_tasks(folder: str) -> set[int]:
    async def load_in_a_task() -> int:
        return await asyncio.to_thread(load, folder)

    cache = default_cache()
    return set(await asyncio.gather(*(cache.get_or_load(folder, load_in_a_task) for _ in range(CALLERS))))


def rush_on_uvloop(folder: str) -> set[int]:
    return run(LOOPS["uvloop"], rush_in_tasks(folder))


async def warm_up() -> None:
    """Connect in both worlds and get a lease, so that these requests are counted apart."""
    do("get_or_load", "warm", lambda: 1)
    await default_cache().get_or_load("warmer", lambda: 1)


@pytest.fixture(scope="module")
def peers(redis_server: RedisServer) -> Iterator[list[Peer]]:
    peers = [Peer(redis_server.url(), max_staleness=3600) for _ in range(PROCESSES)]
    try:
        yield peers
    finally:
        for peer in peers:
            peer.__exit__(None, None, None)


def requests(server: RedisServer) -> int:
    """The script calls that clients have sent since CONFIG RESETSTAT."""
    stats = server.cli("INFO", "commandstats")
    return sum(stats[verb]["calls"] for verb in ("cmdstat_evalsha", "cmdstat_eval") if verb in stats)


Rush = Callable[[str], object]


@pytest.mark.parametrize(
    "rushes",
    [[rush_in_threads], [rush_in_tasks], [rush_in_threads, rush_in_tasks], [rush_in_tasks, rush_on_uvloop]],
    ids=["threads", "tasks", "both", "tasks on both loops"],
)
def test_a_cold_key_is_loaded_once_by_eight_hundred_callers_with_few_requests(
    redis_server: RedisServer, peers: list[Peer], source: Source, rushes: list[Rush]
) -> None:
    source.commit(1)
    for peer in peers:
        peer.call(warm_up)
        assert eventually(lambda peer=peer: peer.do("health").listening)
    redis_server.cli("CONFIG", "RESETSTAT")

    rushing = [peer.start(rushes[number % len(rushes)], source.folder) for number, peer in enumerate(peers)]

    assert [each.result(20) for each in rushing] == [{1}] * PROCESSES
    assert source.loads() == 1
    assert requests(redis_server) <= MOST_REQUESTS


def test_who_comes_after_a_stampede_is_served_by_l1_of_its_process(
    redis_server: RedisServer, peers: list[Peer], source: Source
) -> None:
    source.commit(1)
    for peer in peers:
        peer.call(warm_up)
    for each in [peer.start(rush_in_threads, source.folder) for peer in peers]:
        each.result(20)
    redis_server.cli("CONFIG", "RESETSTAT")

    for peer in peers:
        peer.call(rush_in_threads, source.folder)

    assert source.loads() == 1
    assert requests(redis_server) == 0
