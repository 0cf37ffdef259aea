"""How often is a cold key loaded when everybody wants it at once, and how long do they wait?

Workload: 8 processes x 100 callers ask at the same instant for one key that nobody has; its loader
takes 200 ms. The callers of a process are tasks of one event loop, or threads. All is warm before:
connections, scripts, leases. Every round has a key of its own.

How to read it: 1 load is the least. A call's latency counts from the common instant, so the time
that 800 callers need to be scheduled on this machine is in it; `over` is what exceeds 200 ms.
Requests are script calls, as Redis counts them (INFO commandstats), without lease syncs, which
come with time and not with callers and are shown apart, and so are connecting and script loading.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Literal

import redis

from bench.results import Result, percentile
from bench.runs import Run
from tiercache import TierCache

PROCESSES, CALLERS, LOAD = 8, 100, 0.2
HEAD_START = 0.1  # seconds from the order to the common instant
Callers = Literal["tasks", "threads"]


@dataclass(frozen=True)
class Share:
    """What one process saw of one round."""

    loads: int
    syncs: int
    latencies: list[float]


def measure(run: Run) -> list[Result]:
    rounds = run.rounds(7, 2)
    with run.server() as url:
        return [against_cold_keys(url, run.prefix, callers, rounds) for callers in ("tasks", "threads")]


def against_cold_keys(url: str, namespace: str, callers: Callers, rounds: int) -> Result:
    spawn = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for _ in range(PROCESSES):
        ours, theirs = spawn.Pipe()
        worker = spawn.Process(
            target=work, args=(url, f"{namespace}-{callers}", callers, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    for pipe in pipes:
        pipe.recv()
    rows = []
    with redis.Redis.from_url(url) as client:
        for round_ in range(rounds):
            rows.append(one_round(client, pipes, f"{callers}:{round_}"))
    for pipe in pipes:
        pipe.send(None)
    for worker in workers:
        worker.join()
    columns = (
        "",
        "loads",
        "wall, ms",
        "p50 over, ms",
        "p99 over, ms",
        "requests",
        "syncs",
        "scripts",
        "other",
    )
    middle = [median(row[i] for row in rows) for i in range(len(columns) - 1)]
    worst = [max(row[i] for row in rows) for i in range(len(columns) - 1)]
    title = f"{PROCESSES} processes x {CALLERS} {callers}, {rounds} rounds"
    return Result(title, columns, [("median", *map(round, middle)), ("worst", *map(round, worst))])


def one_round(client: redis.Redis, pipes: list[Connection], key: str) -> list[float]:
    client.config_resetstat()
    instant = time.monotonic() + HEAD_START
    for pipe in pipes:
        pipe.send((key, instant))
    shares: list[Share] = [pipe.recv() for pipe in pipes]
    calls = {name: entry["calls"] for name, entry in client.info("commandstats").items()}
    latencies = [latency for share in shares for latency in share.latencies]
    syncs = sum(share.syncs for share in shares)
    in_full = calls.get("cmdstat_eval", 0)
    scripts = calls.get("cmdstat_evalsha", 0) - in_full  # each EVAL follows an EVALSHA that was not known
    connecting = ("hello", "auth", "select", "subscribe", "client|setinfo", "ping")
    return [
        sum(share.loads for share in shares),
        max(latencies) * 1000,
        (percentile(latencies, 50) - LOAD) * 1000,
        (percentile(latencies, 99) - LOAD) * 1000,
        scripts + in_full - syncs,
        syncs,
        in_full,
        sum(calls.get(f"cmdstat_{name}", 0) for name in connecting),
    ]


def work(url: str, namespace: str, callers: Callers, pipe: Connection) -> None:
    """One process: warm up, then ask for each key that is named, at the instant that is named."""
    cache = TierCache(url, namespace=namespace)
    with cache.sync:
        if callers == "tasks":
            asyncio.run(ask_as_tasks(cache, pipe))
        else:
            ask_as_threads(cache, pipe)


async def ask_as_tasks(cache: TierCache, pipe: Connection) -> None:
    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        await asyncio.sleep(LOAD)
        return "value"

    async def ask(key: str, instant: float) -> float:
        await asyncio.sleep(instant - time.monotonic())
        await cache.get_or_load(key, load, tags=["stampede"])
        return time.monotonic() - instant

    await asyncio.gather(*(cache.get_or_load(f"warm:{i}", warm, tags=["stampede"]) for i in range(20)))
    pipe.send("ready")
    while order := await asyncio.to_thread(pipe.recv):
        loads, before = 0, syncs_of(cache)
        latencies = await asyncio.gather(*(ask(*order) for _ in range(CALLERS)))
        pipe.send(Share(loads, syncs_of(cache) - before, list(latencies)))


async def warm() -> str:
    return "value"


def ask_as_threads(cache: TierCache, pipe: Connection) -> None:
    loads = 0

    def load() -> str:
        nonlocal loads
        loads += 1
        time.sleep(LOAD)
        return "value"

    def ask(key: str, instant: float, latencies: list[float]) -> None:
        time.sleep(max(0.0, instant - time.monotonic()))
        cache.sync.get_or_load(key, load, tags=["stampede"])
        latencies.append(time.monotonic() - instant)

    in_threads(20, lambda: cache.sync.get_or_load("warm", lambda: "value", tags=["stampede"]))
    pipe.send("ready")
    while order := pipe.recv():
        loads, before = 0, syncs_of(cache)
        latencies: list[float] = []
        in_threads(CALLERS, ask, *order, latencies)
        pipe.send(Share(loads, syncs_of(cache) - before, latencies))


def in_threads(count: int, target: Callable[..., object], *args: object) -> None:
    threads = [threading.Thread(target=target, args=args) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def syncs_of(cache: TierCache) -> int:
    return cache.stats().events.get("syncs", 0)
