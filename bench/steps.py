"""Where does the time of a hit in the shared tier go, of one read among 200 tasks?

Workload: that of `l2` with 200 tasks, a decorated function with one tag and a dict of some 200 bytes, and the
same steps one by one, each over and over in a loop of its own: the interpreter's caches are warm for it, so
they add up to less than the whole. All in CPU time of this process; the server's is not in it.

How to read it: us of one read. The last line is what is left of the whole, the Python between the steps. A
look goes out for 100 keys at once, so what is done once for it is shared by as many.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import orjson

from bench.l2 import PROFILE, READS, TASKS
from bench.results import Result
from bench.runs import Run
from tiercache import TierCache
from tiercache._core.commands import MAX_READ
from tiercache._transport.replies import request_of
from tiercache._transport.turns import joined
from tiercache._transport.waiters import new_waiter, wake

TITLE = f"steps of a hit in L2, one of {TASKS} tasks"
BESIDE = ("of it the checksum", "of it orjson")  # are in the step before them


def measure(run: Run) -> list[Result]:
    with run.server() as url:
        return [asyncio.run(steps(run, url))]


async def steps(run: Run, url: str) -> Result:
    cache = TierCache(url, namespace=run.prefix)

    @cache.cached(l1=False, tags=["user:{user_id}"])
    async def profile(user_id: int) -> dict[str, Any]:
        return PROFILE

    try:
        for user in (*range(TASKS), *range(TASKS)):
            await profile(user)
        (binding,) = cache._bindings
        bound = binding.bind()
        if bound.glances is None:
            unable = {"tiercache": "its compiled half is not in use: a plan takes all steps"}
            return Result(TITLE, ("",), [], unable=unable, chart="none")
        samples = await sampled(run, bound, profile)
    finally:
        await cache.close()
    whole = samples["all of it"]
    samples["the rest"] = [
        all_of_it - sum(some[at] for name, some in samples.items() if name not in ("all of it", *BESIDE))
        for at, all_of_it in enumerate(whole)
    ]
    rows = [(name, min(some), median(some)) for name, some in samples.items()]
    return Result(TITLE, ("", "best, us", "median, us"), rows, unit="us", samples=samples)


async def sampled(
    run: Run, bound: Any, profile: Callable[[int], Awaitable[object]]
) -> dict[str, list[float]]:
    """Of each step, the microseconds of one read in each round."""
    rounds, calls = run.rounds(25), run.calls(2_000)
    glances, awaiting = bound.glances, bound.node.loops.of_running()
    clock, users = time.process_time, range(MAX_READ)
    begun = [glances.begin((user,), {}) for user in users]
    for glance in begun:
        glances.over(glance)
    request = request_of((joined([look for look, _ in begun]),), awaiting._names)
    replies = await awaiting._streams.exchange(stream(awaiting), request.wire(), request.count)
    (looked,) = request.results(replies)
    (look, stand), raw = begun[0], looked.entries[begun[0][0].keys[0]]
    stored, _ = looked.good(look.keys[0])
    samples: dict[str, list[float]] = {}

    def timed(name: str, each: Callable[[], object], of: int = 1) -> None:
        """*of*: reads for which one call is."""
        times = range(max(1, calls // of))
        start = clock()
        for _ in times:
            each()
        samples.setdefault(name, []).append((clock() - start) / len(times) / of * 1e6)

    def begin() -> None:
        glances.over(glances.begin((7,), {}))

    def pack() -> None:
        request_of((joined([look for look, _ in begun]),), awaiting._names).wire()

    for number in range(rounds):
        run.step(f"{TITLE} round {number + 1} of {rounds}")
        samples.setdefault("all of it", []).append(await crowd(run, profile))
        samples.setdefault("200 tasks that wait", []).append(
            await crowd(run, waiting(asyncio.get_running_loop()))
        )
        timed("named, and asked what is in its way", begin)
        timed("joined and packed", pack, MAX_READ)
        samples.setdefault("sent, and the replies read", []).append(
            await exchanged(awaiting, request, max(1, calls // MAX_READ))
        )
        timed("the replies parsed", lambda: request.results(replies), MAX_READ)
        timed("checked, decoded and judged", lambda: glances._take(look, stand, looked))
        timed(BESIDE[0], lambda: zlib.crc32(raw))
        timed(BESIDE[1], lambda: orjson.loads(stored.payload))
    return samples


async def crowd(run: Run, read: Callable[[int], Awaitable[object]]) -> float:
    async def work(number: int) -> None:
        for _ in range(READS):
            await read(number)

    tasks = run.calls(TASKS)
    begun = time.process_time()
    await asyncio.gather(*(work(number) for number in range(tasks)))
    return (time.process_time() - begun) / tasks / READS * 1e6


def waiting(loop: asyncio.AbstractEventLoop) -> Callable[[int], Awaitable[object]]:
    """A read that waits until all of this turn are woken, and is nothing else."""
    waiters: list[Any] = []

    def land() -> None:
        some = waiters[:]
        waiters.clear()
        wake(some, [None] * len(some))

    def read(number: int) -> Awaitable[object]:
        if not waiters:
            loop.call_soon(loop.call_soon, land)
        waiters.append(new_waiter(loop))
        return waiters[-1]

    return read


def stream(awaiting: Any) -> Any:
    """An open one; nobody else uses it now."""
    found = awaiting._streams.at_once(repeatable=True)
    assert found is not None
    awaiting._streams.give(found)
    return found


async def exchanged(awaiting: Any, request: Any, times: int) -> float:
    one = stream(awaiting)
    begun = time.process_time()
    for _ in range(times):
        await awaiting._streams.exchange(one, request.wire(), request.count)
    return (time.process_time() - begun) / times / MAX_READ * 1e6
