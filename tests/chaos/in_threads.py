"""The life of a process in threads; `in_tasks` is the same with `await`s."""

from __future__ import annotations

import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable
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
    row,
    take,
)
from tiercache import L2Unavailable, TierCache, Token, Written, default_cache


def work(job: Job) -> int:
    """The life of the process in threads; how many reads it made."""
    me = take(job)
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
    return end(me, errors)


def _kept(part: Callable[[], None], errors: list[BaseException]) -> None:
    try:
        part()
    except BaseException as error:
        errors.append(error)


def _read(me: Station) -> None:
    while me.reads_on():
        for _ in range(BURST):
            number = me.pick()
            asked.set(invoked := time.monotonic())
            value = row(number)
            me.log.read("", number, value, invoked, time.monotonic())
        time.sleep(PAUSE)


def _read_past_l1(me: Station, cache: TierCache) -> None:
    alone, _ = functions(cache.cached(ttl=3600, tags=tags_of, l1=False))
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
        try:
            me = take(job)
            _read(me)
            end(me, [])
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
