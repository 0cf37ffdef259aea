"""How long after a write in one process does another return the new value?

Workload: a writer process and a reader process of each contender, which has a tier in the process. The writer
writes the next number, by the contender's own verb or, in lines of their own, by an invalidation after which
the reader loads the number; the reader reads it over and over. The delay runs from the beginning of the write
to the end of the first read that returned the new number: what Redis does, the message, the eviction and the
read of what is new are all in it.

The machine is the pair's own: the processes of all others are stopped (SIGSTOP) until it is their turn. One
that goes on has been away for seconds, and so writes and reads some numbers before the clock counts.

How to read it: the first line is the floor, one message on a raw redis-py subscription, from before the
PUBLISH to after its receipt, in turn with the rest; `x` is the multiple of it, a median over the rounds. The
second is what is left to anybody whose listener is a thread: it hears a number, and the reader looks at that
as often as at a cache. The third is the least that a tier in the process takes which is told to let go, and
reads what is new: a dict without expiry, bound or promise. A reader that sleeps 0.2 ms between its reads
leaves the interpreter to a listener; a spinning one holds it (an awaited one gives way to its loop after each
read). asyncio rounds such a sleep up to a millisecond.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import redis

from bench.contenders.facade import Contender, Unable
from bench.contenders.on_redis import (
    AWAITED,
    BLOCKING,
    CLIENT_SIDE,
    Coredis,
    Glide,
    HandRedis,
    RedisPyClientSide,
    Tiercache,
    TiercacheAsync,
)
from bench.nodes import Failed, Here, Node, context
from bench.opened import answered, placed
from bench.results import Result, percentile
from bench.runs import Run
from bench.servers import described, newest

PAUSE = 0.0002  # seconds that the sleeping reader sleeps
MESSAGES = 25  # a contender and a round
WARMING = 5  # messages of a contender that goes on, before its round
GIVEN_UP = 1.0  # seconds after which the old value counts as served for good
RAW = "raw pub/sub, one way"
HEARD = "raw pub/sub, a thread hears"
BY_HAND = "SET, PUBLISH, a thread hears, GET, by hand"
NAMES = {"raw": RAW, "heard": HEARD, "by hand": BY_HAND}
TIERED = (Tiercache, TiercacheAsync, RedisPyClientSide, Coredis, Glide, *CLIENT_SIDE)
INVALIDATED = (Tiercache, TiercacheAsync)


class Pair:
    """A writer and a reader of one contender, and one way to write."""

    def __init__(self, server: Any, run: Run, url: str, kind: type[Contender], how: str) -> None:
        self.name = NAMES.get(how) or (kind.name if how == "write" else f"{kind.name}, {how}")
        self.how = how
        self.number = 0
        truth = server.Array("q", [0], lock=False)
        place = placed(run, url, kind)
        self.writer, self.reader = (Node(server, kind, place, truth) for _ in range(2))

    def opened(self) -> None:
        self.writer.opened()
        self.reader.opened()

    def freeze(self) -> None:
        self.writer.freeze()
        self.reader.freeze()

    def thaw(self) -> None:
        self.writer.thaw()
        self.reader.thaw()

    def close(self) -> None:
        self.writer.close()
        self.reader.close()

    def one_round(self, pause: float, messages: int) -> list[float]:
        """Delays in microseconds; Unable where the reader does not get to see a number."""
        if self.how != "raw":
            self.writer.do(write, self.how, self.number)
        ticket = self.reader.begin(READERS[self.how], self.number, messages, pause)
        self.reader.heard()
        delays = []
        for _ in range(messages):
            time.sleep(random.uniform(0.001, 0.003))  # so that nothing falls into step
            self.number += 1
            begun = self.writer.do(write, self.how, self.number)
            seen = self.reader.heard()
            if seen is None:
                raise Unable(f"the old value was still served {GIVEN_UP:g} s after the write")
            delays.append((seen - begun) * 1e6)
        self.reader.result(ticket)
        return delays


def measure(run: Run) -> list[Result]:
    with newest(run) as url:
        pairs: list[Pair] = []
        unable = {
            kind.name: "no tier in the process: each read asks Redis, and there is nothing to be told"
            for kind in (*BLOCKING, *AWAITED)
            if kind not in TIERED
        }
        try:
            for how, kind in ways(run, unable):
                pairs.append(Pair(context(), run, url, kind, how))
            return compared(run, pairs, unable, described(url))
        finally:
            for pair in pairs:
                pair.thaw()
                pair.close()


def ways(run: Run, unable: dict[str, str]) -> Iterator[tuple[str, type[Contender]]]:
    yield "raw", HandRedis
    yield "heard", HandRedis
    yield "by hand", HandRedis
    for kind in run.only(TIERED):
        yield "write", kind
        if kind in INVALIDATED:
            yield "by invalidation", kind
    unable.update({kind.name: run.absent[kind.name] for kind in TIERED if kind.name in run.absent})


def compared(run: Run, pairs: list[Pair], unable: dict[str, str], server: str) -> list[Result]:
    delays: dict[float, dict[str, list[list[float]]]] = {PAUSE: {}, 0.0: {}}
    for pair in pairs:
        try:
            pair.opened()
            pair.one_round(PAUSE, 3)
        except (Unable, Failed) as error:
            unable[pair.name] = str(error)
    for pair in pairs:
        pair.freeze()
    able = [pair for pair in pairs if pair.name not in unable]
    for order in run.turns(able, run.rounds(12, 2)):
        for pair in order:
            pair.thaw()
            pair.one_round(PAUSE, WARMING)
            for pause, some in delays.items():
                rounds = some.setdefault(pair.name, [])
                rounds.append(pair.one_round(pause, run.calls(MESSAGES)))
            pair.freeze()
    names = {PAUSE: f"reader sleeping {PAUSE * 1000:g} ms", 0.0: "reader spinning"}
    return [
        table(f"write here to new value there, {names[pause]}", some, unable, f"On {server}.")
        for pause, some in delays.items()
    ]


def table(title: str, delays: dict[str, list[list[float]]], unable: dict[str, str], reading: str) -> Result:
    floor = [median(some) for some in delays[RAW]]
    rows = []
    for name, rounds in delays.items():
        whole = [delay for some in rounds for delay in some]
        ratio = median(median(some) / least for some, least in zip(rounds, floor, strict=True))
        rows.append((name, percentile(whole, 50), percentile(whole, 99), f"{ratio:.2f} x"))
    samples = {name: [delay for some in rounds for delay in some] for name, rounds in delays.items()}
    columns = ("", "p50, us", "p99, us", "x")
    return Result(title, columns, rows, reading, unit="us", samples=samples, unable=unable, log=True)


# ---- acts, in the other processes


async def write(here: Here, how: str, number: int) -> float:
    """The instant, on the clock that the processes share, at which it began."""
    here.truth[0] = number
    begun = time.monotonic()
    if how == "by hand":
        both = here.contender.client.pipeline(transaction=False)
        both.set(here.contender.key("number"), number).publish("bench", number).execute()
    elif how in NAMES:
        here.contender.client.publish("bench", number)
    elif how == "write":
        await answered(here.contender.write("number", number))
    else:
        await answered(here.contender.drop_tag("number"))
    return begun


def hear(here: Here, number: int, messages: int, pause: float) -> None:
    with subscribed(here) as heard:
        here.tell("ready")
        for _ in range(messages):
            while heard.get_message(ignore_subscribe_messages=True, timeout=1) is None:
                pass
            here.tell(time.monotonic())


def overhear(here: Here, number: int, messages: int, pause: float) -> None:
    last = number

    def listen() -> None:
        nonlocal last
        while last < number + messages:
            message = heard.get_message(ignore_subscribe_messages=True, timeout=1)
            last = last if message is None else int(message["data"])

    with subscribed(here) as heard:
        listener = threading.Thread(target=listen)
        listener.start()
        follow_blocking(here, lambda: last, number, messages, pause)
        listener.join()


def hold(here: Here, number: int, messages: int, pause: float) -> None:
    held: dict[str, int] = {}
    listens, client, key = True, here.contender.client, here.contender.key("number")

    def listen() -> None:
        while listens:
            if heard.get_message(ignore_subscribe_messages=True, timeout=0.1) is not None:
                held.clear()

    def ask() -> int:
        found = held.get(key)
        if found is None:
            found = held[key] = int(client.get(key))
        return found

    with subscribed(here) as heard:
        listener = threading.Thread(target=listen)
        listener.start()
        follow_blocking(here, ask, number, messages, pause)
        listens = False
        listener.join()


@contextmanager
def subscribed(here: Here) -> Iterator[Any]:
    with (
        redis.Redis.from_url(here.contender.place.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        heard.subscribe("bench")
        while heard.get_message(timeout=0.05) is not None:
            pass
        yield heard


async def read(here: Here, number: int, messages: int, pause: float) -> None:
    """Say when each of the next numbers is there; None, and no more, where one does not come."""
    await follow(here, lambda: here.contender.read("number"), number, messages, pause)


async def load(here: Here, number: int, messages: int, pause: float) -> None:
    async def later() -> int:
        return int(here.truth[0])

    loader = later if here.contender.is_async else lambda: int(here.truth[0])
    await follow(here, lambda: here.contender.load("loaded", loader, ["number"]), number, messages, pause)


async def follow(here: Here, ask: Callable[[], Any], number: int, messages: int, pause: float) -> None:
    if not here.contender.is_async:
        await asyncio.to_thread(follow_blocking, here, ask, number, messages, pause)
        return
    await ask()
    here.tell("ready")
    for expected in range(number + 1, number + 1 + messages):
        deadline = time.monotonic() + GIVEN_UP
        while await ask() != expected:
            if time.monotonic() > deadline:
                return here.tell(None)
            await asyncio.sleep(pause)
        here.tell(time.monotonic())


def follow_blocking(here: Here, ask: Callable[[], Any], number: int, messages: int, pause: float) -> None:
    ask()
    here.tell("ready")
    for expected in range(number + 1, number + 1 + messages):
        deadline = time.monotonic() + GIVEN_UP
        while ask() != expected:
            if time.monotonic() > deadline:
                return here.tell(None)
            if pause:
                time.sleep(pause)
        here.tell(time.monotonic())


READERS: dict[str, Callable[..., Any]] = {
    "raw": hear,
    "heard": overhear,
    "by hand": hold,
    "write": read,
    "by invalidation": load,
}
