"""How long does an invalidation with wait=True take until no process serves the old value any more?

Workload: so many nodes on one Redis, on loopback; one of them invalidates a tag with and without
wait=True, in turn, and the others hold a value under it, which they read twenty times a second. The
others are real processes, four at most, each with several private nodes beyond that; a node has an
L1, a listener's thread and connections of its own, as in a process of its own. All nodes are alive,
and the epoch has outlived the leases of any before.

How to read it: the barrier asks everybody on the channel; each node syncs and says that it has
applied the record; the last one wakes who waits. So it grows with the number of nodes, as two script
calls of each must pass through the one Redis, and here through two cores that all of them share. The
first line of each pair is the invalidation alone.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from multiprocessing.connection import Connection

from bench.results import Result, percentile
from bench.runs import Run
from tiercache import TierCache

NODES = (2, 8, 32)
PROCESSES = 4  # at most, for all nodes but the one that waits
PAUSE = 0.05  # seconds between two reads of a node


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(200, 20)
    samples: dict[str, list[float]] = {}
    for nodes in NODES[: 1 if run.tiny else 2 if run.quick else None]:
        run.step(f"{nodes} nodes")
        with run.server() as url:
            samples |= against(url, run.prefix, nodes, rounds, d=0.5 if run.quick else 2.0)
    columns = ("", "p50, ms", "p99, ms", "worst, ms")
    rows = [(name, percentile(some, 50), percentile(some, 99), max(some)) for name, some in samples.items()]
    title = f"until nobody serves the old value, {rounds} rounds, in turn"
    return [Result(title, columns, rows, unit="ms", samples=samples, chart="spread", log=True)]


def against(url: str, namespace: str, nodes: int, rounds: int, *, d: float) -> dict[str, list[float]]:
    """Milliseconds of each invalidation, plain and with wait=True."""
    spawn = multiprocessing.get_context("spawn")
    processes = min(PROCESSES, nodes - 1)
    shares = [(nodes - 1) // processes + (i < (nodes - 1) % processes) for i in range(processes)]
    pipes, workers = [], []
    for share in shares:
        ours, theirs = spawn.Pipe()
        worker = spawn.Process(target=read, args=(url, namespace, share, d, theirs), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    for pipe in pipes:
        pipe.recv()
    times: dict[bool, list[float]] = {False: [], True: []}
    cache = TierCache(url, namespace=namespace, max_staleness=d)
    with cache.sync:
        warm(cache)
        for _ in range(rounds):
            for wait in times:
                time.sleep(random.uniform(0.01, 0.02))  # one at a time, and out of step
                begun = time.perf_counter()
                cache.sync.invalidate_tags("number", wait=wait)
                times[wait].append((time.perf_counter() - begun) * 1000)
        if cache.stats().events.get("forgotten_nodes"):
            raise RuntimeError("a node did not answer: the figures mean nothing")
    for pipe in pipes:
        pipe.send(None)
    for worker in workers:
        worker.join()
    where = f"{nodes} nodes (1 + {' + '.join(map(str, shares))})"
    return {f"{where}, {'wait=True' if wait else 'plain'}": some for wait, some in times.items()}


def warm(cache: TierCache) -> None:
    """Let the epoch settle, so that no barrier waits for leases of one before."""
    end = time.monotonic() + 1.5 * cache.max_staleness
    while time.monotonic() < end:
        cache.sync.get("number")
        time.sleep(PAUSE)
    cache.sync.invalidate_tags("number", wait=True)


def read(url: str, namespace: str, nodes: int, d: float, pipe: Connection) -> None:
    """One process: read through each of its nodes until the pipe says something."""
    caches = [TierCache(url, namespace=namespace, max_staleness=d, private=True) for _ in range(nodes)]
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(PAUSE):
            for cache in caches:
                cache.sync.get_or_load("number", lambda: 1, tags=["number"])

    for cache in caches:
        cache.sync.get_or_load("number", lambda: 1, tags=["number"])
    reading = threading.Thread(target=go_on)
    reading.start()
    pipe.send("ready")
    pipe.recv()
    over.set()
    reading.join()
    for cache in caches:
        cache.sync.close()
