"""What the callers of `tiercache bench stampede` do, beside to wait."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tiercache.cli.stampede.orders import Order, World
from tiercache.cli.stampede.part import Part
from tiercache.cli.stampede.subjects import Loader

CALLERS, DEADLINE = 4, 60.0


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


def test_a_thread_that_has_its_answers_does_nothing_until_the_round_is_over() -> None:
    """Or what it does, above all to end, is in the figures of those who still wait."""
    with ThreadPoolExecutor(CALLERS) as pool:
        now = time.monotonic()
        order = Order("threads", CALLERS, ("k",), instant=now, load=0.0, deadline=now + DEADLINE)
        part = Part(order, Uncached(), lambda news: None, pool)
        share = asyncio.run(part.play())
        next_job = pool.submit(lambda: "done")
        try:
            assert len(share.calls) == CALLERS
            assert not share.is_stuck
            with pytest.raises(TimeoutError):
                next_job.result(0.2)
        finally:
            part.over()
        assert next_job.result(DEADLINE) == "done"
