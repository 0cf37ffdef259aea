"""What a process of the run does: read rows through the cache without end, and write some, all on record.

It runs in a peer (tests.peers), in threads or in tasks: the one is the other with `await`s.
Its cache is the peer's default cache, its functions are ordinary `@cached` ones. Beside the
readers runs one that goes past L1 by a node of its own, which nobody else uses, so that
each of its answers is the server's own word or a load begun after it asked.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.chaos.history import PAST_L1
from tests.chaos.log import Log
from tests.chaos.rows import BUSY, GROUPS, ROWS, Rows, Versions, rows_of, tags_of
from tests.peers import Flag
from tests.source import Source
from tiercache import L2Unavailable, TierCache, Token, Written, cached, default_cache
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
        """How long a load takes after it has read the truth: mostly no time, now and then a long one."""
        kind = self.random.random()
        return (
            0.0 if kind < 0.7 else self.random.uniform(0, 0.01 if kind < 0.95 else self.job.max_staleness / 4)
        )

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
_station: Station | None = None  # of this process; a forked child takes another


def station() -> Station:
    assert _station is not None
    return _station


def _made(how: Callable[..., Any]) -> tuple[Any, Any]:
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


row, row_awaited = _made(cached(ttl=3600, tags=tags_of))


# ---- in threads


def work(job: Job) -> int:
    """The life of the process in threads; how many reads it made."""
    global _station
    me = _station = Station(job)
    past_l1 = TierCache(job.url, private=True, max_staleness=job.max_staleness, listen=False)
    parts = [lambda: _read(me)] * READERS + [lambda: _read_past_l1(me, past_l1), lambda: _read_causally(me)]
    if job.is_writer:
        parts.append(lambda: _write(me))
    errors: list[BaseException] = []
    threads = [threading.Thread(target=_kept, args=(part, errors), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    past_l1.sync.close()
    return _end(me, errors)


def _kept(part: Callable[[], None], errors: list[BaseException]) -> None:
    try:
        part()
    except BaseException as error:
        errors.append(error)


def _end(me: Station, errors: list[BaseException]) -> int:
    me.log.flush()
    stats = default_cache().stats()
    counts = {name: getattr(stats, name) for name in ("l1_hits", "l2_hits", "loads", "joins")}
    me.log.note("counters", {**counts, **stats.events})
    if errors:
        raise errors[0]
    return sum(counts.values())


def _read(me: Station) -> None:
    while me.reads_on():
        for _ in range(BURST):
            number = me.pick()
            asked.set(invoked := time.monotonic())
            value = row(number)
            me.log.read("", number, value, invoked, time.monotonic())
        time.sleep(PAUSE)


def _read_past_l1(me: Station, cache: TierCache) -> None:
    alone, _ = _made(cache.cached(ttl=3600, tags=tags_of, l1=False))
    while me.reads_on():
        number = me.pick()
        asked.set(invoked := time.monotonic())
        value = alone(number)
        me.log.read(PAST_L1, number, value, invoked, time.monotonic())
        time.sleep(PAST_L1_EVERY)


def _read_causally(me: Station) -> None:
    while me.reads_on():
        number = me.pick()
        token, version = me.rows.token(number)
        if token:
            default_cache().sync.at_least(Token.parse(token))
            asked.set(time.monotonic())
            me.log.note("causal", number, version, int(row(number).split(" ")[0]))
        time.sleep(CAUSAL_EVERY)


def _write(me: Station) -> None:
    cache = default_cache().sync
    while me.writes_on():
        time.sleep(me.random.uniform(0, 2 * WRITE_EVERY))
        plan = me.plan()
        if plan.guarded:
            begun = time.monotonic()
            with cache.invalidating(tags=plan.tags, fence_ttl=me.job.fence_ttl) as block:
                name, versions = me.commit(plan, fenced_since=begun if block.fenced else None)
                while me.is_held("the gap"):
                    time.sleep(0.005)
                called = time.monotonic()
            written = block.written
        else:
            name, versions = me.commit(plan, fenced_since=None)
            called = time.monotonic()
            written = _invalidate(plan)
        returned, waited = time.monotonic(), plan.wait and written is not None
        while written is None or written.pending:
            time.sleep(0.02)
            written = _invalidate(replace(plan, wait=False))
        me.record(name, versions, called, returned, written, waited)


def _invalidate(plan: Plan) -> Written | None:
    """None for a barrier that could not be reached: the invalidation is pending."""
    if plan.key is not None:
        return row.invalidate(plan.key)
    try:
        return default_cache().sync.invalidate_tags(plan.tags, wait=plan.wait)
    except L2Unavailable:
        return None


def fork_and_work(job: Job) -> int:
    """Fork this process as it is, warm and busy; how the child ended that went on reading."""
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    child = os.fork()
    if child == 0:
        global _station
        try:
            me = _station = Station(job)
            _read(me)
            _end(me, [])
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---- in tasks


async def work_awaiting(job: Job) -> int:
    """As `work`, in tasks of one event loop."""
    global _station
    me = _station = Station(job)
    past_l1 = TierCache(job.url, private=True, max_staleness=job.max_staleness, listen=False)
    parts: list[Awaitable[None]] = [_read_awaiting(me) for _ in range(READERS)]
    parts += [_read_past_l1_awaiting(me, past_l1), _read_causally_awaiting(me)]
    if job.is_writer:
        parts.append(_write_awaiting(me))
    results = await asyncio.gather(*parts, return_exceptions=True)
    await past_l1.close()
    reads = _end(me, [each for each in results if isinstance(each, BaseException)])
    await default_cache()._node.close_loop()  # the peer's loop ends, its cache does not
    return reads


async def _read_awaiting(me: Station) -> None:
    while me.reads_on():
        for _ in range(BURST):
            number = me.pick()
            asked.set(invoked := time.monotonic())
            value = await row_awaited(number)
            me.log.read("", number, value, invoked, time.monotonic())
        await asyncio.sleep(PAUSE)


async def _read_past_l1_awaiting(me: Station, cache: TierCache) -> None:
    _, alone = _made(cache.cached(ttl=3600, tags=tags_of, l1=False))
    while me.reads_on():
        number = me.pick()
        asked.set(invoked := time.monotonic())
        value = await alone(number)
        me.log.read(PAST_L1, number, value, invoked, time.monotonic())
        await asyncio.sleep(PAST_L1_EVERY)


async def _read_causally_awaiting(me: Station) -> None:
    while me.reads_on():
        number = me.pick()
        token, version = me.rows.token(number)
        if token:
            await default_cache().at_least(Token.parse(token))
            asked.set(time.monotonic())
            me.log.note("causal", number, version, int((await row_awaited(number)).split(" ")[0]))
        await asyncio.sleep(CAUSAL_EVERY)


async def _write_awaiting(me: Station) -> None:
    cache = default_cache()
    while me.writes_on():
        await asyncio.sleep(me.random.uniform(0, 2 * WRITE_EVERY))
        plan = me.plan()
        if plan.guarded:
            begun = time.monotonic()
            async with cache.invalidating(tags=plan.tags, fence_ttl=me.job.fence_ttl) as block:
                name, versions = me.commit(plan, fenced_since=begun if block.fenced else None)
                while me.is_held("the gap"):  # noqa: ASYNC110  # as another process wishes
                    await asyncio.sleep(0.005)
                called = time.monotonic()
            written = block.written
        else:
            name, versions = me.commit(plan, fenced_since=None)
            called = time.monotonic()
            written = await _invalidate_awaiting(plan)
        returned, waited = time.monotonic(), plan.wait and written is not None
        while written is None or written.pending:
            await asyncio.sleep(0.02)
            written = await _invalidate_awaiting(replace(plan, wait=False))
        me.record(name, versions, called, returned, written, waited)


async def _invalidate_awaiting(plan: Plan) -> Written | None:
    if plan.key is not None:
        return await row_awaited.invalidate(plan.key)
    try:
        return await default_cache().invalidate_tags(plan.tags, wait=plan.wait)
    except L2Unavailable:
        return None


def block_loop(seconds: float) -> Awaitable[None]:
    """Let nothing else of this process' event loop go on for so long."""

    async def block() -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # that is the point

    return block()


def wall_clock() -> float:
    return time.time()
