"""A server that cannot do what the cache needs: functions are called, and health says why and what to do."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tests import servers
from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache


@pytest.fixture(params=[servers.newest, servers.oldest_supported], ids=["newest", "oldest"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with closing(RedisServer(request.param())) as made:
        yield made


@pytest.mark.parametrize(
    ("denied", "problem"),
    [
        ("-info", "INFO replication cannot be read.*allow \\+info.*assume_no_failover_loss=True"),
        ("-@scripting", "evalsha"),
        ("-@write", "can't run|no permissions|NOPERM"),
        ("-zmscore", "can't run|no permissions|NOPERM"),
    ],
)
def test_where_a_user_may_not_do_what_the_cache_needs_functions_are_called_and_health_says_why(
    world: World,
    server: RedisServer,
    new_node: Callable[..., TierCache],
    caplog: pytest.LogCaptureFixture,
    denied: str,
    problem: str,
) -> None:
    server.cli("ACL", "SETUSER", "weak", "on", "nopass", "~*", "&*", "+@all", denied)
    cache, runs = world.view(new_node(server.url().replace("://", "://weak:any@"))), []

    async def load() -> int:
        runs.append(1)
        return len(runs)

    async def body() -> None:
        assert [await cache.get_or_load("k", load) for _ in range(3)] == [1, 2, 3]
        health = await cache.health()
        assert health.mode == "without cache"
        assert re.search(problem, health.problem, re.IGNORECASE)

    with caplog.at_level(logging.WARNING):
        world.run(body())
    assert [record for record in caplog.records if re.search(problem, record.message, re.IGNORECASE)]


def is_told_what_to_do(world: World, cache: TierCache, problem: str) -> None:
    view = world.view(cache)

    async def load() -> int:
        return 7

    async def body() -> None:
        assert await view.get_or_load("k", load) == 7
        assert re.search(problem, str((await view.health()).problem))

    world.run(body())


def test_whoever_names_a_replica_is_told_to_name_the_primary(
    world: World, server: RedisServer, redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    server.cli("REPLICAOF", "127.0.0.1", redis_server.port)

    cache = new_node(server.url(), listen=False)
    is_told_what_to_do(world, cache, "replica, and a cache writes: name its primary .*redis.sentinel://")


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two servers, of which the second has all slots."""
    with ExitStack() as started:
        made = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                bus = free.getsockname()[1]
            extra = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            made.append((started.enter_context(closing(RedisServer(servers.newest(), extra=extra))), bus))
        (first, _), (second, bus) = made
        second.cli("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        first.cli("CLUSTER", "MEET", "127.0.0.1", second.port, bus)
        assert servers.eventually(lambda: "cluster_state:ok" in str(first.cli("CLUSTER", "INFO")))
        yield first, second


def test_whoever_names_the_wrong_node_of_a_cluster_is_told_the_right_one(
    world: World, cluster: tuple[RedisServer, RedisServer], new_node: Callable[..., TierCache]
) -> None:
    first, second = cluster

    told = f"127.0.0.1:{second.port}; this is one node of a cluster, .* put that one into the URL"
    is_told_what_to_do(world, new_node(first.url(), listen=False), told)


def test_a_refusal_that_quotes_what_was_asked_is_logged_once(
    new_node: Callable[..., TierCache], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(RedisServer(servers.newest(), extra=("--rename-command", "EVALSHA", ""))) as server:
        cache = new_node(server.url())

        def is_refused() -> bool:
            cache.sync.get("k")
            return cache.stats().events["refused"] >= 3

        assert servers.eventually(is_refused)
    assert len([text for text in caplog.messages if "EVALSHA" in text]) == 1


def test_where_info_may_not_be_read_both_tiers_serve_at_the_users_own_risk(
    world: World, server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    server.cli("ACL", "SETUSER", "weak", "on", "nopass", "~*", "&*", "+@all", "-info")
    url = server.url().replace("://", "://weak:any@")
    one, other = (world.view(new_node(url, assume_no_failover_loss=True)) for _ in range(2))

    async def body() -> None:
        await one.set("k", 1, tags=["t"])
        assert await other.get("k") == 1
        await other.invalidate_tags("t")
        assert await other.get("k") is None
        assert (await one.health()).mode == "two tiers"

    world.run(body())


def test_users_with_and_without_info_do_not_undo_each_others_epochs(
    server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    server.cli("ACL", "SETUSER", "weak", "on", "nopass", "~*", "&*", "+@all", "-info")
    url = server.url().replace("://", "://weak:any@")
    weak, strong = new_node(url, assume_no_failover_loss=True).sync, new_node(server.url()).sync
    strong.set("k", 1)
    epoch = strong.token().epoch
    for cache in (weak, strong, weak, strong):
        assert cache.token().epoch == epoch
        assert cache.get("k") == 1


def test_a_server_that_is_too_old_is_told_so(world: World, new_node: Callable[..., TierCache]) -> None:
    old = ("--rename-command", "ZMSCORE", "")  # the command that came with 6.2
    with closing(RedisServer(servers.oldest_supported(), extra=old)) as server:
        cache = world.view(new_node(server.url()))

        async def load() -> int:
            return 1

        async def body() -> None:
            assert await cache.get_or_load("k", load) == 1
            health = await cache.health()
            assert health.mode == "without cache"
            assert "6.2" in health.problem

        world.run(body())


def test_what_answers_without_being_redis_is_gone_without(
    world: World, new_node: Callable[..., TierCache]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        threading.Thread(target=say_hello_to_all, args=(door,), daemon=True).start()
        cache = world.view(new_node(f"redis://127.0.0.1:{door.getsockname()[1]}/0", timeout=0.3))

        async def load() -> int:
            return 1

        async def body() -> None:
            assert await cache.get_or_load("k", load) == 1
            assert (await cache.health()).problem

        world.run(body())


def say_hello_to_all(door: socket.socket) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        with client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
