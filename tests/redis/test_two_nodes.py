"""Two processes that agree: what one of them writes, the other reads, at once where nothing fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import redis.asyncio

from tests import servers
from tests.peers import Peer, do, do_async, verb_of
from tests.servers import RedisServer, eventually
from tests.source import Source
from tests.world import Tasks, World
from tiercache import TierCache, cached, default_cache

pytestmark = pytest.mark.on_each_loop

SOON = 2.0  # seconds, in which no sync is due


@cached(ttl=3600, tags=["things", "thing:{name}"])
def thing(folder: str, name: str) -> int:
    return Source(folder).load(name)


@cached(ttl=3600, tags=["things", "thing:{name}"])
async def thing_awaited(folder: str, name: str) -> int:
    return Source(folder).load(name)


@pytest.fixture(scope="module")
def peers(any_redis: RedisServer) -> Iterator[tuple[Peer, Peer]]:
    with Peer(any_redis.url(), max_staleness=60) as one, Peer(any_redis.url(), max_staleness=60) as other:
        assert eventually(lambda: all(peer.do("health").listening for peer in (one, other)))
        yield one, other


@pytest.fixture(autouse=True)
def settled(request: pytest.FixtureRequest, any_redis: RedisServer) -> None:
    """The tests before emptied the server, and what they invalidated is owed to its new epoch."""
    if "peers" in request.fixturenames:
        for peer in request.getfixturevalue("peers"):
            peer.do("health")


def test_what_one_process_loads_the_other_finds(peers: tuple[Peer, Peer], source: Source) -> None:
    source.commit(1, "x")

    assert [peer.call(thing, source.folder, "x") for peer in peers] == [1, 1]
    assert source.loads("x") == 1


Act = Callable[[Peer, str], object]
ACTS: dict[str, Act] = {
    "a tag": lambda peer, folder: peer.do("invalidate_tags", "thing:x"),
    "several tags": lambda peer, folder: peer.do("invalidate_tags", ["no such", "things"]),
    "a tag, awaited": lambda peer, folder: peer.call(do_async, "invalidate_tags", "thing:x"),
    "the key": lambda peer, folder: peer.do("delete", thing.key(folder, "x")),
    "several keys": lambda peer, folder: peer.do("delete_many", ["no such", thing.key(folder, "x")]),
    "the call": lambda peer, folder: peer.call(verb_of, thing, "invalidate", folder, "x"),
    "the function": lambda peer, folder: peer.call(verb_of, thing, "invalidate_all"),
    "everything": lambda peer, folder: peer.do("clear"),
    "a block around the write": lambda peer, folder: peer.call(write_in_a_block),
}


def write_in_a_block() -> None:
    with default_cache().sync.invalidating(tags=["thing:x"]):
        pass


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_an_invalidation_by_one_process_is_seen_by_all(
    peers: tuple[Peer, Peer], source: Source, act: Act
) -> None:
    writer, other = peers
    source.commit(1, "x")
    assert [peer.call(thing, source.folder, "x") for peer in peers] == [1, 1]

    source.commit(2, "x")
    act(writer, source.folder)

    assert writer.call(thing, source.folder, "x") == 2, "its own process reads it at once"
    assert eventually(lambda: other.call(thing, source.folder, "x") == 2, within=SOON)


def test_an_invalidation_leaves_the_rest_in_l1(peers: tuple[Peer, Peer], source: Source) -> None:
    writer, other = peers
    for name in ("x", "y"):
        source.commit(1, name)
        assert [peer.call(thing, source.folder, name) for peer in peers] == [1, 1]
    before = other.do("stats").l2_hits

    writer.do("invalidate_tags", "thing:x")
    other.do("invalidate_tags", "thing:x")
    source.commit(2, "y")

    assert other.call(thing, source.folder, "y") == 1
    assert other.do("stats").l2_hits == before


def test_a_def_and_an_async_def_of_two_processes_meet_under_one_tag(
    peers: tuple[Peer, Peer], source: Source
) -> None:
    writer, other = peers
    source.commit(1, "x")
    assert other.call(thing_awaited, source.folder, "x") == 1
    source.commit(2, "x")
    writer.do("invalidate_tags", "things")

    assert eventually(lambda: other.call(thing_awaited, source.folder, "x") == 2, within=SOON)


def test_a_set_by_one_process_replaces_the_value_in_all(peers: tuple[Peer, Peer]) -> None:
    writer, other = peers
    for value in ("old", "new"):
        writer.do("set", "k", value)
        assert writer.do("get", "k") == value
        assert eventually(lambda value=value: other.do("get", "k") == value, within=SOON)


def test_a_refresh_in_one_process_replaces_the_value_for_all_who_read_l2(
    any_redis: RedisServer, new_node: Callable[..., TierCache], peers: tuple[Peer, Peer], source: Source
) -> None:
    source.commit(1, "x")
    assert peers[0].call(thing, source.folder, "x") == 1
    source.commit(2, "x")
    assert peers[0].call(verb_of, thing, "refresh", source.folder, "x") == 2

    assert peers[0].call(thing, source.folder, "x") == 2
    assert new_node(any_redis.url()).sync.get(thing.key(source.folder, "x")) == 2


def test_namespaces_and_databases_do_not_touch_each_other(
    any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    caches = [
        new_node(any_redis.url(db), namespace=namespace, max_staleness=60).sync
        for db in (0, 1)
        for namespace in ("shop", "shop.eu")
    ]
    for number, cache in enumerate(caches):
        cache.set("k", number, tags=["t"])
    caches[0].invalidate_tags("t")
    caches[1].clear()

    assert [cache.get("k") for cache in caches] == [None, None, 2, 3]


def test_a_socket_a_password_and_a_client_of_ones_own_lead_to_the_same_entries(
    world: World, tmp_path: Path, new_node: Callable[..., TierCache]
) -> None:
    path = tmp_path / "s"
    with closing(RedisServer(servers.newest(), extra=("--unixsocket", str(path)))) as server:
        server.cli("ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all")
        nodes = [
            new_node(server.url()),
            new_node(f"unix://{path}"),
            new_node(server.url().replace("://", "://me:secret@")),
            new_node(client=redis.ConnectionPool.from_url(server.url(), protocol=3)),
            new_node(client=redis.asyncio.Redis.from_url(server.url(), decode_responses=True)),
        ]
        caches = [world.view(node) for node in nodes]

        async def body() -> None:
            for number, cache in enumerate(caches):
                await cache.set(f"k{number}", number)
            for cache in caches:
                assert await cache.get_many([f"k{i}" for i in range(5)]) == {f"k{i}": i for i in range(5)}

        world.run(body())
        for node in nodes:
            node.sync.close()


def test_a_process_reads_what_it_has_just_set_from_its_first_moment_on(
    any_redis: RedisServer, new_node: Callable[..., TierCache], caplog: pytest.LogCaptureFixture
) -> None:
    # Its first write and its listener's first sync meet: neither knows the epoch yet.
    caplog.set_level(logging.WARNING)
    for turn in range(30):
        cache = new_node(any_redis.url(), namespace=f"n{turn % 2}").sync
        cache.set("k", turn)
        assert cache.get("k") == turn
        assert cache.health().mode == "two tiers"
    assert not caplog.records


def test_health_counts_the_processes_of_the_domain(peers: tuple[Peer, Peer]) -> None:
    for peer in peers:
        peer.do("get", "what no L1 has")
    assert eventually(lambda: peers[0].do("health").nodes >= 2, within=SOON)


def test_a_write_in_one_process_wins_over_every_load_before_it_however_many_run(
    any_redis: RedisServer, source: Source
) -> None:
    # Loads and writes of four processes at random; when all is still, all agree with the source.
    with (
        Peer(any_redis.url(), max_staleness=60) as a,
        Peer(any_redis.url(), max_staleness=60) as b,
        Peer(any_redis.url(), max_staleness=60) as c,
    ):
        readers = [peer.start(read_until_over, source.folder) for peer in (a, b, c)]
        last = a.call(write_and_invalidate, source.folder, 60)
        source.flag("over").set()
        for reader in readers:
            reader.result(10)

        for peer in (a, b, c):
            assert eventually(lambda peer=peer: peer.call(thing, source.folder, "x") == last, within=SOON)


def read_until_over(folder: str) -> None:
    over = Source(folder).flag("over")
    while not over.is_set():
        thing(folder, "x")


def write_and_invalidate(folder: str, count: int) -> int:
    source = Source(folder)
    for version in range(1, count + 1):
        source.commit(version, "x")
        do("invalidate_tags", "thing:x")
    return count


def test_a_thread_and_a_task_of_one_process_share_their_loads_and_entries(
    any_url: str, new_node: Callable[..., TierCache]
) -> None:
    cache, runs, tasks = new_node(any_url), [], Tasks()

    async def load() -> str:
        runs.append("task")
        await tasks.until(lambda: cache._node.tiers.board._flights["k"].followers)
        return "loaded by the task"

    async def body() -> list[str]:
        async with asyncio.timeout(10):
            task = asyncio.create_task(cache.get_or_load("k", load))
            await tasks.until(lambda: runs)
            by_thread = asyncio.to_thread(cache.sync.get_or_load, "k", lambda: runs.append("thread"))
            return [await by_thread, await task]

    assert asyncio.run(body()) == ["loaded by the task"] * 2
    assert runs == ["task"]
    assert cache.sync.get("k") == "loaded by the task"
    assert cache.stats().l1_hits == 1


def test_what_one_view_invalidates_the_other_does_not_serve(
    any_url: str, new_node: Callable[..., TierCache]
) -> None:
    cache = new_node(any_url)
    cache.sync.set("k", 1, tags=["t"])
    asyncio.run(cache.invalidate_tags("t"))
    assert cache.sync.get("k") is None

    asyncio.run(cache.set("k", 2, tags=["t"]))
    cache.sync.invalidate_tags("t")
    assert asyncio.run(cache.get("k")) is None
