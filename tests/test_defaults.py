"""The default cache, and handles that share a node: a bare `@cached` meets `cache.invalidate_tags`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts import output_of, run_script
from tests.servers import RedisServer
from tiercache import SettingError, TierCache, TierCacheError, configure, default_cache

COUNTED = """
import asyncio, sys
from tiercache import TierCache, cached, configure, default_cache
runs = 0
@cached(ttl=60, tags=["users"])
def count():
    global runs
    runs += 1
    return runs
@cached
async def count_awaited():
    return count() * 10
"""


@pytest.fixture(params=["redis", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    server: RedisServer = request.getfixturevalue("redis_server")
    server.flush()
    return server.url()


def test_a_bare_decorator_follows_the_one_cache_of_the_process(url: str) -> None:
    program = COUNTED + (
        "cache = TierCache(sys.argv[1], namespace='shop')\n"
        "print(count(), count(), cache.sync.get(count.key()))\n"
        "cache.sync.invalidate_tags('users')\n"
        "print(count(), count(), cache.stats().loads)\n"
    )
    assert output_of(program, url) == "1 1 1\n2 2 2\n"


def test_a_bare_decorator_follows_the_one_cache_of_the_process_in_coroutines(url: str) -> None:
    program = COUNTED + (
        "async def main():\n"
        "    cache = TierCache(sys.argv[1], namespace='shop')\n"
        "    print(await count_awaited(), await count_awaited())\n"
        "    await cache.invalidate_tags('users')\n"
        "    await count_awaited.invalidate()\n"
        "    print(await count_awaited(), count())\n"
        "    await cache.close()\n"
        "asyncio.run(main())\n"
    )
    assert output_of(program, url) == "10 10\n20 2\n"


def test_the_environment_names_the_default_cache_and_its_settings(redis_server: RedisServer) -> None:
    program = COUNTED + (
        "other = TierCache('memory://', namespace='other')\n"
        "count()\n"
        "print(default_cache(), TierCache().stats().loads, other.stats().loads, TierCache.from_env())\n"
    )
    url = redis_server.url()
    said = f"<TierCache {url} namespace='env'>"
    assert output_of(program, TIERCACHE_URL=url, TIERCACHE_NAMESPACE="env", TIERCACHE_TTL="10m") == (
        f"{said} 1 0 {said}\n"
    )


def test_configure_makes_the_default_cache_and_functions_follow_it(redis_server: RedisServer) -> None:
    program = COUNTED + (
        "configure('memory://')\n"
        "print(count(), count())\n"
        "cache = configure(sys.argv[1], namespace='later')\n"
        "print(count(), count(), default_cache() is cache, cache.stats().loads)\n"
        "TierCache().sync.invalidate_tags('users')\n"
        "print(count())\n"
    )
    assert output_of(program, redis_server.url()) == "1 1\n2 2 True 1\n3\n"


def test_without_a_word_from_the_user_it_is_memory_and_says_so_once() -> None:
    program = COUNTED + (
        "print(count(), count(), asyncio.run(count_awaited()))\n"
        "other = TierCache()\n"
        "print(other.sync.health().problem)\n"
        "default_cache().sync.close(); other.sync.close()\n"
        "count()  # makes the default cache anew\n"
    )
    ended = run_script(program, warnings="always")
    assert (ended.status, ended.out) == (
        0,
        "1 1 10\nno URL was given: nothing is shared with other processes\n",
    )
    assert ended.err.count("RuntimeWarning") == 1
    assert "TIERCACHE_URL" in ended.err
    assert "configure('redis://" in ended.err


@pytest.mark.parametrize(
    "asking", ["count()", "asyncio.run(awaited())", "TierCache()", "TierCache.from_env()"]
)
def test_the_warning_points_at_who_asked(asking: str, tmp_path: Path) -> None:
    program = tmp_path / "asking.py"
    program.write_text(f"{COUNTED}\nasync def awaited():\n    await count_awaited()\n{asking}\n")
    ended = run_script("import runpy, sys; runpy.run_path(sys.argv[1])", str(program), warnings="always")

    assert ended.status == 0
    assert re.search(r"asking\.py:\d+: RuntimeWarning: no URL", ended.err), ended.err


def test_memory_that_was_asked_for_is_no_cause_for_a_warning() -> None:
    program = COUNTED + "cache = configure('memory://'); print(count(), cache.sync.health().problem)\n"
    assert output_of(program) == "1 None\n"


def test_where_a_process_has_several_caches_the_warning_names_them(redis_server: RedisServer) -> None:
    program = COUNTED + (
        "one, other = TierCache(sys.argv[1], namespace='one'), TierCache('memory://', namespace='two')\n"
        "print(count())\n"
    )
    ended = run_script(program, redis_server.url(), warnings="always")
    assert (ended.status, ended.out) == (0, "1\n")
    assert f"{redis_server.url()} (one)" in ended.err
    assert "memory:// (two)" in ended.err


def test_a_default_cache_that_was_closed_is_made_anew() -> None:
    program = COUNTED + (
        "configure('memory://')\n"
        "print(count())\n"
        "default_cache().sync.close()\n"
        "configure('memory://')\n"
        "print(count(), count())\n"
    )
    assert output_of(program) == "1\n2 2\n"


def test_configure_again_at_the_same_place_replaces_the_cache_with_its_settings_and_entries(url: str) -> None:
    with configure(url, l1_maxsize=100).sync as before:
        before.set("k", 1)
        with configure(url, l1_maxsize=200).sync as cache:
            assert default_cache().stats().entries == 0
            cache.set("k", 2)
            assert cache.get("k") == 2
            with pytest.raises(TierCacheError, match="closed"):
                before.get("k")


def test_a_wrong_setting_in_configure_leaves_the_cache_that_was(url: str) -> None:
    with configure(url, l1_maxsize=100).sync as cache:
        cache.set("k", 1)
        with pytest.raises(SettingError):
            configure(url, timeout=-1)

        assert default_cache().sync is cache
        assert cache.get("k") == 1
        with TierCache(url).sync as other:
            assert other.get("k") == 1


def test_configure_agrees_with_other_handles_on_the_node_that_they_share(url: str) -> None:
    with configure(url, l1_maxsize=100).sync as cache, TierCache(url).sync as other:
        other.set("k", 1)
        with pytest.raises(SettingError, match="l1_maxsize=100"):
            configure(url, l1_maxsize=200)
        assert cache.get("k") == 1


@pytest.fixture
def handles(url: str) -> Iterator[tuple[TierCache, TierCache]]:
    one, other = TierCache(url, namespace="shared"), TierCache(url, namespace="shared", ttl=5)
    with one.sync, other.sync:
        one.sync.get("k")  # what is set before the first lease goes to L2 alone
        yield one, other


def test_handles_of_one_process_share_their_tiers(handles: tuple[TierCache, TierCache]) -> None:
    one, other = handles
    one.sync.set("k", 1, tags=["t"])
    assert other.sync.get("k") == 1
    assert other.stats().l1_hits == 1

    asyncio.run(other.invalidate_tags("t"))
    assert one.sync.get("k") is None


def test_a_node_lives_until_its_last_handle_is_closed(handles: tuple[TierCache, TierCache]) -> None:
    one, other = handles
    one.sync.set("k", 1)
    one.sync.close()
    assert other.sync.get("k") == 1
    other.sync.close()
    with pytest.raises(TierCacheError, match="closed"):
        other.sync.get("k")


def test_a_private_handle_has_tiers_of_its_own(url: str, handles: tuple[TierCache, TierCache]) -> None:
    handles[0].sync.set("k", 1)
    with TierCache(url, namespace="shared", private=True).sync as private:
        assert private.get("k") == (None if url == "memory://" else 1)
        assert private.stats().l1_hits == 0


def test_another_namespace_is_another_store(url: str, handles: tuple[TierCache, TierCache]) -> None:
    handles[0].sync.set("k", 1)
    with TierCache(url, namespace="other").sync as other:
        assert other.get("k") is None


def test_handles_that_contradict_each_other_on_their_node_are_refused_by_name(
    url: str, handles: tuple[TierCache, TierCache]
) -> None:
    with pytest.raises(SettingError, match=r"max_staleness=5\.0.*asks for 1\.0"):
        TierCache(url, namespace="shared", max_staleness=1)


def test_what_a_handle_does_not_say_it_takes_over_from_its_node(url: str) -> None:
    with TierCache(url, namespace="first", l1_maxsize=2).sync as first:
        with TierCache(url, namespace="first").sync as second:
            second.get("a")
            second.set_many({"a": 1, "b": 2, "c": 3})
            assert first.stats().entries == 2


@pytest.mark.parametrize(
    "end", ["cache.sync.close()", "default_cache().sync.close(); cache.sync.close()", ""]
)
def test_an_embedded_server_serves_a_bare_decorator_and_ends_after_its_node_without_noise(end: str) -> None:
    program = COUNTED + (
        f"cache = TierCache.embedded()\nprint(count(), count(), cache.sync.health().mode)\n{end}\n"
    )
    assert output_of(program) == "1 1 two tiers\n"
