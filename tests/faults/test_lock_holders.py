"""Fault 9, across processes: the one that loads dies, stops, or takes its time. The others go on.

Other caches leave a killed process its lock, for the value's whole life; take a slow creator's
value away from it; let every waiter run a failing loader in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.peers import Peer, shorten_locks
from tests.servers import RedisServer, eventually
from tests.source import Source
from tiercache import LoadTimeout, cached, default_cache

LOCK = 0.8  # seconds, of the ten that it is
MARGIN = 1.0
PATIENCE = 3.0  # seconds, a hundred times what the loads that it waits for take
# The load that had the lock ends and wakes who waits, as one that fails does; another process is sooner.
HAND_ON = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('PEXPIRE', KEYS[1], 10000)
return redis.call('PUBLISH', ARGV[2], 'k:' .. ARGV[3])
"""


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    """The first load waits for a flag; the later ones do not."""
    source = Source(folder)
    version = source.load()
    if source.loads() == 1:
        source.flag("loading").set()
        source.flag("go on").wait()
    return version


@cached(ttl=3600)
def fails_first(folder: str) -> int:
    source = Source(folder)
    source.load()
    if source.loads() == 1:
        source.flag("loading").set()
        source.flag("go on").wait()
        raise LookupError("the first load fails")
    return 7


@cached(ttl=3600)
def plain(folder: str) -> int:
    return Source(folder).load()


@cached(ttl=3600)
def fails(folder: str) -> int:
    Source(folder).flag("fails").set()
    time.sleep(0.02)  # what it takes to fail
    raise LookupError


@cached(ttl=3600)
def left(folder: str) -> str:
    meet(folder, "left", "right")
    return "left of " + right(folder) if Source(folder).loads("right") == 1 else "left"


@cached(ttl=3600)
def right(folder: str) -> str:
    meet(folder, "right", "left")
    return "right of " + left(folder) if Source(folder).loads("left") == 1 else "right"


def meet(folder: str, mine: str, theirs: str) -> None:
    """Load, and go on when the other one is being loaded as well."""
    source = Source(folder)
    source.load(mine)
    source.flag(mine).set()
    source.flag(theirs).wait()


def error_of(folder: str) -> str:
    try:
        fails(folder)
    except Exception as error:
        return type(error).__name__
    return "no error"


def fail_until_over(folder: str) -> set[str]:
    errors = set()
    while not Source(folder).flag("over").is_set():
        errors.add(error_of(folder))
    return errors


def refresh(folder: str) -> int:
    return plain.refresh(folder)


def load_many(folder: str) -> int:
    key = plain.key(folder)
    return default_cache().sync.get_or_load_many([key], lambda _: {key: Source(folder).load()})[key]


def node_id() -> str:
    return default_cache()._node.tiers.core.node


@pytest.fixture
def holder(redis_server: RedisServer) -> Iterator[Peer]:
    with Peer(redis_server.url()) as peer:
        peer.call(shorten_locks, int(LOCK * 1000))
        yield peer


@pytest.fixture
def other(redis_server: RedisServer) -> Iterator[Peer]:
    with Peer(redis_server.url()) as peer:
        yield peer


def test_the_load_of_a_process_that_is_killed_is_taken_over_within_its_lock(
    holder: Peer, other: Peer, source: Source
) -> None:
    source.commit(1)
    holder.start(it, source.folder)
    source.flag("loading").wait()
    begun = time.monotonic()
    waiting = other.start(it, source.folder)
    holder.kill()

    assert waiting.result(LOCK + MARGIN) == 1
    assert time.monotonic() > begun + LOCK / 2, "it had waited for the lock, or this test shows nothing"


def test_the_load_of_a_process_that_is_stopped_is_taken_over_within_its_lock(
    holder: Peer, other: Peer, source: Source
) -> None:
    source.commit(1)
    stopped = holder.start(it, source.folder)
    source.flag("loading").wait()
    holder.stop()
    waiting = other.start(it, source.folder)
    assert waiting.result(LOCK + MARGIN) == 1

    source.commit(2)
    other.do("invalidate_tags", "it")
    assert other.call(it, source.folder) == 2
    holder.resume()
    source.flag("go on").set()

    assert stopped.result(10) == 1, "who asked before the write may have the old version"
    assert [peer.call(it, source.folder) for peer in (holder, other)] == [2, 2]


def test_a_load_that_outlives_its_lock_still_gives_its_value_to_all(
    redis_server: RedisServer, holder: Peer, other: Peer, source: Source
) -> None:
    source.commit(1)
    holder.call(shorten_locks, 100)
    slow = holder.start(it, source.folder)
    source.flag("loading").wait()
    assert eventually(lambda: not locks(redis_server))
    source.flag("go on").set()

    assert slow.result(10) == 1
    assert [peer.call(it, source.folder) for peer in (holder, other)] == [1, 1]
    assert source.loads() == 1


def test_who_waits_for_a_hung_load_of_another_process_gives_up_after_its_own_patience(
    redis_server: RedisServer, holder: Peer, source: Source
) -> None:
    holder.call(shorten_locks, 60_000)
    hung = holder.start(it, source.folder)
    source.flag("loading").wait()
    with Peer(redis_server.url(), load_timeout=0.3) as other:
        other.call(shorten_locks, 60_000)
        with pytest.raises(LoadTimeout, match="load_timeout"):
            other.call(it, source.folder)
    source.flag("go on").set()

    assert hung.result(10) == 0


def test_when_a_load_fails_one_waiter_elsewhere_loads_at_once(
    holder: Peer, other: Peer, source: Source
) -> None:
    for peer in (holder, other):
        peer.call(shorten_locks, 60_000)
    failing = holder.start(fails_first, source.folder)
    source.flag("loading").wait()
    waiting = [other.start(fails_first, source.folder) for _ in range(20)]
    assert eventually(lambda: other.call(is_waiting))
    source.flag("go on").set()

    with pytest.raises(LookupError, match="the first load fails"):
        failing.result(10)
    assert [each.result(5) for each in waiting] == [7] * 20
    assert source.loads() == 2


def locks(server: RedisServer) -> list[bytes]:
    return [key for key in server.cli("KEYS", "*") if b":l:" in key]


def is_waiting() -> bool:
    """Whether somebody in this process waits for the load of another process."""
    return bool(default_cache()._node.tiers.bells._bells)


def test_a_waiter_takes_what_a_load_elsewhere_brings_without_loading(
    holder: Peer, other: Peer, source: Source
) -> None:
    for peer in (holder, other):
        peer.call(shorten_locks, 60_000)
    source.commit(1)
    leading = holder.start(it, source.folder)
    source.flag("loading").wait()
    waiting = [other.start(it, source.folder) for _ in range(20)]
    assert eventually(lambda: other.call(is_waiting))
    source.flag("go on").set()

    assert {each.result(5) for each in (leading, *waiting)} == {1}
    assert source.loads() == 1


@pytest.mark.parametrize("read", [plain, refresh, load_many])
def test_who_has_waited_for_two_loads_elsewhere_that_brought_nothing_loads_beside_the_third(
    redis_server: RedisServer, other: Peer, source: Source, read: Callable[[str], int]
) -> None:
    source.commit(7)
    key, node = plain.key(source.folder), other.call(node_id)
    lock, channel = f"{{default}}1:l:{key}", f"{{default}}1@0:w:{node}"

    def lead(owner: str) -> None:
        redis_server.cli("EVAL", HAND_ON, 1, lock, owner, channel, key)

    def is_waited_for() -> bool:
        return bool(redis_server.cli("HEXISTS", lock, f"w{node}"))

    lead("0a:1")
    waiting = other.start(read, source.folder)
    assert eventually(is_waited_for)
    lead("0b:1")
    assert eventually(is_waited_for)
    assert not waiting.done()
    lead("0a:2")

    assert waiting.result(5) == 7
    assert redis_server.cli("HGET", lock, "owner") == b"0a:2", "which it had no leave to take"


def test_a_key_whose_load_always_fails_keeps_no_process_waiting_for_another_that_asks_again_and_again(
    redis_server: RedisServer, holder: Peer, source: Source
) -> None:
    busy = holder.start(fail_until_over, source.folder)
    source.flag("fails").wait()
    with Peer(redis_server.url(), load_timeout=PATIENCE) as other:
        errors = {other.call(error_of, source.folder) for _ in range(20)}
    source.flag("over").set()

    assert errors == {"LookupError"}
    assert busy.result(10) == {"LookupError"}


def test_two_processes_that_need_each_others_loads_go_on_within_the_lock(
    holder: Peer, other: Peer, source: Source
) -> None:
    other.call(shorten_locks, int(LOCK * 1000))
    both = [holder.start(left, source.folder), other.start(right, source.folder)]

    results = [each.result(LOCK + 2 * MARGIN) for each in both]
    assert results[0].startswith("left")
    assert results[1].startswith("right")


@pytest.mark.parametrize("function", [it, fails_first])
def test_no_lock_is_left_when_a_load_has_ended(
    redis_server: RedisServer, holder: Peer, source: Source, function: Callable[[str], int]
) -> None:
    ending = holder.start(function, source.folder)
    source.flag("loading").wait()
    assert locks(redis_server)
    source.flag("go on").set()
    ending.exception(10)

    assert not locks(redis_server)
