"""Fault 7: wall clocks that are wrong, or are set. Nobody looks at them.

Other caches stamp entries and invalidations with the time of day: 15 minutes of skew make an
invalidation invisible. Here the writer and the reader are half an hour apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.peers import Peer, set_wall_clock
from tests.servers import RedisServer, eventually
from tests.source import Source
from tiercache import cached

QUARTER = 15 * 60.0
BOUND = 0.5


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    return Source(folder).load()


@cached(ttl=3600, tags=["it"])
def slow(folder: str) -> int:
    source = Source(folder)
    version = source.load()
    source.flag("has read").set()
    source.flag("go on").wait()
    return version


def time_of_day() -> float:
    return time.time()


@pytest.fixture(scope="module")
def early(redis_server: RedisServer) -> Iterator[Peer]:
    with Peer(redis_server.url(), wall_clock=-QUARTER, max_staleness=60) as peer:
        yield peer


@pytest.fixture(scope="module")
def late(redis_server: RedisServer) -> Iterator[Peer]:
    with Peer(redis_server.url(), wall_clock=QUARTER, max_staleness=60) as peer:
        yield peer


@pytest.fixture(params=["early reader, late writer", "late reader, early writer"])
def reader_and_writer(request: pytest.FixtureRequest, early: Peer, late: Peer) -> tuple[Peer, Peer]:
    assert late.call(time_of_day) - early.call(time_of_day) > 1.9 * QUARTER
    return (early, late) if request.param.startswith("early") else (late, early)


def test_an_invalidation_by_a_process_half_an_hour_away_is_seen(
    reader_and_writer: tuple[Peer, Peer], source: Source
) -> None:
    reader, writer = reader_and_writer
    source.commit(1)
    assert reader.call(it, source.folder) == 1
    source.commit(2)
    writer.do("invalidate_tags", "it")

    assert writer.call(it, source.folder) == 2
    assert eventually(lambda: reader.call(it, source.folder) == 2, within=2.0)


def test_a_load_overtaken_by_a_process_half_an_hour_away_is_not_kept(
    reader_and_writer: tuple[Peer, Peer], source: Source
) -> None:
    reader, writer = reader_and_writer
    source.commit(1)
    loading = reader.start(slow, source.folder)
    source.flag("has read").wait()
    source.commit(2)
    writer.do("invalidate_tags", "it")
    source.flag("go on").set()

    assert loading.result(10) == 1
    assert [peer.call(slow, source.folder) for peer in reader_and_writer] == [2, 2]


def test_an_entry_lives_its_ttl_for_a_process_half_an_hour_away(
    reader_and_writer: tuple[Peer, Peer],
) -> None:
    reader, writer = reader_and_writer
    for peer in reader_and_writer:  # what it told before the server was emptied is owed to the new epoch
        peer.do("health")
    writer.do("set", "brief", 1, ttl=0.5)
    writer.do("set", "long", 2, ttl=60)
    assert reader.do("get_many", ["brief", "long"]) == {"brief": 1, "long": 2}

    assert eventually(lambda: reader.do("get_many", ["brief", "long"]) == {"long": 2}, within=2.0)


@pytest.mark.parametrize("step", [-QUARTER, QUARTER])
def test_a_wall_clock_that_is_set_lengthens_no_lease_and_no_life(
    redis_server: RedisServer, source: Source, step: float
) -> None:
    with (
        Peer(redis_server.url(), max_staleness=BOUND, listen=False) as reader,
        Peer(redis_server.url()) as writer,
    ):
        source.commit(1)
        assert reader.call(it, source.folder) == 1
        reader.do("set", "brief", 1, ttl=BOUND)
        source.commit(2)
        writer.do("invalidate_tags", "it")
        done = time.monotonic()
        reader.call(set_wall_clock, step)

        assert eventually(lambda: time.monotonic() > done + BOUND)
        assert reader.call(it, source.folder) == 2
        assert reader.do("get", "brief") is None
