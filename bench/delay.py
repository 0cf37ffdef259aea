"""How long after an invalidation in one process does another return the new value?

Workload: the writer changes a number that both processes see and invalidates its tag; the reader,
another process, reads the number through a decorated function over and over. The delay runs from
the beginning of the invalidation to the end of the first read that returned the new number: the
record in Redis, the message, the eviction and the reload are all in it.

How to read it: the first line is the floor, one message on a raw redis-py subscription, from
before the PUBLISH to after its receipt, in the same two processes and in turn with the rest. A
reader that sleeps 0.2 ms between its reads leaves the interpreter to the listener; a spinning one
holds it, and the listener gets it only when the switch interval of 5 ms is over.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import redis

from bench.results import Result, percentile
from bench.runs import Run
from tiercache import TierCache

PAUSE = 0.0002  # seconds the sleeping reader sleeps
MESSAGES = 40  # a candidate and a round
NAMES = {
    "raw": "raw pub/sub, one way",
    "sleep": f"tiercache, reader sleeping {PAUSE * 1000:g} ms",
    "spin": "tiercache, reader spinning",
}


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(15, 2)
    spawn = multiprocessing.get_context("spawn")
    number = spawn.Value("q", 0)
    ours, theirs = spawn.Pipe()
    delays: dict[str, list[list[float]]] = {how: [] for how in NAMES}
    with run.server() as url:
        reader = spawn.Process(target=read, args=(url, run.prefix, number, theirs), daemon=True)
        reader.start()
        theirs.close()
        cache = TierCache(url, namespace=run.prefix)
        with cache.sync, redis.Redis.from_url(url) as client:
            acts: dict[str, Callable[[], object]] = {
                "raw": lambda: client.publish("bench", b"x"),
                "sleep": lambda: cache.sync.invalidate_tags("number"),
                "spin": lambda: cache.sync.invalidate_tags("number"),
            }
            for _ in range(rounds):
                for how, act in acts.items():
                    delays[how].append(one_round(ours, number, how, act))
        ours.send(None)
        reader.join()
    return [_table(delays, rounds)]


def one_round(pipe: Connection, number: Any, how: str, act: Callable[[], object]) -> list[float]:
    """Delays in seconds; the reader says when it is ready, and when it saw each number."""
    pipe.send(how)
    pipe.recv()
    delays = []
    for _ in range(MESSAGES):
        time.sleep(random.uniform(0.001, 0.003))  # so that nothing falls into step
        number.value += 1
        begun = time.monotonic()
        act()
        delays.append(pipe.recv() - begun)
    return delays


def read(url: str, namespace: str, number: Any, pipe: Connection) -> None:
    """The other process: tells the instant, on the clock they share, at which it has each new number."""
    cache = TierCache(url, namespace=namespace)

    @cache.cached(tags=["number"])
    def current() -> int:
        value: int = number.value
        return value

    with (
        cache.sync,
        redis.Redis.from_url(url) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        heard.subscribe("bench")
        while heard.get_message(timeout=0.1) is not None:
            pass
        while how := pipe.recv():
            last = current.refresh()  # the raw rounds change the number and invalidate nothing
            pipe.send("ready")
            for _ in range(MESSAGES):
                if how == "raw":
                    while heard.get_message(ignore_subscribe_messages=True, timeout=1) is None:
                        pass
                else:
                    while current() == last:
                        if how == "sleep":
                            time.sleep(PAUSE)
                    last += 1
                pipe.send(time.monotonic())


def _table(delays: dict[str, list[list[float]]], rounds: int) -> Result:
    floor = [median(some) for some in delays["raw"]]
    rows = []
    for how, name in NAMES.items():
        whole = [delay * 1e6 for some in delays[how] for delay in some]
        ratio = median(median(some) / least for some, least in zip(delays[how], floor, strict=True))
        rows.append((name, percentile(whole, 50), percentile(whole, 99), f"{ratio:.2f} x"))
    title = f"invalidation here to new value there, {rounds} rounds of {MESSAGES}"
    return Result(title, ("", "p50, us", "p99, us", "x"), rows)
