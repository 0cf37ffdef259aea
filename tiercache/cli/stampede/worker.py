"""The life of a process of callers: it does what it is told, in order, until it is told no more."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tiercache.cli.stampede.orders import Close, Order, Ready
from tiercache.cli.stampede.part import Part
from tiercache.cli.stampede.subjects import Open, Subject, Unfit

WARMING = 16  # keys read at once at the beginning, for as many connections
PATIENCE = 10.0  # seconds they may take
THREADS = 100_000  # at most; there are as many as callers were at work at once


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process is told when it is started."""

    name: str


def serve(assignment: Assignment, conductor: Connection) -> None:
    logging.disable()  # that Redis goes away is part of the play; what comes of it is in the table
    asyncio.run(_serve(assignment, conductor))


async def _serve(assignment: Assignment, conductor: Connection) -> None:
    lock = threading.Lock()
    subject: Subject | None = None
    part: Part | None = None
    pool = ThreadPoolExecutor(THREADS)

    def tell(news: object) -> None:
        with lock, _ended_with(conductor):
            conductor.send(news)

    def hear() -> object:
        with _ended_with(conductor):
            return conductor.recv()

    while True:
        message = await asyncio.to_thread(hear)
        if part is not None:
            part.over()
            part = None
        match message:
            case Open() as opening:
                try:
                    subject = await _opened(assignment, opening, pool)
                except Unfit as reason:
                    tell(Ready(str(reason)))
                else:
                    tell(Ready())
            case Order() as order:
                assert subject is not None
                part = Part(order, subject, tell, pool)
                tell(await part.play())
            case Close():
                if subject is not None:
                    await subject.close()
                subject = None
                tell(Ready())


@contextmanager
def _ended_with(conductor: Connection) -> Iterator[None]:
    """End with *conductor*, at once: the threads of the pool may be at rest, or wait for good."""
    try:
        yield
    except (EOFError, ConnectionError):
        os._exit(1)


async def _opened(assignment: Assignment, opening: Open, pool: Executor) -> Subject:
    subject = opening.make(opening.place, opening.world)
    await subject.open()
    keys = tuple(f"{assignment.name}:{i}" for i in range(WARMING))
    now = time.monotonic()
    order = Order(opening.world, WARMING, keys, instant=now, load=0.0, deadline=now + PATIENCE)
    part = Part(order, subject, lambda _: None, pool)
    share = await part.play()
    part.over()
    for call in share.calls:
        if call.error:
            raise Unfit(call.error)
    return subject
