"""`get_many`, where some of the keys can only be a miss."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tiercache import TierCache


@pytest.fixture
def cache() -> Iterator[TierCache]:
    """One that has no server to ask."""
    made = TierCache("memory://", private=True)
    yield made
    made.sync.close()


def test_get_many_without_a_server_leaves_out_what_is_not_there(cache: TierCache) -> None:
    cache.sync.set("here", 1)

    assert cache.sync.get_many(["here", "not here"]) == {"here": 1}


def test_get_many_counts_a_miss_for_each_key_it_leaves_out(cache: TierCache) -> None:
    cache.sync.set_many({"here": 1, "being written": 2})

    with cache.sync.invalidating(keys=["being written"]):
        cache.sync.get_many(["here", "not here", "being written"])

    assert (cache.stats().l1_hits, cache.stats().misses) == (1, 2)
