"""`tiercache.testing`: what its fixtures give, and what they leave behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.servers import eventually
from tiercache import L2Unavailable, TierCache
from tiercache._core import scripts as lua
from tiercache._core.barriers import Ack, Barrier, Behind, Forget
from tiercache._core.commands import (
    Answers,
    Clear,
    Command,
    Fill,
    Filled,
    Hit,
    Invalidate,
    KeyAsk,
    Read,
    Recorded,
    Set,
    Sync,
    Touch,
    Unlock,
    Wait,
)
from tiercache._core.fences import Fence, Unfence
from tiercache._core.plan import Ask
from tiercache._core.scripts import Script
from tiercache.testing import Clock, FakeServer, MakeCache, settle

pytest_plugins = ["pytester", "tiercache.testing"]

ROOT = Path(__file__).parent.parent
Pair = tuple[TierCache, TierCache]


@pytest.fixture
def ask(tiercache_cache: TierCache) -> Callable[[Command[Any]], Any]:
    """One command to the fake server, and its reply."""
    transport = tiercache_cache._node._blocking
    assert transport is not None
    return lambda command: transport.perform(Ask((command,)))[0]


def lead(key: str, owner: str) -> tuple[KeyAsk, ...]:
    return (KeyAsk(key, "lead", owner),)


def test_every_script_runs_on_the_fake_server(ask: Callable[[Command[Any]], Any]) -> None:
    synced = ask(Sync(0, 0, "a1"))
    epoch, head = synced.epoch, synced.head
    assert ask(Read(epoch, head, lead("k", "a1:1"))) == Answers(head, ("lead",))
    assert isinstance(ask(Read(epoch, head, lead("k", "b2:1"))).found[0], Wait)
    fill = Fill(epoch, head, "a1:1", 60_000, "k", "0", 0, b"\n1", ("t",))
    assert ask(fill) == Filled("ok", head)
    assert isinstance(ask(Read(epoch, head, lead("k", "b2:1"))).found[0], Hit)
    assert ask(Invalidate(("t",), ("k",), 100, 100)) == Recorded(epoch, head + 1)
    assert ask(fill) == Filled("stale", head + 1)
    assert ask(Set(epoch, head + 1, 60_000, "k", "0", b"\n2", ("t",), 100)) == Recorded(epoch, head + 2)
    assert ask(Read(epoch, head, lead("other", "a1:2"))).found == ("lead",)
    assert ask(Unlock("other", "a1:2")) == 1
    assert ask(Clear()) == Recorded(epoch, head + 3)
    assert ask(Read(epoch, head, (KeyAsk("k", "get", ""),))) == Answers(head + 3, ("miss",))
    assert dict(ask(Sync(epoch, head + 3, "a1")).records) == {}
    assert not ask(Touch(epoch, "never", 60_000))
    assert ask(Fence(("t",), ("k",), 100, 100, "f", 60_000)) == Recorded(epoch, head + 4)
    assert ask(Sync(epoch, head, "a1")).fenced == ("t:t", "k:k")
    assert ask(Unfence("f", ("t:t", "k:k")))
    behind = ask(Barrier(epoch, head + 4, "b2", "-0.5"))
    assert behind == Behind(False, "0", {"a1:0": "-0.5"})
    assert ask(Ack(epoch, head + 4, "a1:0", head + 4, "b2"))
    assert ask(Forget((("a1:0", ""),))) == 1
    ran = {Sync, Read, Fill, Set, Invalidate, Clear, Unlock, Touch, Fence, Unfence, Barrier, Ack, Forget}
    scripts = [name for name, value in vars(lua).items() if isinstance(value, Script)]
    assert {kind.__name__.upper() for kind in ran} == set(scripts), "a script that this test does not run"


def test_what_one_of_the_pair_stores_the_other_reads(tiercache_pair: Pair) -> None:
    here, there = tiercache_pair
    here.sync.set("k", {"n": (1, 2)})
    assert there.sync.get("k") == {"n": (1, 2)}
    assert there.stats().l2_hits == 1


def test_the_pair_serves_its_own_copies_until_it_is_settled(tiercache_pair: Pair) -> None:
    here, there = tiercache_pair
    versions = iter(["old", "new"])

    @there.cached(tags=["t"])
    def load() -> str:
        return next(versions)

    load()
    here.sync.invalidate_tags("t")
    assert load() == "old"
    settle(there)
    assert load() == "new"


def test_a_barrier_ends_where_the_clock_stands_still(tiercache_make: MakeCache) -> None:
    here, there = (tiercache_make(max_staleness=0.2) for _ in range(2))
    for cache in (here, there):
        cache.sync.get_or_load("k", lambda: 1, tags=["t"])

    assert here.sync.invalidate_tags("t", wait=True).token is not None


def test_nothing_but_settle_brings_an_invalidation_across(tiercache_pair: Pair) -> None:
    for cache in tiercache_pair:
        cache.sync.set("k", 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "tiercache-listener"]


def test_settle_does_not_take_a_sync_that_had_begun_before_for_its_own(tiercache_pair: Pair) -> None:
    here, there = tiercache_pair
    here.sync.set("k", "old")
    there.sync.get("k")
    syncs = there._node.tiers.syncs
    begun, _ = syncs.claim("sync", there._node.clock(), None, blocking=True)  # as a listener's would
    here.sync.delete("k")
    with ThreadPoolExecutor(1) as pool:
        settled = pool.submit(settle, there)
        assert eventually(lambda: begun.followers)
        syncs.land(begun, True)
        settled.result(10)
    assert there.sync.get("k") is None


def test_settle_says_when_there_is_no_server(
    tiercache_cache: TierCache, tiercache_server: FakeServer
) -> None:
    tiercache_server.close()
    with pytest.raises(L2Unavailable):
        settle(tiercache_cache)


def test_a_cache_that_listens_hears_of_an_invalidation_under_a_clock_that_stands_still(
    tiercache_make: MakeCache,
) -> None:
    here, there = tiercache_make(), tiercache_make(listen=True)
    there.sync.set("k", "old")
    assert eventually(lambda: there.sync.health().listening)
    here.sync.delete("k")
    assert eventually(lambda: there.sync.get("k") is None)


@pytest.mark.anyio
async def test_the_pair_serves_coroutines(tiercache_pair: Pair) -> None:
    here, there = tiercache_pair
    await here.set("k", "old")
    assert await there.get("k") == "old"
    await here.delete("k")
    settle(there)
    assert await there.get("k") is None


def test_a_clock_stands_still_until_it_is_told_to_advance() -> None:
    clock = Clock()
    begun = clock()
    clock.advance(2.5)
    assert clock() == begun + 2.5


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="-1"):
        Clock().advance(-1)


def test_a_clock_drives_a_cache_without_a_server() -> None:
    clock = Clock()
    with TierCache("memory://", private=True, clock=clock).sync as cache:
        cache.set("k", 1, ttl=60)
        clock.advance(59)
        assert cache.get("k") == 1
        clock.advance(2)
        assert cache.get("k") is None


def test_an_entry_ends_in_both_tiers_when_the_clock_passes_its_ttl(
    tiercache_pair: Pair, tiercache_clock: Clock
) -> None:
    here, there = tiercache_pair
    here.sync.set("k", 1, ttl=60)
    tiercache_clock.advance(30)
    assert (here.sync.get("k"), there.sync.get("k")) == (1, 1)
    tiercache_clock.advance(31)
    assert (here.sync.get("k"), there.sync.get("k")) == (None, None)


def test_an_entry_lives_on_when_the_clock_stops_short_of_its_ttl(
    tiercache_cache: TierCache, tiercache_clock: Clock
) -> None:
    tiercache_cache.sync.set("k", 1, ttl=None)
    tiercache_clock.advance(20 * 86400)
    assert tiercache_cache.sync.get("k") == 1


def test_many_short_steps_of_the_clock_are_one_long_one_to_the_server(
    tiercache_cache: TierCache, tiercache_server: FakeServer, tiercache_clock: Clock
) -> None:
    tiercache_cache.sync.set("k", 1, ttl=60)
    inside = tiercache_server._inside
    end = inside.pexpiretime("{default}1:e:k")
    for _ in range(10):
        tiercache_clock.advance(0.0004)
    assert inside.pexpiretime("{default}1:e:k") == end - 4


def test_the_mark_of_a_writer_that_died_runs_out_by_the_clock(
    tiercache_pair: Pair, tiercache_clock: Clock
) -> None:
    here, there = tiercache_pair
    died = here.sync.invalidating(tags=["t"], fence_ttl=30).__enter__()

    def load() -> object:
        there.sync.get_or_load("k", lambda: "loaded", tags=["t"])
        return there.sync.get("k")

    assert load() is None
    tiercache_clock.advance(29)
    assert load() is None
    tiercache_clock.advance(6)
    assert load() == "loaded"
    assert died.fenced


def test_past_max_staleness_a_read_asks_the_server_first(
    tiercache_pair: Pair, tiercache_clock: Clock
) -> None:
    here, there = tiercache_pair
    here.sync.set("k", "old")
    there.sync.get("k")
    here.sync.delete("k")
    tiercache_clock.advance(4.9)
    assert there.sync.get("k") == "old"
    tiercache_clock.advance(0.2)
    assert there.sync.get("k") is None


def test_the_lock_of_a_load_that_hangs_ends_when_the_clock_says_so(
    tiercache_pair: Pair, tiercache_clock: Clock
) -> None:
    here, there = tiercache_pair
    begun, end = threading.Event(), threading.Event()

    def hang() -> str:
        begun.set()
        assert end.wait(10)
        return "late"

    with ThreadPoolExecutor(2) as pool:
        hung = pool.submit(here.sync.get_or_load, "k", hang)
        assert begun.wait(10)
        taken_over = pool.submit(there.sync.get_or_load, "k", lambda: "by another")
        tiercache_clock.advance(11)
        assert taken_over.result(10) == "by another"
        end.set()
        assert hung.result(10) == "late"


def test_a_cache_tries_its_server_again_when_the_clock_has_advanced(
    tiercache_cache: TierCache, tiercache_clock: Clock
) -> None:
    tiercache_cache._node.breaker.failed(tiercache_clock(), TimeoutError("a hiccup"))
    assert tiercache_cache.sync.set("k", 1).pending
    tiercache_clock.advance(1)
    assert tiercache_cache.sync.set("k", 1).stored


EXAMPLE = '''
    import pytest
    from tiercache import TierCache
    from tiercache.testing import settle
    {how}

    class Users:
        """What an application keeps: rows, and a cache of them."""

        __cache_key__ = "users"  # whatever rows there are

        def __init__(self, cache, rows):
            self.rows, self.loads = rows, 0
            self.name = cache.cached(ttl="10m", tags=["user:{{user_id}}"])(self.load_name)
            self.cache = cache

        def load_name(self, user_id: int) -> str:
            self.loads += 1
            return self.rows[user_id]

        def rename(self, user_id, name):
            self.rows[user_id] = name
            self.cache.sync.invalidate_tags(f"user:{{user_id}}")

    def test_a_name_is_loaded_once(tiercache_cache):
        users = Users(tiercache_cache, {{7: "Ada"}})
        assert [users.name(7), users.name(7), users.loads] == ["Ada", "Ada", 1]

    def test_a_name_is_loaded_again_after_ten_minutes(tiercache_cache, tiercache_clock):
        users = Users(tiercache_cache, {{7: "Ada"}})
        users.name(7)
        tiercache_clock.advance(601)
        users.name(7)
        assert users.loads == 2

    def test_a_rename_reaches_the_other_process(tiercache_pair):
        rows = {{7: "Ada"}}
        here, there = (Users(cache, rows) for cache in tiercache_pair)
        assert there.name(7) == "Ada"
        here.rename(7, "Grace")
        settle(there.cache)
        assert there.name(7) == "Grace"

    @pytest.fixture(scope="module")
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    async def test_coroutines_read_it_too(tiercache_pair):
        here, there = tiercache_pair
        await here.set("k", 1)
        assert await there.get("k") == 1

    def test_a_cache_may_listen(tiercache_make):
        cache = tiercache_make(listen=True)
        cache.sync.set("k", 1)
        assert cache.sync.get("k") == 1

    def test_an_application_is_told_where_the_server_is(tiercache_url):
        with TierCache(tiercache_url, private=True, assume_no_failover_loss=True).sync as cache:
            cache.set("k", 1)
            assert cache.get("k") == 1
'''

NOTHING_LEFT = """
    import gc, os, threading
    import pytest

    def sockets():
        return [fd for fd in os.listdir("/proc/self/fd") if is_socket(fd)]

    def is_socket(fd):
        try:
            return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except FileNotFoundError:  # the listing's own
            return False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(item):
        before = set(sockets()), set(threading.enumerate())
        try:
            return (yield)
        finally:
            gc.collect()
            assert (set(sockets()), set(threading.enumerate())) == before, item.name
"""

AS_PLUGIN = "pytest_plugins = ['tiercache.testing']"
BY_IMPORT = "from tiercache.testing import *"


@pytest.mark.parametrize("how", [AS_PLUGIN, BY_IMPORT], ids=["as a plugin", "by import"])
def test_a_users_tests_pass_and_leave_no_thread_no_socket_and_no_warning(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(NOTHING_LEFT)
    pytester.makepyfile(EXAMPLE.format(how=how))
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:valkey", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=6)
    assert result.ret == 0


def test_without_fakeredis_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['fakeredis'] = None; import tiercache.testing"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "ImportError" in ended.stderr
    assert "pip install 'tiercache[testing]'" in ended.stderr


def test_a_server_ends_within_moments() -> None:
    server = FakeServer()
    begun = time.monotonic()
    server.close()
    assert time.monotonic() - begun < 5


def test_what_a_look_found_ends_by_the_clock_too(tiercache_pair: Pair, tiercache_clock: Clock) -> None:
    """It says itself when it ends, by the server's time."""
    here, there = tiercache_pair
    for number in range(4):  # looks pay from then on
        here.sync.set(f"warm{number}", number)
        there.sync.get(f"warm{number}")
    here.sync.set("price", 3, ttl=10)

    for _ in range(3):
        tiercache_clock.advance(3)
        there.sync.get("warm0")
    assert there.sync.get("price") == 3
    for _ in range(2):
        tiercache_clock.advance(3)
        there.sync.get("warm0")

    assert here.sync.get("price") is there.sync.get("price") is None
