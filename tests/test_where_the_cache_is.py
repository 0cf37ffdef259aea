"""Which server a handle goes to, and which settings come with it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from tiercache import TierCache, cached, configure, default_cache
from tiercache._bound import Binding
from tiercache._node import Node


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """The default cache of a test ends with it."""
    yield
    default_cache().sync.close()


def test_a_cache_without_a_url_has_the_settings_of_the_default_cache() -> None:
    configure("memory://", ttl="1h", l1_ttl=60, jitter=0.1, namespace="shop")

    made, other = TierCache(), TierCache(ttl=5)

    assert made._settings == default_cache()._settings
    assert (other._settings.ttl, other._settings.l1_ttl) == (5, 60)
    made.sync.close()
    other.sync.close()


def test_a_call_that_the_default_cache_changed_under_files_nothing_in_the_new_one() -> None:
    """1. A call begins.  2. The function goes to a new cache.  3. The call's entry, of the old, is kept."""
    begun, changed = threading.Event(), threading.Event()
    source = {1: "old"}

    def tags(a: int) -> list[str]:
        if a == 1 and not changed.is_set():
            begun.set()
            changed.wait(10)
        return ["tag"]

    @cached(tags=tags)
    def read(a: int) -> str | None:
        return source.get(a)

    with TierCache("memory://", namespace="before").sync:  # the node outlives the change
        configure("memory://", namespace="before")
        call = threading.Thread(target=read, args=(1,))
        call.start()
        assert begun.wait(10)
        new = configure("memory://", namespace="after").sync
        read(2)
        changed.set()
        call.join()

        source[1] = "new"
        new.invalidate_tags("tag")
        assert read(1) == "new"


def test_a_function_that_is_gone_leaves_what_it_counted_and_nothing_else() -> None:
    cache = configure("memory://", namespace="counted").sync
    counters = len(cache._node.counts)
    for _ in range(10):

        @cache._cache.cached
        def read(a: int) -> int:
            return a

        read(1)
    del read
    gc.collect()

    stats = cache.stats()
    assert (stats.loads, stats.l1_hits) == (1, 9)
    assert len(cache._node.counts) == counters


def test_a_function_is_led_to_each_place_once_and_before_a_call_goes_there() -> None:
    led: list[tuple[Node, bool]] = []
    binding = Binding(
        test_a_cache_without_a_url_has_the_settings_of_the_default_cache,
        default_cache,
        "function",
        lambda node, counts, table: led.append((node, binding.table is table)),
    )
    first = configure("memory://", namespace="first")
    calls = [threading.Thread(target=binding.bind) for _ in range(8)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    second = configure("memory://", namespace="second")

    assert binding.bind() is binding.bind()
    assert led == [(first._node, False), (second._node, False)]
    first.sync.close()
