"""How many reads does a tier of a given size answer, by the policy that chooses what goes?

Workload: a simulation, not a timing. Synthetic traces, made by `traces.py` from a seed: Zipf with exponents
0.8 and 1.0; Zipf with scans of keys that are read once; a loop over all keys; Zipf over a hot set that
moves on. Each policy sees the same trace, and whatever it misses it is given.

How to read it: percent of the reads that were hits, without the first tenth of the trace, which fills the
tier. "exact LRU" is the textbook's, and "Belady's optimum", which knows the future, is what nothing can
beat. tiercache places anew what was hit only when its turn to go has come, and looks at 64 entries at most
for that, so it should lie beside the exact LRU, now above and now below.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any

from bench import traces
from bench.contenders.facade import version_of
from bench.results import Result
from bench.runs import Run
from tiercache._core.l1 import L1, Entry

KEYS = 10_000
SIZES = (100, 250, 500, 1_000, 2_500, 5_000)
Policy = Callable[[Sequence[int], int], Iterator[bool]]  # (trace, size) -> whether each read was a hit


def measure(run: Run) -> list[Result]:
    length = run.calls(10_000 if run.quick else 150_000, tiny=500)
    return [result_of(run, title, reading, trace) for title, reading, trace in made(length, run.seed)]


def made(length: int, seed: int) -> Iterator[tuple[str, str, list[int]]]:
    keys = f"{KEYS:,} keys"
    yield f"Zipf 0.8, {keys}", "A mild skew.", traces.zipf(KEYS, 0.8, length, seed)
    yield f"Zipf 1.0, {keys}", "The usual skew of a web site.", traces.zipf(KEYS, 1.0, length, seed)
    yield (
        f"Zipf 1.0 and scans, {keys}",
        "A thousand skewed reads, a thousand of keys that come once, in turn: half of them cannot hit.",
        traces.scan_and_zipf(KEYS, 1.0, length, seed, scan=1_000),
    )
    yield (
        "a loop over 3,000 keys",
        "All in turn: LRU has nothing until all of them fit.",
        traces.loop(3_000, length),
    )
    yield (
        f"a hot set that moves, {keys}",
        "Zipf 1.0; a tenth of the keys change ranks after each 5,000 reads: old counts mislead.",
        traces.shifting(KEYS, 1.0, length, seed, hold=5_000),
    )


def result_of(run: Run, title: str, reading: str, trace: list[int]) -> Result:
    unable = {}
    columns: list[str] = []
    for name, (package, _) in POLICIES.items():
        if package and version_of(package) is None:
            unable[name] = f"not installed: {package}"
        else:
            columns.append(name)
    rows = []
    for size in SIZES:
        run.step(f"{title}: {size:,} entries")
        rows.append((size, *(rate(POLICIES[name][1](trace, size), len(trace)) for name in columns)))
    return Result(title, ("entries", *columns), rows, reading=reading, unit="%", unable=unable, chart="lines")


def rate(hits: Iterator[bool], length: int) -> float:
    """Percent of the hits after the first tenth."""
    counted = list(hits)[length // 10 :]
    return round(100 * sum(counted) / len(counted), 2)


def ours(trace: Sequence[int], size: int) -> Iterator[bool]:
    """The L1 as the core uses it: a hit stamps its entry, a miss puts one."""
    l1 = L1(size)
    for now, number in enumerate(trace):
        key = str(number)
        entry = l1.entries.get(key)
        yield entry is not None
        if entry is not None:
            entry.stamp = now
        else:
            l1.put(Entry(key, number, None, deadline=inf), now)


def exact_lru(trace: Sequence[int], size: int) -> Iterator[bool]:
    kept: OrderedDict[int, None] = OrderedDict()
    for key in trace:
        yield key in kept
        kept[key] = None
        kept.move_to_end(key)
        if len(kept) > size:
            kept.popitem(last=False)


def optimum(trace: Sequence[int], size: int) -> Iterator[bool]:
    """What goes is what is wanted latest (L. A. Belady, IBM Systems Journal 5(2), 1966)."""
    following: list[float] = [inf] * len(trace)
    last: dict[int, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        following[place] = last.get(trace[place], inf)
        last[trace[place]] = place
    wanted: dict[int, float] = {}  # key -> when it is wanted next
    latest: list[tuple[float, int]] = []
    for place, key in enumerate(trace):
        yield key in wanted
        wanted[key] = following[place]
        heappush(latest, (-following[place], key))
        while len(wanted) > size:
            when, candidate = heappop(latest)
            if wanted.get(candidate) == -when:
                del wanted[candidate]


def mapping(make: Callable[[int], Any]) -> Policy:
    """A policy of a map that is read with get and written with []."""

    def play(trace: Sequence[int], size: int) -> Iterator[bool]:
        kept = make(size)
        for key in trace:
            found = kept.get(key) is not None
            yield found
            if not found:
                kept[key] = True

    return play


def of_cachetools(name: str) -> Policy:
    def make(size: int) -> Any:
        import cachetools

        return getattr(cachetools, name)(size)

    return mapping(make)


def of_cachebox(name: str) -> Policy:
    def make(size: int) -> Any:
        import cachebox

        return getattr(cachebox, name)(size)

    return mapping(make)


def theine(trace: Sequence[int], size: int) -> Iterator[bool]:
    from theine import Cache

    cache: Any = Cache(size)
    for key in trace:
        _, found = cache.get(key)
        yield found
        if not found:
            cache.set(key, True)
    cache.close()


POLICIES: dict[str, tuple[str, Policy]] = {
    "tiercache": ("", ours),
    "exact LRU": ("", exact_lru),
    "cachetools LRU": ("cachetools", of_cachetools("LRUCache")),
    "cachetools LFU": ("cachetools", of_cachetools("LFUCache")),
    "cachebox LRU": ("cachebox", of_cachebox("LRUCache")),
    "cachebox LFU": ("cachebox", of_cachebox("LFUCache")),
    "theine": ("theine", theine),
    "Belady's optimum": ("", optimum),
}
