"""What only the awaiting transport does: one call a turn, callers that are cancelled, loops that end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ConnectionError as BrokenConnection

from tests.contract.commands import invalidate, read, set_, sync
from tests.contract.conftest import PLENTY
from tests.contract.relay import Relay
from tests.contract.worlds import NAMES, address
from tests.loops import LOOPS
from tests.servers import TIMEOUT, RedisServer
from tiercache._core.commands import MAX_READ, Answers, Command, Hit, Read, Unlock
from tiercache._core.looks import Look
from tiercache._core.plan import Ask, Step, Tell
from tiercache._core.records import parse_entry
from tiercache._errors import L2Unavailable
from tiercache._transport.awaiting import Awaiting
from tiercache._transport.breaker import Breaker
from tiercache._transport.stream import Stream, Streams
from tiercache.testing import Clock

pytestmark = [pytest.mark.anyio, pytest.mark.on_each_loop]


@asynccontextmanager
async def awaiting(port: int, *, timeout: float = PLENTY) -> AsyncIterator[Awaiting]:
    made = Awaiting(address(port, timeout), NAMES, Breaker(), Clock(), pool_size=8)
    yield made
    await made.close()


async def performed(transport: Awaiting, step: Step) -> Any:
    return await transport.perform(step)


async def ask(transport: Awaiting, command: Command[Any]) -> Any:
    (reply,) = await performed(transport, Ask((command,)))
    return reply


async def until(promise: Any) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not promise():  # noqa: ASYNC110  # what another thread or the server does sets no event here
            await asyncio.sleep(0.001)


async def ready_epoch(transport: Awaiting) -> int:
    """The epoch, of a server that knows the scripts by now; one who asks next is not taken to be alone."""
    epoch = (await ask(transport, sync())).epoch
    assert isinstance(epoch, int)
    await asyncio.gather(*(ask(transport, read(epoch, f"warm{n}")) for n in range(2)))
    return epoch


async def left_alone(transport: Awaiting, epoch: int) -> None:
    """A turn of one read, after which the next is taken to be alone, too."""
    await ask(transport, read(epoch, "alone"))


def calls(server: RedisServer) -> int:
    """Script calls the server has seen."""
    stats = server.cli("INFO", "commandstats")
    return sum(stats[name]["calls"] for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats)


# ---- one call a turn


@pytest.mark.parametrize(("reads", "expected"), [(1, 1), (50, 1), (MAX_READ, 1), (MAX_READ + 1, 2), (250, 3)])
async def test_the_reads_of_one_turn_go_out_a_hundred_keys_a_call(
    redis_server: RedisServer, reads: int, expected: int
) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        before = calls(redis_server)
        answers = await asyncio.gather(*(ask(transport, read(epoch, f"k{n}")) for n in range(reads)))

    assert [each.found for each in answers] == [("miss",)] * reads
    assert calls(redis_server) - before == expected


@pytest.mark.parametrize("one", [read, lambda epoch, key: Look(epoch, 0, (key,), ())], ids=["read", "look"])
async def test_who_is_taken_to_be_alone_leaves_before_the_turn_ends(
    redis_server: RedisServer, one: Callable[[int, str], Any]
) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        await left_alone(transport, epoch)
        tasks = [asyncio.create_task(ask(transport, one(epoch, f"k{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        under_way = len(transport._trips)  # before the turn's end, which the second of them has asked for
        await asyncio.gather(*tasks)

    assert under_way == 1


async def test_two_that_ask_at_every_turn_leave_together_from_the_second_on(
    redis_server: RedisServer,
) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        await left_alone(transport, epoch)
        before = calls(redis_server)
        for n in range(10):
            await asyncio.gather(*(ask(transport, read(epoch, f"{n}.{m}")) for m in range(2)))

    assert calls(redis_server) - before == 11


async def test_each_reader_of_a_turn_gets_the_answers_to_its_own_keys(redis_server: RedisServer) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        for n in range(30):
            await ask(transport, set_(epoch, f"k{n}", str(n).encode()))
        wanted = [
            [f"k{n}" for n in range(start, start + size)] for start, size in ((0, 1), (5, 9), (20, 3), (3, 2))
        ]
        all_answers = await asyncio.gather(*(ask(transport, read(epoch, *keys)) for keys in wanted))

    for keys, answers in zip(wanted, all_answers, strict=True):
        for key, answer in zip(keys, answers.found, strict=True):
            assert isinstance(answer, Hit)
            entry = parse_entry(answer.raw, key)
            assert entry is not None
            assert entry.payload == key.removeprefix("k").encode()


async def test_the_keys_of_one_read_stay_together(redis_server: RedisServer) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        before = calls(redis_server)
        many = [read(epoch, *(f"{n}.{m}" for m in range(60))) for n in range(2)]
        answers = await asyncio.gather(*(ask(transport, each) for each in many))

    assert [len(each.found) for each in answers] == [60, 60]
    assert calls(redis_server) - before == 2


async def test_reads_of_another_epoch_go_apart(redis_server: RedisServer) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        before = calls(redis_server)
        asks = (read(epoch, "a"), read(epoch + 1, "b"), read(epoch, "c"), read(epoch + 1, "d"))
        answers = await asyncio.gather(*(ask(transport, each) for each in asks))

    assert [each.found for each in answers] == [("miss",), (), ("miss",), ()]
    assert calls(redis_server) - before == 2


async def test_one_reader_who_met_a_newer_head_sends_its_whole_turn_to_sync(
    redis_server: RedisServer,
) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        (asked,) = read(epoch, "b").asks
        answers = await asyncio.gather(
            ask(transport, read(epoch, "a")), ask(transport, Read(epoch, 10**9, (asked,)))
        )

    assert list(answers) == [Answers(None), Answers(None)]


async def test_the_looks_of_one_turn_go_out_a_hundred_keys_a_round_trip_but_for_the_first(
    redis_server: RedisServer,
) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        await left_alone(transport, epoch)
        looks = [Look(epoch, 0, (f"k{n}",), ("t",)) for n in range(MAX_READ + 50)]
        trips = []
        for _ in range(3):
            before = redis_server.cli("INFO", "commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
            looked = await asyncio.gather(*(ask(transport, each) for each in looks))
            assert [each.good(f"k{n}") for n, each in enumerate(looked)] == [None] * len(looks)
            trips.append(redis_server.cli("INFO", "commandstats")["cmdstat_mget"]["calls"] - before)

    assert trips == [3, 2, 2], "the first does not wait for others, until there were some"


async def test_reads_of_different_turns_are_different_calls(redis_server: RedisServer) -> None:
    async with awaiting(redis_server.port) as transport:
        epoch = await ready_epoch(transport)
        before = calls(redis_server)
        for key in "abc":
            await ask(transport, read(epoch, key))

    assert calls(redis_server) - before == 3


async def test_a_turn_that_fails_fails_for_each_of_its_readers(relay: Relay) -> None:
    async with awaiting(relay.port) as transport:
        epoch = await ready_epoch(transport)
        relay.hang_up()
        relay.hang_up()
        outcomes = await asyncio.gather(
            *(ask(transport, read(epoch, str(n))) for n in range(5)), return_exceptions=True
        )

    assert [type(outcome) for outcome in outcomes] == [L2Unavailable] * 5


# ---- a loop that stands still


async def test_a_reply_that_came_while_a_task_kept_the_loop_is_not_late(
    relay: Relay, redis_server: RedisServer
) -> None:
    async with awaiting(relay.port, timeout=0.2) as transport, awaiting(redis_server.port) as other:
        epoch = await ready_epoch(transport)
        await ask(other, sync())
        relay.hold()
        before = relay.scripts
        asked = asyncio.create_task(ask(transport, read(epoch, "k")))
        await until(lambda: relay.scripts > before)
        await ask(other, sync())
        # In the callback of that reply, so that the loop will not have looked at its sockets since.
        relay.let_go()
        time.sleep(0.3)  # noqa: ASYNC251  # as one that computes
        answers = await asked

    assert answers.found == ("miss",)


# ---- cancellation


async def test_a_cancelled_caller_leaves_its_connection_in_step(relay: Relay) -> None:
    async with awaiting(relay.port) as transport:
        epoch = await ready_epoch(transport)
        relay.hold()
        before = relay.scripts
        task = asyncio.create_task(ask(transport, sync(epoch, 1)))
        await until(lambda: relay.scripts > before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        relay.let_go()

        for _ in range(20):
            assert (await ask(transport, read(epoch, "k"))).found == ("miss",)
            assert (await ask(transport, invalidate("a"))).epoch == epoch


async def test_a_cancelled_caller_s_command_runs_to_its_end(relay: Relay, redis_server: RedisServer) -> None:
    async with awaiting(relay.port) as transport:
        synced = await ask(transport, sync())
        relay.hold()
        before = relay.scripts
        task = asyncio.create_task(ask(transport, invalidate("a")))
        await until(lambda: relay.scripts > before)
        task.cancel()
        relay.let_go()

        await until(lambda: int(-redis_server.cli("ZSCORE", NAMES.state, b"\1s")) == synced.head + 1)


@pytest.mark.parametrize("when", ["before it is sent", "in flight"])
async def test_a_cancelled_reader_takes_nobody_of_its_turn_along(relay: Relay, when: str) -> None:
    async with awaiting(relay.port) as transport:
        epoch = await ready_epoch(transport)
        before = relay.scripts
        relay.hold()
        tasks = [asyncio.create_task(ask(transport, read(epoch, str(n)))) for n in range(3)]
        if when == "in flight":
            await until(lambda: relay.scripts > before)
        else:
            await asyncio.sleep(0)
        tasks[0].cancel()
        relay.let_go()
        outcomes: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [each.found for each in outcomes[1:]] == [("miss",), ("miss",)]


@pytest.mark.parametrize("how", ["alone", "of a turn", "behind a sync"])
async def test_the_unlock_of_a_read_that_was_cancelled_does_not_overtake_it(relay: Relay, how: str) -> None:
    async with awaiting(relay.port) as transport:
        epoch = await ready_epoch(transport)
        if how == "alone":
            await left_alone(transport, epoch)
        relay.hold()
        before = relay.scripts
        one = read(epoch, "k", mode="lead")
        commands = (sync(epoch, 1), one) if how == "behind a sync" else (one,)
        task = asyncio.create_task(performed(transport, Ask(commands)))
        await until(lambda: relay.scripts > before)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await performed(transport, Tell((Unlock("k", "n"),), lambda _: None))
        for _ in range(5):
            await asyncio.sleep(0)
        under_way = len(transport._trips)
        relay.let_go()
        await until(lambda: relay.scripts >= before + 2)

    assert under_way == 1


@pytest.mark.parametrize("command", ["ask", "read", "tell"])
async def test_a_failure_that_nobody_waits_for_any_more_is_no_complaint(relay: Relay, command: str) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with awaiting(relay.port) as transport:
        epoch = await ready_epoch(transport)
        relay.hold()
        before = relay.scripts
        steps: dict[str, Step] = {
            "ask": Ask((sync(),)),
            "read": Ask((read(epoch, "k"),)),
            "tell": Tell((sync(),), lambda _: None),
        }
        task = asyncio.create_task(performed(transport, steps[command]))
        await until(lambda: relay.scripts > before)
        task.cancel()
        relay.hang_up()
        relay.hang_up()
        relay.let_go()
        await until(lambda: transport._breaker.is_open)
        await asyncio.gather(task, return_exceptions=True)
        del task
    await asyncio.sleep(0)
    gc.collect()

    assert complaints == []


# ---- loops that end


async def test_an_end_that_is_cut_short_over_a_request_says_nothing_of_the_server(relay: Relay) -> None:
    async with awaiting(relay.port) as transport:
        epoch = await ready_epoch(transport)
        relay.hold()
        before = relay.scripts
        asked = asyncio.create_task(ask(transport, sync(epoch, 1)))
        await until(lambda: relay.scripts > before)
        ending = asyncio.create_task(transport.close())
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(L2Unavailable, match="the event loop ends"):
            await asked
        await asyncio.wait([ending])
        relay.let_go()

    assert not transport._breaker.is_open


PROGRAM = """
import asyncio, {loop}
from tiercache import TierCache

cache = TierCache({url!r}, namespace="loops", listen={listen}, timeout=10)

async def load():
    return "value"

async def main():
    values = await asyncio.gather(*(cache.get_or_load(f"k{{n}}", load) for n in range(20)))
    assert values == ["value"] * 20
    await cache.invalidate_tags("users")
{then}

for _ in range(3):
    # A loop in debug mode also reports a slow machine.
    with asyncio.Runner(debug=False, loop_factory={loop}.new_event_loop) as runner:
        runner.run(main())
cache.sync.close()
print("done")
"""
THEN = {
    "nothing under way": "",
    "a caller under way": "    asyncio.ensure_future(cache.get('other')); await asyncio.sleep(0)",
    "a load under way": """
    async def slow():
        begun.set()
        await asyncio.sleep(9)
    begun = asyncio.Event()
    asyncio.ensure_future(cache.get_or_load("other", slow))
    await begun.wait()
""",
    "a write under way": "    asyncio.ensure_future(cache.invalidate_tags('o')); await asyncio.sleep(0)",
}


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize("then", THEN.values(), ids=THEN)
@pytest.mark.parametrize("loop", LOOPS)
def test_loops_may_end_one_after_the_other_and_leave_nothing_open(
    redis_server: RedisServer, loop: str, then: str, listen: bool
) -> None:
    program = PROGRAM.format(url=redis_server.url(), loop=loop, then=then, listen=listen)
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert redis_server.cli("KEYS", "{loops}1:l:*") == []  # no lock of a load that was given up


CLOSED_OVER = """
import asyncio, gc, logging, sys, {loop}
from tiercache import TierCache

logging.disable()  # asyncio says of the tasks that they are destroyed
said = []
sys.unraisablehook = lambda unraisable: said.append(unraisable.exc_value)
cache = TierCache({url!r}, listen=False, timeout=10)

async def begin(turns):
    tasks = [asyncio.ensure_future(cache.get(f"k{{n}}")) for n in range(20)]
    for _ in range(turns):
        await asyncio.sleep(0)
    return tasks

for turns in range(8):
    loop = {loop}.new_event_loop()
    tasks = loop.run_until_complete(begin(turns))
    loop.close()
    del loop, tasks
    gc.collect()
    assert cache.sync.get("k1") is None
print(said)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_is_closed_over_what_is_under_way_is_told_nothing_more(
    redis_server: RedisServer, loop: str
) -> None:
    program = CLOSED_OVER.format(url=redis_server.url(), loop=loop)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("when", ["before it is taken over", "before it is sent on"])
async def test_what_goes_out_on_a_connection_that_has_just_been_lost_is_an_error_and_no_wait(
    redis_server: RedisServer, when: str
) -> None:
    """The loop knows of the end, and has told another protocol, or is about to tell ours."""
    place = address(redis_server.port, PLENTY)
    streams = Streams(1, place, keeps=True)
    if when == "before it is taken over":
        opened = await place.open_async()
        assert opened._writer is not None
        opened._writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        stream = Stream(opened)
        assert not stream.is_open
    else:
        stream = await streams.open()
        stream._transport.abort()

    with pytest.raises(BrokenConnection, match="closed"):
        await streams.exchange(stream, b"PING\r\n", 1)
    await streams.close()
    assert stream.lost.done()
