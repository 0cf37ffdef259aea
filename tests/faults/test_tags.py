"""Fault 8: what a tag reaches, for how long, and what it costs Redis to know.

Other caches keep a set of keys for each tag. It ends with its shortest-lived member, or grows
without end; and a key that was written during an invalidation may be in none.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.peers import Peer, do
from tests.servers import RedisServer, eventually
from tests.source import Source
from tiercache import TierCache

NAMES = 7  # members of the state at most that name no tag and no node


def keys_by_type(server: RedisServer) -> dict[bytes, bytes]:
    return {key: server.cli("TYPE", key) for key in server.cli("KEYS", "*")}


def test_a_short_lived_entry_does_not_shorten_the_life_of_its_tag(
    any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    one, other = (new_node(any_redis.url(), max_staleness=60).sync for _ in range(2))
    one.set("long", 1, ttl=3600, tags=["t"])
    one.set("brief", 2, ttl=0.05, tags=["t"])
    assert eventually(lambda: not any(b"brief" in key for key in any_redis.cli("KEYS", "*")))

    assert other.get("long") == 1

    one.invalidate_tags("t")

    assert eventually(lambda: other.get("long") is None, within=2.0)
    assert new_node(any_redis.url()).sync.get("long") is None


def test_an_invalidated_tag_outlives_every_entry_that_it_was_on(
    any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    # What is known of a tag has no life of its own: else a load begun before would come back after its end.
    cache = new_node(any_redis.url()).sync
    token = cache.token()
    cache.set("brief", 1, ttl=0.05, tags=["t"])
    cache.invalidate_tags("t")
    assert eventually(lambda: not any(b"brief" in key for key in any_redis.cli("KEYS", "*")))

    assert not cache.set("long", "loaded before", tags=["t"], token=token).stored


def test_entries_cost_redis_nothing_beside_themselves(
    any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache = new_node(any_redis.url()).sync
    cache.get_or_load_many(
        map(str, range(300)), lambda keys: dict.fromkeys(keys), tags=lambda key: ["t", key]
    )

    kinds = keys_by_type(any_redis)
    entries = [key for key in kinds if b":e:" in key]
    beside = {key: kind for key, kind in kinds.items() if key not in entries}
    assert len(entries) == 300
    assert set(beside.values()) == {b"zset"}
    assert len(beside) <= 3
    assert all(any_redis.cli("ZCARD", key) <= NAMES + 1 for key in beside), (
        "no tag and no key was invalidated"
    )


def test_what_redis_knows_of_tags_and_keys_is_bounded_and_forgetting_it_revives_nothing(
    any_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    node = new_node(any_redis.url())
    node._node.tiers.cap, node._node.tiers.key_cap = 50, 40  # of 100,000 and 10,000
    cache, other = node.sync, new_node(any_redis.url(), max_staleness=60).sync
    cache.set("old", 1, tags=["first"])
    before = cache.token()
    cache.invalidate_tags("first")
    for i in range(300):
        cache.invalidate_tags(f"t{i}")
        cache.set(f"k{i}", i)

    sizes = {
        key: any_redis.cli("ZCARD", key) for key, kind in keys_by_type(any_redis).items() if kind == b"zset"
    }
    assert max(sizes.values()) <= 50 + NAMES + 1, "one node has read"
    assert other.get("old") is None
    assert not cache.set("new", 1, tags=["first"], token=before).stored
    assert other.get("k299") == 299


KEYS = [f"k{i}" for i in range(200)]


def set_until_over(folder: str) -> int:
    count, over, writing = 0, Source(folder).flag("over"), Source(folder).flag("writing")
    while not over.is_set():
        do("set", KEYS[count % len(KEYS)], count, tags=["t"])
        writing.set()
        count += 1
    return count


def invalidate_often(folder: str) -> None:
    Source(folder).flag("writing").wait()
    for _ in range(300):
        do("invalidate_tags", "t")
    Source(folder).flag("over").set()


def test_an_entry_written_during_an_invalidation_of_its_tag_is_reached_by_the_next(
    any_redis: RedisServer, source: Source
) -> None:
    with Peer(any_redis.url()) as writer, Peer(any_redis.url()) as other:
        writes = writer.start(set_until_over, source.folder)
        other.call(invalidate_often, source.folder)
        assert writes.result(10) > 30

        writer.do("set", "last", 1, tags=["t"])
        assert other.do("get", "last") == 1
        writer.do("invalidate_tags", "t")

        assert writer.do("get_many", [*KEYS, "last"]) == {}
        assert eventually(lambda: other.do("get_many", [*KEYS, "last"]) == {}, within=2.0)
