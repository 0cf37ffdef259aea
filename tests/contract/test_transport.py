"""What every transport does with every step, in both worlds and on every server."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

import pytest

from tests.contract.commands import NODE, REFUSED, fill, invalidate, read, set_, sync
from tests.contract.worlds import MemoryThreads, Tasks, Transport, ask
from tests.loops import NewLoop
from tests.servers import RedisServer, eventually
from tiercache._core.coherence import MAX_RECENT, Coherence
from tiercache._core.commands import Answers, Clear, Command, Hit, KeyAsk, Read, Recorded, Unlock
from tiercache._core.fences import Fence
from tiercache._core.flights import Flight, Load, current_load
from tiercache._core.l1 import L1
from tiercache._core.looks import Look
from tiercache._core.plan import TIMED_OUT, Ask, Call, Join, Tell
from tiercache._core.records import parse_entry
from tiercache._errors import L2Refused
from tiercache._transport.awaiting import call


class Failure(Exception):
    pass


def landed(value: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


# ---- Ask


def test_one_command_has_one_reply(any_transport: Transport) -> None:
    (synced,) = any_transport.perform(Ask((sync(),)))

    assert synced.epoch > 0


def test_several_commands_have_their_replies_in_their_order(any_transport: Transport) -> None:
    epoch = ask(any_transport, sync()).epoch
    commands = (invalidate("a"), set_(epoch, "k"), invalidate("b", keys=("k",)), Clear(), sync())
    any_transport.perform(Ask(commands))  # a script the server does not know yet would run after the others
    first = ask(any_transport, sync())
    replies = any_transport.perform(Ask(commands))

    head = first.head
    assert replies[:4] == [Recorded(first.epoch, head + n) for n in (1, 2, 3, 4)]
    assert replies[4].head == head + 4


def test_a_set_with_a_token_is_refused_once_it_was_overtaken(any_transport: Transport) -> None:
    epoch, head = ask(any_transport, sync()).epoch, ask(any_transport, sync()).head
    assert ask(any_transport, set_(epoch, "k", b"v", "users", token=head)).status == "ok"
    assert ask(any_transport, set_(epoch, "k", b"v", "users", token=head)) == Recorded(
        epoch, head + 1, "stale"
    )

    head = ask(any_transport, invalidate("posts")).number
    assert ask(any_transport, set_(epoch, "k", b"v", "users", token=head)).status == "ok"
    head = ask(any_transport, sync()).head
    ask(any_transport, Clear())
    assert ask(any_transport, set_(epoch, "k", b"v", "users", token=head)).status != "ok"


def test_a_token_older_than_all_that_a_cache_without_a_server_remembers_is_refused() -> None:
    memory = MemoryThreads()
    synced = ask(memory, sync())
    ask(memory, invalidate("users"))
    ask(memory, invalidate(*map(str, range(MAX_RECENT))))

    assert ask(memory, set_(synced.epoch, "k", b"v", "users", token=synced.head)).status != "ok"


def test_every_step_of_a_load_is_performed(transport: Transport) -> None:
    epoch = ask(transport, sync()).epoch
    leave = ask(transport, read(epoch, "k", mode="lead"))
    assert leave.found == ("lead",)
    assert leave.head is not None
    assert ask(transport, fill(epoch, leave.head, "k")).status == "ok"
    (answer,) = ask(transport, read(epoch, "k")).found
    assert isinstance(answer, Hit)

    assert ask(transport, invalidate(keys=("k",))) == Recorded(epoch, leave.head + 1)
    assert ask(transport, read(epoch, "k")) == Answers(leave.head + 1, ("miss",))


def test_a_value_of_a_megabyte_with_every_byte_comes_back(transport: Transport) -> None:
    payload = bytes(range(256)) * 4096
    epoch = ask(transport, sync()).epoch
    ask(transport, set_(epoch, "k\n|é", payload))
    (looked,) = transport.perform(Ask((Look(epoch, 0, ("k\n|é",), ()),)))

    good = looked.good("k\n|é")
    assert good is not None
    assert good[0].payload == payload


def test_steps_under_way_at_once_each_get_their_own_replies(transport: Transport) -> None:
    epoch = ask(transport, sync()).epoch
    for n in range(40):
        ask(transport, set_(epoch, f"k{n}", str(n).encode()))
    outcomes = transport.together(*(Ask((read(epoch, f"k{n}"),)) for n in range(40)))

    for n, (answers,) in enumerate(outcomes):
        entry = parse_entry(answers.found[0].raw, f"k{n}")
        assert entry is not None
        assert entry.payload == str(n).encode()


def test_looks_under_way_at_once_each_find_their_own_entry(transport: Transport) -> None:
    epoch = ask(transport, sync()).epoch
    for n in range(40):
        ask(transport, set_(epoch, f"k{n}", str(n).encode(), f"t{n % 3}"))
    looks = [Look(epoch, 0, (f"k{n}",), (f"t{n % 3}",)) for n in range(40)]
    outcomes = transport.together(*(Ask((each,)) for each in looks))

    for n, (looked,) in enumerate(outcomes):
        entry, left = looked.good(f"k{n}")
        assert entry.payload == str(n).encode()
        assert 0 < left <= 60


@pytest.fixture
def real(request: pytest.FixtureRequest, any_redis: RedisServer, connect: Any) -> Any:
    """A transport on each real server: fakeredis closes its socket with every error it sends."""
    return connect(any_redis.port)


def test_a_server_that_forgot_its_scripts_is_taught_them_again(
    real: Transport, any_redis: RedisServer
) -> None:
    epoch = ask(real, sync()).epoch
    any_redis.cli("SCRIPT", "FLUSH")

    assert ask(real, sync(epoch, 1)).epoch == epoch
    assert ask(real, sync(epoch, 1)).epoch == epoch


def test_a_server_that_forgot_some_scripts_answers_each_command_in_its_place(
    real: Transport, any_redis: RedisServer
) -> None:
    epoch = ask(real, sync()).epoch
    any_redis.cli("SCRIPT", "FLUSH")
    ask(real, invalidate("a"))
    replies = real.perform(Ask((invalidate("b"), read(epoch, "k"), invalidate("c"), set_(epoch, "k"))))

    assert [type(reply) for reply in replies] == [Recorded, Answers, Recorded, Recorded]
    assert replies[0].number < replies[2].number < replies[3].number


@pytest.mark.parametrize("refused", [False, True], ids=["all run", "the first is refused"])
def test_each_script_is_sent_once_to_a_server_that_forgot_it(
    real: Transport, any_redis: RedisServer, refused: bool
) -> None:
    epoch = ask(real, sync()).epoch
    any_redis.cli("SCRIPT", "FLUSH")
    any_redis.cli("CONFIG", "RESETSTAT")
    fence = Fence(("t",), (), 1_000, 1_000, "f", 1_000)
    some = [*(set_(epoch, f"k{n}") for n in range(50)), *(invalidate(f"t{n}") for n in range(50))]
    if refused:
        with pytest.raises(L2Refused, match="refused a fence"):
            real.perform(Ask((REFUSED, fence, *some)))
    else:
        replies = real.perform(Ask((fence, *some)))
        assert [reply.number for reply in replies] == [*range(replies[0].number, replies[0].number + 101)]

    stats = any_redis.cli("INFO", "commandstats")
    assert stats["cmdstat_eval"]["calls"] == 3, "fence, set and invalidate"


def test_a_set_that_met_a_server_without_the_script_runs_once(
    real: Transport, any_redis: RedisServer
) -> None:
    epoch, before = ask(real, sync()).epoch, ask(real, sync()).head
    any_redis.cli("SCRIPT", "FLUSH")

    assert ask(real, set_(epoch, "k")).number == before + 1
    assert ask(real, sync()).head == before + 1


@pytest.mark.parametrize("first", [True, False], ids=["refused first", "refused last"])
def test_a_refusal_beside_an_answer_is_raised_and_the_next_command_gets_its_own_reply(
    real: Transport, first: bool
) -> None:
    synced = ask(real, sync())
    commands = (REFUSED, invalidate("a")) if first else (invalidate("a"), REFUSED)

    with pytest.raises(L2Refused, match="refused a fence"):
        real.perform(Ask(commands))
    assert ask(real, sync(synced.epoch, synced.head)).head == synced.head + 1


def test_a_script_error_does_not_open_the_circuit(real: Transport) -> None:
    for _ in range(3):
        with pytest.raises(L2Refused):
            ask(real, REFUSED)

    assert not real.breaker.is_open


def test_a_replys_refusal_closes_an_open_circuit(real: Transport) -> None:
    """Somebody was there to give it."""
    real.breaker.failed(real.clock(), ConnectionError())
    real.clock.advance(10)
    with pytest.raises(L2Refused):
        ask(real, REFUSED)

    assert not real.breaker.is_open


# ---- Tell


def test_what_is_told_happens_and_nobody_waits_for_it(transport: Transport) -> None:
    epoch = ask(transport, sync()).epoch
    assert ask(transport, read(epoch, "k", mode="lead")).found == ("lead",)

    untold: list[Any] = []
    assert transport.perform(Tell((Unlock("k", NODE + ":0"),), untold.append)) is None
    other = Read(epoch, 0, (KeyAsk("k", "lead", "b" * 32 + ":0"),))
    assert eventually(lambda: ask(transport, other).found == ("lead",))
    assert untold == []


def test_of_what_is_told_to_nobody_untold_hears(connect: Any, free_tcp_port: int) -> None:
    assert untold(connect(free_tcp_port), Unlock("k", NODE)) == (Unlock("k", NODE),)


def test_of_what_is_told_and_refused_untold_hears(real: Transport) -> None:
    assert untold(real, REFUSED) == (REFUSED,)


def untold(transport: Transport, command: Command[Any]) -> Any:
    """What comes back of *command*, told."""
    back: list[Any] = []
    assert transport.perform(Tell((command,), back.append)) is None

    def has_come() -> bool:
        transport.perform(Call(int))  # a turn of the loop, where there is one
        return bool(back)

    assert eventually(has_come)
    return back.pop()


# ---- Call


def test_a_call_gives_what_the_function_returns(any_transport: Transport) -> None:
    function = any_transport.function(lambda *args, **kwargs: (args, kwargs))

    assert any_transport.perform(Call(function, (1, 2), {"three": 3})) == ((1, 2), {"three": 3})


def test_a_call_raises_what_the_function_raises(any_transport: Transport) -> None:
    error = Failure()

    def raising() -> None:
        raise error

    with pytest.raises(Failure) as caught:
        any_transport.perform(Call(any_transport.function(raising)))
    assert caught.value is error


def test_a_plain_function_may_be_called_in_either_world(any_transport: Transport) -> None:
    assert any_transport.perform(Call(lambda: "plain")) == "plain"


@pytest.mark.parametrize("fails", [False, True])
def test_a_function_knows_the_load_it_is_part_of_and_nobody_else_does(
    any_transport: Transport, fails: bool
) -> None:
    load = Load(Coherence(L1(1), max_staleness=1, node=NODE), 1, 1, Flight("k", 0), None)
    known = []

    def loader() -> None:
        known.append(current_load.get())
        if fails:
            raise Failure

    try:
        any_transport.perform(Call(any_transport.function(loader), load=load))
    except Failure:
        pass

    assert known == [load]
    assert current_load.get() is None


def test_a_load_that_is_thrown_away_in_another_context_does_not_fail() -> None:
    """Its loop was closed over it, and the garbage collector runs anywhere."""
    load = Load(Coherence(L1(1), max_staleness=1, node=NODE), 1, 1, Flight("k", 0), None)

    class Never:
        def __await__(self) -> Iterator[None]:
            yield

    calling = call(Call(Never, load=load))
    copy_context().run(calling.send, None)

    calling.close()

    assert current_load.get() is None


@pytest.mark.parametrize("make", [MemoryThreads])
def test_a_coroutine_is_refused_by_a_blocking_call_and_named(make: Any) -> None:
    async def load_user() -> None: ...

    with pytest.raises(TypeError, match=r"load_user.*async def"):
        make().perform(Call(load_user))


# ---- Join


def test_a_join_gives_what_was_landed(any_transport: Transport) -> None:
    assert any_transport.perform(Join(landed("brought"), 10)) == "brought"


def test_a_join_gives_what_another_thread_lands(any_transport: Transport) -> None:
    future: Future[Any] = Future()
    threading.Timer(0.02, future.set_result, ["brought"]).start()

    assert any_transport.perform(Join(future, 10)) == "brought"


def test_a_join_raises_the_error_that_was_landed(any_transport: Transport) -> None:
    future: Future[Any] = Future()
    error = Failure()
    future.set_exception(error)

    with pytest.raises(Failure) as caught:
        any_transport.perform(Join(future, 10))
    assert caught.value is error


@pytest.mark.parametrize("timeout", [0.0, 0.05])
def test_a_join_gives_up_after_its_timeout_and_leaves_the_flight_alone(
    any_transport: Transport, timeout: float
) -> None:
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    begun = time.monotonic()

    assert any_transport.perform(Join(future, timeout)) is TIMED_OUT
    assert timeout <= time.monotonic() - begun < timeout + 5
    assert future.running()


def test_a_join_of_what_has_landed_needs_no_time(any_transport: Transport) -> None:
    assert any_transport.perform(Join(landed("brought"), 0.0)) == "brought"


def test_a_failure_after_everybody_gave_up_is_nobodys_unheard_error(
    free_tcp_port: int, new_loop: NewLoop
) -> None:
    """The loop would report it, long after: "Future exception was never retrieved"."""
    complaints: list[Any] = []
    tasks = Tasks(free_tcp_port, timeout=1, new_loop=new_loop)
    tasks.runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    assert tasks.perform(Join(future, 0.0)) is TIMED_OUT
    future.set_exception(Failure())
    tasks.runner.run(asyncio.sleep(0))
    tasks.runner.run(asyncio.sleep(0))
    del future
    gc.collect()
    tasks.close()

    assert complaints == []
