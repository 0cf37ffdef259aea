"""What do four processes make of a day's work: Zipf reads, and 1 % writes with an invalidation?

Workload: four processes of one contender, each with one caller, for a fixed time. 10,000 keys, drawn with
exponent 1. A read is a read-through by key; its loader takes 1 ms, asleep, and gives the key's version in the
database, an array that all processes see. One act in a hundred is a write: the version grows, and the key's
tag is invalidated; where there are no tags, the key is deleted.

How to read it: reads a second, of all four together, are what the tier saves; loads a second are what is left
for the database. p99 is of one read. A stale read gave a version older than one whose invalidation had
returned, in whichever process, before the read began: how many there were of a million, and by how long the
oldest was late. tiercache's are allowed up to `max_staleness`, 5 s here.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.contenders.facade import Contender, Unable
from bench.contenders.on_redis import AWAITED, BLOCKING
from bench.nodes import Failed, Here, Node, context
from bench.opened import placed
from bench.results import Result, percentile
from bench.runs import Run

PROCESSES = 4
KEYS = 10_000
WRITES = 0.01
LOAD = 0.001  # seconds
WEIGHTS = list(itertools.accumulate(1 / rank for rank in range(1, KEYS + 1)))


def measure(run: Run) -> list[Result]:
    seconds = 0.2 if run.tiny else 0.6 if run.quick else 3.0
    rounds = run.rounds(2, quick=1)
    figures: dict[str, list[tuple[float, float, float, float, float]]] = {}
    unable = {}
    server = context()
    kinds = run.only([*BLOCKING, *AWAITED])
    unable.update(run.absent)
    with run.server() as url:
        for order in run.turns(kinds, rounds, "mixed"):
            for kind in order:
                if kind.name in unable:
                    continue
                try:
                    figures.setdefault(kind.name, []).append(together(server, run, url, kind, seconds))
                except (Unable, Failed) as error:
                    unable[kind.name] = str(error)
    rows = [
        (name, *(median(column) for column in zip(*some, strict=True)))
        for name, some in figures.items()
        if name not in unable
    ]
    return [
        Result(
            "four processes, Zipf reads and 1 % writes",
            ("", "reads a second", "loads a second", "p99, ms", "stale of a million", "oldest, ms"),
            rows,
            unit="reads a second",
            samples={name: [one[0] for one in figures[name]] for name, *_ in rows},
            unable=unable,
        )
    ]


def together(
    server: Any, run: Run, url: str, kind: type[Contender], seconds: float
) -> tuple[float, float, float, float, float]:
    """Reads and loads a second, p99 of a read, stale reads of a million, and the oldest of them in ms."""
    # Of each key: its version, the version whose invalidation has returned, and when that was, in ns.
    truth = server.Array("q", 3 * KEYS, lock=False)
    nodes = [Node(server, kind, placed(run, url, kind), truth) for _ in range(PROCESSES)]
    try:
        for node in nodes:
            node.opened()
        act = work_awaited if kind.is_async else work
        tickets = [node.begin(act, seconds, run.seed + number) for number, node in enumerate(nodes)]
        done = [node.result(ticket) for node, ticket in zip(nodes, tickets, strict=True)]
    finally:
        for node in nodes:
            node.close()
    waits = [wait for taken, *_ in done for wait in taken]
    loads, stale = (sum(one[column] for one in done) for column in (1, 2))
    oldest = max(one[3] for one in done)
    return (
        len(waits) / seconds,
        loads / seconds,
        percentile(waits, 99) * 1e3,
        stale / len(waits) * 1e6,
        oldest / 1e6,
    )


class Work:
    """What one process does, and what it saw."""

    def __init__(self, here: Here, seed: int) -> None:
        self.truth, self.random = here.truth, random.Random(seed)
        self.waits: list[float] = []
        self.loads = self.stale = self.oldest = 0

    def draw(self) -> tuple[int, bool]:
        """A key, and whether it is written."""
        (number,) = self.random.choices(range(KEYS), cum_weights=WEIGHTS)
        return number, self.random.random() < WRITES

    def commit(self, number: int) -> int:
        self.truth[number] += 1
        return int(self.truth[number])

    def invalidated(self, number: int, version: int) -> None:
        self.truth[KEYS + number] = version
        self.truth[2 * KEYS + number] = time.monotonic_ns()

    def judge(self, begun: int, promised: tuple[int, int], value: int) -> None:
        self.waits.append((time.monotonic_ns() - begun) / 1e9)
        version, since = promised
        if value < version:
            self.stale += 1
            self.oldest = max(self.oldest, begun - since)

    def promised(self, number: int) -> tuple[int, int]:
        return self.truth[KEYS + number], self.truth[2 * KEYS + number]

    def result(self) -> tuple[list[float], int, int, int]:
        return self.waits, self.loads, self.stale, self.oldest


def work(here: Here, seconds: float, seed: int) -> tuple[list[float], int, int, int]:
    one, contender = Work(here, seed), here.contender
    drop = dropper(contender)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number, is_write = one.draw()
        if is_write:
            version = one.commit(number)
            drop(number)
            one.invalidated(number, version)
            continue

        def load(number: int = number) -> int:
            one.loads += 1
            value = int(one.truth[number])
            time.sleep(LOAD)
            return value

        promised, begun = one.promised(number), time.monotonic_ns()
        one.judge(begun, promised, contender.load(f"k{number}", load, tags=(f"t{number}",)))
    return one.result()


async def work_awaited(here: Here, seconds: float, seed: int) -> tuple[list[float], int, int, int]:
    one, contender = Work(here, seed), here.contender
    drop = dropper(contender)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number, is_write = one.draw()
        if is_write:
            version = one.commit(number)
            await drop(number)
            one.invalidated(number, version)
            continue

        async def load(number: int = number) -> int:
            one.loads += 1
            value = int(one.truth[number])
            await asyncio.sleep(LOAD)
            return value

        promised, begun = one.promised(number), time.monotonic_ns()
        one.judge(begun, promised, await contender.load(f"k{number}", load, tags=(f"t{number}",)))
    return one.result()


def dropper(contender: Contender) -> Callable[[int], Any]:
    """What invalidates one key: by its tag, where there are tags."""
    if type(contender).drop_tag is not Contender.drop_tag:
        return lambda number: contender.drop_tag(f"t{number}")
    return lambda number: contender.drop(f"k{number}")
