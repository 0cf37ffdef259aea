"""Each right of the documented rule, taken away: what the page says happens then, and nothing else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis

from tests.redis.domain import ME, Domain
from tests.redis.test_acl import PAGE, printed_rule
from tests.servers import RedisServer, eventually
from tiercache import TierCache
from tiercache._core.large import LARGE

SOON = 1.0  # seconds, in which a hint comes and a sync does not: it is 20 s away
NewNode = Callable[..., TierCache]


def documented() -> dict[str, set[str]]:
    """The right to the symptoms that the page's table has for its absence."""
    table = re.search(r"^\| without \|.*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    assert table is not None, f"{PAGE} has no table of what is missing any more"
    found: dict[str, set[str]] = {}
    for row in table[1].splitlines():
        without, symptoms, _ = (cell.strip() for cell in row.strip("|").split("|", 2))
        for right in re.findall(r"`([^`]+)`", without):
            found.setdefault(right, set()).update(re.split(r",\s*", symptoms))
    return found


def less(rule: list[str], right: str) -> list[str]:
    assert right in rule
    return [word for word in rule if word != right]


@contextmanager
def user(server: RedisServer, rule: list[str]) -> Iterator[str]:
    """The URL for a user with *rule* and nothing else."""
    server.cli("ACL", "SETUSER", "shop", "reset", *rule)
    try:
        yield server.url().replace("//", "//shop:secret@")
    finally:
        server.cli("ACL", "DELUSER", "shop")


def symptoms(server: RedisServer, url: str, new_node: NewNode) -> set[str]:
    """All that does not go as it should for the user of *url*, by the names that the page has for it."""
    one, other = (new_node(url, namespace="shop", max_staleness=60) for _ in range(2))
    for _ in range(2):  # the first sync of an epoch brings no records
        if "nothing is cached" in (one.sync.health().problem or ""):
            return {"no cache"}
    found = {
        name
        for name, well in {
            "deaf": hears_others,
            "mute": is_heard,
            "loads": shares_entries,
            "twice": asks_once,
            "unfilled": stores_loads,
            "crowds": loads_once,
            "pending": writes_at_once,
            "unfenced": fences,
            "large": stores_large_loads,
        }.items()
        if not well(one, other)
    }
    if "deaf" not in found and not stays_subscribed(new_node(url, namespace="shop", max_staleness=0.2)):
        found.add("resubscribes")
    with redis.Redis.from_url(url, protocol=2) as client:
        if not keeps_the_newer(Domain(client)):
            found.add("older")
    if not invalidates_without_memory(server, one):
        found.add("pending without memory")
    return found


def hears_others(one: TierCache, other: TierCache) -> bool:
    other.sync.get("anything")
    return eventually(lambda: has_subscribed(other), within=SOON)


def has_subscribed(node: TierCache) -> bool:
    return node._node.is_listening() or "subscriptions_lost" in node.stats().events


def is_heard(one: TierCache, other: TierCache) -> bool:
    """Whether what one writes is a hint to whoever listens."""
    server = one._node.address
    assert server is not None
    with redis.Redis(port=server.identity.port, protocol=2) as all_powerful, all_powerful.pubsub() as ear:
        ear.subscribe(one._node.names.channel)
        assert ear.get_message(timeout=10)
        one.sync.invalidate_tags("anything")
        return ear.get_message(timeout=SOON) is not None


def shares_entries(one: TierCache, other: TierCache) -> bool:
    one.sync.set("shared", 1)
    return other.sync.get("shared") == 1 and other.sync.touch("shared", ttl=60)


def stores_large_loads(one: TierCache, other: TierCache) -> bool:
    def unfilled(key: str, value: str) -> int:
        before = one.stats().events
        one.sync.get_or_load(key, lambda: value)
        after = one.stats().events
        return sum(after.get(name, 0) - before.get(name, 0) for name in ("unfilled", "fill_full"))

    return unfilled("large", "x" * LARGE) == unfilled("small", "x")


def asks_once(one: TierCache, other: TierCache) -> bool:
    """Whether hits in L2 are asked for by plain commands, and answered."""
    found = other.cached(l1=False)(one_value)
    for _ in range(20):
        found()
    refused = other.stats().events.get("look_refused", 0)
    assert refused <= 1, "and then not asked for again"
    return refused == 0


def one_value() -> int:
    return 1


def stores_loads(one: TierCache, other: TierCache) -> bool:
    one.sync.get_or_load("loaded", lambda: 1)
    return "unfilled" not in one.stats().events


def writes_at_once(one: TierCache, other: TierCache) -> bool:
    return not any(
        (
            one.sync.invalidate_tags("t").pending,
            one.sync.delete("k").pending,
            one.sync.set("k", 1).pending,
            one.sync.clear().pending,
        )
    )


def fences(one: TierCache, other: TierCache) -> bool:
    """Whether what is loaded inside a block is not stored, and all else is, and the block leaves no trace."""

    def unfilled(key: str, tag: str) -> int:
        before = other.stats().events
        other.sync.get_or_load(key, lambda: 1, tags=[tag])
        after = other.stats().events
        return sum(after.get(name, 0) - before.get(name, 0) for name in ("unfilled", "fill_fenced"))

    usual, epoch, events = unfilled("before", "t"), one._node.tiers.core.epoch, one.stats().events
    with one.sync.invalidating(tags=["fenced"]):
        unfilled("inside", "fenced")
        unrelated = unfilled("unrelated", "t")
    with one.sync.invalidating(tags=["fenced"]) as block:
        block.discard()
    lost = {"pending", "fences_left", "guarantee_suspended"}
    return (
        one.sync.get("inside") is None
        and unrelated == usual
        and not any(one.stats().events.get(name, 0) > events.get(name, 0) for name in lost)
        and other._node.tiers.core.epoch == epoch
    )


def loads_once(one: TierCache, other: TierCache) -> bool:
    """Whether another process waits for a load under way."""
    loading, go_on, second = threading.Event(), threading.Event(), threading.Event()

    def load() -> int:
        loading.set()
        assert go_on.wait(30)
        return 1

    with ThreadPoolExecutor() as pool:
        leading = pool.submit(one.sync.get_or_load, "slow", load)
        assert loading.wait(10)
        waiting = pool.submit(other.sync.get_or_load, "slow", second.set)
        waits = eventually(lambda: bool(other._node.tiers.bells._bells) or second.is_set())
        alone = not second.is_set()
        go_on.set()
        leading.result(30)
        waiting.result(30)
    return waits and alone


def stays_subscribed(node: TierCache) -> bool:
    """Whether a subscription outlives some syncs, each with its PING."""
    node.sync.get("anything")
    assert eventually(lambda: has_subscribed(node))

    def has_synced_often() -> bool:
        node.sync.get("anything")
        return node.stats().events["syncs"] >= 8

    assert eventually(has_synced_often)
    return "subscriptions_lost" not in node.stats().events


def keeps_the_newer(domain: Domain) -> bool:
    try:
        domain.sync()
        old = domain.lead("late")
        domain.invalidate("another")
        new = domain.lead("late", ME + ":1")
        domain.fill("late", new)
        return domain.fill("late", old).status == "older"
    except redis.ResponseError:
        return True  # it stores nothing at all, which has another name


def invalidates_without_memory(server: RedisServer, node: TierCache) -> bool:
    if node._node.tiers.core.pending:
        return True  # it does not with memory either, which has another name
    server.cli("CONFIG", "SET", "maxmemory", "1")
    try:
        return not node.sync.invalidate_tags("t").pending
    finally:
        server.cli("CONFIG", "SET", "maxmemory", "0")


def test_with_the_whole_rule_nothing_is_amiss(any_redis: RedisServer, new_node: NewNode) -> None:
    with user(any_redis, printed_rule()) as url:
        assert symptoms(any_redis, url, new_node) == set()


RIGHTS = [word for word in printed_rule() if word[0] in "+~&"]


@pytest.mark.parametrize("right", RIGHTS)
def test_without_one_right_of_the_rule_that_is_amiss_which_the_page_says(
    any_redis: RedisServer, new_node: NewNode, right: str
) -> None:
    with user(any_redis, less(printed_rule(), right)) as url:
        assert symptoms(any_redis, url, new_node) == documented()[right]


def test_the_page_says_it_of_each_right_of_the_rule() -> None:
    assert documented().keys() == set(RIGHTS)


@pytest.mark.parametrize(
    "forbidden",
    [
        ("GET", "elsewhere"),
        ("SET", "{shopping}1:e:k", "1"),
        ("DEL", "shop"),
        ("PUBLISH", "elsewhere", "x"),
        ("SUBSCRIBE", "elsewhere"),
        ("PSUBSCRIBE", "*"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "elsewhere"),
        ("EVAL", "return redis.call('KEYS', '*')", 0),
        ("EVAL", "return redis.call('PUBLISH', 'elsewhere', 'x')", 0),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("SCRIPT", "FLUSH"),
    ],
    ids=lambda command: " ".join(map(str, command))[:40],
)
def test_the_rule_opens_nothing_else(any_redis: RedisServer, forbidden: tuple[str | int, ...]) -> None:
    """Words without `resetchannels` would open all channels of a 6.2."""
    with (
        user(any_redis, printed_rule()) as url,
        redis.Redis.from_url(url, protocol=2) as client,
        pytest.raises(redis.ResponseError, match=r"(?i)noperm|permission|can't (access|run|publish)"),
    ):
        client.execute_command(*forbidden)
