"""A process that serves pages to its visitors, and logs what it served.

The odd workers serve in threads, the even ones in tasks of one event loop. Each visitor looks
at a few pages, some customers and products far more often than others, and pauses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from random import Random

from tiercache import TierCache
from tiercache.cli.demo import pages
from tiercache.cli.demo.messages import Assignment, Batch, ReadLog, Tiers
from tiercache.cli.demo.shop import OFFER, PRODUCTS, USERS, Popularity, Shop

VISITORS = 4  # in each worker
PAUSE = 0.003  # seconds of a visitor between two looks
BATCH_EVERY = 0.25  # seconds


def serve_in_threads(assignment: Assignment, checker: Connection) -> None:
    """The life of the process: tell that it is ready, hear when to end, serve until then."""
    cache = TierCache(assignment.url, namespace="shop", max_staleness=assignment.max_staleness)
    with closing(Shop(assignment.database)) as shop, cache.sync:
        served = pages.blocking(cache, shop)
        checker.send(None)
        until: float = checker.recv()
        with reporting(cache, checker) as log, ThreadPoolExecutor(VISITORS) as pool:
            visits = [pool.submit(visit, served, log, until) for _ in range(VISITORS)]
        for ended in visits:
            ended.result()


def serve_in_tasks(assignment: Assignment, checker: Connection) -> None:
    """As `serve_in_threads`, on an event loop."""
    asyncio.run(_serve_in_tasks(assignment, checker))


async def _serve_in_tasks(assignment: Assignment, checker: Connection) -> None:
    cache = TierCache(assignment.url, namespace="shop", max_staleness=assignment.max_staleness)
    with closing(Shop(assignment.database)) as shop:
        async with cache:
            served = pages.awaited(cache, shop)
            checker.send(None)
            until: float = checker.recv()
            with reporting(cache, checker) as log:
                async with asyncio.TaskGroup() as visits:
                    for _ in range(VISITORS):
                        visits.create_task(visit_awaiting(served, log, until))


def visit(served: pages.Blocking, log: ReadLog, until: float) -> None:
    """One visitor; every read goes into *log* with its instants."""
    interests = Interests()
    while time.monotonic() < until:
        for kind, number in interests.next_look():
            invoked = time.monotonic()
            page = served[kind](number)
            log.note(f"{kind}:{number}", page.version, invoked, time.monotonic())
        time.sleep(PAUSE)


async def visit_awaiting(served: pages.Awaited, log: ReadLog, until: float) -> None:
    interests = Interests()
    while time.monotonic() < until:
        for kind, number in interests.next_look():
            invoked = time.monotonic()
            page = await served[kind](number)
            log.note(f"{kind}:{number}", page.version, invoked, time.monotonic())
        await asyncio.sleep(PAUSE)


class Interests:
    """What a visitor looks at: the offer of the day, a customer's account, and some products."""

    def __init__(self) -> None:
        random = Random()
        self._users, self._products = Popularity(USERS, random), Popularity(PRODUCTS, random)

    def next_look(self) -> list[tuple[str, int]]:
        user, product = self._users.pick(), self._products.pick()
        return [("product", OFFER), ("user", user), ("orders", user), ("product", product)]


class Remarks(logging.Handler):
    """What the cache says in its log, to be said among the demo's own lines."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: deque[str] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())

    def take(self) -> list[str]:
        return [self._texts.popleft() for _ in range(len(self._texts))]


@contextmanager
def reporting(cache: TierCache, checker: Connection) -> Iterator[ReadLog]:
    """A log whose runs a thread sends to the checker every now and then, and the rest at the end."""
    log, remarks, ended = ReadLog(), Remarks(), threading.Event()
    logging.getLogger("tiercache").addHandler(remarks)

    def report() -> None:
        runs, taken = log.take()
        stats = cache.stats()
        tiers = Tiers(stats.l1_hits, stats.l2_hits, stats.joins, stats.loads)
        try:
            checker.send(Batch(runs, taken, tiers, stats.events.get("subscriptions_lost", 0), remarks.take()))
        except BrokenPipeError:
            os._exit(1)  # the demo is gone, killed perhaps: nobody would end this process

    def report_until_ended() -> None:
        while not ended.wait(BATCH_EVERY):
            report()

    thread = threading.Thread(target=report_until_ended, name="reporter")
    thread.start()
    try:
        yield log
    finally:
        ended.set()
        thread.join()
        report()
