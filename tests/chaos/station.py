"""One process of the run: what it reads and writes, all on record; the same in threads and in tasks.

It runs in a peer (tests.peers), by `in_threads` or by `in_tasks`. Its cache is the peer's default
cache, its functions are ordinary `@cached` ones. Beside the readers runs one that goes past
L1 by a node of its own, which nobody else uses, so that each of its answers is the server's own
word or a load begun after it asked.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.log import Log
from tests.chaos.rows import BUSY, GROUPS, ROWS, Rows, Versions, rows_of, tags_of
from tests.peers import Flag
from tests.source import Source
from tiercache import cached, default_cache
from tiercache._core.flights import running_load

READERS = 2  # threads or tasks
BURST = 20  # reads between two pauses
PAUSE = 0.004  # seconds
WRITE_EVERY = 0.03  # seconds, on average
PAST_L1_EVERY = 0.01
CAUSAL_EVERY = 0.02


@dataclass(frozen=True)
class Job:
    name: str
    folder: str
    url: str  # of the node past L1
    max_staleness: float
    seed: int
    is_writer: bool = False
    fence_ttl: float = 1.0

    def over(self, what: str) -> Flag:
        """Whether *what* ("the writing", "the reading") is over, for all processes."""
        return Source(self.folder).flag(f"{what} is over")


class Station:
    """One process' part: its log, its rows, its functions."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.random = Random(job.seed)
        self.log = Log(job.folder, job.name)
        self.rows = Rows(job.folder)
        self._parent = os.getppid()
        self._reading, self._writing = job.over("the reading"), job.over("the writing")
        self._loads = itertools.count()
        self._writes = itertools.count()

    def reads_on(self) -> bool:
        return not self._reading.is_set() and os.getppid() == self._parent

    def writes_on(self) -> bool:
        return not self._writing.is_set()

    def pick(self) -> int:
        return self.random.randrange(ROWS)

    # ---- loads

    def begin_load(self, row: int) -> tuple[str, str]:
        """Read the truth first; the value and the name of this load."""
        began = time.monotonic()
        leave = running_load()
        token = None if leave is None or leave.token == float("inf") else (leave.epoch, int(leave.token))
        name = f"{self.job.name}-{os.getpid()}.{next(self._loads)}"
        self.log.note("load", name, row, asked.get(), began, token)
        return f"{self.rows.version(row)} {name}", name

    def dawdle(self) -> float:
        """How long a load takes after it has read the truth: half of them no time, one in seven long."""
        kind = self.random.random()
        if kind < 0.5:
            return 0.0
        return self.random.uniform(0, 0.01 if kind < 0.85 else self.job.max_staleness / 4)

    def end_load(self, name: str) -> None:
        self.log.note("loaded", name, time.monotonic())

    # ---- being hurt

    def flag(self, name: str) -> Flag:
        return Source(self.job.folder).flag(f"{name} {self.job.name}")

    def is_awaited(self, where: str) -> bool:
        return self.flag(f"hold in {where}").is_set()

    def is_held(self, where: str) -> bool:
        """Whether this process is wanted at this place; says so there, and stays while it is."""
        if not self.is_awaited(where):
            return False
        self.flag(f"is in {where}").set()
        return True

    # ---- writes

    def plan(self) -> Plan:
        """What to write next, and how to say so."""
        if self.is_awaited("the gap"):
            row = self.random.randrange(BUSY, ROWS)
            return Plan([row], [f"row:{row}"], guarded=True)
        kind, row = self.random.random(), self.random.randrange(BUSY)
        if kind < 0.2:
            group = self.random.randrange(GROUPS)
            return Plan(rows_of(group), [f"group:{group}"])
        if kind < 0.4:
            return Plan([row], [], key=row)
        return Plan(
            [row],
            [f"row:{row}"],
            guarded=kind < 0.75,
            wait=kind > 0.9,
        )

    def commit(self, plan: Plan, *, fenced_since: float | None) -> tuple[str, Versions]:
        versions = self.rows.write(plan.rows)
        committed = time.monotonic()
        fenced = fenced_since is not None and committed < fenced_since + self.job.fence_ttl  # A7
        name = f"{self.job.name}-{os.getpid()}.{next(self._writes)}"
        self.log.note("commit", name, versions, committed, fenced)
        return name, versions

    def record(
        self, name: str, versions: Versions, called: float, returned: float, last: Any, waited: bool
    ) -> None:
        """*last* is what the last try gave, which was not pending."""
        self.log.note("invalidated", name, called, returned, time.monotonic(), last.token, waited)
        self.rows.hand_over(versions, str(last.token))


@dataclass(frozen=True)
class Plan:
    rows: list[int]
    tags: list[str]
    key: int | None = None  # the row whose key is invalidated instead of tags
    guarded: bool = False  # by `invalidating`
    wait: bool = False


asked: ContextVar[float] = ContextVar("asked")  # the instant at which the read under way was called
_station: Station | None = None


def take(job: Job) -> Station:
    """The station of this process from now on; a forked child takes another."""
    global _station
    _station = Station(job)
    return _station


def station() -> Station:
    assert _station is not None
    return _station


def functions(how: Callable[..., Any]) -> tuple[Any, Any]:
    """The function over a row, blocking and awaited: one key in both worlds."""

    def blocking() -> Any:
        def row(number: int) -> str:
            value, name = station().begin_load(number)
            time.sleep(station().dawdle())
            while station().is_held("a load"):
                time.sleep(0.005)
            station().end_load(name)
            return value

        return row

    def awaited() -> Any:
        async def row(number: int) -> str:
            value, name = station().begin_load(number)
            await asyncio.sleep(station().dawdle())
            while station().is_held("a load"):  # noqa: ASYNC110  # as another process wishes
                await asyncio.sleep(0.005)
            station().end_load(name)
            return value

        return row

    made = []
    for function in (blocking(), awaited()):
        function.__qualname__ = "row"
        made.append(how(function))
    return made[0], made[1]


row, row_awaited = functions(cached(ttl=3600, tags=tags_of))


def end(me: Station, errors: list[BaseException]) -> int:
    me.log.flush()
    stats = default_cache().stats()
    counts = {name: getattr(stats, name) for name in ("l1_hits", "l2_hits", "loads", "joins")}
    me.log.note("counters", {**counts, **stats.events})
    if errors:
        raise errors[0]
    return sum(counts.values())


def wall_clock() -> float:
    return time.time()
