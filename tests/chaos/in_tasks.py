"""The life of a process in tasks of one event loop; `in_threads` is the same without `await`s."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace

from tests.chaos.history import PAST_L1
from tests.chaos.rows import tags_of
from tests.chaos.station import (
    BURST,
    CAUSAL_EVERY,
    PAST_L1_EVERY,
    PAUSE,
    READERS,
    WRITE_EVERY,
    Job,
    Plan,
    Station,
    asked,
    end,
    functions,
    row_awaited,
    take,
)
from tiercache import L2Unavailable, TierCache, Token, Written, default_cache


async def work(job: Job) -> int:
    """As `work`, in tasks of one event loop."""
    me = take(job)
    past_l1 = TierCache(job.url, private=True, max_staleness=job.max_staleness, listen=False)
    parts: list[Awaitable[None]] = [_read(me) for _ in range(READERS)]
    parts += [_read_past_l1(me, past_l1), _read_causally(me)]
    if job.is_writer:
        parts.append(_write(me))
    results = await asyncio.gather(*parts, return_exceptions=True)
    await past_l1.close()
    reads = end(me, [each for each in results if isinstance(each, BaseException)])
    await default_cache()._node.close_loop()  # the peer's loop ends, its cache does not
    return reads


async def _read(me: Station) -> None:
    while me.reads_on():
        for _ in range(BURST):
            number = me.pick()
            asked.set(invoked := time.monotonic())
            value = await row_awaited(number)
            me.log.read("", number, value, invoked, time.monotonic())
        await asyncio.sleep(PAUSE)


async def _read_past_l1(me: Station, cache: TierCache) -> None:
    _, alone = functions(cache.cached(ttl=3600, tags=tags_of, l1=False))
    while me.reads_on():
        number = me.pick()
        asked.set(invoked := time.monotonic())
        value = await alone(number)
        me.log.read(PAST_L1, number, value, invoked, time.monotonic())
        await asyncio.sleep(PAST_L1_EVERY)


async def _read_causally(me: Station) -> None:
    while me.reads_on():
        number = me.pick()
        token, version = me.rows.token(number)
        if token:
            await default_cache().at_least(Token.parse(token))
            asked.set(time.monotonic())
            me.log.note("causal", number, version, int((await row_awaited(number)).split(" ")[0]))
        await asyncio.sleep(CAUSAL_EVERY)


async def _write(me: Station) -> None:
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
            written = await _invalidate(plan)
        returned, waited = time.monotonic(), plan.wait and written is not None
        while written is None or written.pending:
            await asyncio.sleep(0.02)
            written = await _invalidate(replace(plan, wait=False))
        me.record(name, versions, called, returned, written, waited)


async def _invalidate(plan: Plan) -> Written | None:
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
