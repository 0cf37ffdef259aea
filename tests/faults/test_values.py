"""Fault 12: what comes out of a cache is not what went in, or runs. Here it is, and nothing does.

One process stores, another reads from L2 and then from its L1.
"""

from __future__ import annotations

import enum
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.peers import Peer
from tests.servers import RedisServer
from tests.world import World
from tiercache import TierCache, cached, default_cache


class Colour(enum.Enum):
    RED = "r"


class Point(NamedTuple):
    x: int
    y: Decimal


@dataclass
class User:
    name: str
    born: date
    at: Point


VALUES: list[Any] = [
    *(None, True, 0, 2**200, -(2**63), 1.5, -0.0, math.nan, math.inf, "", "ß\0\ud7ff", b"", b"\x80pickle"),
    *(Decimal("1.10"), UUID(int=7), date(2024, 2, 29), time(1, 2, 3, 4), timedelta(days=-1, microseconds=1)),
    *(datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=ZoneInfo("UTC"))),
    *((), (1, [2, (3,)]), {1, 2}, frozenset({"a"}), {1: "a", "1": "b", None: (), (1, 2): {}}, [], {}),
    [User("Ada", date(1815, 12, 10), Point(1, Decimal("2.50"))), Colour.RED],
]  # fmt: skip


@cached(ttl=60)
def value_of(number: int) -> Any:
    return VALUES[number]


def values() -> list[str]:
    """What each call gives, with the types that `repr` shows."""
    return [repr(value_of(number)) for number in range(len(VALUES))]


def know(*names: str) -> None:
    for name in names:
        default_cache().register(globals()[name])


def loads_and_hits() -> tuple[int, int, int]:
    stats = default_cache().stats()
    return stats.loads, stats.l2_hits, stats.l1_hits


def ran(path: str) -> None:
    Path(path).touch()


class Planted:
    """A pickle of it touches a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return ran, (str(self.path),)


@pytest.fixture
def peers(redis_server: RedisServer) -> Iterator[tuple[Peer, Peer]]:
    with Peer(redis_server.url()) as writer, Peer(redis_server.url()) as reader:
        yield writer, reader


def test_every_process_and_tier_gives_what_the_first_call_gave(peers: tuple[Peer, Peer]) -> None:
    writer, reader = peers
    for peer in peers:
        peer.call(know, "User", "Colour")  # Point is known with User
    expected, count = list(map(repr, VALUES)), len(VALUES)

    assert [writer.call(values), writer.call(values)] == [expected, expected]
    assert [reader.call(values), reader.call(values)] == [expected, expected]
    assert writer.call(loads_and_hits) == (count, 0, count)
    assert reader.call(loads_and_hits) == (0, count, count)


def set_user() -> None:
    default_cache().sync.set("user", User("Ada", date(1815, 12, 10), Point(1, Decimal(2))))


def test_a_class_that_a_process_does_not_know_is_a_miss_there_and_is_not_imported(
    peers: tuple[Peer, Peer],
) -> None:
    writer, reader = peers
    writer.call(set_user)

    assert reader.do("get", "user", "unknown") == "unknown"
    assert reader.do("stats").events["unreadable"] == 1
    assert not reader.call(eval, f"{__name__!r} in __import__('sys').modules")
    reader.call(know, "User")
    assert repr(reader.do("get", "user")).startswith("User(name='Ada'")


@cached
def get_user(name: str) -> User:
    return User(name, date(1815, 12, 10), Point(1, Decimal(2)))


def test_a_class_in_a_functions_return_annotation_is_known_where_the_function_is(
    peers: tuple[Peer, Peer],
) -> None:
    writer, reader = peers
    first = writer.call(get_user, "Ada")

    assert repr(reader.call(get_user, "Ada")) == repr(first)
    assert reader.call(loads_and_hits) == (0, 1, 0)


def entry_of(server: RedisServer, key: str) -> str:
    (name,) = (name for name in server.cli("KEYS", "*") if name.endswith(f":e:{key}".encode()))
    return str(name.decode())


Plant = Callable[[bytes, bytes], bytes]
PLANTS: dict[str, Plant] = {
    "a pickle": lambda entry, planted: planted,
    "a pickle behind a header": lambda entry, planted: entry[: entry.rindex(b"|") + 1] + planted,
    "nothing": lambda entry, planted: b"",
    "one byte": lambda entry, planted: b"1",
    "a torn entry": lambda entry, planted: entry[:-1],
    "another version": lambda entry, planted: b"2" + entry[1:],
    "json": lambda entry, planted: b'{"a": 1}',
    "a megabyte": lambda entry, planted: b"1|" * 500_000,
    "a header of lies": lambda entry, planted: b"|".join([*entry.split(b"|")[:6], b"9" * 18, b""]),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_planted_bytes_are_a_miss_that_runs_nothing_and_the_next_load_replaces_them(
    any_redis: RedisServer, new_node: Callable[..., TierCache], tmp_path: Path, plant: Plant
) -> None:
    writer, reader = (new_node(any_redis.url()).sync for _ in range(2))
    writer.set("k", {"a": 1}, tags=["t"])
    name, planted = entry_of(any_redis, "k"), pickle.dumps(Planted(tmp_path / "ran"))
    any_redis.cli("SET", name, plant(any_redis.cli("GET", name), planted))

    assert reader.get("k", "a miss") == "a miss"
    assert reader.get_or_load("k", lambda: "loaded", tags=["t"]) == "loaded"
    assert new_node(any_redis.url()).sync.get("k") == "loaded"
    assert not (tmp_path / "ran").exists()


def test_an_entry_moved_under_another_key_is_a_miss(
    any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    writer, reader = (new_node(any_redis.url()).sync for _ in range(2))
    writer.set("mine", "secret")
    writer.set("yours", "public")
    any_redis.cli("RENAME", entry_of(any_redis, "mine"), entry_of(any_redis, "yours"))

    assert reader.get("yours", "a miss") == "a miss"
    assert reader.stats().events["unreadable"] == 1


@pytest.mark.parametrize("command", [("LPUSH", "x"), ("SADD", "x"), ("HSET", "f", "x")])
def test_an_entry_of_another_type_is_a_miss_that_the_next_load_replaces(
    any_redis: RedisServer, new_node: Callable[..., TierCache], command: tuple[str, ...]
) -> None:
    writer, reader = (new_node(any_redis.url()).sync for _ in range(2))
    writer.set("k", 1)
    name = entry_of(any_redis, "k")
    any_redis.cli("DEL", name)
    any_redis.cli(command[0], name, *command[1:])

    assert reader.get("k", "a miss") == "a miss"
    assert reader.get_or_load("k", lambda: "loaded") == "loaded"
    assert new_node(any_redis.url()).sync.get("k") == "loaded"


def test_what_a_caller_does_to_its_value_nobody_else_sees(
    world: World, any_url: str, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_url)
    cache = world.view(node)

    async def body() -> None:
        gate = world.gate()

        async def load() -> dict[str, list[int]]:
            await gate.wait()
            return {"ids": [1]}

        waiting = [world.start(cache.get_or_load("k", load)) for _ in range(3)]
        await world.until(lambda: len(node._node.tiers.board._flights) == 1)
        gate.open()
        values = [await each.result() for each in waiting]  # of the leader, and of two who waited or hit
        for _ in range(2):
            values.append(await cache.get_or_load("k", load))  # of L1
        if any_url != "memory://":
            values.append(await world.view(new_node(any_url)).get("k"))  # of L2
        for value in values:
            assert value == {"ids": [1]}
            value["ids"].append(2)
        assert await cache.get("k") == {"ids": [1]}

    world.run(body())


def test_what_a_caller_does_to_a_value_it_has_set_nobody_else_sees(
    world: World, any_url: str, new_node: Callable[..., TierCache]
) -> None:
    cache = world.view(new_node(any_url))

    async def body() -> None:
        mine = [1]
        await cache.set("k", mine)
        mine.append(2)
        assert await cache.get("k") == [1]

    world.run(body())


def test_a_shared_value_is_one_object_for_all_who_read_l1(
    world: World, any_url: str, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_url)

    @world.cached(node, share=True)
    async def shared() -> list[int]:
        return [1]

    async def body() -> None:
        first, second = await shared(), await shared()
        assert first is second

    world.run(body())


def test_none_is_a_value(world: World, any_url: str, new_node: Callable[..., TierCache]) -> None:
    cache, runs = world.view(new_node(any_url)), []

    async def load() -> None:
        runs.append(1)

    async def body() -> None:
        assert [await cache.get_or_load("k", load) for _ in range(3)] == [None] * 3
        assert await cache.exists("k")
        assert await cache.get("k", "default") is None

    world.run(body())
    assert len(runs) == 1
