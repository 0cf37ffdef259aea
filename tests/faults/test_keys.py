"""Fault 11: calls that are not the same call, and share an entry. Here no two of them do, and equal ones do.

Two processes with other hashes and other addresses: what the one loads for a call, the other
finds for that call, and for no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.peers import Peer
from tests.servers import RedisServer
from tiercache import UnstableKey, cached, default_cache


@cached
def one(value: object = None) -> str:
    return f"one {value!r}"


@cached
def two(a: object, b: object = "") -> str:
    return f"two {a!r} {b!r}"


@cached
def several(*args: object, **kwargs: object) -> str:
    return f"several {args!r} {sorted(kwargs.items())!r}"


@dataclass
class Address:
    street: str


class Tenant:
    def __init__(self, name: str) -> None:
        self.name = name

    @cached
    def rows(self) -> str:
        return f"rows of {self.name}"

    @classmethod
    @cached
    def kind(cls) -> str:
        return f"kind {cls.__name__}"

    @staticmethod
    @cached
    def version(number: int) -> str:
        return f"tenant {number}"


class Region(Tenant):
    @cached
    def rows(self) -> str:
        return f"regions of {self.name}"

    @staticmethod
    @cached
    def version(number: int) -> str:
        return f"region {number}"


UNLIKE: list[Any] = [
    *(1, "1", True, 1.0, Decimal(1), b"1", -1, -2, 0, 0.0, False, None, "", "None", b"", 2**61, 2**61 - 1),
    *((), [], {}, (1,), [1], [[1]], {"a": 1}, {1: "a"}, {"1": "a"}),
    *(frozenset(), frozenset({1}), frozenset({"1"})),
    *(date(2024, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01"),
    *(UUID(int=1), str(UUID(int=1)), Address("a"), Address("b"), {"street": "a"}),
    *("ß", "ss", "a\0b", "a" * 2000, "a" * 2001),
]  # fmt: skip


def all_calls() -> list[str]:
    """What each of many calls returns, no two of which are the same call."""
    return [
        *(one(value) for value in UNLIKE),
        *(several(value) for value in UNLIKE),
        *(
            two(*args)
            for args in [("a b",), ("a", "b"), ("ab",), ("a", ""), ("", "a"), ("a, b", ""), (None, None)]
        ),
        *(several(*args) for args in [(), ("a", "b"), ("a b", "c"), ("a", "b c"), (("a", "b"),)]),
        *(several(**kwargs) for kwargs in [{"a": 1}, {"a": "1"}, {"b": 1}, {"a": 1, "b": 2}]),
        *(kind(name).rows() for kind in (Tenant, Region) for name in map(str, range(200))),
        *(kind.kind() for kind in (Tenant, Region)),
        *(kind.version(1) for kind in (Tenant, Region)),
    ]


def computed() -> list[str]:
    """The same without a cache."""
    return [
        *(f"one {value!r}" for value in UNLIKE),
        *(f"several {(value,)!r} []" for value in UNLIKE),
        *["two 'a b' ''", "two 'a' 'b'", "two 'ab' ''", "two 'a' ''", "two '' 'a'", "two 'a, b' ''"],
        "two None None",
        *["several () []", "several ('a', 'b') []", "several ('a b', 'c') []", "several ('a', 'b c') []"],
        "several (('a', 'b'),) []",
        *["several () [('a', 1)]", "several () [('a', '1')]", "several () [('b', 1)]"],
        "several () [('a', 1), ('b', 2)]",
        *(f"{rows} of {i}" for rows in ("rows", "regions") for i in range(200)),
        *["kind Tenant", "kind Region", "tenant 1", "region 1"],
    ]  # fmt: skip


def loads() -> int:
    return default_cache().stats().loads


@pytest.fixture
def peers(redis_server: RedisServer) -> Iterator[tuple[Peer, Peer]]:
    with Peer(redis_server.url()) as one_process, Peer(redis_server.url()) as another:
        yield one_process, another


def test_unlike_calls_have_entries_of_their_own_and_like_calls_one_in_every_process(
    peers: tuple[Peer, Peer],
) -> None:
    first, second = peers
    assert first.call(all_calls) == computed()
    assert first.call(loads) == len(computed()), "no call took another one's entry"

    assert second.call(all_calls) == computed()
    assert second.call(loads) == 0, "each call found the entry of its like"


def spelled_in_every_way() -> set[str]:
    return {two("a", "b"), two("a", b="b"), two(a="a", b="b"), two(b="b", a="a")}


def test_a_call_is_one_call_however_it_is_spelled(peers: tuple[Peer, Peer]) -> None:
    for peer in peers:
        assert peer.call(spelled_in_every_way) == {"two 'a' 'b'"}
    assert [peer.call(loads) for peer in peers] == [1, 0]


def sizes_of_sets() -> list[int]:
    return [count(frozenset(map(str, range(size)))) for size in range(20)]


@cached
def count(names: frozenset[str]) -> int:
    return len(names)


def test_the_order_of_a_set_is_not_part_of_a_key(peers: tuple[Peer, Peer]) -> None:
    for peer in peers:
        assert peer.call(sizes_of_sets) == list(range(20))
    assert peers[1].call(loads) == 0


class Client:
    """Nothing in it is the same in another process."""

    __slots__ = ("_handle",)

    def __init__(self) -> None:
        self._handle = lambda: None


def call_with_an_address() -> str:
    return one(Client())


def test_an_argument_without_a_stable_key_is_refused_and_named(peers: tuple[Peer, Peer]) -> None:
    with pytest.raises(UnstableKey, match=r"'value'.*ignore="):
        peers[0].call(call_with_an_address)
