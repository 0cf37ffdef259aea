"""What a source tells the loads that read it, in both worlds, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context

import pytest

from tests.servers import RedisServer
from tiercache import TierCache, source


@pytest.fixture
def caches(redis_server: RedisServer) -> Iterator[tuple[TierCache, TierCache]]:
    """Two processes' worth: each a node of its own."""
    one, other = (TierCache(redis_server.url(), private=True) for _ in range(2))
    with one.sync, other.sync:
        yield one, other


def test_what_is_not_committed_is_its_readers_alone(caches: tuple[TierCache, TierCache]) -> None:
    def dirty() -> str:
        source.uncommitted()
        return "dirty"

    assert caches[0].sync.get_or_load("k", dirty) == "dirty"
    assert caches[0].sync.get_or_load("k", lambda: "clean") == "clean"
    assert caches[1].sync.get("k") == "clean"
    assert caches[0].stats().events["uncommitted"] == 1


@pytest.mark.anyio
async def test_what_is_not_committed_is_its_readers_alone_in_tasks(
    caches: tuple[TierCache, TierCache],
) -> None:
    @caches[0].cached
    async def load(first: str) -> str:
        if first:
            source.uncommitted()
        return first or "clean"

    assert await load("dirty") == "dirty"
    assert await load("dirty") == "dirty"
    assert load.cache_info().loads == 2


def test_a_snapshot_from_before_an_invalidation_is_not_kept(caches: tuple[TierCache, TierCache]) -> None:
    one, other = caches
    one.sync.get("warm")
    begun = source.moment()
    other.sync.invalidate_tags("t")

    def old() -> str:
        source.as_of(begun)
        return "old"

    assert one.sync.get_or_load("k", old, tags=["t"]) == "old"
    assert one.sync.get("k") is None
    assert one.sync.get_or_load("j", old, tags=["u"]) == "old"
    assert one.sync.get("j") == "old"


def test_tags_that_a_source_names_reach_the_entry(caches: tuple[TierCache, TierCache]) -> None:
    one, other = caches

    def load() -> str:
        source.depends_on(["row:users:7"])
        return "v1"

    assert one.sync.get_or_load("k", load) == "v1"
    other.sync.invalidate_tags("row:users:*", wait=True)

    assert one.sync.get("k") is None
    assert other.sync.get("k") is None


def test_a_transaction_reads_its_own_writes_through_a_decorated_function(
    caches: tuple[TierCache, TierCache],
) -> None:
    rows = {7: "old"}

    @caches[0].cached(tags=["row:users:{number}"])
    def name(number: int) -> str:
        return rows[number]

    assert name(7) == "old"
    writing = source.Writing()
    writing.add(["row:users:7"])
    rows[7] = "mine"
    assert name(7) == "mine"
    rows[7] = "old"  # rolled back
    writing.end()

    assert name(7) == "old"
    assert name.cache_info().loads == 2


def test_outside_of_loads_nothing_happens() -> None:
    source.uncommitted()
    source.depends_on("t")
    source.as_of(source.moment())


def test_in_an_open_transaction_a_cache_that_was_made_later_answers_nothing_of_its_writes(
    redis_server: RedisServer,
) -> None:
    writing = source.Writing()
    writing.add("t")
    with TierCache(redis_server.url(), private=True).sync as later:
        later.set("other", 1)
        Context().run(later.set, "k", "committed", tags=["t"])

        assert later.get("k") is None
        assert not later.exists("k")
        assert later.get_or_load("k", lambda: "mine", tags=["t"]) == "mine"
        assert later.get("other") == 1
        writing.end()

        assert later.get("k") == "committed"
