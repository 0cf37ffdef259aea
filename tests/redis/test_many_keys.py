"""The verbs of many keys: one look a hundred keys, one call of the loader for all that no tier has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.redis.conftest import client_of
from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache, Unstorable

LONG = "long:" + "x" * 600
ODD = ["plain", "ß ü", "with\nbreak", LONG, LONG + "y"]


class Loader:
    """Gives each key its length, but for those it lacks; remembers what it was asked for."""

    def __init__(self, *lacks: str) -> None:
        self.lacks, self.asked = lacks, list[list[str]]()

    async def load(self, keys: list[str]) -> dict[str, int]:
        self.asked.append(list(keys))
        return {key: len(key) for key in keys if key not in self.lacks}


@pytest.fixture
def node(any_url: str, new_node: Callable[..., TierCache]) -> TierCache:
    return new_node(any_url, max_staleness=60)


@pytest.fixture
def cache(world: World, node: TierCache) -> Any:
    return world.view(node)


def test_the_loader_is_called_once_with_what_no_tier_has_in_the_order_asked(world: World, cache: Any) -> None:
    loader = Loader()

    async def body() -> None:
        await cache.set("b", 10)
        await cache.get_or_load_many(["d"], loader.load)

        found = await cache.get_or_load_many(["a", "b", "c", "d", "e"], loader.load)

        assert list(found.items()) == [("a", 1), ("b", 10), ("c", 1), ("d", 1), ("e", 1)]
        assert loader.asked == [["d"], ["a", "c", "e"]]
        assert await cache.get_or_load_many(["e", "a"], loader.load) == {"e": 1, "a": 1}
        assert len(loader.asked) == 2

    world.run(body())


def test_what_another_process_has_loaded_is_not_loaded_again(
    world: World, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    loader = Loader()
    one, other = (world.view(new_node(redis_server.url())) for _ in range(2))
    keys = [f"k{i}" for i in range(250)]

    async def body() -> None:
        await one.get_or_load_many(keys[:150], loader.load)
        found = await other.get_or_load_many(keys, loader.load)
        assert found == {key: len(key) for key in keys}
        assert loader.asked == [keys[:150], keys[150:]]

    world.run(body())


def test_a_key_the_loader_has_nothing_for_is_left_out_and_asked_for_again(world: World, cache: Any) -> None:
    loader = Loader("b")

    async def body() -> None:
        for _ in range(2):
            assert await cache.get_or_load_many(["a", "b"], loader.load) == {"a": 1}
        assert loader.asked == [["a", "b"], ["b"]]
        assert not await cache.exists("b")

    world.run(body())


def test_keys_come_back_as_they_were_spelled_however_they_are_stored(world: World, cache: Any) -> None:
    loader = Loader()

    async def body() -> None:
        keys = ODD
        expected = {key: len(key) for key in keys}
        assert await cache.get_or_load_many(keys, loader.load) == expected
        assert await cache.get_or_load_many(keys, loader.load) == expected
        assert await cache.get_many(keys) == expected
        assert loader.asked == [keys]
        await cache.delete_many(keys)
        assert await cache.get_many(keys) == {}

    world.run(body())


def test_a_key_asked_for_twice_is_loaded_once(world: World, cache: Any) -> None:
    loader = Loader()

    async def body() -> None:
        assert await cache.get_or_load_many(["a", "b", "a"], loader.load) == {"a": 1, "b": 1}
        assert loader.asked == [["a", "b"]]

    world.run(body())


def test_no_keys_are_no_call_and_no_round_trip(world: World, cache: Any) -> None:
    loader = Loader()

    async def body() -> None:
        assert await cache.get_or_load_many([], loader.load) == {}
        assert await cache.get_many([]) == {}
        await cache.delete_many([])
        await cache.set_many({})
        assert loader.asked == []

    world.run(body())


def test_many_are_set_found_and_deleted_whatever_their_number(world: World, cache: Any) -> None:
    values = {f"k{i}": i for i in range(2500)}

    async def body() -> None:
        await cache.set_many(values, tags=lambda key: ["all", f"ends:{key[-1]}"])
        assert await cache.get_many(values) == values
        await cache.invalidate_tags("ends:7")
        kept = {key: value for key, value in values.items() if not key.endswith("7")}
        assert await cache.get_many(values) == kept
        await cache.delete_many(values)
        assert await cache.get_many(values) == {}

    world.run(body())


def test_a_reply_of_many_large_values_brings_them_all(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (world.view(new_node(any_redis.url(), timeout=5)) for _ in range(2))
    values = {f"k{i}": str(i % 10) * 100_000 for i in range(20)}  # 256 KB go in one reply

    async def body() -> None:
        await one.set_many(values)
        assert await other.get_many(values) == values

    world.run(body())


def test_a_warm_batch_is_one_look_and_only_what_it_does_not_find_is_asked_of_the_script(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    # A listener's syncs would be counted, too.
    one, other = (world.view(new_node(any_redis.url(), max_staleness=60, listen=False)) for _ in range(2))
    keys, loader = [f"k{i}" for i in range(300)], Loader()

    def calls() -> dict[str, int]:
        with client_of(any_redis) as client:
            stats: Any = client.info("commandstats")
        return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("mget", "evalsha")}

    async def body() -> None:
        await one.set_many(dict.fromkeys(keys, 1))
        await other.get_many(keys[:100])
        before = calls()
        assert len(await other.get_many(keys[100:])) == 200
        assert calls() == {"mget": before["mget"] + 1, "evalsha": before["evalsha"]}

        await one.set_many(dict.fromkeys("abcdefghijklmnop", 1))
        assert await other.get_or_load_many([*"abcdefghijklmnop", "new"], loader.load)
        assert loader.asked == [["new"]]
        assert calls()["mget"] == before["mget"] + 2

    world.run(body())


def test_fifty_large_values_are_a_few_looks(
    world: World, any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (world.view(new_node(any_redis.url(), timeout=5, max_staleness=60)) for _ in range(2))
    values = {f"k{i}": str(i % 10) * 300_000 for i in range(50)}

    async def body() -> None:
        await one.set_many(values)
        with client_of(any_redis) as client:
            client.config_resetstat()
            assert await other.get_many(values) == values
            stats: Any = client.info("commandstats")
        assert stats["cmdstat_mget"]["calls"] == 4

    world.run(body())


def test_the_tags_of_each_key_are_its_own_and_reach_it(world: World, cache: Any) -> None:
    loader = Loader()

    async def body() -> None:
        await cache.get_or_load_many(["a", "b"], loader.load, tags=lambda key: [f"of:{key}"])
        await cache.invalidate_tags("of:a")
        await cache.get_or_load_many(["a", "b"], loader.load, tags=lambda key: [f"of:{key}"])
        assert loader.asked == [["a", "b"], ["a"]]

    world.run(body())


def test_what_an_invalidation_overtook_is_not_kept(world: World, node: TierCache, cache: Any) -> None:
    truth = [1]

    async def body() -> None:
        gate = world.gate()

        async def load(keys: list[str]) -> dict[str, int]:
            values = dict.fromkeys(keys, truth[0])
            await gate.wait()
            return values

        loading = world.start(cache.get_or_load_many(["a", "b"], load, tags=lambda key: [key]))
        await world.until(lambda: gate.arrived == 1)
        truth[0] = 2
        await cache.invalidate_tags("a")
        gate.open()

        assert await loading.result() == {"a": 1, "b": 1}
        assert await cache.get_or_load_many(["a", "b"], load, tags=lambda key: [key]) == {"a": 2, "b": 1}

    world.run(body())


def test_keys_that_another_call_is_loading_are_waited_for_and_not_loaded(world: World, cache: Any) -> None:
    async def body() -> None:
        gate, loader = world.gate(), Loader()

        async def load_b() -> str:
            await gate.wait()
            return "theirs"

        theirs = world.start(cache.get_or_load("b", load_b))
        await world.until(lambda: gate.arrived == 1)
        mine = world.start(cache.get_or_load_many(["a", "b"], loader.load))
        await world.until(lambda: loader.asked)
        gate.open()

        assert await mine.result() == {"a": 1, "b": "theirs"}
        assert await theirs.result() == "theirs"
        assert loader.asked == [["a"]]

    world.run(body())


def test_two_calls_that_overlap_in_opposite_order_do_not_wait_for_each_other(
    world: World, cache: Any
) -> None:
    async def body() -> None:
        both = world.gate()

        async def load(keys: list[str]) -> dict[str, str]:
            if both.arrived == 1:
                both.open()
            await both.wait()
            return {key: f"{key} of {','.join(keys)}" for key in keys}

        found = await world.gather(
            cache.get_or_load_many(["a", "b", "c"], load), cache.get_or_load_many(["c", "x", "a"], load)
        )
        assert [sorted(each) for each in found] == [["a", "b", "c"], ["a", "c", "x"]]
        assert found[0]["a"] == found[1]["a"]

    world.run(body())


def test_a_loader_that_fails_is_one_error_and_the_next_call_loads_at_once(
    world: World, node: TierCache, cache: Any, any_url: str, new_node: Callable[..., TierCache]
) -> None:
    loader = Loader()

    async def fail(keys: list[str]) -> dict[str, int]:
        raise LookupError(f"none of {keys}")

    async def body() -> None:
        with pytest.raises(LookupError, match=r"none of \['a', 'b'\]"):
            await cache.get_or_load_many(["a", "b"], fail)
        other = world.view(new_node(any_url))  # a lock left behind would hold it up for ten seconds
        for each in (other, cache):
            assert await each.get_or_load_many(["a", "b"], loader.load) == {"a": 1, "b": 1}

    world.run(body())


@pytest.mark.parametrize("wrong", [None, ["a"], "a", 1])
def test_a_loader_that_returns_no_mapping_is_told_so(world: World, cache: Any, wrong: object) -> None:
    async def load(keys: list[str]) -> object:
        return wrong

    async def body() -> None:
        with pytest.raises(TypeError, match="mapping of key to value"):
            await cache.get_or_load_many(["a"], load)

    world.run(body())


def test_without_redis_the_loader_is_called_once_with_all_keys(
    world: World, own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, loader = world.view(new_node(own_redis.url(), timeout=0.2)), Loader()
    own_redis.kill()
    keys = [f"k{i}" for i in range(250)]

    async def body() -> None:
        assert len(await cache.get_or_load_many(keys, loader.load)) == 250
        assert loader.asked == [keys]
        assert await cache.get_many(keys) == {}

    world.run(body())


def test_an_old_load_is_not_waited_for_by_who_asks_after_an_invalidation(world: World, cache: Any) -> None:
    truth = [1]

    async def body() -> None:
        gate = world.gate()

        async def load(keys: list[str]) -> dict[str, int]:
            values = dict.fromkeys(keys, truth[0])
            await gate.wait()
            return values

        before = world.start(cache.get_or_load_many(["a"], load, tags=["t"]))
        await world.until(lambda: gate.arrived == 1)
        truth[0] = 2
        await cache.invalidate_tags("t")
        after = world.start(cache.get_or_load_many(["a"], load, tags=["t"]))
        gate.open()
        assert (await before.result(), await after.result()) == ({"a": 1}, {"a": 2})

    world.run(body())


@pytest.mark.anyio
@pytest.mark.on_each_loop
@pytest.mark.parametrize("verb", ["get", "exists", "touch"])
async def test_tasks_that_together_ask_for_more_than_one_answer_holds_all_have_theirs(
    redis_server: RedisServer, new_node: Callable[..., TierCache], verb: str
) -> None:
    writer, reader = (new_node(redis_server.url(), max_staleness=60) for _ in range(2))
    keys = [f"k{number}" for number in range(20)]
    await writer.set_many({key: key * 10_000 for key in keys}, ttl=60)

    found = await asyncio.gather(*(getattr(reader, verb)(key) for key in keys))

    assert found == ([key * 10_000 for key in keys] if verb == "get" else [True] * len(keys))


def test_tags_that_can_be_read_but_once_are_those_of_every_key(world: World, cache: Any) -> None:
    names = ["a", "b"]

    async def body() -> None:
        await cache.set_many({"k1": 1, "k2": 2}, tags=(name for name in names))
        await cache.get_or_load_many(["l1", "l2"], Loader().load, tags=map(str.upper, names))
        assert len(await cache.get_many(["k1", "k2", "l1", "l2"])) == 4

        await cache.invalidate_tags(["b", "B"])

        assert await cache.get_many(["k1", "k2", "l1", "l2"]) == {}

    world.run(body())


def test_of_many_values_the_one_that_cannot_be_stored_is_named(world: World, cache: Any) -> None:
    async def body() -> None:
        with pytest.raises(Unstorable, match=r"under 'bad', value\['x'\]"):
            await cache.set_many({"good": 1, "bad": {"x": object()}})

        assert await cache.get_many(["good", "bad"]) == {}

    world.run(body())
