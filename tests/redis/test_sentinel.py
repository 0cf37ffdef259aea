"""Failover by Sentinel: the primary is found, whichever it is, and what was invalidated stays so.

Real servers: a primary, two replicas, three sentinels. "Within" counts from when the sentinels agree.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel

from tests import servers
from tests.sentinels import SERVICE, SentinelServer, Topology
from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache
from tiercache._transport.address import Address

TIMEOUT = 0.3  # seconds, of one round trip
LATE = 2 * TIMEOUT + 0.7  # a call at worst, on a machine that has other work
AGAIN = 2.0  # seconds to recover, of which the machine may take one
LONG = 30.0  # max_staleness with which no sync falls into a test by chance: one in 8 s at most


@pytest.fixture
def topology() -> Iterator[Topology]:
    """On 6.2, whose replicas connect at once."""
    with closing(Topology(servers.oldest_supported())) as made:
        yield made


class Counted:
    """The truth, and how often it was loaded."""

    def __init__(self) -> None:
        self.version, self.loads = 1, 0

    async def load(self) -> int:
        self.loads += 1
        return self.version


class User:
    """A node as its user sees it."""

    def __init__(self, world: World, node: TierCache, truth: Counted) -> None:
        self.node, self.cache, self.truth = node, world.view(node), truth
        self.until = world.until
        self.stored = 0

    async def read(self) -> Any:
        return await self.cache.get_or_load("k", self.truth.load, tags=["t"])

    async def write(self) -> Any:
        """Change the truth, and invalidate what was made of it."""
        self.truth.version += 1
        return await self.cache.invalidate_tags("t")

    async def is_cached(self) -> bool:
        """Whether a value loaded now is found again."""
        await self.read()
        before = self.truth.loads
        await self.read()
        return self.truth.loads == before

    @property
    def in_use(self) -> str | None:
        """The primary, without asking anybody."""
        address = self.node._node.address
        assert address is not None
        return address.primary

    async def is_served_by(self, server: RedisServer) -> bool:
        """Whether it says so and all is well, and what it stores now is there."""
        health = await self.cache.health()
        if (health.primary, health.problem) != (f"127.0.0.1:{server.port}", None):
            return False
        self.stored += 1
        await self.cache.set(f"stored {self.stored}", 1)
        entry = self.node._node.names.entry(f"stored {self.stored}")
        return bool(server.cli("EXISTS", entry)) and await self.is_cached()

    async def comes_to_be_served_by(self, server: RedisServer) -> None:
        since = time.monotonic()

        async def is_served() -> bool:
            return await self.is_served_by(server)

        await self.until(is_served)
        assert time.monotonic() - since < AGAIN


@pytest.fixture
def user(world: World, new_node: Callable[..., TierCache]) -> Callable[..., User]:
    """Makes a node, of one truth with the others of the test."""
    truth = Counted()

    def make(url: str | None = None, **settings: Any) -> User:
        return User(world, new_node(url, **{"timeout": TIMEOUT, **settings}), truth)

    return make


@pytest.mark.parametrize(
    ("binary", "fail_over"),
    [(servers.oldest_supported, Topology.fail_over), (servers.newest, Topology.kill_primary)],
    ids=["ordered", "crash"],
)
def test_calls_go_on_through_a_failover_with_what_one_invalidated_and_are_cached_again_after_it(
    world: World,
    user: Callable[..., User],
    binary: Callable[[], str],
    fail_over: Callable[[Topology], RedisServer],
) -> None:
    with closing(Topology(binary())) as topology:
        go_through(world, topology, user(topology.url()), fail_over)


def go_through(
    world: World, topology: Topology, one: User, fail_over: Callable[[Topology], RedisServer]
) -> None:
    promoted: list[RedisServer] = []
    failing_over = threading.Thread(target=lambda: promoted.append(fail_over(topology)))

    async def body() -> None:
        assert await one.is_cached()
        failing_over.start()
        took = []
        while failing_over.is_alive():
            begun = time.monotonic()
            await one.write()
            assert await one.read() == one.truth.version
            took.append(time.monotonic() - begun)
        await one.comes_to_be_served_by(promoted[0])
        assert max(took) < LATE
        assert not (await one.write()).pending
        assert (await one.cache.health()).pending == 0

    world.run(body())


def test_a_node_hears_the_others_over_the_new_primary(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    writer, reader = (user(topology.url(), max_staleness=LONG) for _ in range(2))

    async def body() -> None:
        assert await writer.is_cached()
        assert await reader.is_cached()
        promoted = topology.fail_over()
        await writer.comes_to_be_served_by(promoted)
        await reader.comes_to_be_served_by(promoted)
        await world.until(lambda: reader.node._node.is_listening())
        hints = reader.node.stats().events["hints"]

        await writer.write()

        since = time.monotonic()
        await world.until(lambda: reader.node.stats().events["hints"] > hints)
        assert await reader.read() == reader.truth.version
        assert time.monotonic() - since < AGAIN

    world.run(body())


def test_a_value_whose_invalidation_was_lost_in_the_failover_is_served_to_nobody(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    writer, reader = (user(topology.url()) for _ in range(2))
    before = topology.primary

    async def body() -> None:
        await writer.read()
        await reader.read()
        entry = writer.node._node.names.entry("k")
        assert servers.eventually(lambda: all(r.cli("EXISTS", entry) for r in topology.replicas))
        cut_off(before)
        assert not (await writer.write()).pending
        await writer.read()  # a load that the old primary keeps, and nobody else

        promoted = topology.fail_over()

        assert promoted.cli("EXISTS", entry), "the stale value is there to be served"
        late = user(topology.url())
        for each in (late, writer, reader):
            await each.comes_to_be_served_by(promoted)
            assert await each.read() == each.truth.version
        assert writer.node.stats().events["epochs"] == 2

    world.run(body())


def test_an_invalidation_that_only_the_old_primary_took_is_told_to_the_new_one(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    """Both take writes: the new primary's readers would have the old value until its ttl."""
    writer = user(topology.url(), listen=False, max_staleness=LONG)
    before = topology.primary

    async def body() -> None:
        assert await writer.is_cached()
        promoted = topology.fail_over()
        reader = user(topology.url())
        await reader.comes_to_be_served_by(promoted)
        assert writer.in_use == f"127.0.0.1:{before.port}"
        assert not (await writer.write()).pending
        before.cli("REPLICAOF", "127.0.0.1", promoted.port)

        await writer.comes_to_be_served_by(promoted)

        assert await writer.read() == writer.truth.version

        async def is_told() -> bool:
            return bool(await reader.read() == reader.truth.version)

        await world.until(is_told)

    world.run(body())


def cut_off(primary: RedisServer) -> None:
    """Let its replicas get nothing any more; whoever is connected goes on."""
    primary.cli("CONFIG", "SET", "requirepass", "changed")
    with redis.Redis("127.0.0.1", primary.port, password="changed") as client:
        assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == 2


def test_a_primary_that_was_replaced_and_lives_is_left_before_it_is_told(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    """Sentinel makes it a replica after eight seconds; until then it takes writes that will be lost."""
    one = user(topology.url())
    before = topology.primary

    async def body() -> None:
        assert await one.is_cached()
        promoted = topology.fail_over()
        await one.comes_to_be_served_by(promoted)

    world.run(body())
    assert before.cli("ROLE")[0] == b"master"


def test_a_sentinel_that_is_silent_does_not_keep_the_others_from_being_asked(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    one = user(topology.url())
    first = topology.sentinels[0]

    async def body() -> None:
        assert await one.is_cached()
        first.pause()
        await one.comes_to_be_served_by(topology.fail_over())

    world.run(body())


@pytest.mark.parametrize(
    ("binary", "settings", "made_a_replica"),
    [
        (servers.newest, (), True),
        (servers.oldest_supported, ("--min-replicas-to-write", "1"), False),
    ],
    ids=["a replica", "a primary without replicas"],
)
def test_without_a_listener_a_primary_that_was_replaced_is_left_when_it_turns_a_write_away(
    world: World,
    user: Callable[..., User],
    binary: Callable[[], str],
    settings: tuple[str, ...],
    made_a_replica: bool,
) -> None:
    with closing(Topology(binary(), extra=settings)) as topology:
        one = user(topology.url(), listen=False, max_staleness=LONG)
        before = topology.primary

        async def body() -> None:
            assert await one.is_cached()
            promoted = topology.fail_over()
            if made_a_replica:
                before.cli("REPLICAOF", "127.0.0.1", promoted.port)
            assert one.in_use == f"127.0.0.1:{before.port}", "nothing has happened that would tell"
            await one.write()
            await one.comes_to_be_served_by(promoted)
            assert await one.read() == one.truth.version

        world.run(body())


@pytest.mark.parametrize("end", [SentinelServer.kill, SentinelServer.pause], ids=["gone", "silent"])
def test_while_all_sentinels_are_away_the_primary_goes_on_with_old_connections_and_new_ones(
    world: World, topology: Topology, user: Callable[..., User], end: Callable[[SentinelServer], None]
) -> None:
    one = user(topology.url())
    primary = topology.primary

    async def body() -> None:
        assert await one.is_cached()
        for sentinel in topology.sentinels:
            end(sentinel)
        assert not (await one.write()).pending
        assert await one.is_cached()

        for kind in ("normal", "pubsub"):
            primary.cli("CLIENT", "KILL", "TYPE", kind)
        begun = time.monotonic()
        await one.read()
        assert time.monotonic() - begun < LATE
        await one.comes_to_be_served_by(primary)
        assert not (await one.write()).pending

    world.run(body())


def test_a_service_that_no_sentinel_knows_is_told_by_health_and_the_application_goes_on(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    one = user(topology.url().replace(SERVICE, "shpo"))

    async def body() -> None:
        assert await one.read() == 1
        health = await one.cache.health()
        assert "knows no service 'shpo'" in health.problem
        assert (health.mode, health.primary) == ("without cache", None)

    world.run(body())


def test_a_server_that_sentinels_name_and_that_is_a_replica_is_not_used(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    replica = topology.replicas[0]
    for sentinel in topology.sentinels:
        sentinel.cli("SENTINEL", "MONITOR", "mistaken", "127.0.0.1", replica.port, 2)
    one = user(topology.url().replace(SERVICE, "mistaken"))

    async def body() -> None:
        assert await one.read() == 1
        assert f"127.0.0.1:{replica.port}, named by" in (await one.cache.health()).problem
        assert "is a replica" in (await one.cache.health()).problem

    world.run(body())


@pytest.mark.parametrize(
    "made_by",
    [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel],
    ids=["blocking client", "awaiting client"],
)
def test_a_client_of_a_sentinel_leads_to_the_primary_in_both_worlds(
    world: World, topology: Topology, user: Callable[..., User], made_by: Any
) -> None:
    sentinels = made_by([("127.0.0.1", sentinel.port) for sentinel in topology.sentinels])
    one = user(client=sentinels.master_for(SERVICE))

    async def body() -> None:
        await one.comes_to_be_served_by(topology.primary)

    world.run(body())


def test_sentinels_and_servers_with_users_of_their_own_are_let_have_what_they_ask_for(
    world: World, topology: Topology, user: Callable[..., User]
) -> None:
    """The rights of the sentinels' user are those of docs/howto/operate.md."""
    rights = ["+sentinel|get-master-addr-by-name", "+sentinel|master"]
    for sentinel in topology.sentinels:
        sentinel.cli("ACL", "SETUSER", "watch", "on", ">w@tch", *rights)
        sentinel.cli("ACL", "SETUSER", "default", "-sentinel")
    topology.servers[0].cli("ACL", "SETUSER", "shop", "on", ">s#op", "~*", "&*", "+@all")
    topology.servers[0].cli("ACL", "SETUSER", "default", "-eval", "-evalsha")
    url = topology.url(options="?sentinel_username=watch&sentinel_password=w%40tch")
    one, without = user(url.replace("//", "//shop:s%23op@")), user(topology.url())

    async def body() -> None:
        await one.comes_to_be_served_by(topology.servers[0])
        await without.read()
        assert "NoPermissionError" in (await without.cache.health()).problem

    world.run(body())


def test_the_loop_runs_on_while_a_silent_sentinel_is_waited_for_and_its_share_is_all_it_gets(
    topology: Topology, new_node: Callable[..., TierCache]
) -> None:
    topology.sentinels[0].pause()
    cache = new_node(topology.url(), timeout=0.9, listen=False)

    async def body() -> tuple[float, float]:
        begun = last = time.monotonic()
        pause = 0.0
        reading = asyncio.ensure_future(cache.get("k"))
        while not reading.done():
            await asyncio.sleep(0)
            now = time.monotonic()
            pause, last = max(pause, now - last), now
        return time.monotonic() - begun, pause

    took, pause = asyncio.run(body())

    assert 0.29 < took < 0.8, "a third of the timeout, and the rest of a read"
    assert pause < 0.2


def test_what_one_connection_found_is_known_to_those_with_another_patience(topology: Topology) -> None:
    """Else one of the two could be led back to a primary that the other knows to be replaced."""
    address = Address.of_url(topology.url(), TIMEOUT)
    other = address.with_timeout(2 * TIMEOUT)

    address.open().disconnect()

    assert other.primary == address.primary == f"127.0.0.1:{topology.primary.port}"


def test_a_child_of_a_fork_finds_the_primary_that_its_parent_did_not_know(
    topology: Topology, new_node: Callable[..., TierCache]
) -> None:
    cache = new_node(topology.url(), timeout=TIMEOUT, listen=False)
    cache.sync.set("k", 1)
    promoted = topology.fail_over()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        cache.sync.get("k")
        os.write(writing, str(cache.sync.health().primary).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reading, 100).decode() == f"127.0.0.1:{promoted.port}"
    os.close(reading)
    os.close(writing)
