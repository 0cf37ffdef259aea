"""Who serves the old value after a fault, and for how long?

Workload: for every contender three processes, A, B and C, in front of one server, and a number in the
"database" that all of them see. B changes the number and invalidates it (by tag, where there are tags, else
by deleting the key), while something goes wrong:

- slow load: A has read the old number and is still computing when B changes it; then A stores what it has.
- killed subscription: A's connections are killed while A is stopped; B changes the number; A goes on.
- frozen server: the server is stopped for two seconds; B changes the number meanwhile.

Then all three read it through the cache, again and again, until each has the new number. Events decide the
order, not sleeps. The fourth, same instant: A and B write two values to one key at the same moment, a hundred
times, each round on a key of its own; both read it once half a second has gone by.

How to read it: the seconds are how long after the fault was over any of the three still got the old number;
"0" means that none did at any time, "until the TTL" that the old one was still served when we stopped
looking. A contender without a tier in the process has nothing to be told, and so cannot miss it. Where B's
invalidation was refused, the table says what it raised: the application then knows, and must try again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from bench.contenders.facade import Contender, Place, Unable
from bench.contenders.on_redis import AWAITED, BLOCKING, CLIENT_SIDE, CashewsLocked, HandBatched
from bench.nodes import Failed, Here, Node, close, context
from bench.opened import placed
from bench.results import Result
from bench.runs import Run
from bench.servers import described, newest

FROZEN = 2.0  # seconds
PAUSE = 0.02  # seconds between two reads
SETTLED = 0.5  # seconds after which two processes that disagree do so for good
STEP = 0.004  # seconds between the writes in the same instant
ALIKE = (HandBatched, CashewsLocked)  # differ from another contender in how they load, not in what they hear
FAULTS = ("slow load", "killed subscription", "frozen server")
NOT_ASKED = "not asked"  # a server that the user named is not stopped


@dataclass(frozen=True)
class Seen:
    """What one process saw after a fault."""

    old_until: float  # seconds after the fault, 0 if it never had the old number
    for_good: bool  # it still had the old number when we stopped looking
    raised: str  # by a read; "" if none did


class Trio:
    """Three processes of one contender."""

    def __init__(self, server: Any, kind: type[Contender], place: Place, truth: Any) -> None:
        self.name = kind.name
        self.refused = ""  # what the invalidation of the frozen server raised
        self.nodes = [Node(server, kind, place, truth) for _ in range(3)]
        self.a, self.b, self.c = self.nodes

    def opened(self) -> None:
        for node in self.nodes:
            node.opened()


def measure(run: Run) -> list[Result]:
    asked = [*BLOCKING, *(kind for kind in AWAITED if kind not in ALIKE), *CLIENT_SIDE]
    kinds = run.only(asked)
    unable = {kind.name: why for kind in asked if (why := run.absent.get(kind.name))}
    server = context()
    trios: list[Trio] = []
    with newest(run) as url, redis.Redis.from_url(url) as client:
        try:
            run.step("opening three processes of each")
            for kind in kinds:
                truth = server.Array("q", [1] * len(FAULTS), lock=False)
                trios.append(Trio(server, kind, placed(run, url, kind), truth))
            able = those_that_open(trios, unable)
            return after_faults(run, client, able, unable, described(url))
        finally:
            close([node for trio in trios for node in trio.nodes])


def those_that_open(trios: list[Trio], unable: dict[str, str]) -> list[Trio]:
    able = []
    for trio in trios:
        try:
            trio.opened()
        except Unable as error:
            unable[trio.name] = str(error)
        else:
            able.append(trio)
    return able


def after_faults(
    run: Run, client: redis.Redis, trios: list[Trio], unable: dict[str, str], server: str
) -> list[Result]:
    cap = 1.0 if run.quick else 6.0
    seen = {"slow load": slow_load(run, trios, cap), "killed subscription": killed(run, client, trios, cap)}
    if run.redis is None:
        seen["frozen server"] = frozen(run, client, trios, cap)
    rounds = run.rounds(100, 15)
    apart = [in_one_instant(run, trio, rounds) for trio in trios]
    time.sleep(SETTLED)
    rows = [
        (
            trio.name,
            *(in_words(seen[fault][number]) if fault in seen else NOT_ASKED for fault in FAULTS),
            trio.refused or "nothing",
            disagreements(trio, rounds) if struck else "cannot write by key",
        )
        for number, (trio, struck) in enumerate(zip(trios, apart, strict=True))
    ]
    samples = {
        f"{trio.name} / {fault}": [one.old_until for one in some[number]]
        for fault, some in seen.items()
        for number, trio in enumerate(trios)
    }
    columns = (
        "",
        *(f"{fault}, s" for fault in FAULTS),
        "its invalidation raised",
        f"same instant: apart, of {rounds}",
    )
    reading = f"On {server}. Seconds for which the old number was served after the fault, at most {cap:g}."
    title = "who serves the old value"
    return [Result(title, columns, rows, reading, unit="s", samples=samples, unable=unable, chart="none")]


def in_words(seen: Sequence[Seen]) -> str:
    who = ", ".join(name for name, one in zip("ABC", seen, strict=True) if one.for_good)
    if who:
        return f"✗ until the TTL ({who})"
    longest = max(one.old_until for one in seen)
    return f"✓ {longest:.2f}" if longest else "✓ 0"


# ---- the faults


def slow_load(run: Run, trios: list[Trio], cap: float) -> list[list[Seen]]:
    run.step("a slow load that an invalidation overtakes")
    loads = [trio.a.begin(load, 0, True) for trio in trios]
    for trio in trios:
        trio.a.heard()  # it has read the old number
    for trio in trios:
        trio.b.do(change, 0)
    for trio, ticket in zip(trios, loads, strict=True):
        trio.a.open_gate()
        trio.a.result(ticket)
    return watched(trios, 0, cap)


def killed(run: Run, client: redis.Redis, trios: list[Trio], cap: float) -> list[list[Seen]]:
    run.step("a killed subscription")
    warm(trios, 1)
    ports = [trio.a.do(connections, client.connection_pool.connection_kwargs["port"]) for trio in trios]
    for trio in trios:
        trio.a.freeze()
    try:
        for some in ports:
            for address in some:
                with suppress(redis.ResponseError):  # it has let go of that one by itself
                    client.execute_command("CLIENT", "KILL", "ADDR", address)
        for trio in trios:
            trio.b.do(change, 1)
    finally:
        for trio in trios:
            trio.a.thaw()
    return watched(trios, 1, cap)


def frozen(run: Run, client: redis.Redis, trios: list[Trio], cap: float) -> list[list[Seen]]:
    run.step("a frozen server")
    warm(trios, 2)
    pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        changes = [trio.b.begin(change, 2) for trio in trios]
        time.sleep(FROZEN)
    finally:
        os.kill(pid, signal.SIGCONT)
    since = time.monotonic()
    watches = [[node.begin(watch, 2, since, since + cap) for node in (trio.a, trio.c)] for trio in trios]
    for trio, ticket, tickets in zip(trios, changes, watches, strict=True):
        try:
            trio.b.result(ticket)
        except Failed as error:
            trio.refused = str(error).partition(":")[0]
        tickets.insert(1, trio.b.begin(watch, 2, since, time.monotonic() + cap))
    return results(trios, watches)


def in_one_instant(run: Run, trio: Trio, rounds: int) -> bool:
    """Whether A and B could write to one key at one instant; each round has a key of its own."""
    run.step(f"writes in the same instant: {trio.name}")
    try:
        trio.a.do(strike, "first", time.monotonic(), 0.0, rounds)
    except Unable:
        return False
    for node in (trio.a, trio.b):
        node.do(read_all, rounds)
    at = time.monotonic() + 0.05
    tickets = [
        (node, node.begin(strike, name, at, STEP, rounds))
        for name, node in zip("ab", (trio.a, trio.b), strict=True)
    ]
    for node, ticket in tickets:
        node.result(ticket)
    return True


def disagreements(trio: Trio, rounds: int) -> int:
    ours, theirs = (node.do(read_all, rounds) for node in (trio.a, trio.b))
    return sum(one != other for one, other in zip(ours, theirs, strict=True))


def warm(trios: list[Trio], number: int) -> None:
    for trio in trios:
        for node in trio.nodes:
            for _ in range(2):
                node.do(load, number)


def watched(trios: list[Trio], number: int, cap: float) -> list[list[Seen]]:
    since = time.monotonic()
    tickets = [[node.begin(watch, number, since, since + cap) for node in trio.nodes] for trio in trios]
    return results(trios, tickets)


def results(trios: list[Trio], tickets: list[list[int]]) -> list[list[Seen]]:
    return [
        [node.result(ticket) for node, ticket in zip(trio.nodes, some, strict=True)]
        for trio, some in zip(trios, tickets, strict=True)
    ]


# ---- acts, in the other processes


async def load(here: Here, number: int, slowly: bool = False) -> int:
    async def later() -> int:
        value = int(here.truth[number])
        if slowly:
            here.tell("loading")
            await here.pass_gate()
        return value

    def now() -> int:
        value = int(here.truth[number])
        if slowly:
            here.tell("loading")
            here.pass_gate_blocking()
        return value

    loader = later if here.contender.is_async else now
    return int(await here.verb("load", f"number:{number}", loader, [f"tag:{number}"]))


async def change(here: Here, number: int) -> None:
    here.truth[number] += 1
    try:
        await here.verb("drop_tag", f"tag:{number}")
    except Unable:
        await here.verb("drop", f"number:{number}")


async def watch(here: Here, number: int, since: float, until: float) -> Seen:
    """Read until it is the new number, which has been there since before; instants of the common clock."""
    old_until, raised = 0.0, ""
    while True:
        try:
            if await load(here, number) == here.truth[number]:
                return Seen(old_until, False, raised)
            old_until = time.monotonic() - since
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
        if time.monotonic() > until:
            return Seen(old_until, old_until > 0, raised)
        await asyncio.sleep(PAUSE)


async def strike(here: Here, name: str, at: float, step: float, rounds: int) -> None:
    for number in range(rounds):
        await asyncio.sleep(max(0.0, at + number * step - time.monotonic()))
        await here.verb("write", f"pair:{number}", f"{name}{number}")


async def read_all(here: Here, rounds: int) -> list[Any]:
    return [await here.verb("read", f"pair:{number}") for number in range(rounds)]


def connections(here: Here, port: int) -> list[str]:
    """The addresses of this process's own ends of its connections to that port."""
    found = []
    for number in range(3, 256):
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as end:
            if end.family == socket.AF_INET and end.getpeername()[1] == port:
                found.append("{}:{}".format(*end.getsockname()))
    return found
