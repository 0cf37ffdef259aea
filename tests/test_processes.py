"""One cache in many processes, threads and event loops: after a fork, after a spawn, without its listener."""

from __future__ import annotations

import asyncio
import copy
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from tests.history import Read, Write, reads_until, too_old
from tests.loops import LOOPS, NewLoop, run
from tests.peers import Peer
from tests.scripts import USING_A_CACHE, output_of, run_script
from tests.servers import TIMEOUT, RedisServer, eventually
from tests.source import Source
from tiercache import TierCache, TierCacheError, cached, default_cache
from tiercache._bound import Binding


def test_a_forked_child_has_a_name_of_its_own_an_empty_l1_and_what_l2_has(redis_server: RedisServer) -> None:
    program = USING_A_CACHE + (
        "cache.sync.get('k')\n"
        "cache.sync.set('k', 1, tags=['t'])\n"
        "name = cache._node.tiers.core.node\n"
        "def act():\n"
        "    assert cache._node.tiers.core.node != name\n"
        "    assert cache.stats().entries == 0\n"
        "    assert cache.sync.get('k') == 1\n"
        "    assert cache.sync.health().nodes == 2\n"
        "assert cache.stats().entries == 1\n"
        "assert in_child(act)\n"
        "assert cache.sync.get('k') == 1\n"
        "print('well')\n"
    )
    assert output_of(program, redis_server.url()) == "well\n"


def test_a_parent_and_its_forked_children_hear_each_other(redis_server: RedisServer) -> None:
    program = USING_A_CACHE + (
        "def becomes(value):\n"
        "    end = time.monotonic() + 5\n"
        "    while cache.sync.get('k') != value and time.monotonic() < end: time.sleep(0.002)\n"
        "    return cache.sync.get('k') == value\n"
        "def act():\n"
        "    assert cache.sync.get('k') == 'parent'\n"
        "    cache.sync.set('k', 'child')\n"
        "    assert becomes('parent again')\n"
        "cache.sync.set('k', 'parent')\n"
        "assert cache.sync.get('k') == 'parent'\n"
        "done = []\n"
        "def answer(): done.append(becomes('child') and cache.sync.set('k', 'parent again'))\n"
        "waiting = threading.Thread(target=answer)\n"
        "waiting.start()\n"
        "assert in_child(act)\n"
        "waiting.join()\n"
        "print(done[0].stored)\n"
    )
    assert output_of(program, redis_server.url()) == "True\n"


def test_a_parent_and_its_forked_child_do_not_read_each_others_answers(redis_server: RedisServer) -> None:
    # Both find the one connection that was free at the fork. In common, it would now and then bring
    # the one the reply to the other's question.
    program = USING_A_CACHE + (
        "cache.sync.set_many({f'{who} {i}': [who, i] for who in ('parent', 'child') for i in range(200)})\n"
        "def read(who):\n"
        "    cache._node.tiers.core.l1.clear()\n"
        "    for i in range(200): assert cache.sync.get(f'{who} {i}') == [who, i]\n"
        "read('parent')\n"
        "child = fork(lambda: read('child') or read('child'))\n"
        "for _ in range(3): read('parent')\n"
        "assert ended_well(child)\n"
        "read('parent')\n"
        "print('well')\n"
    )
    assert output_of(program, redis_server.url()) == "well\n"


def test_a_child_forked_amid_the_loads_of_other_threads_is_not_held_up_by_them(
    redis_server: RedisServer,
) -> None:
    # The locks of the board, of L1 and of the pools are all in use; whoever holds one is not in the child.
    program = USING_A_CACHE + (
        "over = threading.Event()\n"
        "def load(): time.sleep(0.001); return 'theirs'\n"
        "def busy(name):\n"
        "    turn = 0\n"
        "    while not over.is_set():\n"
        "        turn += 1\n"
        "        cache.sync.get_or_load(f'{name} {turn % 7}', load, tags=[name])\n"
        "        if turn % 5 == 0: cache.sync.invalidate_tags(name)\n"
        "threads = [threading.Thread(target=busy, args=(f't{i % 3}',), daemon=True) for i in range(6)]\n"
        "for thread in threads: thread.start()\n"
        "def act():\n"
        "    for i in range(7):\n"
        "        assert cache.sync.get_or_load(f't0 {i}', lambda: 'mine') is not None\n"
        "    cache.sync.get_or_load('mine', lambda: 'old', tags=['t0'])\n"
        "    cache.sync.invalidate_tags('t0')\n"
        "    assert cache.sync.get_or_load('mine', lambda: 'new', tags=['t0']) == 'new'\n"
        "for _ in range(6):\n"
        "    assert in_child(act)\n"
        "over.set()\n"
        "for thread in threads: thread.join()\n"
        "print('well')\n"
    )
    assert output_of(program, redis_server.url()) == "well\n"


def test_a_process_forks_while_its_threads_make_caches_and_close_them() -> None:
    program = (
        "import sys; sys.argv.append('memory://')\n" + USING_A_CACHE + "sys.setswitchinterval(1e-6)\n"
        "others = [TierCache('memory://', private=True) for _ in range(1_000)]\n"
        "over = threading.Event()\n"
        "def make():\n"
        "    while not over.is_set(): TierCache('memory://', private=True).sync.close()\n"
        "making = threading.Thread(target=make)\n"
        "making.start()\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0)\n"
        "    assert ended_well(child)\n"
        "over.set()\n"
        "making.join()\n"
        "print('well')\n"
    )
    assert output_of(program) == "well\n"


def test_a_fork_keeps_no_lock_while_it_waits_for_one() -> None:
    # As where the garbage collector ends a load of one cache amid a change of another.
    program = (
        "import sys; sys.argv.append('memory://')\n"
        + USING_A_CACHE
        + "others = [TierCache('memory://', private=True) for _ in range(20)]\n"
        "locks = [each._node.tiers.core.lock for each in others]\n"
        "forking, changing, got = threading.Event(), threading.Event(), []\n"
        "def change():\n"
        "    with cache._node.tiers.core.lock:\n"
        "        changing.set()\n"
        "        forking.wait()\n"
        "        for lock in locks:\n"
        "            got.append(lock.acquire(timeout=10))\n"
        "            if got[-1]: lock.release()\n"
        "changer = threading.Thread(target=change)\n"
        "changer.start()\n"
        "changing.wait()\n"
        "os.register_at_fork(before=forking.set)\n"  # runs before all that were registered sooner
        "assert in_child(lambda: None)\n"
        "changer.join()\n"
        "print(all(got))\n"
    )
    assert output_of(program) == "True\n"


def test_a_fork_amid_a_change_that_does_not_end_goes_on_and_the_child_believes_nothing_of_it() -> None:
    program = (
        "import sys; sys.argv.append('memory://')\n"
        + USING_A_CACHE
        + "forked, changing = threading.Event(), threading.Event()\n"
        "def change():\n"
        "    with cache._node.tiers.core.lock:\n"
        "        changing.set()\n"
        "        forked.wait()\n"
        "def act():\n"
        "    assert cache.sync.get('k') is None\n"
        "    cache.sync.set('k', 2)\n"
        "    assert cache.sync.get('k') == 2\n"
        "cache.sync.set('k', 1)\n"
        "changer = threading.Thread(target=change, daemon=True)\n"
        "changer.start()\n"
        "changing.wait()\n"
        "warnings.simplefilter('ignore')\n"
        "child = fork(act)\n"
        "forked.set()\n"
        "assert ended_well(child)\n"
        "print(cache.sync.get('k'))\n"
    )
    assert output_of(program) == "1\n"


def test_a_cache_made_amid_a_fork_is_not_the_childs(redis_server: RedisServer) -> None:
    # Under one name, a barrier would not wait for both of them.
    program = (
        "import os, threading\n"
        "made, caches = threading.Event(), []\n"
        "def make():\n"
        "    caches.append(TierCache(sys.argv[1], namespace='late'))\n"
        "    made.set()\n"
        "making = threading.Thread(target=make)\n"
        "def in_the_fork():\n"
        "    making.start()\n"
        "    made.wait(0.2)\n"  # it is not, unless it may come too late for the child
        "os.register_at_fork(before=in_the_fork)\n"  # runs after all that were registered later
        + USING_A_CACHE
        + "child = fork(lambda: print(TierCache(sys.argv[1], namespace='late')._node.tiers.core.node))\n"
        "assert ended_well(child)\n"
        "making.join()\n"
        "print(caches[0]._node.tiers.core.node)\n"
    )
    child, parent = output_of(program, redis_server.url()).split()
    assert child != parent


def test_a_child_forked_inside_a_load_loads_for_itself(redis_server: RedisServer) -> None:
    program = USING_A_CACHE + (
        "def act(): assert cache.sync.get_or_load('other', lambda: 2) == 2\n"
        "def load():\n"
        "    assert in_child(act)\n"
        "    return 1\n"
        "print(cache.sync.get_or_load('k', load), cache.sync.get('k'))\n"
    )
    assert output_of(program, redis_server.url()) == "1 1\n"


def test_a_fork_without_a_server_is_a_cache_of_its_own_and_says_so() -> None:
    program = USING_A_CACHE + (
        "cache.sync.set('k', 'parent')\n"
        "def act():\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        read = {'get': lambda: cache.sync.get('k'),\n"
        "                'exists': lambda: cache.sync.exists('k') or None,\n"
        "                'get_or_load': lambda: cache.sync.get_or_load('k', lambda: None),\n"
        "                'awaited': lambda: __import__('asyncio').run(cache.get('k'))}[verb]\n"
        "        assert read() is None\n"
        "        cache.sync.set('k', 'child')\n"
        "    assert [str(w.message)[:38] for w in caught] == ['memory:// does not reach across a fork']\n"
        "    assert '/tiercache/' not in caught[0].filename, caught[0].filename\n"
        "for verb in ('get', 'exists', 'get_or_load', 'awaited'):\n"
        "    assert in_child(act)\n"
        "print(cache.sync.get('k'))\n"
    )
    assert output_of(program, "memory://") == "parent\n"


def test_spawned_workers_of_a_pool_share_what_one_of_them_loads(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, os, sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from tiercache import cached, configure\n"
        "configure(sys.argv[1])\n"
        "@cached\n"
        "def loaded_by(key): return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    loaded_by('parent')\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    with ProcessPoolExecutor(2, mp_context=spawn) as pool:\n"
        "        print(set(pool.map(loaded_by, ['parent'] * 8)) == {os.getpid()})\n"
        "        print(len(set(pool.map(loaded_by, ['child'] * 8))))\n"
    )
    text = f"import runpy, sys; runpy.run_path({str(program)!r}, run_name='__main__')"
    assert output_of(text, redis_server.url()) == "True\n1\n"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_cache_that_is_sent_to_another_process_says_what_to_send(
    any_url: str, new_node: Callable[..., TierCache], copied: Callable[[object], object]
) -> None:
    cache = new_node(any_url)
    for handle in (cache, cache.sync, {"cache": cache}, cache.invalidating(tags=["t"])):
        with pytest.raises(TypeError, match=r"cannot be pickled or copied.*TierCache\(url\)"):
            copied(handle)
    cache.sync.set("k", 1)
    assert cache.sync.get("k") == 1


def test_no_thread_reads_what_another_thread_of_its_process_has_invalidated(
    any_url: str, new_node: Callable[..., TierCache]
) -> None:
    cache, over = new_node(any_url).sync, threading.Event()
    truth, writes, reads = [0], list[Write](), list[Read]()

    def read() -> int:
        return int(cache.get_or_load("k", lambda: truth[0], tags=["t"]))

    readers = [
        threading.Thread(target=lambda: reads.extend(reads_until(over.is_set, read))) for _ in range(6)
    ]
    for reader in readers:
        reader.start()
    for version in range(1, 200):
        truth[0] = version
        cache.invalidate_tags("t")
        writes.append(Write(time.monotonic(), version))
    over.set()
    for reader in readers:
        reader.join()

    assert too_old(reads, writes, bound=0) == []
    assert read() == 199


def test_a_cache_serves_one_event_loop_after_another(
    any_url: str, new_node: Callable[..., TierCache], new_loop: NewLoop
) -> None:
    cache = new_node(any_url)

    async def turn(number: int) -> dict[str, int]:
        await cache.set(f"k{number}", number)
        return await cache.get_many([f"k{i}" for i in range(3)])

    assert [len(run(new_loop, turn(number))) for number in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("loops", list(combinations_with_replacement(LOOPS, 2)), ids=" and ".join)
def test_a_cache_serves_two_event_loops_at_once(
    any_url: str, new_node: Callable[..., TierCache], loops: tuple[str, str]
) -> None:
    cache, together, loads = new_node(any_url), threading.Barrier(2, timeout=10), []

    async def load() -> str:
        loads.append(1)
        await asyncio.sleep(0.05)
        return "loaded"

    async def turn() -> list[str]:
        found = []
        for number in range(20):
            await asyncio.to_thread(together.wait)
            found += await asyncio.gather(*(cache.get_or_load(f"k{number}", load) for _ in range(5)))
        return found

    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda loop=loop: results.append(run(LOOPS[loop], turn()))) for loop in loops
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [["loaded"] * 100] * 2
    assert len(loads) == 20, "the two loops share their loads"


def test_a_loop_begins_to_use_a_cache_while_another_ends(
    redis_server: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    cache, here = new_node(redis_server.url()), threading.get_ident()
    met, ended = threading.Event(), threading.Event()

    class Loop(asyncio.SelectorEventLoop):
        def is_closed(self) -> bool:
            if threading.get_ident() != here:  # the other loop's thread comes upon this one
                met.set()
                assert ended.wait(TIMEOUT)
            return super().is_closed()

    with ThreadPoolExecutor(1) as pool, asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(cache.set("a", 1))
        found = pool.submit(asyncio.run, cache.get("b", 1))  # not in L1, so its loop is needed
        assert met.wait(TIMEOUT)
        runner.run(cache._node.close_loop())
        ended.set()

        assert found.result(TIMEOUT) == 1


@cached(ttl=3600, tags=["it"])
def it(folder: str) -> int:
    source = Source(folder)
    version = source.load()
    if source.loads() == 1 and source.flag("slow").is_set():
        source.flag("loading").set()
        source.flag("go on").wait()
    return version


def read_until_over(folder: str) -> list[Read]:
    return reads_until(Source(folder).flag("over").is_set, lambda: it(folder))


def write_for(folder: str, seconds: float) -> list[Write]:
    source, writes, end = Source(folder), list[Write](), time.monotonic() + seconds
    while time.monotonic() < end:
        version = len(writes) + 1
        source.commit(version)
        default_cache().sync.invalidate_tags("it")
        writes.append(Write(time.monotonic(), version))
        time.sleep(random.uniform(0, 0.02))  # so that reads fall between the writes
    source.flag("over").set()
    return writes


def test_without_its_listener_a_process_reads_within_the_bound(
    redis_server: RedisServer, source: Source
) -> None:
    bound = 0.4
    with (
        Peer(redis_server.url(), max_staleness=bound, listen=False) as reader,
        Peer(redis_server.url(), listen=False) as writer,
    ):
        reads = reader.start(read_until_over, source.folder)
        writes = writer.call(write_for, source.folder, 3 * bound)

        assert too_old(reads.result(10), writes, bound=bound) == []
        assert reader.do("stats").l1_hits > 50
        assert not reader.call(
            eval, "[t for t in __import__('threading').enumerate() if 'tiercache' in t.name]"
        )


def test_where_no_thread_can_be_started_reads_go_on_until_one_can(
    redis_server: RedisServer,
) -> None:
    program = USING_A_CACHE + (
        "import logging\n"
        "now = [time.monotonic()]\n"
        "cache = TierCache(sys.argv[1], private=True, clock=lambda: now[0])\n"
        "name = min({'_start_joinable_thread', '_start_new_thread'} & set(vars(threading)))\n"  # 3.13, before
        "start = getattr(threading, name)\n"
        'def refuse(*args, **options): raise RuntimeError("can\'t start new thread")\n'  # as the system would
        "setattr(threading, name, refuse)\n"
        "print([cache.sync.get_or_load('k', lambda: 1) for _ in range(3)])\n"
        "print(asyncio.run(cache.get('k')), cache.sync.invalidate_tags('t').pending)\n"
        "print(cache.sync.health().problem)\n"
        "other = TierCache(sys.argv[1], private=True, listen=False)\n"
        "asyncio.run(other.close())\n"
        "print(other._node.closed)\n"
        "setattr(threading, name, start)\n"
        "now[0] += 5\n"
        "end = time.monotonic() + 30\n"
        "while not cache.sync.health().listening and time.monotonic() < end: pass\n"
        "print(cache.sync.health().problem)\n"
    )
    ended = run_script(program, redis_server.url())

    assert ended.status == 0
    assert ended.out.splitlines() == [
        "[1, 1, 1]",
        "1 False",
        "no thread can hear the channel (can't start new thread); "
        "what others invalidate is found by the next sync",
        "True",
        "None",
    ]
    assert ended.err.count("does not hear other processes") == 1


def test_without_its_listener_a_process_still_waits_for_the_load_of_another(
    redis_server: RedisServer, source: Source
) -> None:
    with Peer(redis_server.url()) as leader, Peer(redis_server.url(), listen=False) as other:
        source.flag("slow").set()
        leading = leader.start(it, source.folder)
        source.flag("loading").wait()
        waiting = other.start(it, source.folder)
        assert eventually(lambda: other.do("stats").events["syncs"] > 0)
        source.flag("go on").set()

        assert [leading.result(5), waiting.result(5)] == [0, 0]
        assert source.loads() == 1


def test_a_cache_is_closed_while_functions_are_bound_to_it() -> None:
    with switching_often():
        for _ in range(6):
            close_amid_bindings()


def close_amid_bindings() -> None:
    cache, some_are = TierCache("memory://", private=True), threading.Event()
    bindings = [Binding(lambda: 1, lambda: cache, "f", lambda *place: None) for _ in range(8_000)]

    def bind_until_it_is_closed() -> str:
        for number, each in enumerate(bindings):
            if number == 5_000:
                some_are.set()
            try:
                each.bind()
            except TierCacheError as error:
                return str(error)
        return "all are bound"

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(bind_until_it_is_closed)
        assert some_are.wait(TIMEOUT)
        cache.sync.close()
        assert told.result(TIMEOUT) in ("the cache of f is closed", "all are bound")
    assert [each.table for each in bindings] == [None] * len(bindings)
    assert cache._node.closed


@contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
