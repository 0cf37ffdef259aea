"""Calls that come amid a step of the cache on its own thread: of a finalizer, or of a handler of a signal."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.servers import RedisServer
from tiercache import TierCache

PLENTY = 30.0


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """The collector runs at every few allocations, and so amid nearly every step."""
    before = gc.get_threshold()
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)


def ends(act: Callable[[], None]) -> bool:
    """Whether *act*, in a thread of its own, comes to its end."""
    ended = threading.Event()

    def run() -> None:
        act()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    return ended.wait(PLENTY)


@pytest.mark.usefixtures("eager_collector")
def test_what_the_collector_finds_may_use_the_cache() -> None:
    cache = TierCache("memory://", namespace="collected", private=True)
    source = [0]

    @cache.cached(tags=["all", "of:{number}"])
    def get(number: int) -> int:
        return source[0]

    class Collected:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            get(1)
            cache.sync.invalidate_tags("of:2")

    seen: list[bool] = []

    def use() -> None:
        for number in range(5_000):
            Collected()
            source[0] = number
            get.invalidate(number % 50)
            seen.append(get(number % 50) == number)

    assert ends(use)
    assert all(seen)
    gc.collect()  # what is left uses the cache, too
    cache.sync.close()


def test_what_comes_amid_the_start_of_the_listener_may_use_the_cache(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that starts it waits until it runs, and a signal's handler may run in that wait."""
    cache = TierCache(redis_server.url(), namespace="amid-start", private=True)
    start, started = threading.Thread.start, []

    def start_amid(thread: threading.Thread) -> None:
        if thread.name == "tiercache-listener":
            started.append(thread)
            cache.sync.get("k")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_amid)

    assert ends(lambda: cache.sync.set("k", 1) and None)
    assert len(started) == 1
    assert cache.sync.get("k") == 1
    cache.sync.close()
