"""The life of a process of callers: it does what it is told, in order, until it is told no more."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tiercache.cli.stampede.orders import Close, Order, Ready
from tiercache.cli.stampede.part import Part
from tiercache.cli.stampede.subjects import Open, Subject, Unfit

WARMING = 16  # keys read at once at the beginning, for as many connections
PATIENCE = 10.0  # seconds they may take
THREADS = 100_000  # at most; more than callers, for one that is about to be free is not waited for


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
        with lock:
            conductor.send(news)

    while True:
        message = await asyncio.to_thread(conductor.recv)
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


async def _opened(assignment: Assignment, opening: Open, pool: Executor) -> Subject:
    subject = opening.make(opening.place, opening.world)
    await subject.open()
    keys = tuple(f"{assignment.name}:{i}" for i in range(WARMING))
    now = time.monotonic()
    order = Order(opening.world, WARMING, keys, instant=now, load=0.0, deadline=now + PATIENCE)
    part = Part(order, subject, lambda _: None, pool)
    try:
        share = await part.play()
    finally:
        part.over()
    for call in share.calls:
        if call.answer is None:
            raise Unfit(call.error or f"no answer within {PATIENCE:.0f} s")
    return subject
