"""The end of the interpreter: without hanging, and without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loops import LOOPS
from tests.peers import Flag
from tests.scripts import USING_A_CACHE, Ended, run_script
from tests.servers import RedisServer
from tiercache import TierCache

SOON = 6.0  # seconds in which a program ends that does not hang, from its last statement


def run(program: str, *args: str) -> Ended:
    """What came of *program*, and how long after its last statement it ended: Python itself starts slowly."""
    ended = run_script(program + "\nprint(time.monotonic())", *args)
    at = time.monotonic()
    return ended._replace(seconds=at - float(ended.out or at))


def assert_ended_well(ended: Ended) -> None:
    assert (ended.status, ended.err) == (0, "")
    assert ended.out
    assert ended.seconds < SOON


ENDINGS = {
    "blocking, not closed": "cache.sync.set('k', 1); cache.sync.get('k')",
    "blocking, closed": "cache.sync.get_or_load('k', lambda: 1); cache.sync.close()",
    "awaited, not closed": "asyncio.run(cache.set('k', 1)); asyncio.run(cache.get('k'))",
    "awaited, closed": (
        "async def main():\n"
        "    async with TierCache(sys.argv[1], private=True) as mine: await mine.set('k', 1)\n"
        "asyncio.run(main())"
    ),
    "two hundred tasks, not closed": (
        "async def load(): return 1\n"
        "async def main(): await asyncio.gather(*(cache.get_or_load(str(i), load) for i in range(200)))\n"
        "asyncio.run(main())"
    ),
    "a loop that is closed without shutting down its generators": (
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(cache.set('k', 1))\n"
        "loop.run_until_complete(cache.close())\n"
        "loop.close()"
    ),
    "a daemon thread that reads on": (
        "def read():\n"
        "    while True: cache.sync.get('k')\n"
        "threading.Thread(target=read, daemon=True).start()\n"
        "time.sleep(0.1)"
    ),
    "never used": "pass",
}


@pytest.mark.parametrize("program", ENDINGS.values(), ids=ENDINGS)
def test_an_interpreter_ends_without_hanging_and_without_a_word(any_url: str, program: str) -> None:
    assert_ended_well(run(USING_A_CACHE + program, any_url))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_that_ends_the_process_when_it_has_read_does_end_it(
    redis_server: RedisServer, loop: str
) -> None:
    program = (USING_A_CACHE + f"import {loop}\n") + (
        "async def end():\n"
        "    await cache.get('connects')\n"
        "    await cache.get('goes on with the reply')\n"
        "    sys.exit(3)\n"
        "async def main():\n"
        "    ending = asyncio.create_task(end())\n"
        "    await asyncio.sleep(60)\n"
        f"with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:\n"
        "    runner.run(main())\n"
    )
    assert run_script(program, redis_server.url()).status == 3


QUIET = "import logging; logging.disable()\n"  # what is logged of the outage itself is no noise


@pytest.mark.parametrize("begin", [RedisServer.kill, RedisServer.pause], ids=["gone", "silent"])
@pytest.mark.parametrize("pending", [False, True])
def test_an_interpreter_ends_when_redis_is_away(
    own_redis: RedisServer, tmp_path: Path, begin: Callable[[RedisServer], None], pending: bool
) -> None:
    used, away = Flag(tmp_path / "used"), Flag(tmp_path / "away")
    program = (QUIET + USING_A_CACHE) + (
        "cache.sync.set('k', 1)\n"
        "asyncio.run(cache.get('k'))\n"
        "open(sys.argv[2], 'w').close()\n"
        "while not os.path.exists(sys.argv[3]): time.sleep(0.005)\n"
        f"{'cache.sync.invalidate_tags(str(1))' if pending else ''}\n"
    )
    ended: list[Ended] = []
    running = threading.Thread(
        target=lambda: ended.append(run(program, own_redis.url(), str(used.path), str(away.path)))
    )
    running.start()
    used.wait()
    begin(own_redis)
    away.set()
    running.join()

    assert_ended_well(ended[0])


@pytest.mark.parametrize("pending", [False, True])
def test_an_interpreter_with_many_namespaces_ends_as_soon_as_one_with_one(
    own_redis: RedisServer, pending: bool
) -> None:
    program = (QUIET + USING_A_CACHE) + (
        "import signal\n"
        "caches = [TierCache(sys.argv[1], namespace=f'n{i}').sync for i in range(12)]\n"
        "for each in caches: each.set('k', 1)\n"
        "os.kill(int(sys.argv[2]), signal.SIGSTOP)\n"
        f"for each in caches: {'each.invalidate_tags(str(1))' if pending else 'pass'}\n"
    )

    assert_ended_well(run(program, own_redis.url(), str(own_redis.pid)))


def test_an_interpreter_does_not_wait_for_a_reply_that_its_listener_waits_for(own_redis: RedisServer) -> None:
    program = (QUIET + USING_A_CACHE) + (
        "import signal\n"
        "slow = TierCache(sys.argv[1], namespace='slow', timeout=20, max_staleness=60)\n"
        "slow.sync.set('k', 1)\n"
        "while not slow.sync.health().listening: pass\n"
        "os.kill(int(sys.argv[2]), signal.SIGSTOP)\n"
        "slow._node.tiers.core.pend(['t:1'], 1)\n"  # its listener sends it
        "sending = slow._node._prober._wires\n"
        "while sending._free: pass\n"
    )

    assert_ended_well(run(program, own_redis.url(), str(own_redis.pid)))


def test_what_is_pending_for_a_server_that_answers_is_sent_whatever_others_do(
    own_redis: RedisServer, redis_server: RedisServer
) -> None:
    program = (QUIET + USING_A_CACHE) + (
        "import signal\n"
        "silent = [TierCache(sys.argv[2], namespace=f'n{i}').sync for i in range(6)]\n"
        "last = TierCache(sys.argv[1], namespace='last', listen=False)\n"
        "for each in [*silent, last.sync]: each.set('k', 1, tags='t')\n"
        "os.kill(int(sys.argv[3]), signal.SIGSTOP)\n"
        "for each in silent: each.invalidate_tags('t')\n"
        "last._node.tiers.core.pend(['t:t'], 1)\n"
    )
    ended = run(program, redis_server.url(), own_redis.url(), str(own_redis.pid))

    assert_ended_well(ended)
    cache = TierCache(redis_server.url(), namespace="last", private=True)
    try:
        assert cache.sync.get_or_load("k", lambda: 2, tags="t") == 2
    finally:
        cache.sync.close()


WORKERS = """
import multiprocessing, sys
from tiercache import TierCache

def work(url):
    cache = TierCache(url, namespace="workers")
    cache.sync.get("k")
    cache.sync.invalidate_tags("users")

if __name__ == "__main__":
    worker = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(sys.argv[1],))
    worker.start()
    worker.join()
    print(worker.exitcode)
"""
started = pytest.mark.parametrize("how", ["fork", "forkserver", "spawn"])


def run_worker(tmp_path: Path, url: str, how: str) -> Ended:
    program = tmp_path / "program.py"
    program.write_text(WORKERS)
    text = f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"
    return run_script(text, url, how, warnings="ignore")


@started
def test_a_worker_of_multiprocessing_that_ended_is_not_on_the_register(
    redis_server: RedisServer, tmp_path: Path, how: str
) -> None:
    ended = run_worker(tmp_path, redis_server.url(), how)

    assert (ended.out, ended.err) == ("0\n", "")
    state = redis_server.cli("ZRANGE", "{workers}1:v", 0, -1)
    assert state
    assert not [member for member in state if member.startswith(b"\1n")]


@started
def test_a_worker_of_multiprocessing_logs_what_it_could_not_invalidate(
    own_redis: RedisServer, tmp_path: Path, how: str
) -> None:
    own_redis.kill()
    ended = run_worker(tmp_path, own_redis.url(), how)

    assert ended.out == "0\n"
    assert "not invalidated for other processes: t:users" in ended.err
