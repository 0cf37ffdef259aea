"""Decorated functions: their options, their verbs, and what they may be decorated on."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache

pytestmark = pytest.mark.on_each_loop

BRIEF = 0.15  # seconds


@pytest.fixture
def node(any_url: str, new_node: Callable[..., TierCache]) -> TierCache:
    return new_node(any_url, max_staleness=60)


class Runs(list[Any]):
    """What a function was called with, in order."""

    def function(self, world: World, node: TierCache, **options: Any) -> Any:
        """A function of two arguments that is counted here."""

        @world.cached(node, **options)
        async def function(a: object, b: object = None) -> str:
            self.append((a, b))
            return f"{a} {b}"

        return function


def test_a_call_runs_once_for_each_set_of_arguments(world: World, node: TierCache) -> None:
    runs = Runs()
    function = runs.function(world, node)

    async def body() -> None:
        for _ in range(3):
            assert [await function(1), await function(1, b=2), await function(b=2, a=1)] == [
                "1 None",
                "1 2",
                "1 2",
            ]
        assert runs == [(1, None), (1, 2)]

    world.run(body())


def test_invalidate_takes_one_call_away_and_invalidate_all_every_one(world: World, node: TierCache) -> None:
    runs = Runs()
    function = runs.function(world, node, tags=["a:{a}"])

    async def body() -> None:
        await function(1), await function(2)
        await function.invalidate(1)
        await function(1), await function(2)
        assert runs == [(1, None), (2, None), (1, None)]
        await function.invalidate_all()
        await function(1), await function(2)
        assert runs[3:] == [(1, None), (2, None)]

    world.run(body())


def test_invalidate_all_leaves_another_function_alone(world: World, node: TierCache) -> None:
    runs = Runs()
    mine, theirs = runs.function(world, node, version=1), runs.function(world, node, version=2)

    async def body() -> None:
        await mine(1), await theirs(1)
        await mine.invalidate_all()
        await theirs(1)
        assert len(runs) == 2
        await mine(1)
        assert len(runs) == 3

    world.run(body())


def test_refresh_calls_the_function_whatever_is_cached_and_keeps_the_result(
    world: World, node: TierCache
) -> None:
    truth = ["old"]

    @world.cached(node)
    async def function() -> str:
        return truth[0]

    async def body() -> None:
        assert await function() == "old"
        truth[0] = "new"
        assert await function() == "old"
        assert await function.refresh() == "new"
        assert await function() == "new"

    world.run(body())


def test_tags_are_templates_over_the_arguments_or_a_function_of_them(world: World, node: TierCache) -> None:
    runs = Runs()
    by_template = runs.function(world, node, version=1, tags=["all", "a:{a}", "b:{b}"])
    by_function = runs.function(world, node, version=2, tags=lambda a: [f"a:{a}"])

    async def body() -> None:
        for function in (by_template, by_function):
            await function(1, 2), await function(3, 4)
        del runs[:]
        await world.view(node).invalidate_tags("a:1")
        for function in (by_template, by_function):
            await function(1, 2), await function(3, 4)
        assert runs == [(1, 2), (1, 2)]
        await world.view(node).invalidate_tags(["b:4"])
        await by_template(1, 2), await by_template(3, 4)
        assert runs[2:] == [(3, 4)]

    world.run(body())


def test_a_release_that_adds_a_tag_does_not_serve_what_an_older_one_stored_without_it(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    runs = Runs()
    before = runs.function(world, new_node(redis_server.url()))
    after = runs.function(world, new_node(redis_server.url()), tags=["new"])

    async def body() -> None:
        await before(1), await after(1)
        assert len(runs) == 2
        assert before.key(1) == after.key(1), "both releases invalidate the same key"

    world.run(body())


def test_what_is_ignored_does_not_tell_calls_apart(world: World, node: TierCache) -> None:
    runs = Runs()
    function = runs.function(world, node, ignore=["b"])

    async def body() -> None:
        assert [await function(1, object()), await function(1, 2)][1].startswith("1 <object")
        assert len(runs) == 1

    world.run(body())


@pytest.mark.parametrize("key", ["{a}", lambda a: a], ids=["template", "function"])
def test_a_key_of_ones_own_decides_alone_what_tells_calls_apart(
    world: World, node: TierCache, key: Any
) -> None:
    runs = Runs()
    function = runs.function(world, node, key=key)

    async def body() -> None:
        await function(1, object()), await function(1, 2), await function("1")
        assert len(runs) == 2

    world.run(body())


def test_the_key_of_a_call_serves_the_verbs_of_the_cache(world: World, node: TierCache) -> None:
    function = Runs().function(world, node)
    cache = world.view(node)

    async def body() -> None:
        await function(1)
        assert await cache.get(function.key(1)) == "1 None"
        assert await cache.touch(function.key(1), ttl=60)
        await cache.delete(function.key(1))
        assert not await cache.exists(function.key(1))

    world.run(body())


def test_a_value_set_under_a_functions_key_does_not_escape_the_functions_tags(
    world: World, node: TierCache
) -> None:
    function = Runs().function(world, node, tags=["t"])

    async def body() -> None:
        await world.view(node).set(function.key(1), "set without the tags")
        assert await function(1) == "1 None"

    world.run(body())


def test_without_l1_each_call_asks_redis_and_without_l2_each_process_loads_for_itself(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (new_node(redis_server.url(), max_staleness=60) for _ in range(2))
    runs = Runs()

    async def body() -> None:
        for number, (options, loads, l1_hits, entries) in enumerate(
            [({}, 1, 2, 1), ({"l1": False}, 1, 0, 1), ({"l2": False}, 2, 2, 0)]
        ):
            del runs[:]
            functions = [runs.function(world, node, version=number, **options) for node in (one, other)]
            for function in functions:
                await function(1), await function(1)
            assert len(runs) == loads
            assert sum(function.cache_info().l1_hits for function in functions) == l1_hits
            assert len(redis_server.cli("KEYS", f"*:e:*@{number}(*")) == entries

    world.run(body())


def test_an_entry_leaves_l1_after_its_l1_ttl_and_is_found_in_l2(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(redis_server.url(), max_staleness=60)
    function = Runs().function(world, node, ttl=60, l1_ttl=BRIEF)

    async def found_in_l2() -> bool:
        await function(1)
        return bool(function.cache_info().l2_hits)

    async def body() -> None:
        await function(1), await function(1)
        assert function.cache_info().l1_hits == 1
        await world.until(found_in_l2)
        assert function.cache_info().loads == 1

    world.run(body())


def test_an_l1_ttl_longer_than_the_ttl_does_not_lengthen_it(world: World, node: TierCache) -> None:
    runs = Runs()
    function = runs.function(world, node, ttl=BRIEF, l1_ttl=60)

    async def is_loaded_again() -> bool:
        await function(1)
        return len(runs) == 2

    async def body() -> None:
        await world.until(is_loaded_again)

    world.run(body())


def test_jitter_spreads_the_ends_of_entries_and_lengthens_none(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, begun = new_node(redis_server.url(), ttl=100, jitter=0.5).sync, time.monotonic()
    cache.set_many({f"k{i}": i for i in range(100)})

    left = [redis_server.cli("PTTL", key) for key in redis_server.cli("KEYS", "*:e:*")]
    passed = (time.monotonic() - begun) * 1000
    assert max(left) <= 100_000
    assert min(left) > 49_999 - passed
    assert max(left) - min(left) > 20_000


def test_cache_info_counts_the_calls_of_its_function_alone(world: World, node: TierCache) -> None:
    runs = Runs()
    mine, theirs = runs.function(world, node, version=1), runs.function(world, node, version=2)

    async def body() -> None:
        await mine(1), await mine(1), await theirs(1)

    world.run(body())
    assert (mine.cache_info().loads, mine.cache_info().l1_hits) == (1, 1)
    assert (theirs.cache_info().loads, theirs.cache_info().l1_hits) == (1, 0)


def test_an_error_of_the_function_is_raised_as_it_is_and_is_not_kept(world: World, node: TierCache) -> None:
    error = LookupError("no row")
    runs = []

    @world.cached(node)
    async def function() -> None:
        runs.append(1)
        raise error

    async def body() -> None:
        for _ in range(2):
            with pytest.raises(LookupError) as caught:
                await function()
            assert caught.value is error

    world.run(body())
    assert len(runs) == 2


@pytest.mark.anyio
async def test_a_coroutine_function_stays_one_and_keeps_its_name_and_signature(node: TierCache) -> None:
    @node.cached(ttl=60)
    async def function(a: int, *, b: str = "b") -> str:
        """What it does."""
        return f"{a}{b}"

    assert inspect.iscoroutinefunction(function)
    assert (function.__name__, function.__doc__) == ("function", "What it does.")
    assert list(inspect.signature(function).parameters) == ["a", "b"]
    assert await function.__wrapped__(1) == await function(1) == "1b"


def test_a_call_that_does_not_fit_the_function_is_the_functions_own_type_error(
    world: World, node: TierCache
) -> None:
    function = Runs().function(world, node)

    async def body() -> None:
        for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"c": 3})):
            with pytest.raises(TypeError, match=r"function\(\)"):
                await function(*args, **kwargs)

    world.run(body())
