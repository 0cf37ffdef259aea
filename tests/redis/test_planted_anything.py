"""Anything in any key of a domain: the verbs go on, no script fails for good, and no value is made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.redis.conftest import client_of
from tests.servers import RedisServer
from tiercache import TierCache
from tiercache._core.scripts import Names

NAMES = Names("shop", 0)
BOUND = 0.2
NODE = "f" * 32
KEYS = {
    "state": NAMES.domain[0],
    "key versions": NAMES.domain[1],
    "fences": NAMES.domain[2],
    "fenced": NAMES.domain[3],
    "nodes": NAMES.members,
    "entry": NAMES.entry("a"),
    "lock": NAMES.lock("a"),
}
numbers = st.sampled_from(
    [-inf, -1e300, -(2.0**53), -(2.0**48), -100.5, -3, -1.5, -1, -0.5, 0, 0.5, 1, 3, 7.5, 2.0**53, 1e300, inf]
)
members = st.sampled_from(
    [
        *(b"\1e", b"\1s", b"\1f", b"\1r", b"\1q", b"\1x", b"\1o", b"\1n", b"\1nx", b"\1n" + b"9" * 5000),
        *(b"\1n%s:200" % NODE.encode(), b"\1n%s:" % NODE.encode() + b"9" * 30, b"\1n\xff:1", b"\1n:"),
        *(b"t:t", b"k:a", b"t:\xff\xfe", b"", b"\0", b"x" * 2000, b"name\0t:t", b"name\0" + b"t:x\0" * 3000),
    ]
)
fields = st.sampled_from([b"owner", b"w" + NODE.encode(), b"w\xff", b"t:t", b"k:a", b"\xff", b"x" * 2000])
texts = st.sampled_from(
    [b"", b"1", b"-1", b"1.5", b"x", b"9" * 400, NODE.encode() + b":0", b"\xff\0"]
) | st.builds(
    lambda epoch, token, size, rest: b"1|%s|%s|1|00000000|0|%s|" % (epoch, token, size) + rest,
    *[st.sampled_from([b"EPOCH", b"1", b"-1", b"9" * 30, b"1e9", b""])] * 3,
    st.binary(max_size=20),
)
plants = st.one_of(
    st.tuples(st.just("zset"), st.dictionaries(members, numbers, min_size=1, max_size=5)),
    st.tuples(st.just("hash"), st.dictionaries(fields, texts, min_size=1, max_size=3)),
    st.tuples(st.just("string"), texts),
    st.tuples(st.just("list"), texts),
    st.tuples(st.just("gone"), st.none()),
)
planted = st.dictionaries(st.sampled_from(list(KEYS)), plants, min_size=1, max_size=3)


def plant(client: redis.Redis, where: str, what: tuple[str, Any], *, over: bool) -> None:
    """Put *what* there, in place of what was there or, for members and fields, beside it."""
    key, (kind, content) = KEYS[where], what
    if not over or client.type(key) != {"zset": b"zset", "hash": b"hash"}.get(kind):
        client.delete(key)
    named = client.zscore(NAMES.state, b"\1e") if client.type(NAMES.state) == b"zset" else None
    epoch = "1" if named is None else f"{-named:.0f}"
    match kind:
        case "zset":
            client.zadd(key, content)
        case "hash":
            client.hset(key, mapping=content)
        case "string":
            client.set(key, content.replace(b"EPOCH", epoch.encode()))
        case "list":
            client.rpush(key, content)


@pytest.fixture(scope="module", params=["redis_server", "redis_server_62"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    made: RedisServer = request.getfixturevalue(request.param)
    return made


@contextmanager
def node(server: RedisServer) -> Iterator[TierCache]:
    cache = TierCache(server.url(), namespace="shop", private=True, max_staleness=BOUND, listen=False)
    try:
        yield cache
    finally:
        cache.sync.close()


ACTS: dict[str, Callable[[Any], object]] = {
    "get": lambda sync: sync.get("a"),
    "get many": lambda sync: sync.get_many(["a", "b"]),
    "load": lambda sync: sync.get_or_load("a", lambda: 2, tags=["t"]),
    "set": lambda sync: sync.set("a", 3, tags=["t"]),
    "touch": lambda sync: sync.touch("a", ttl=60),
    "invalidate": lambda sync: sync.invalidate_tags(["t", "u"]),
    "delete": lambda sync: sync.delete("a"),
    "clear": lambda sync: sync.clear(),
    "fence": lambda sync: fenced(sync),
    "wait": lambda sync: sync.invalidate_tags("t", wait=True),
    "health": lambda sync: sync.health(),
    "at least": lambda sync: sync.at_least(sync.invalidate_tags("u").token),
}


def fenced(sync: Any) -> None:
    with sync.invalidating(tags=["t"], keys=["a"]) as block:
        sync.get_or_load("a", lambda: 2, tags=["t"])
    with sync.invalidating(tags=["t"]) as block:
        block.discard()


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    what=planted,
    over=st.booleans(),
    fence=st.booleans(),
    acts=st.lists(st.sampled_from(list(ACTS)), min_size=1, max_size=4),
)
@example({"fences": ("zset", {b"name\0t:t": inf}), "fenced": ("string", b"x")}, False, True, ["load"])
@example({"state": ("zset", {b"\1n%s:" % NODE.encode() + b"9" * 30: 0.0})}, True, False, ["wait"])
@example({"state": ("zset", {b"\1e": inf})}, True, False, ["load"])
@example({"state": ("zset", {b"\1e": 0})}, True, False, ["load"])
@example({"state": ("zset", {b"\1e": 1.0})}, True, False, ["load"])
def test_whatever_is_planted_the_verbs_go_on_and_no_value_is_made_up(
    server: RedisServer, what: dict[str, Any], over: bool, fence: bool, acts: list[str]
) -> None:
    server.flush()
    with node(server) as one, node(server) as other, client_of(server) as client:
        one.sync.set("a", 1, tags=["t"])
        other.sync.get("a")
        held = other.sync.invalidating(tags=["t"])
        if fence:
            held.__enter__()
        for where, content in what.items():
            plant(client, where, content, over=over)

        for act in acts:
            ACTS[act](one.sync)
            assert other.sync.get_or_load("a", lambda: 2, tags=["t"]) in (1, 2, 3)
        if fence:
            held.__exit__(None, None, None)

        for cache in (one, other):
            cache.sync.health()  # a new epoch is told what the old one may have lost
            assert cache._node.breaker.reason is None
            assert cache.sync.health().problem is None, "a script fails each time"
        # What is left over of a fence holds off what it names; the rest is as new.
        one.sync.set("b", 4)
        assert other.sync.get("b") == 4
        assert one.sync.get_or_load("c", lambda: 5) == 5
        assert other.sync.get("c") == 5, "it was stored"
