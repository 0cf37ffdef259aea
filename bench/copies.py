"""What does a hit cost whose value must be copied, by the shape of the value?

Workload: a decorated function of one int argument, called again and again with the same one. Each
caller gets an object of his own, equal in type and value at every depth. All that `bench/hit.py`
lists is on.

How to read it: the rivals keep the value in `functools.lru_cache`, which hands the one object to
everybody, and copy it: by reading JSON anew with orjson, by `marshal`, by `pickle`, by
`copy.deepcopy`. `x` is the multiple of the first line, as a median over the rounds.
"""

from __future__ import annotations

import copy
import functools
import marshal
import pickle
import timeit
from collections.abc import Callable
from typing import Any

import orjson

from bench.results import Result, against
from bench.runs import Run
from tiercache import TierCache

Fetch = Callable[[int], Any]

SHAPES: dict[str, Any] = {
    "a flat dict": {
        **{"id": 7, "name": "Ada Lovelace", "email": "ada@example.org", "age": 36, "active": True},
        **{"score": 4.5, "country": "GB", "city": "London", "note": "the first of all programmers"},
    },
    "a dict with lists and dicts": {
        **{"id": 7, "name": "Ada Lovelace", "email": "ada@example.org", "tags": ["admin", "staff", "math"]},
        **{"address": {"city": "London", "zip": "W1", "number": 12}, "scores": [1, 2, 3, 4, 5]},
        **{"note": "the first of all programmers, some say"},
    },
    "a list of 20 rows": [
        {"id": i, "name": f"user {i}", "email": f"u{i}@example.org", "active": True} for i in range(20)
    ],
    "three levels": {
        "items": [{"id": i, "name": f"item {i}", "parts": [1, 2]} for i in range(4)],
        "page": {"next": 2, "links": {"first": "/a", "last": "/b"}},
    },
    "a list of 10,000 numbers": list(range(10_000)),
}


def measure(run: Run) -> list[Result]:
    cache = TierCache("memory://", namespace=run.prefix)
    with cache.sync:
        return [table(run, cache, shape, value) for shape, value in SHAPES.items()]


def table(run: Run, cache: TierCache, shape: str, value: Any) -> Result:
    def fetch(user_id: int) -> Any:
        return value

    size = len(orjson.dumps(value))
    calls = run.calls(max(50, min(20_000, 4_000_000 // size) // (4 if run.quick else 1)))
    candidates: dict[str, Fetch] = {
        "lru_cache, one object for all": functools.lru_cache(fetch),
        "lru_cache and orjson.loads": copied(orjson.loads, orjson.dumps(value)),
        "lru_cache and marshal.loads": copied(marshal.loads, marshal.dumps(value)),
        "lru_cache and pickle.loads": copied(pickle.loads, pickle.dumps(value, -1)),
        "lru_cache and copy.deepcopy": copied(copy.deepcopy, value),
        "tiercache": cache.cached(ttl=600, version=shape.replace(" ", "-").replace(",", ""))(fetch),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for order in run.turns(candidates, run.rounds(15), shape):
        for name in order:
            function = candidates[name]
            assert function(7) == value
            times[name].append(timeit.timeit("f(7)", globals={"f": function}, number=calls))
    return against(f"{shape}, {size} bytes of JSON", times, calls=calls, unit="ns")


def copied(read: Callable[[Any], Any], stored: Any) -> Fetch:
    held = functools.lru_cache(lambda user_id: stored)
    return lambda user_id: read(held(user_id))
