"""What does a hit in the process's own tier cost?

Workload: a decorated function that is called again and again with the same arguments: one int; two and a
keyword; a str; and one whose value is a dict of some 200 bytes, which a caller may change. Then a read by
key, of libraries that have one; and Zipf: 10,000 keys, drawn with exponent 1, through a tier that holds
1,000.

How to read it: `x` is the multiple of the first line, as a median of the ratios within a round.
`lru_cache` is C, checks no clock and never expires; the bare wrapper is the least that a decorator in
Python can do, an `async def` over a dict the least that a coroutine can. tiercache runs as it does in
production, on a Redis with everything on: lease, expiry, LRU stamps, counters, the listener thread. Where
it was compiled, `tiercache, in Python` is the same without: in a process of its own, as that is decided
once in a process, timed in its turn while the others rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench import zipf
from bench.contenders import IN_MEMORY_ASYNC, IN_MEMORY_SYNC
from bench.contenders.facade import Contender, Place
from bench.contenders.hand_written import LruCacheDeepCopied, LruCachePickled
from bench.contenders.tiercache import Tiercache, TiercacheAsync
from bench.contenders.tiercache_pure import TiercachePure, TiercachePureAsync
from bench.elsewhere import Elsewhere, Here, elsewhere
from bench.opened import answered
from bench.results import Result, against
from bench.runs import Run
from bench.timing import Plan, ReadByKey, Wrapped, async_times, sync_times

ROUNDS = 40


def name_of(user_id: int) -> str:
    return f"user {user_id}"


async def name_later(user_id: int) -> str:
    return f"user {user_id}"


def label(number: int, language: str, *, short: bool) -> str:
    return f"label {number} {language} {short}"


async def label_later(number: int, language: str, *, short: bool) -> str:
    return label(number, language, short=short)


def greeting(name: str) -> str:
    return f"hello {name}"


async def greeting_later(name: str) -> str:
    return greeting(name)


def profile(user_id: int) -> dict[str, Any]:
    return {
        "id": user_id,
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "roles": ["admin", "editor", "reader"],
        "active": True,
        "balance": 1234.5,
        "address": {"street": "12 St James's Square", "city": "London", "country": "GB"},
    }


async def profile_later(user_id: int) -> dict[str, Any]:
    return profile(user_id)


@dataclass(frozen=True)
class Shape:
    """One way to call: what is shown, the function in both worlds, and the call."""

    title: str
    now: Callable[..., Any]
    later: Callable[..., Any]
    call: str


ONE_INT = Shape("one int", name_of, name_later, "f(7)")
SHAPES = (
    ONE_INT,
    Shape("two arguments and a keyword", label, label_later, "f(7, 'en', short=True)"),
    Shape("one str", greeting, greeting_later, "f('user:7')"),
)
DICT = Shape("a dict as value", profile, profile_later, "f(7)")
BY_KEY = Shape("by key", name_of, name_later, "f('user:7')")


def measure(run: Run) -> list[Result]:
    results = []
    with run.server() as url, elsewhere(TIERCACHE_PURE="1") as process:
        TiercachePure.process = TiercachePureAsync.process = process
        for shape in (*SHAPES, BY_KEY):
            results += [blocking(run, url, shape), asyncio.run(awaiting(run, url, shape))]
        results += [blocking(run, url, DICT), asyncio.run(awaiting(run, url, DICT))]
    return [*results, zipf.blocking(run), asyncio.run(zipf.awaiting(run))]


def followed(
    classes: tuple[type[Contender], ...], ours: type[Contender], pure: type[Contender]
) -> tuple[type[Contender], ...]:
    """*pure* next to *ours*."""
    at = classes.index(ours) + 1
    return (*classes[:at], pure, *classes[at:])


def place(run: Run, url: str, shape: Shape) -> Place:
    return Place(url=url, prefix=f"{run.prefix}-{shape.title.replace(' ', '-')}")


def wrapped_as(shape: Shape) -> type[Wrapped]:
    return ReadByKey if shape is BY_KEY else Wrapped


def blocking(run: Run, url: str, shape: Shape) -> Result:
    more = (LruCacheDeepCopied, LruCachePickled) if shape is DICT else ()
    classes = (*followed(IN_MEMORY_SYNC, Tiercache, TiercachePure), *more)
    wrapped = wrapped_as(shape)(run, classes, place(run, url, shape))
    asyncio.run(wrapped.open(shape.now))
    try:
        times = sync_times(run, wrapped.functions, shape.call, Plan.of(run, ROUNDS))
        result = compared(f"hit, def, {shape.title}", times, wrapped)
        if shape is DICT:
            result = with_copies(result, asyncio.run(kinds_of_copies(wrapped)))
    finally:
        asyncio.run(wrapped.close())
    return result


async def awaiting(run: Run, url: str, shape: Shape) -> Result:
    classes = followed(IN_MEMORY_ASYNC, TiercacheAsync, TiercachePureAsync)
    wrapped = wrapped_as(shape)(run, classes, place(run, url, shape))
    await wrapped.open(shape.later)
    try:
        times = await async_times(run, wrapped.functions, shape.call, Plan.of(run, ROUNDS))
        result = compared(f"hit, async def, {shape.title}", times, wrapped)
        if shape is DICT:
            result = with_copies(result, await kinds_of_copies(wrapped))
    finally:
        await wrapped.close()
    return result


def compared(title: str, times: dict[str, list[float]], wrapped: Wrapped) -> Result:
    reading = f"Each call is a hit; x is the multiple of {next(iter(times))}."
    return against(title, times, calls=1, unit="ns", reading=reading, unable=wrapped.unable, log=True)


async def kinds_of_copies(wrapped: Wrapped) -> dict[str, str]:
    """What two calls are handed, by contender."""
    return {
        name: f.ask(kind_there) if isinstance(f, Elsewhere) else await kind_of_copy(f)
        for name, f in wrapped.functions.items()
    }


async def kind_there(here: Here) -> str:
    return await kind_of_copy(here.function)


async def kind_of_copy(function: Callable[..., Any]) -> str:
    one, other = await answered(function(7)), await answered(function(7))
    if one is other:
        return "the same object"
    return "one inner object" if one["address"] is other["address"] else "their own"


def with_copies(result: Result, kinds: dict[str, str]) -> Result:
    """Say what two calls are handed: who shares an object lets one caller change what the next one gets."""
    reading = f"{result.reading} Who hands out the same object lets one caller change what the next one gets."
    return replace(
        result,
        columns=(*result.columns, "two callers get"),
        rows=[(*row, kinds[str(row[0])]) for row in result.rows],
        reading=reading,
    )
