"""What the callers of `tiercache bench stampede` do, beside to wait."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tiercache.cli.demo.crew import spawned
from tiercache.cli.stampede.orders import Order, Place, World
from tiercache.cli.stampede.part import Part
from tiercache.cli.stampede.subjects import Loader, Open
from tiercache.cli.stampede.worker import Assignment, serve

CALLERS, DEADLINE = 4, 20.0  # seconds, within which all ends that does not hang


class Uncached:
    """No cache: every caller loads."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def verbs(self, world: World) -> Uncached:
        return self

    def syncs(self) -> int:
        return 0

    def load(self, key: str, loader: Loader) -> Any:
        return loader()

    def drop_tag(self) -> None: ...

    def renew(self, key: str, loader: Loader) -> None: ...


def uncached(place: Place, world: World) -> Uncached:
    return Uncached()


def in_threads() -> Order:
    now = time.monotonic()
    return Order("threads", CALLERS, ("k",), instant=now, load=0.0, deadline=now + DEADLINE)


def test_a_thread_that_has_its_answers_does_nothing_until_the_round_is_over() -> None:
    """Or what it does, above all to end, is in the figures of those who still wait."""
    with ThreadPoolExecutor(CALLERS) as pool:
        part = Part(in_threads(), Uncached(), lambda news: None, pool)
        try:
            begun = time.monotonic()
            share = asyncio.run(part.play())
            assert time.monotonic() < begun + DEADLINE, "the last to rest ends the round"
            assert len(share.calls) == CALLERS
            assert not share.is_stuck
            next_job = pool.submit(lambda: "done")
            with pytest.raises(TimeoutError):
                next_job.result(0.2)
        finally:
            part.over()
        assert next_job.result(DEADLINE) == "done"


class Bailing(Uncached):
    def load(self, key: str, loader: Loader) -> Any:
        raise SystemExit


def test_a_caller_whom_no_error_of_a_cache_ends_is_at_rest_too() -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        part = Part(in_threads(), Bailing(), lambda news: None, pool)
        try:
            share = asyncio.run(part.play())
        finally:
            part.over()

    assert not share.is_stuck
    assert [call.answer for call in share.calls] == [None] * CALLERS


@pytest.mark.parametrize("at", ["its end", "rest"])
def test_callers_end_with_who_conducts_them(at: str) -> None:
    process, connection = spawned(serve, Assignment("p"))
    try:
        connection.send(Open(uncached, Place("", "", 60.0, 60.0, 5.0, 0.0), "threads"))
        connection.recv()
        connection.send(in_threads())
        if at == "rest":
            connection.recv()
        connection.close()
        process.join(DEADLINE)
        assert process.exitcode is not None
    finally:
        process.kill()
        process.join()
