"""What somebody can do who may publish on the channels: cost a reload, a few syncs, and speed. Counted."""

from __future__ import annotations

import random
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import hiredis
import pytest

from tests.servers import RedisServer, eventually
from tiercache import TierCache
from tiercache._core.coherence import MAX_RECENT
from tiercache._transport import listener

BOUND = 1.0  # seconds, the readers' max_staleness
SECONDS = 1.5  # a flood lasts
MARGIN = 0.5  # for a machine that is busy with other things
Forge = Callable[[TierCache, int], bytes]

JUNK = random.Random(9).randbytes(1 << 20)


def claims(cache: TierCache, number: int, deps: bytes, *, epoch: int = 0) -> bytes:
    """A hint as a script would give it, for whatever number and dependencies."""
    core = cache._node.tiers.core
    return b"1|%d|%d|" % (epoch or core.epoch, number) + deps


def asks(cache: TierCache, number: int, n: int) -> bytes:
    """A barrier's question, of one waiter or another."""
    return b"2|%d|%d|%032x" % (cache._node.tiers.core.epoch, number, n % 100)


def ahead(cache: TierCache, n: int) -> int:
    """A number that is soon the next one, whatever was heard meanwhile."""
    return cache._node.tiers.core.applied + 1 + n % 50


FORGED: dict[str, Forge] = {
    "random bytes": lambda cache, n: JUNK[n % 4096 : n % 4096 + 200],
    "huge messages": lambda cache, n: JUNK,
    "almost hints": lambda cache, n: b"1|1|1|" + JUNK[: n % 2000],
    "far numbers": lambda cache, n: claims(cache, 10**9 + n, b"t:it"),
    "another epoch": lambda cache, n: claims(cache, 5, b"t:it", epoch=7),
    "the next number": lambda cache, n: claims(cache, ahead(cache, n), b"t:it"),
    "the next number, on everything": lambda cache, n: claims(cache, ahead(cache, n), b"*\0" * 1999 + b"*"),
    "the next number, on 2,000 new tags": lambda cache, n: claims(
        cache, ahead(cache, n), b"\0".join(b"t:%0400d" % (2000 * n + i) for i in range(2000))
    ),
    "known numbers": lambda cache, n: claims(cache, 1, b"t:it"),
    "questions about far records": lambda cache, n: asks(cache, 10**9 + n, n),
    "questions about the last record": lambda cache, n: asks(cache, cache._node.tiers.core.seen, n),
}


class Attacker:
    """Publishes on *channel* as fast as the server takes it, from `with` to the end of it."""

    def __init__(self, server: RedisServer, channel: str, forge: Callable[[int], bytes]) -> None:
        self._channel, self._forge = channel, forge
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._thread = threading.Thread(target=self._run)
        self._over = threading.Event()
        self.sent = 0
        self.pause = 0.0  # seconds between two messages

    def _run(self) -> None:
        replies = self._socket.makefile("rb")
        while not self._over.wait(self.pause):
            count = 1 if self.pause else 20
            messages = [self._forge(self.sent + i) for i in range(count)]
            for message in messages:  # not as one: this process' memory is what the node's is told by
                self._socket.sendall(hiredis.pack_command(("PUBLISH", self._channel, message)))
            for _ in messages:
                replies.readline()
            self.sent += count

    def __enter__(self) -> Attacker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


class Cost:
    """What a node did between two instants."""

    def __init__(self, cache: TierCache) -> None:
        self._cache = cache
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        thread = self._cache._node._listener.thread
        return {
            "seconds": time.monotonic(),
            "listener": time.clock_gettime(time.pthread_getcpuclockid(thread.ident)),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **dict.fromkeys(("syncs", "floods", "epochs", "flushes", "subscriptions_lost"), 0),
            **self._cache.stats().events,
        }

    def __getitem__(self, name: str) -> float:
        now = self._now()
        return now.get(name, 0) - self._before.get(name, 0)


@pytest.fixture
def reader(redis_server: RedisServer, new_node: Callable[..., TierCache]) -> TierCache:
    """A node that listens, with something in L1, and that has heard all there was to hear."""
    cache = new_node(redis_server.url(), namespace="shop", max_staleness=BOUND)
    assert eventually(lambda: cache.sync.health().listening)
    cache.sync.set("it", 0, tags=["it"])
    for n in range(500):
        cache.sync.set(f"other {n}", n, tags=["other"])
    assert eventually(lambda: cache.stats().events.get("hints", 0) == 501)
    assert eventually(lambda: cache.sync.get("it") == 0 and cache.sync.health().listening)
    return cache


@contextmanager
def history(writer: TierCache) -> Iterator[list[tuple[float, int]]]:
    """A new version of "it" every few milliseconds, each with the instant at which it had been written."""
    written: list[tuple[float, int]] = []
    over = threading.Event()

    def write() -> None:
        version = 0
        while not over.wait(0.02):
            version += 1
            writer.sync.set("it", version, tags=["it"])
            written.append((time.monotonic(), version))

    thread = threading.Thread(target=write)
    thread.start()
    yield written
    over.set()
    thread.join()


def read_for(seconds: float, cache: TierCache) -> list[tuple[float, int]]:
    reads, end = [], time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        reads.append((begun, cache.sync.get("it", -1)))
        time.sleep(0.0005)
    return reads


def too_old(reads: list[tuple[float, int]], written: list[tuple[float, int]]) -> list[tuple[float, int, int]]:
    """The reads that gave a version whose successor had been there for longer than the bound."""
    found, at, least = [], 0, 0
    for begun, version in reads:
        while at < len(written) and written[at][0] <= begun - BOUND * 1.002:
            least = written[at][1]
            at += 1
        if 0 <= version < least:
            found.append((begun, version, least))
    return found


@pytest.mark.parametrize("kind", FORGED)
def test_a_flood_on_the_channel_costs_a_few_syncs_and_no_read_its_bound(
    redis_server: RedisServer, reader: TierCache, new_node: Callable[..., TierCache], kind: str
) -> None:
    writer = new_node(redis_server.url(), namespace="shop", listen=False)
    core = reader._node.tiers.core
    cost = Cost(reader)
    channel = reader._node.names.channel
    with (
        history(writer) as written,
        Attacker(redis_server, channel, lambda n: FORGED[kind](reader, n)) as flood,
    ):
        reads = read_for(SECONDS, reader)

    seconds = cost["seconds"] / BOUND
    print(
        f"{kind}: {flood.sent / cost['seconds']:.0f} messages/s, {cost['syncs'] / seconds:.1f} syncs in D, "
        f"listener {cost['listener'] / cost['seconds']:.0%} of a core, {cost['memory']:.0f} MB, "
        f"{cost['floods']:.0f} floods, {cost['subscriptions_lost']:.0f} subscriptions lost"
    )
    assert too_old(reads, written) == []
    assert len(written) > 10
    assert len({version for _, version in reads}) > 3, "what is new is found all the time"
    # One each D/10, one for each of the four subscriptions a second, and those of the reads without a lease.
    assert cost["syncs"] <= 16 * seconds + 8
    assert cost["listener"] <= MARGIN * cost["seconds"]
    assert cost["memory"] <= 64
    assert len(core.recent) <= MAX_RECENT
    assert cost["epochs"] == cost["flushes"] == 0


@pytest.mark.parametrize("kind", [kind for kind in FORGED if kind.startswith(("far", "another", "quest"))])
def test_forged_hints_and_questions_make_a_node_ask_ten_times_within_the_bound_at_most(
    redis_server: RedisServer, reader: TierCache, kind: str
) -> None:
    """Too few of them for a flood: a sync shows that the first had lied."""
    cost = Cost(reader)
    redis_server.cli("CONFIG", "RESETSTAT")
    with Attacker(redis_server, reader._node.names.channel, lambda n: FORGED[kind](reader, n)) as drip:
        drip.pause = 0.005
        read_for(SECONDS, reader)

    calls = redis_server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
    assert drip.sent > 100
    assert calls <= 14 * cost["seconds"] / BOUND + 6, "ten, and those of its own schedule"
    assert cost["floods"] == 0


def test_after_a_flood_the_channel_is_heard_again(
    redis_server: RedisServer,
    reader: TierCache,
    new_node: Callable[..., TierCache],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "DEAF", 0.2)
    with Attacker(redis_server, reader._node.names.channel, lambda n: b"noise"):
        assert eventually(lambda: reader.stats().events["floods"] >= 1)
    assert eventually(lambda: reader.sync.health().listening)

    reader.sync.get("it")
    new_node(redis_server.url(), namespace="shop").sync.invalidate_tags("it")

    assert eventually(lambda: reader.sync.get("it") is None)


@pytest.mark.parametrize("reads", [True, False], ids=["a node that reads", "an idle node"])
def test_as_many_true_hints_as_can_be_made_are_no_flood(
    redis_server: RedisServer, reader: TierCache, new_node: Callable[..., TierCache], reads: bool
) -> None:
    heard = reader.stats().events.get("hints", 0)
    writers = [new_node(redis_server.url(), namespace="shop", listen=False).sync for _ in range(2)]

    def write(writer: Any) -> None:
        for n in range(2_000):
            writer.invalidate_tags(f"some {n}")

    with ThreadPoolExecutor() as pool:
        writing = [pool.submit(write, writer) for writer in writers]
        while reads and not all(each.done() for each in writing):
            read_for(0.01, reader)
    assert eventually(lambda: reader.stats().events["hints"] - heard == 4_000)

    assert reader.stats().events.get("floods", 0) == 0
    assert reader.sync.health().listening


def test_forged_wake_ups_make_nobody_look_more_than_now_and_then(
    redis_server: RedisServer, reader: TierCache, new_node: Callable[..., TierCache]
) -> None:
    leader = new_node(redis_server.url(), namespace="shop")
    loading, go_on = threading.Event(), threading.Event()

    def load() -> int:
        loading.set()
        assert go_on.wait(30)
        return 7

    wake = reader._node.names.wake + reader._node.tiers.core.node
    bells = reader._node.tiers.bells
    with ThreadPoolExecutor() as pool:
        leading = pool.submit(leader.sync.get_or_load, "slow", load)
        assert loading.wait(10)
        waiting = pool.submit(reader.sync.get_or_load, "slow", lambda: 8)
        assert eventually(lambda: bool(bells._bells))
        redis_server.cli("CONFIG", "RESETSTAT")
        with Attacker(redis_server, wake, lambda n: b"k:slow"):
            time.sleep(SECONDS)
        calls = redis_server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
        go_on.set()

        assert leading.result(10) == 7
        assert waiting.result(10) == 7
    assert calls <= 60, "syncs of two nodes, and a look now and then"


def test_wake_ups_for_what_nobody_asked_about_are_a_flood(
    redis_server: RedisServer, reader: TierCache
) -> None:
    wake = reader._node.names.wake + reader._node.tiers.core.node
    with Attacker(redis_server, wake, lambda n: b"k:it"):
        assert eventually(lambda: reader.stats().events["floods"] >= 1)


def test_forged_wake_ups_make_a_barrier_look_no_more_than_now_and_then(
    redis_server: RedisServer, reader: TierCache, new_node: Callable[..., TierCache]
) -> None:
    silent = new_node(redis_server.url(), namespace="shop", max_staleness=SECONDS, listen=False)
    silent.sync.get("it")
    wake = reader._node.names.wake + reader._node.tiers.core.node
    redis_server.cli("CONFIG", "RESETSTAT")
    begun = time.monotonic()
    with Attacker(redis_server, wake, lambda n: b"barrier"):
        reader.sync.invalidate_tags("it", wait=True)

    waited = time.monotonic() - begun
    calls = redis_server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
    assert SECONDS * 0.9 < waited < SECONDS + MARGIN, "for the lease of the node that does not answer"
    assert calls <= 40


def test_a_barrier_is_answered_at_once_while_forged_questions_come(
    redis_server: RedisServer, reader: TierCache, new_node: Callable[..., TierCache]
) -> None:
    writer = new_node(redis_server.url(), namespace="shop", max_staleness=30)
    forged = FORGED["questions about the last record"]
    with Attacker(redis_server, reader._node.names.channel, lambda n: forged(reader, n)) as drip:
        drip.pause = 0.01
        begun = time.monotonic()
        for _ in range(5):
            writer.sync.invalidate_tags("it", wait=True)

    assert time.monotonic() - begun < 5 * BOUND


def test_a_hint_from_before_the_server_lost_all_does_not_make_the_channel_a_liar_s(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    """Its number is above the head of the epoch that the sync after it brings, which begins anew."""
    reader = new_node(redis_server.url(), max_staleness=60)  # whose liars wait 6 s for a sync, others 0.6
    core, channel = reader._node.tiers.core, reader._node.names.channel
    reader.sync.get("k")
    assert eventually(lambda: reader._node.is_listening())
    before = core.epoch

    redis_server.flush()
    redis_server.cli("PUBLISH", channel, claims(reader, core.applied + 50, b"t:t"))
    assert eventually(lambda: core.epoch not in (0, before))
    syncs = reader.stats().events["syncs"]
    redis_server.cli("PUBLISH", channel, claims(reader, core.applied + 2, b"t:t"))

    assert eventually(lambda: reader.stats().events["syncs"] > syncs, within=4.0)


def test_a_sync_that_was_sent_before_a_record_does_not_make_its_hint_a_lie(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    """1. A reader's sync is answered, and not yet over.  2. A record; its hint comes after a gap.  3. The
    listener's sync joins the reader's."""
    reader = new_node(redis_server.url(), max_staleness=60)  # whose next sync is 16 s away
    writer = new_node(redis_server.url(), max_staleness=60)
    node = reader._node
    core, syncs = node.tiers.core, node.tiers.syncs
    reader.sync.get("k")
    assert eventually(lambda: node.is_listening())
    writer.sync.invalidate_tags("it")
    assert eventually(lambda: reader.stats().events["hints"] == 1)  # the sync after the subscription is over
    flight, role = syncs.claim("sync", node.clock(), None, blocking=True)
    assert role == "lead"
    before = writer.sync.invalidate_tags("it").token
    assert before is not None
    assert eventually(lambda: core.applied == before.number)
    with core.lock:
        core.applied = core.proved  # as where that hint was of an epoch that the node had not adopted yet
    writer.sync.invalidate_tags("it")
    assert eventually(lambda: flight.followers == 1)
    syncs.land(flight, True)
    syncs.leave(flight, None, role)

    assert eventually(lambda: core.proved > before.number, within=4.0)
