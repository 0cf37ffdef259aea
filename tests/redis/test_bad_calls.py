"""Calls that cannot be answered: refused by every verb, with what to write instead, and nothing by halves."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import RedisServer
from tests.world import World
from tiercache import SettingError, TierCache, TierCacheError, Token, UnstableKey, Unstorable


@pytest.fixture
def cache(world: World, any_url: str, new_node: Callable[..., TierCache]) -> Any:
    return world.view(new_node(any_url))


async def one() -> int:
    return 1


@pytest.mark.parametrize(
    ("tags", "kind", "message"),
    [
        ([""], ValueError, r"a tag must not be empty \(''\)"),
        ("", ValueError, r"a tag must not be empty \(''\)"),
        (["a\0b"], ValueError, "must not hold a NUL"),
        (["a" * 513], ValueError, "at most 512 bytes, not 513.*write an id"),
        (["ß" * 257], ValueError, "at most 512 bytes, not 514"),
        (["\ud800"], ValueError, "valid Unicode"),
        ([None], TypeError, "a tag must be a str, not None"),
        (None, TypeError, r"tags must be a str or several, not None; for none write \[\]"),
        (b"t", TypeError, "tags must be a str or several"),
        ({"t": 1}, TypeError, "tags must be a str or several"),
    ],
)
def test_a_wrong_tag_is_refused_by_every_verb_and_nothing_is_stored(
    world: World, cache: Any, tags: Any, kind: type[Exception], message: str
) -> None:
    async def body() -> None:
        await cache.set("there", 1)
        for act in (
            lambda: cache.set("k", 1, tags=tags),
            lambda: cache.get_or_load("k", one, tags=tags),
            lambda: cache.get_or_load("there", one, tags=tags),
            lambda: cache.invalidate_tags(tags),
        ):
            with pytest.raises(kind, match=message):
                await act()
        assert not await cache.exists("k")

    world.run(body())


def test_a_closed_cache_says_so_whatever_it_is_asked_for(world: World, cache: Any) -> None:
    async def body() -> None:
        await cache.close()
        for act in (
            lambda: cache.get(""),
            lambda: cache.exists(""),
            lambda: cache.get_or_load("", one),
            lambda: cache.get_or_load("k", one, tags=5),
        ):
            with pytest.raises(TierCacheError, match="closed"):
                await act()

    world.run(body())


@pytest.mark.parametrize("ttl", ["x", -1])
def test_a_wrong_ttl_is_refused_whether_the_key_is_there_or_not(world: World, cache: Any, ttl: Any) -> None:
    async def body() -> None:
        await cache.set("there", 1)
        for key in ("there", "k"):
            with pytest.raises(SettingError, match="ttl must be"):
                await cache.get_or_load(key, one, ttl=ttl)

    world.run(body())


def test_an_entry_has_128_tags_and_no_more_and_an_invalidation_any_number(world: World, cache: Any) -> None:
    async def body() -> None:
        most = [f"t{i}" for i in range(128)]
        await cache.set("k", 1, tags=most)
        with pytest.raises(
            ValueError, match="at most 128 tags, not 129; write one tag for what they have in common"
        ):
            await cache.set("k", 2, tags=[*most, "t128"])
        assert await cache.get("k") == 1
        await cache.invalidate_tags([f"t{i}" for i in range(5000, -1, -1)])
        assert not await cache.exists("k")

    world.run(body())


@pytest.mark.parametrize(
    ("key", "kind", "message"),
    [
        ("", ValueError, r"a key must not be empty \(''\)"),
        (b"k", TypeError, r"a key must be a str, not b'k'; write key\.decode\(\)"),
        (7, TypeError, "a key must be a str, not 7; write f'name:{key}'"),
        (None, TypeError, "a key must be a str"),
    ],
)
def test_a_wrong_key_is_refused_by_every_verb(
    world: World, cache: Any, key: Any, kind: type[Exception], message: str
) -> None:
    async def body() -> None:
        for act in (
            lambda: cache.get(key),
            lambda: cache.set(key, 1),
            lambda: cache.delete(key),
            lambda: cache.touch(key, ttl=1),
            lambda: cache.get_or_load(key, one),
            lambda: cache.get_many(["good", key]),
            lambda: cache.set_many({"good": 1, key: 2}),
            lambda: cache.delete_many(["good", key]),
        ):
            with pytest.raises(kind, match=message):
                await act()
        assert not await cache.exists("good"), "nothing was done by halves"

    world.run(body())


@pytest.mark.parametrize("keys", [None, 5])
def test_keys_that_are_none_are_refused(world: World, cache: Any, keys: Any) -> None:
    async def body() -> None:
        with pytest.raises(TypeError, match=f"keys must be a list of keys, not {keys}"):
            await cache.get_many(keys)

    world.run(body())


@pytest.mark.parametrize("keys", ["one", b"two"])
def test_one_key_where_several_are_meant_is_refused(world: World, cache: Any, keys: Any) -> None:
    async def body() -> None:
        with pytest.raises(
            TypeError, match=re.escape(f"keys must be a list of keys, not one: write [{keys!r}]")
        ):
            await cache.get_many(keys)

    world.run(body())


@pytest.mark.parametrize(
    "key", ["ß ü 漢", "with space", "new\nline", "a" * 512, "a" * 5000, "ß" * 5000, "{x}|1|"]
)
def test_any_text_is_a_key_however_long_and_its_head_can_be_read_in_redis(
    redis_server: RedisServer, new_node: Callable[..., TierCache], key: str
) -> None:
    cache = new_node(redis_server.url()).sync
    cache.set(key, 1)
    cache.set(key + "!", 2)
    assert (cache.get(key), cache.get(key + "!")) == (1, 2)

    stored = [name.partition(b":e:")[2].decode() for name in redis_server.cli("KEYS", "*:e:*")]
    assert len(stored) == 2
    assert all(name.startswith(key[:3]) and len(name.encode()) <= 512 for name in stored)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"items": [1, {"at": socket.socket}]}, r"value\['items'\]\[1\]\['at'\]"),
        ([object()], r"value\[0\]"),
        (lambda: 1, "function"),
        (iter([1]), "iterator"),
    ],
)
def test_a_value_that_would_not_come_back_is_refused_with_the_path_to_it(
    world: World, cache: Any, value: Any, message: str
) -> None:
    async def load() -> Any:
        return value

    async def body() -> None:
        for act in (
            lambda: cache.set("k", value),
            lambda: cache.get_or_load("k", load),
            lambda: cache.set_many({"good": 1, "k": value}),
        ):
            with pytest.raises(Unstorable, match=message):
                await act()
        assert await cache.get_many(["good", "k"]) == {}, "nothing was done by halves"

    world.run(body())


def test_a_def_that_returns_a_coroutine_is_refused_by_a_blocking_verb(
    any_url: str, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_url)

    @node.cached
    def function() -> Any:
        return one()

    for call in (
        lambda: node.sync.get_or_load("k", one),
        lambda: node.sync.get_or_load("k", lambda: one()),
        function,
    ):
        with pytest.raises(
            TypeError, match="returned a coroutine to a blocking call; decorate an `async def`"
        ):
            call()
    assert not node.sync.exists("k")


@pytest.mark.parametrize("loader", [None, 7, {"k": 1}])
def test_a_loader_that_is_no_function_is_refused(world: World, cache: Any, loader: Any) -> None:
    async def body() -> None:
        with pytest.raises(TypeError, match=r"loader must be a function.*pass the function, not its result"):
            await cache.get_or_load("k", loader)

    world.run(body())


def test_an_argument_without_a_stable_key_is_refused_at_the_call_with_every_remedy(
    any_url: str, new_node: Callable[..., TierCache]
) -> None:
    @new_node(any_url).cached
    def function(client: object) -> int:
        return 1

    for remedy in (r'ignore=\["client"\]', "key=", "__cache_key__"):
        with pytest.raises(UnstableKey, match=remedy):
            function(object())


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "10 x", True])
def test_a_wrong_ttl_is_refused_by_every_verb(world: World, cache: Any, ttl: Any) -> None:
    async def body() -> None:
        for act in (
            lambda: cache.set("k", 1, ttl=ttl),
            lambda: cache.get_or_load("k", one, ttl=ttl),
            lambda: cache.touch("k", ttl=ttl),
            lambda: cache.set_many({"k": 1}, ttl=ttl),
        ):
            with pytest.raises(SettingError, match="for no expiry pass None"):
                await act()
        assert not await cache.exists("k")

    world.run(body())


def test_a_block_that_names_nothing_is_refused(any_url: str, new_node: Callable[..., TierCache]) -> None:
    node = new_node(any_url)
    for make in (node.invalidating, node.sync.invalidating):
        with pytest.raises(ValueError, match="needs the tags= or keys="):
            make()


def test_a_block_is_for_one_write(any_url: str, new_node: Callable[..., TierCache]) -> None:
    """Entered again it would still be discarded; of two at once the first would lift the fence of both."""
    block = new_node(any_url).sync.invalidating(tags=["t"])
    with block:
        block.discard()

    with pytest.raises(RuntimeError, match="for one write"), block:
        pass


@pytest.mark.parametrize("wait", ["no", [], 0.5, 1, None])
def test_what_waits_is_told_by_true_or_false(world: World, cache: Any, wait: Any) -> None:
    async def body() -> None:
        for act in (
            lambda: cache.invalidate_tags("t", wait=wait),
            lambda: cache.delete("k", wait=wait),
            lambda: cache.clear(wait=wait),
        ):
            with pytest.raises(TypeError, match="wait must be True or False"):
                await act()

    world.run(body())


@pytest.mark.parametrize("token", ["1-1", (1, 1), Token(1.5, 2), Token("a", "b")])  # type: ignore[arg-type]
def test_what_is_no_token_is_refused(world: World, cache: Any, token: Any) -> None:
    async def body() -> None:
        for act in (lambda: cache.at_least(token), lambda: cache.set("k", 1, token=token)):
            with pytest.raises(TypeError, match="token must be the token of a write"):
                await act()

    world.run(body())


def test_a_fence_of_more_than_a_day_is_refused(any_url: str, new_node: Callable[..., TierCache]) -> None:
    with pytest.raises(ValueError, match="at most a day"):
        new_node(any_url).sync.invalidating(tags=["t"], fence_ttl="2d")


def test_an_unknown_way_of_failing_is_refused(world: World, cache: Any) -> None:
    async def body() -> None:
        with pytest.raises(ValueError, match="'pend' or 'raise', not 'ignore'"):
            await cache.invalidate_tags("t", on_error="ignore")

    world.run(body())
