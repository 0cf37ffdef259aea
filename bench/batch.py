"""What do 1, 10, 100 and 1,000 keys at once cost, and how many round trips?

Workload: so many keys with a small dict each, in Redis and in no process; read at once, written at once, and
loaded at once where half of them are missing (tiercache alone has a verb for that; by hand it is a read of
many, a loader and a write of many).

How to read it: `x` is the multiple of the first line, MGET, or SET in a pipeline, by redis-py and orjson,
as a median over the rounds. The round trips are the reads that the server counts from the socket during one
call: one a request or a pipeline, more where one is larger than its buffer, or where a listener asks too.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import redis

from bench.contenders.facade import Contender, Unable
from bench.contenders.on_redis import AWAITED, BLOCKING, HandBatched
from bench.contenders.tiercache import Tiercache, TiercacheAsync
from bench.opened import answered, opened
from bench.results import Result, against
from bench.runs import Run

SIZES = (1, 10, 100, 1_000)
VALUE = {"id": 7, "name": "Ada Lovelace", "roles": ["admin", "editor", "reader"], "balance": 1234.5}
NUMBERS = itertools.count()
Act = Callable[[Contender, list[str]], Any]


def measure(run: Run) -> list[Result]:
    with run.server() as url:
        return asyncio.run(everything(run, url))


async def everything(run: Run, url: str) -> list[Result]:
    results = []
    acts: dict[str, Act] = {"read": read_many, "written": write_many, "loaded, half of them new": load_many}
    with redis.Redis.from_url(url) as client:
        for world, kinds in (("def", BLOCKING), ("async def", AWAITED)):
            some = [kind for kind in kinds if kind is not HandBatched]
            async with opened(run, url, some, maxsize=0) as (able, unable):
                for what, act in acts.items():
                    for size in SIZES if not run.tiny else (1, 10):
                        title = f"{size:,} keys {what}, {world}"
                        results.append(await compare(run, client, able, dict(unable), title, act, size))
    return results


async def compare(
    run: Run,
    client: Any,
    able: list[Contender],
    unable: dict[str, str],
    title: str,
    act: Act,
    size: int,
) -> Result:
    times: dict[str, list[float]] = {}
    trips: dict[str, int] = {}
    fit: list[Contender] = []
    for contender in able:
        try:
            keys = await keys_for(contender, size)
            before = reads_of(client)
            await act(contender, keys)
            trips[contender.name] = reads_of(client) - before - 1
        except Unable as error:
            unable[contender.name] = str(error)
        else:
            fit.append(contender)
            times[contender.name] = []
    for order in run.turns(fit, run.rounds(10, 2), title):
        for contender in order:
            keys = await keys_for(contender, size)
            begun = time.perf_counter()
            await act(contender, keys)
            times[contender.name].append(time.perf_counter() - begun)
    result = against(title, times, calls=1, unit="us", unable=unable, log=True)
    rows = [(*row, trips[str(row[0])]) for row in result.rows]
    columns = (*result.columns, "round trips") if rows else result.columns
    return Result(
        title, columns, rows, unit="us", samples=result.samples, unable=unable, log=True, chart=result.chart
    )


async def keys_for(contender: Contender, size: int) -> list[str]:
    """Names that nobody used, every other one of which has a value in Redis."""
    first = next(NUMBERS)
    keys = [f"batch:{first}:{number}" for number in range(size)]
    await answered(contender.write_many(dict.fromkeys(keys[::2], VALUE)))
    return keys


def reads_of(client: Any) -> int:
    """How often the server has read from a socket, this call's own read among them."""
    return int(client.info("stats")["total_reads_processed"])


async def read_many(contender: Contender, keys: list[str]) -> None:
    found = await answered(contender.read_many(keys))
    if len(found) != len(keys[::2]):
        raise Unable(f"found {len(found)} of {len(keys[::2])} keys")


async def write_many(contender: Contender, keys: list[str]) -> None:
    await answered(contender.write_many(dict.fromkeys(keys, VALUE)))


async def load_many(contender: Contender, keys: list[str]) -> None:
    def load(missing: list[str]) -> dict[str, Any]:
        return dict.fromkeys(missing, VALUE)

    if isinstance(contender, Tiercache):
        contender.cache.sync.get_or_load_many(keys, load)
    elif isinstance(contender, TiercacheAsync):
        await contender.cache.get_or_load_many(keys, load)
    else:
        found = await answered(contender.read_many(keys))
        missing = [key for key in keys if key not in found]
        if missing:
            await answered(contender.write_many(load(missing)))
