"""Does one tag over 1,000,000 keys cost tiercache what it costs over 1,000?

Workload: so many entries under one tag, put into Redis as the scripts store them (`tags` writes by each
library's own verbs, which takes too long for a million); then a hundred invalidations of the tag. One of the
entries is read before, and is valid, and after, and is not.

How to read it: the server notes how long each script took, and for so long it answers nobody else; the
longest of them is the most that another client waits for it.
"""

from __future__ import annotations

import time
from typing import Any

import redis

from bench.results import Result, against
from bench.runs import Run
from tiercache import TierCache
from tiercache._core.records import check_of

COUNTS = (1_000, 1_000_000)
CALLS = 100
PAYLOAD = b"\n1"
HOUR_MS = 3_600_000


def measure(run: Run) -> list[Result]:
    counts = (10, 1_000) if run.tiny else (1_000, 100_000) if run.quick else COUNTS
    times: dict[str, list[float]] = {}
    longest: dict[str, float] = {}
    for count in counts:
        name = f"{count:,} keys"
        run.step(name)
        # A server of its own: its slow log is set.
        with run.server(slowlog_log_slower_than="0", slowlog_max_len="256") as url:
            times[name], longest[name] = invalidated(url, count, 3 if run.tiny else CALLS)
    result = against("one tag invalidated, tiercache", times, calls=1, unit="us")
    return [
        Result(
            result.title,
            (*result.columns, "longest script, us"),
            [(*row, longest[str(row[0])]) for row in result.rows],
            unit=result.unit,
            samples=result.samples,
        )
    ]


def invalidated(url: str, count: int, calls: int) -> tuple[list[float], float]:
    """Seconds of each call, and the longest script in microseconds of the server."""
    client: Any  # redis-py types replies for both worlds at once
    with redis.Redis.from_url(url) as client, TierCache(url, private=True, max_staleness=60).sync as cache:
        cache.get("nobody")  # so that the node knows the epoch
        plant(client, cache._node, count)
        assert cache.get("k5") == 1
        client.slowlog_reset()
        times = []
        for _ in range(calls):
            begun = time.perf_counter()
            cache.invalidate_tags("t")
            times.append(time.perf_counter() - begun)
        assert cache.get("k5") is None
        scripts = [each["duration"] for each in client.slowlog_get(256) if each["command"][:4] == b"EVAL"]
    return times, max(scripts)


def plant(client: Any, node: Any, count: int) -> None:
    """Store *count* entries under the tag "t", valid as of now."""
    core, check = node.tiers.core, check_of
    head = f"1|{core.epoch}|{core.seen}|{int(time.time() * 1000) + HOUR_MS}|"
    for first in range(0, count, 10_000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(first, min(count, first + 10_000)):
                key = f"k{number}"
                entry = f"{head}{check(key, ('t',), PAYLOAD)}|0|1|t".encode() + PAYLOAD
                pipeline.set(node.names.entry(key), entry, px=HOUR_MS)
            pipeline.execute()
