"""The auditor at work: real servers, threads and loops."""

from __future__ import annotations

import ast
import asyncio
import gc
import logging
import os
import random
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from tests.peers import Peer
from tests.servers import RedisServer, eventually
from tests.source import Source
from tests.world import Tasks, World
from tiercache import SettingError, TierCache, cached, default_cache, register_uncounted
from tiercache._audit import MAX_AUDITS
from tiercache._audit_calls import start_on_loop
from tiercache._core.audits import SHOWN, shown
from tiercache._core.plan import Call

D = 0.2
NewNode = Callable[..., TierCache]

request_of: ContextVar[str] = ContextVar("request_of", default="none")


@pytest.fixture
def audited(redis_server: RedisServer, new_node: NewNode) -> TierCache:
    """A cache that looks into every hit."""
    return new_node(redis_server.url(), max_staleness=D, audit=1)


def endings(cache: TierCache) -> Counter[str]:
    return sum(cache.stats().audit.values(), Counter())


def ended(cache: TierCache, **counted: int) -> None:
    """Wait until so many audits have come to these ends; others may have come to others."""
    assert eventually(lambda: all(endings(cache)[name] >= n for name, n in counted.items())), endings(cache)


def threads_of_audits() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tiercache-audit")]


def test_a_value_that_fits_into_the_warning_is_shown_whole() -> None:
    old, new = ({"name": "Ada", "born": 1815, "place": "Marylebone", "city": city} for city in "LP")
    assert len(repr(old)) < SHOWN

    assert shown(repr(old), repr(new)) == (repr(old), repr(new))


def test_a_value_that_ends_soon_after_the_difference_is_shown_up_to_the_whole_length() -> None:
    old, _ = shown("x" * 200 + "1", "x" * 200 + "2")

    assert old == "..." + "x" * (SHOWN - 1) + "1"


def test_a_forgotten_tag_is_found_and_named(
    world: World, audited: TierCache, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    @world.cached(audited, tags=["price:{product}"])
    async def price(product: str) -> int:
        return source.load(product)

    async def body() -> None:
        source.commit(1, "tea")
        await price("tea")
        source.commit(2, "tea")
        await world.view(audited).invalidate_tags("prices")
        assert await price("tea") == 1
        await world.until(lambda: endings(audited)["stale_beyond_D"])

    with caplog.at_level(logging.WARNING, "tiercache"):
        world.run(body())

    (name,) = audited.stats().audit
    assert name.endswith("price")
    (record,) = [r for r in caplog.records if "stale_beyond_D" in r.getMessage()]
    assert "price:tea" in record.getMessage()
    assert name in record.getMessage()


def test_a_write_that_is_invalidated_is_no_finding(world: World, audited: TierCache, source: Source) -> None:
    @world.cached(audited, tags=["price:{product}"])
    async def price(product: str) -> int:
        return source.load(product)

    async def body() -> None:
        await price("tea")
        source.commit(1, "tea")
        assert await price("tea") == 0
        await world.until(lambda: source.loads("tea") > 1)  # the audit has seen the difference
        await world.view(audited).invalidate_tags("price:tea")
        await world.until(lambda: endings(audited)["stale_within_D"])

    world.run(body())
    assert endings(audited)["stale_beyond_D"] == 0


def test_hits_that_the_source_agrees_with_are_counted(world: World, audited: TierCache) -> None:
    @world.cached(audited)
    async def pair(number: int) -> list[int]:
        return [number, number]

    async def body() -> None:
        for number in range(3):
            await pair(number)
            assert await pair(number) == [number, number]
        await world.until(lambda: endings(audited)["same"] == 3)

    world.run(body())
    assert sum(endings(audited).values()) == 3


def test_a_hit_in_l2_is_looked_into_as_well(
    world: World, audited: TierCache, redis_server: RedisServer, new_node: NewNode
) -> None:
    other = new_node(redis_server.url(), max_staleness=D)

    async def one() -> int:
        return 1

    async def two() -> int:
        return 2

    async def body() -> None:
        await world.view(other).get_or_load("k", one)
        assert await world.view(audited).get_or_load("k", two) == 1
        await world.until(lambda: endings(audited)["stale_beyond_D"])

    world.run(body())
    assert audited.stats().l1_hits == 0


def test_a_hit_that_is_found_by_the_key_of_its_call_is_looked_into(audited: TierCache) -> None:
    @audited.cached
    def length(of: list[int]) -> int:
        return len(of)

    length([1, 2])
    assert length(of=[1, 2]) == 2
    ended(audited, same=1)


@cached(tags=["thing:{name}"])
def thing(folder: str, name: str) -> int:
    return Source(folder).load(name)


@cached(tags=["thing:{name}", "pairs"])
async def pair(folder: str, name: str) -> list[int]:
    return [await asyncio.to_thread(thing, folder, name), Source(folder).load(name)]


def write_and_read(folder: str, seconds: float, seed: int) -> dict[str, int]:
    """Commit, invalidate and read at random for a while; how the audits of this process ended."""
    chance, source, cache = random.Random(seed), Source(folder), default_cache()
    loop = asyncio.new_event_loop()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        name = chance.choice("abcd")
        if chance.random() < 0.02:
            source.commit(chance.randrange(3), name)  # the same values again and again, as flags have
            cache.sync.invalidate_tags(f"thing:{name}")
        elif chance.random() < 0.2:
            loop.run_until_complete(pair(folder, name))
        else:
            thing(folder, name)
    loop.close()
    return dict(endings(cache))


def test_writes_that_are_invalidated_are_never_a_finding(redis_server: RedisServer, source: Source) -> None:
    """Two processes that hear nothing of each other but by syncs, so that hits are as old as they may be."""
    settings: dict[str, Any] = {"max_staleness": D, "listen": False, "audit": 1}
    with Peer(redis_server.url(), **settings) as one, Peer(redis_server.url(), **settings) as other:
        begun = [peer.start(write_and_read, source.folder, 3.0, n) for n, peer in enumerate((one, other))]
        counted = sum((Counter(each.result(30)) for each in begun), Counter[str]())
    assert counted["stale_within_D"] > 0, f"nothing was put to the test: {counted}"
    assert counted["stale_beyond_D"] == counted["unstable"] == 0, counted


def test_off_there_is_no_thread_and_no_figure(redis_server: RedisServer, new_node: NewNode) -> None:
    cache = new_node(redis_server.url())
    cache.sync.get_or_load("k", lambda: 1)
    cache.sync.get_or_load("k", lambda: 2)
    assert cache.stats().audit == {}
    assert threads_of_audits() == []


def test_off_a_hit_asks_the_clock_itself(redis_server: RedisServer, new_node: NewNode) -> None:
    """The whole price of an auditor to who has none: no look at a setting, no function in between."""

    def clock_of(cache: TierCache) -> object:
        @cache.cached
        def answer() -> int:
            return 42

        assert [answer(), answer()] == [42, 42]
        return answer.__globals__["_clock"]  # type: ignore[attr-defined]  # it is a function

    assert clock_of(new_node(redis_server.url())) is time.monotonic
    assert clock_of(new_node(redis_server.url(), audit=1e-5)) is not time.monotonic


def test_at_a_small_rate_hardly_any_hit_is_looked_into(new_node: NewNode) -> None:
    cache = new_node("memory://", audit=1e-9)

    @cache.cached
    def answer() -> int:
        return 42

    for _ in range(2_000):
        answer()
    assert cache.stats().audit == {}
    assert cache.stats().l1_hits == 1_999


def test_of_many_hits_about_as_many_are_drawn_as_was_asked_for(new_node: NewNode) -> None:
    cache = new_node("memory://", audit=0.1)

    @cache.cached
    def answer(n: int) -> int:
        return n

    answer(1)
    for _ in range(5_000):
        answer(1)
    drawn = eventually(lambda: 350 <= sum(endings(cache).values()) <= 650)  # seven sigma
    assert drawn, endings(cache)
    assert cache.stats().l1_hits == 5_000


def test_a_loader_of_an_awaited_call_runs_on_the_loop_of_its_hit(audited: TierCache) -> None:
    loops: list[object] = []

    async def load() -> int:
        loops.append(asyncio.get_running_loop())
        return 1

    async def body() -> None:
        await audited.get_or_load("k", load)
        await audited.get_or_load("k", load)
        await Tasks().until(lambda: endings(audited)["same"])

    asyncio.run(body())
    assert len(loops) == 2
    assert loops[0] is loops[1]


def test_a_loader_has_neither_thread_locals_nor_context_of_its_caller(
    world: World, audited: TierCache
) -> None:
    """Or a request's session would be used twice at a time."""
    of_thread = threading.local()
    of_thread.session = "the request's"
    seen: list[tuple[str, object]] = []

    async def load() -> int:
        seen.append((request_of.get(), getattr(of_thread, "session", None)))
        return 1

    async def body() -> None:
        request_of.set("alice")
        await world.view(audited).get_or_load("k", load)
        await world.view(audited).get_or_load("k", load)
        await world.until(lambda: endings(audited)["same"])

    world.run(body())
    assert [who for who, _ in seen] == ["alice", "none"]
    if world.name == "threads":
        assert [session for _, session in seen] == ["the request's", None]


def test_each_blocking_load_has_a_thread_of_its_own_that_ends_with_it(audited: TierCache) -> None:
    of_thread = threading.local()
    left: list[object] = []

    def load() -> int:
        left.append(getattr(of_thread, "session", None))
        of_thread.session = "opened here"
        return len(left)  # another each time, so that the audit loads twice

    audited.sync.set("k", 0)
    audited.sync.get_or_load("k", load)
    ended(audited, unstable=1)
    assert left == [None, None]


class Lent:
    """As a session of an ORM: of one caller alone."""


register_uncounted(Lent)


class Repository:
    def __init__(self, session: object) -> None:
        self.session = session


@pytest.mark.parametrize(
    "session", [Lent(), Repository(Lent()), [Lent()]], ids=["itself", "attribute", "item"]
)
def test_what_was_lent_to_a_call_is_not_used_again(audited: TierCache, session: object) -> None:
    used: list[object] = []

    @audited.cached(key="{n}")
    def name(session: object, n: int) -> str:
        used.append(session)
        return "Ada"

    def by_key() -> str:
        used.append(session)
        return "Ada"

    for _ in range(2):
        name(session, 7)
        audited.sync.get_or_load("k", by_key)
        audited.sync.get_or_load("p", partial(lambda session: name.__wrapped__(session, 7), session))
    assert endings(audited) == {"unrepeatable": 3}
    assert len(used) == 3


def test_an_ignored_argument_that_could_be_anything_is_not_used_again(audited: TierCache) -> None:
    class Driver:
        pass

    @audited.cached(ignore=["how"])
    def name(n: int, how: object) -> str:
        return "Ada"

    name(7, how="slowly")
    name(7, how=Driver())
    name(7, how="slowly")
    ended(audited, unrepeatable=1, same=1)


def test_a_client_that_is_made_to_be_shared_does_not_keep_a_call_from_being_repeated(
    audited: TierCache,
) -> None:
    @audited.cached
    def name(n: int, log: logging.Logger, lock: object) -> str:
        return "Ada"

    for _ in range(2):
        name(7, logging.getLogger(__name__), threading.Lock())
    ended(audited, same=1)


def test_a_loader_whose_loop_variable_has_gone_on_is_not_called(audited: TierCache) -> None:
    source = {"a": 1, "b": 2}
    for _ in range(2):
        for name in source:
            audited.sync.get_or_load(name, lambda: source[name])  # noqa: B023  # what people write
    ended(audited, unrepeatable=1)
    assert endings(audited)["stale_beyond_D"] == 0


def test_an_argument_that_was_changed_since_is_not_passed_again(audited: TierCache) -> None:
    gate = threading.Event()

    @audited.cached
    def total(of: list[int]) -> int:
        return sum(of)

    def slow() -> int:
        gate.wait(10)
        return 1

    audited.sync.set("slow", 1)
    audited.sync.get_or_load("slow", slow)
    numbers = [1, 2]
    total(numbers)
    total(numbers)
    numbers.append(3)
    gate.set()
    ended(audited, unrepeatable=1, same=1)


def test_nested_reads_of_an_audit_come_from_the_source(world: World, audited: TierCache) -> None:
    """Or the audit would compare the cache with itself."""
    names = {1: "Ada"}

    @world.cached(audited)
    async def name(n: int) -> str:
        return names[n]

    @world.cached(audited, tags=["greetings"])
    async def greeting(n: int) -> str:
        return f"Hello, {await name(n)}"

    async def body() -> None:
        await greeting(1)
        names[1] = "Grace"
        assert await greeting(1) == "Hello, Ada"
        await world.until(lambda: endings(audited)["stale_beyond_D"])

    world.run(body())
    (found,) = [name for name, counts in audited.stats().audit.items() if counts["stale_beyond_D"]]
    assert found.endswith("greeting")


def test_the_load_of_an_audit_is_not_audited(world: World, audited: TierCache) -> None:
    @world.cached(audited)
    async def inner() -> int:
        return 1

    @world.cached(audited)
    async def outer() -> int:
        return await inner()

    async def body() -> None:
        await inner()
        await outer()  # a hit of inner
        await world.until(lambda: endings(audited)["same"] == 1)
        await outer()
        await world.until(lambda: endings(audited)["same"] == 2)

    world.run(body())
    assert sum(endings(audited).values()) == 2


def test_a_loader_that_fails_is_heard_of_in_the_figures_alone(
    world: World, audited: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> int:
        raise SystemExit("as bad as it gets")

    async def body() -> None:
        view = world.view(audited)
        await view.set("k", 1)
        assert await view.get_or_load("k", fail) == 1
        await world.until(lambda: endings(audited)["load_failed"])
        await view.set("other", 1)
        assert await view.get_or_load("other", fail) == 1
        await world.until(lambda: endings(audited)["load_failed"] == 2)

    world.run(body())
    assert not caplog.records


def test_at_most_one_load_runs_and_at_most_so_many_audits_wait(audited: TierCache) -> None:
    running: list[str] = []
    most, gate = [0], threading.Event()

    def load() -> int:
        running.append("a load")
        most.append(max(most[-1], len(running)))
        gate.wait(10)
        running.pop()
        return 1

    more = MAX_AUDITS + 5
    audited.sync.set_many({f"k{n}": 1 for n in range(more)})
    for _ in range(2):
        assert audited.sync.get_or_load("k0", load) == 1
    assert endings(audited) == {"dropped": 1}, "its audit is under way"
    for n in range(1, more):
        assert audited.sync.get_or_load(f"k{n}", load) == 1
    assert endings(audited) == {"dropped": 6}
    gate.set()
    ended(audited, same=MAX_AUDITS)
    assert most[-1] == 1


def test_a_load_that_hangs_is_given_up_and_none_runs_beside_it(
    redis_server: RedisServer, new_node: NewNode
) -> None:
    cache = new_node(redis_server.url(), max_staleness=D, audit=1, load_timeout=0.1)
    gate = threading.Event()
    cache.sync.set_many({"hangs": True, "k": 1})
    cache.sync.get_or_load("hangs", lambda: gate.wait(10))
    ended(cache, load_failed=1)
    cache.sync.get_or_load("k", lambda: 1)
    ended(cache, dropped=1)
    gate.set()
    assert eventually(lambda: not any("load" in name for name in threads_of_audits()))
    cache.sync.get_or_load("k", lambda: 1)
    ended(cache, same=1)


def test_a_load_that_hangs_in_a_loop_is_cancelled(redis_server: RedisServer, new_node: NewNode) -> None:
    cache = new_node(redis_server.url(), max_staleness=D, audit=1, load_timeout=0.1)
    ends: list[str] = []

    async def hang() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")
        return True

    async def body() -> None:
        await cache.set("k", True)
        await cache.get_or_load("k", hang)
        await Tasks().until(lambda: ends)

    asyncio.run(body())
    assert endings(cache) == {"load_failed": 1}


def test_an_audit_whose_loop_has_ended_is_dropped(audited: TierCache) -> None:
    source = {"k": 1}

    async def load() -> int:
        return source["k"]

    async def body() -> None:
        await audited.get_or_load("k", load)
        source["k"] = 2
        await audited.get_or_load("k", load)

    asyncio.run(body())
    ended(audited, dropped=1)


def test_a_load_that_its_loop_never_came_to_is_no_complaint() -> None:
    """A loop that ends cancels its tasks, and turns a few times more before it is closed."""

    async def load() -> int:
        raise AssertionError

    loop, loaded = asyncio.new_event_loop(), Future[Any]()
    give_up = start_on_loop(loop, Call(load), loaded)
    loop.call_soon(loop.stop)  # in the turn that makes the task, and before its first step
    loop.run_forever()
    loop.close()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        give_up()
        del give_up
        gc.collect()

    assert loaded.cancelled()
    assert complaints == []


def test_an_audit_whose_loop_has_stopped_is_dropped_and_loads_nothing_later(audited: TierCache) -> None:
    """As in a worker that runs its loop for one task at a time."""
    source, loads = {"k": 1}, [0]

    async def load() -> int:
        loads[0] += 1
        return source["k"]

    async def two_reads() -> None:
        await audited.get_or_load("k", load)
        source["k"] = 2
        await audited.get_or_load("k", load)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(two_reads())
    ended(audited, dropped=1)
    loads_before = loads[0]
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert loads[0] == loads_before
    loop.run_until_complete(audited._node.close_loop())
    loop.close()


def test_close_ends_the_audits_with_the_cache(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url(), private=True, max_staleness=5, audit=1)
    source = {"waits": 1}
    gate = threading.Event()
    cache.sync.get_or_load("waits", lambda: source["waits"])
    source["waits"] = 2
    cache.sync.get_or_load("waits", lambda: source["waits"])
    cache.sync.set("hangs", True)
    cache.sync.get_or_load("hangs", lambda: gate.wait(10))
    assert eventually(lambda: "tiercache-audit-load" in threads_of_audits())

    begun = time.monotonic()
    cache.sync.close()
    assert time.monotonic() - begun < 1
    assert "tiercache-audit" not in threads_of_audits()
    gate.set()
    assert eventually(lambda: not threads_of_audits())


def test_a_forked_child_audits_its_own_hits(redis_server: RedisServer) -> None:
    with Peer(redis_server.url(), max_staleness=D, audit=1) as peer:
        assert peer.call(audits_of_a_child) == {"tests.redis.test_audit.in_the_child": {"same": 1}}


def in_the_parent() -> int:
    return 1


def in_the_child() -> int:
    return 1


def audits_of_a_child() -> Any:
    """What a child counts that is forked from a process in the middle of an audit."""
    cache = default_cache()
    cache.sync.get_or_load("k", in_the_parent)
    cache.sync.get_or_load("k", in_the_parent)
    ended(cache, same=1)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads run
        child = os.fork()
    if child == 0:
        try:
            cache.sync.get_or_load("k", in_the_child)  # a hit in L2: L1 is empty after a fork
            eventually(lambda: cache.stats().audit.get("tests.redis.test_audit.in_the_child"))
            counted = {name: dict(endings) for name, endings in cache.stats().audit.items()}
            os.write(writing, repr(counted).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return ast.literal_eval(os.read(reading, 1000).decode())


def test_without_a_server_audits_run_as_well(new_node: NewNode) -> None:
    cache = new_node("memory://", max_staleness=D, audit=1)
    source = {"k": 1}
    cache.sync.get_or_load("k", lambda: source["k"])
    source["k"] = 2
    assert cache.sync.get_or_load("k", lambda: source["k"]) == 1
    ended(cache, stale_beyond_D=1)


@pytest.mark.parametrize("wrong", [0, -0.1, 1.1, True, "often", float("nan")])
def test_a_share_that_cannot_be_is_an_error(wrong: Any) -> None:
    with pytest.raises(SettingError, match=r"audit must be the fraction of hits .*1e-5"):
        TierCache("memory://", private=True, audit=wrong)


def test_the_share_may_come_from_the_environment() -> None:
    with TierCache.from_env(
        {"TIERCACHE_URL": "memory://", "TIERCACHE_NAMESPACE": "audited", "TIERCACHE_AUDIT": "1e-5"}
    ).sync as cache:
        assert cache._node.settings.audit == 1e-5
    with TierCache.from_env({"TIERCACHE_URL": "memory://", "TIERCACHE_AUDIT": "none"}).sync as cache:
        assert cache._node.auditor is None
