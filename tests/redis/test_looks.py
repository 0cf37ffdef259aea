"""Hits in L2 by plain commands: on real servers, with what another does in between."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.redis.conftest import client_of
from tests.redis.domain import Domain
from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache, source
from tiercache._accelerator import compiled
from tiercache._core.looks import Look, Looked

pytestmark = pytest.mark.on_each_loop


def look(domain: Domain, *tags: str, between: Callable[[], object] = lambda: None) -> Looked:
    """A look for the key "a", with something *between* its two halves."""
    asked = Look(domain.epoch, 0, ("a",), tags)
    versions, entries, time, still = asked.plain(domain.names)
    replies = [domain.client.execute_command(*versions)]
    between()
    replies += [domain.client.execute_command(*entries), list(domain.client.execute_command(*time))]
    return asked.parse([*replies, domain.client.execute_command(*still)])


@pytest.fixture
def filled(domain: Domain) -> Domain:
    """A domain with an entry under "a" that depends on the tag "x"."""
    domain.sync()
    assert domain.fill("a", domain.lead("a"), "x").status == "ok"
    return domain


def test_an_entry_that_the_script_would_give_is_good(filled: Domain) -> None:
    found = look(filled, "x")

    assert found.head == filled.head()
    stored, left = found.good("a") or pytest.fail("not good")
    assert stored.payload == b"payload"
    assert 59 < left <= 60


ACTS: dict[str, Callable[[Domain], object]] = {
    "a tag": lambda domain: domain.invalidate("x"),
    "a key": lambda domain: domain.invalidate(keys=("a",)),
    "all": lambda domain: domain.clear(),
    "a fence": lambda domain: domain.fence("x"),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_is_invalid_before_a_look_is_not_good(filled: Domain, act: str) -> None:
    ACTS[act](filled)

    assert look(filled, "x").good("a") is None


@pytest.mark.parametrize("act", ACTS)
def test_what_is_invalid_before_a_look_ends_is_not_good_as_of_then(filled: Domain, act: str) -> None:
    before = filled.head()

    found = look(filled, "x", between=lambda: ACTS[act](filled))

    assert found.head == before < filled.head()


def test_a_look_at_a_server_that_an_older_copy_replaces_is_left_to_the_script(filled: Domain) -> None:
    copy = {key: filled.client.dump(key) for key in filled.client.scan_iter(filled.names.state[:-1] + "*")}
    filled.invalidate(keys=("a",))

    def replace() -> None:
        for key, dumped in copy.items():
            filled.client.restore(key, 0, dumped, replace=True)

    assert look(filled, "x", between=replace).good("a") is None


def test_a_load_that_lands_amid_a_look_is_left_to_the_script(filled: Domain) -> None:
    def reload() -> None:
        filled.invalidate(keys=("a",))
        assert filled.fill("a", filled.lead("a"), "x", payload=b"new").status == "ok"

    assert look(filled, "x", between=reload).good("a") is None


def test_a_tag_of_the_entry_that_the_reader_does_not_declare_leaves_it_to_the_script(filled: Domain) -> None:
    assert look(filled).good("a") is None


def test_a_touched_entry_has_its_new_end(
    any_redis: RedisServer, world: World, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_redis.url(), max_staleness=60)

    async def body() -> None:
        verbs = world.view(node)
        await verbs.set("a", 1, ttl=60)
        await verbs.touch("a", ttl=5000)
        domain = Domain(redis.Redis.from_url(any_redis.url(), protocol=2), namespace=node._settings.namespace)
        with domain.client:
            domain.sync()
            _, left = look(domain).good("a") or pytest.fail("not good")
            assert 4000 < left <= 5000

    world.run(body())


# ---- a decorated function


@pytest.fixture
def monitor(any_redis: RedisServer) -> Iterator[Callable[[], dict[str, int]]]:
    """What was asked of the server since the last time, by name; of scripts, not what they do inside."""
    with client_of(any_redis) as client:
        last: dict[str, int] = {}

        def since() -> dict[str, int]:
            nonlocal last
            stats: Any = client.info("commandstats")
            now = {name.removeprefix("cmdstat_"): of["calls"] for name, of in stats.items()}
            new = {
                name: calls - last.get(name, 0)
                for name, calls in now.items()
                if name in ("evalsha", "mget") and calls > last.get(name, 0)
            }
            last = now
            return new

        yield since


Counted = Callable[[], dict[str, int]]


def test_a_hit_takes_no_script_once_the_last_ones_were_hits(
    any_redis: RedisServer, world: World, new_node: Callable[..., TierCache], monitor: Counted
) -> None:
    node = new_node(any_redis.url(), max_staleness=60, listen=False)  # whose syncs would be counted, too

    @world.cached(node, l1=False, tags=["x:{a}"])
    async def function(a: int) -> int:
        return a

    async def body() -> None:
        for _ in range(12):
            assert await function(1) == 1
        monitor()
        assert await function(1) == 1
        assert monitor() == {"mget": 1}
        assert node.stats().l2_hits == 12

        await function.invalidate(1)
        assert await function(1) == 1
        await function(2)
        monitor()
        await function(3)
        assert monitor() == {"evalsha": 2}, "after two misses the script is asked at once: to read, to fill"

    world.run(body())


def test_a_look_sees_at_once_what_another_process_did(
    any_redis: RedisServer, world: World, new_node: Callable[..., TierCache]
) -> None:
    truth = [1]
    here, there = (
        new_node(any_redis.url(), max_staleness=60),
        new_node(any_redis.url(), max_staleness=60, listen=False),
    )
    functions = []
    for node in (here, there):

        @world.cached(node, l1=False, tags=["x"], key="{a}")
        async def function(a: int) -> int:
            return truth[0]

        functions.append(function)
    write, read = functions

    async def body() -> None:
        for _ in range(3):
            assert await read(1) == truth[0]
        for act in (
            lambda: world.view(here).invalidate_tags("x"),
            lambda: write.invalidate(1),
            lambda: write.invalidate_all(),
            lambda: write.refresh(1),
            lambda: world.view(here).clear(),
        ):
            truth[0] += 1
            await act()
            assert [await read(1) for _ in range(3)] == [truth[0]] * 3

    world.run(body())


def test_an_entry_with_tags_that_its_source_named_is_looked_for_once_the_script_has_told_them(
    any_redis: RedisServer, world: World, new_node: Callable[..., TierCache], monitor: Counted
) -> None:
    node = new_node(any_redis.url(), max_staleness=60, listen=False)  # whose syncs would be counted, too

    @world.cached(node, l1=False)
    async def function(a: int) -> int:
        source.depends_on("found")
        return a

    async def body() -> None:
        await function(1)
        monitor()
        assert await function(1) == 1
        assert monitor() == {"evalsha": 1}
        assert await function(1) == 1
        assert monitor() == {"mget": 1}
        await world.view(node).invalidate_tags("found")
        monitor()
        assert await function(1) == 1
        assert monitor()["evalsha"] >= 1, "it was loaded"

    world.run(body())


@pytest.mark.anyio
@pytest.mark.parametrize("l1", [True, False])
async def test_a_call_whose_look_is_under_way_goes_on_over_a_close(
    redis_server: RedisServer, l1: bool
) -> None:
    cache = TierCache(redis_server.url(), namespace="closing", private=True)
    loads: list[int] = []

    @cache.cached(l1=l1)
    async def doubled(number: int) -> int:
        loads.append(number)
        return 2 * number

    other = TierCache(redis_server.url(), namespace="closing", private=True)
    elsewhere = other.cached(doubled.__wrapped__)
    for number in range(12):
        await elsewhere(number)  # so that L2 has them, and a look is likely to find them
    for number in range(11):
        await doubled(number)
    call = asyncio.ensure_future(doubled(11))
    await asyncio.sleep(0)
    assert cache._node.tiers.looking
    cache.sync.close()  # before the loop has read the answer

    assert await call == 22
    await other.close()


@pytest.mark.skipif(compiled is None, reason="nothing is compiled here")
def test_a_usual_call_reads_l2_without_a_plan(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url(), namespace="glances", private=True)

    @cache.cached(l1=False)
    def greeting(name: str) -> str:
        return f"Hello {name}"

    for name in ["Ada", "Zoë"] * 6:
        greeting(name)

    def called_by(name: str) -> set[str]:
        called: set[str] = set()
        sys.setprofile(lambda frame, event, arg: called.add(frame.f_code.co_name))
        try:
            assert greeting(name) == f"Hello {name}"
        finally:
            sys.setprofile(None)
        return called

    assert "look_in_l2" not in called_by("Ada")
    assert "look_in_l2" in called_by("Zoë"), "whose key is named in Python"
    cache.sync.close()
