"""What a transport does when the way to the server, or the server itself, is at fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from tests.contract.commands import invalidate, read, set_, sync
from tests.contract.conftest import PLENTY
from tests.contract.relay import Relay
from tests.contract.worlds import Threads, Transport, ask, in_threads
from tests.proxy import Proxy
from tests.servers import RedisServer, eventually
from tiercache._core.looks import Look
from tiercache._core.plan import Ask
from tiercache._core.scripts import Names
from tiercache._errors import L2Unavailable
from tiercache._transport import patience
from tiercache._transport.breaker import CALLER_GRACE, PROBE_EVERY

SHORT = 0.2  # seconds; a timeout that a test waits for
Connect = Callable[..., Any]


def head(server: RedisServer) -> int:
    return int(-server.cli("ZSCORE", "{shop}1:v", b"\1s"))


def clients(server: RedisServer) -> int:
    return len(server.cli("CLIENT", "LIST", "TYPE", "normal").splitlines())


# ---- connections


def test_a_step_is_one_round_trip_on_one_connection_kept_for_the_next(ready: Transport, relay: Relay) -> None:
    for _ in range(3):
        ready.perform(Ask((sync(), invalidate("a"), invalidate("b"))))

    assert (relay.scripts, relay.connections) == (3, 0)


def test_a_connection_killed_while_idle_is_replaced_and_nobody_notices(
    ready: Transport, relay: Relay, redis_server: RedisServer
) -> None:
    redis_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert ask(ready, sync()).epoch > 0
    assert relay.connections == 1
    assert not ready.breaker.is_open


def test_a_set_on_a_connection_that_was_closed_while_it_was_idle_for_long_is_sent_on_a_new_one(
    ready: Transport, relay: Relay, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "IDLE", 0.0)
    epoch, before = ask(ready, sync()).epoch, head(redis_server)
    redis_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert eventually(lambda: relay.ended == 1)

    assert ask(ready, set_(epoch, "k")).number == before + 1
    assert relay.connections == 1
    assert not ready.breaker.is_open


def test_a_set_on_a_connection_killed_just_now_is_not_sent_again(
    ready: Transport, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ran cannot be known: a second run might replace a newer value."""
    monkeypatch.setattr(patience, "IDLE", 3600.0)
    epoch, before = ask(ready, sync()).epoch, head(redis_server)
    redis_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    with pytest.raises(L2Unavailable):
        ask(ready, set_(epoch, "k"))
    assert head(redis_server) == before


def test_a_connection_killed_in_use_is_replaced_and_the_command_sent_once_more(
    ready: Transport, relay: Relay
) -> None:
    relay.hang_up()

    assert ask(ready, invalidate("a")).number > 0
    assert (relay.scripts, relay.connections) == (2, 1)


def test_a_connection_killed_twice_is_given_up(ready: Transport, relay: Relay) -> None:
    relay.hang_up()
    relay.hang_up()

    with pytest.raises(L2Unavailable):
        ask(ready, invalidate("a"))
    assert relay.scripts == 2
    assert ready.breaker.is_open


def test_a_set_on_a_connection_killed_in_use_runs_once(
    ready: Transport, relay: Relay, redis_server: RedisServer
) -> None:
    epoch, before = ask(ready, sync()).epoch, head(redis_server)
    relay.connections = relay.scripts = 0
    relay.hang_up()

    with pytest.raises(L2Unavailable):
        ask(ready, set_(epoch, "k"))
    assert relay.scripts == 1
    assert head(redis_server) == before + 1


def test_a_set_beside_other_commands_keeps_them_all_from_being_sent_again(
    ready: Transport, relay: Relay
) -> None:
    epoch = ask(ready, sync()).epoch
    relay.scripts = 0
    relay.hang_up()

    with pytest.raises(L2Unavailable):
        ready.perform(Ask((invalidate("a"), set_(epoch, "k"))))
    assert relay.scripts == 1


def test_a_new_connection_that_breaks_is_given_up_at_once(connect: Connect, relay: Relay) -> None:
    relay.hang_up()

    with pytest.raises(L2Unavailable):
        ask(connect(relay.port), sync())
    assert relay.scripts == 1


def test_no_more_connections_are_open_than_the_pool_has(
    connect: Connect, relay: Relay, redis_server: RedisServer
) -> None:
    transport = connect(relay.port, pool_size=2)
    outcomes = transport.together(*(Ask((invalidate(str(n)),)) for n in range(20)))

    assert len({outcome[0].number for outcome in outcomes}) == 20
    assert relay.connections == 2


def test_a_caller_who_finds_no_connection_free_goes_without_and_the_circuit_stays_closed(
    connect: Connect, relay: Relay
) -> None:
    transport = connect(relay.port, timeout=SHORT, pool_size=0)

    with pytest.raises(L2Unavailable, match="pool_size"):
        ask(transport, sync())
    assert not transport.breaker.is_open


def test_connections_are_closed_with_the_transport(ready: Transport, redis_server: RedisServer) -> None:
    before = clients(redis_server)
    ready.disconnect()

    assert eventually(lambda: clients(redis_server) == before - 1)


def test_a_connection_in_use_when_a_transport_closes_is_closed_when_it_comes_back(
    relay: Relay, redis_server: RedisServer
) -> None:
    transport = Threads(relay.port, timeout=PLENTY)
    ask(transport, sync())
    before = clients(redis_server)
    relay.scripts = 0
    relay.hold()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, transport, sync())
        assert eventually(lambda: relay.scripts == 1)
        transport.disconnect()
        relay.let_go()

        assert asked.result().epoch > 0
    assert eventually(lambda: clients(redis_server) == before - 1)


def test_a_connection_that_a_full_server_turns_away_is_missed_by_who_wanted_it_alone(
    connect: Connect, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    transport = connect(own_redis.port)
    ask(transport, sync())
    with Redis(port=own_redis.port, single_connection_client=True) as admin, ThreadPoolExecutor() as pool:
        assert eventually(lambda: admin.info("clients")["connected_clients"] == 2)
        admin.config_set("maxclients", 2)
        admin.client_pause(60_000, all=False)
        asked = pool.submit(transport.together, Ask((invalidate("a"),)), Ask((invalidate("b"),)))
        assert eventually(lambda: admin.info("stats")["rejected_connections"] == 1)
        admin.client_unpause()
        outcomes = asked.result()

    assert [isinstance(each, L2Unavailable) for each in outcomes].count(True) == 1
    (told,) = caplog.messages
    assert told.startswith("Redis turns new connections"), "and not that callers go without it"


def test_one_idle_connection_that_was_dropped_without_a_word_takes_the_others_along(
    connect: Connect, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [Ask((invalidate(str(n)),)) for n in range(4)]
    with (
        closing(Proxy(own_redis)) as path,
        Redis(port=own_redis.port, single_connection_client=True) as admin,
    ):
        transport = connect(path.port, timeout=2.0)
        admin.client_pause(60_000, all=False)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(transport.together, *several)
            assert eventually(lambda: admin.info("clients")["connected_clients"] == 1 + len(several))
            admin.client_unpause()
            asked.result()
        path.fall_silent()
        path.speak(late=False)
        monkeypatch.setattr(patience, "IDLE", -1.0)  # the clock of uvloop may not have moved since

        with pytest.raises(L2Unavailable, match="idle"):
            ask(transport, sync())
        assert not any(isinstance(each, Exception) for each in transport.together(*several))


# ---- silence


def test_a_server_that_does_not_answer_is_given_up_in_time(connect: Connect, relay: Relay) -> None:
    transport = connect(relay.port, timeout=SHORT)
    ask(transport, sync())
    relay.hold()
    begun = time.monotonic()

    with pytest.raises(L2Unavailable, match="Timeout"):
        ask(transport, sync())
    assert time.monotonic() - begun < SHORT + 2
    assert transport.breaker.is_open


def test_a_reply_of_which_a_part_does_not_come_is_given_up_in_time(connect: Connect, relay: Relay) -> None:
    transport = connect(relay.port, timeout=SHORT)
    ask(transport, sync())
    relay.once(lambda reply: reply[:-1])
    relay.scripts = 0
    begun = time.monotonic()

    with pytest.raises(L2Unavailable, match="Timeout"):
        ask(transport, sync())
    assert time.monotonic() - begun < SHORT + 2
    assert relay.scripts == 1


def test_a_long_reply_that_keeps_coming_is_not_given_up(
    connect: Connect, relay: Relay, redis_server: RedisServer
) -> None:
    """A hundred tasks that miss values of 1 MB at once are one look."""
    transport = connect(relay.port, timeout=0.5)
    epoch = ask(transport, sync()).epoch
    keys = tuple(f"k{n}" for n in range(24))
    for key in keys:
        redis_server.cli("SET", Names("shop", 0).entry(key), b"x" * 1_000_000)
    relay.pace = 40_000_000  # 0.6 s at the least, and four times what a reply must keep up

    looked = ask(transport, Look(epoch, 0, keys, ()))
    assert {len(raw) for raw in looked.entries.values()} == {1_000_000}


def test_a_long_reply_that_trickles_is_given_up(
    connect: Connect, relay: Relay, redis_server: RedisServer
) -> None:
    transport = connect(relay.port, timeout=SHORT)
    epoch = ask(transport, sync()).epoch
    redis_server.cli("SET", Names("shop", 0).entry("k"), b"x" * 8_000_000)
    relay.pace = 1_000_000

    begun = time.monotonic()
    with pytest.raises(L2Unavailable, match="Timeout"):
        ask(transport, Look(epoch, 0, ("k",), ()))
    assert time.monotonic() - begun < SHORT + 2


def test_a_server_that_does_not_answer_is_not_asked_again(connect: Connect, relay: Relay) -> None:
    transport = connect(relay.port, timeout=SHORT)
    ask(transport, sync())
    relay.scripts = 0
    relay.hold()

    with pytest.raises(L2Unavailable):
        ask(transport, sync())
    assert relay.scripts == 1


def test_a_late_reply_is_never_taken_for_that_of_the_next_command(connect: Connect, relay: Relay) -> None:
    transport = connect(relay.port, timeout=SHORT)
    epoch = ask(transport, sync()).epoch
    ask(transport, read(epoch, "k"))
    relay.hold()
    with pytest.raises(L2Unavailable):
        ask(transport, sync())
    relay.let_go()
    transport.clock.advance(10)

    assert ask(transport, read(epoch, "k")).found == ("miss",)


def test_a_paused_server_is_given_up_and_found_again(connect: Connect, own_redis: RedisServer) -> None:
    transport = connect(own_redis.port, timeout=SHORT)
    epoch = ask(transport, sync()).epoch
    own_redis.pause()
    with pytest.raises(L2Unavailable):
        ask(transport, sync())
    own_redis.resume()
    transport.clock.advance(10)

    assert ask(transport, sync(epoch, 1)).epoch == epoch
    assert not transport.breaker.is_open


def test_a_server_that_accepts_and_is_silent_is_given_up_in_time(connect: Connect, relay: Relay) -> None:
    relay.hold()
    transport = connect(relay.port, timeout=SHORT)
    begun = time.monotonic()

    with pytest.raises(L2Unavailable):
        ask(transport, sync())
    assert time.monotonic() - begun < 2 * SHORT + 2
    assert transport.breaker.is_open


def test_a_port_nobody_listens_on_is_unavailable(connect: Connect, free_tcp_port: int) -> None:
    transport = connect(free_tcp_port)

    with pytest.raises(L2Unavailable, match="Error 111"):
        ask(transport, sync())
    assert transport.breaker.is_open


# ---- the circuit


def broken(connect: Connect, relay: Relay) -> Any:
    """A transport whose circuit has just opened."""
    transport = connect(relay.port)
    relay.hang_up()
    with pytest.raises(L2Unavailable):
        ask(transport, sync())
    relay.scripts = relay.connections = 0
    return transport


def test_an_open_circuit_sends_nothing_and_says_why(connect: Connect, relay: Relay) -> None:
    transport = broken(connect, relay)

    for _ in range(100):
        with pytest.raises(L2Unavailable, match="left alone for a moment, after ConnectionError"):
            ask(transport, sync())
    assert (relay.scripts, relay.connections) == (0, 0)


def test_after_a_grace_one_caller_tries_and_closes_the_circuit(connect: Connect, relay: Relay) -> None:
    transport = broken(connect, relay)
    transport.clock.advance(PROBE_EVERY + CALLER_GRACE)

    assert ask(transport, sync()).epoch > 0
    assert not transport.breaker.is_open


def test_of_many_callers_one_tries(connect: Connect, relay: Relay) -> None:
    transport = broken(connect, relay)
    relay.hang_up()
    transport.clock.advance(PROBE_EVERY + CALLER_GRACE)
    outcomes = transport.together(*(Ask((invalidate("a"),)) for _ in range(10)))

    assert all(isinstance(outcome, L2Unavailable) for outcome in outcomes)
    assert relay.scripts == 1


def test_while_one_tries_for_long_nobody_else_does(connect: Connect, relay: Relay) -> None:
    transport = broken(connect, relay)
    transport.clock.advance(PROBE_EVERY + CALLER_GRACE)
    relay.hold()
    with ThreadPoolExecutor() as pool:
        tries = pool.submit(ask, transport, sync())
        assert eventually(lambda: relay.connections == 1)
        transport.clock.advance(2 * (PROBE_EVERY + CALLER_GRACE))

        assert not transport.breaker.admits(transport.clock(), prober=False)
        relay.let_go()
        assert tries.result().epoch > 0
    assert not transport.breaker.is_open


def test_a_try_that_found_no_connection_free_is_over(connect: Connect, relay: Relay) -> None:
    transport = connect(relay.port, timeout=SHORT, pool_size=0)
    transport.breaker.failed(transport.clock(), TimeoutError("no answer"))
    transport.clock.advance(PROBE_EVERY + CALLER_GRACE)
    with pytest.raises(L2Unavailable, match="pool_size"):
        ask(transport, sync())
    transport.clock.advance(PROBE_EVERY + CALLER_GRACE)

    assert transport.breaker.admits(transport.clock(), prober=False)


def test_a_try_that_fails_leaves_the_circuit_open_for_another_while(connect: Connect, relay: Relay) -> None:
    transport = broken(connect, relay)
    transport.clock.advance(PROBE_EVERY + CALLER_GRACE)
    relay.hang_up()
    for _ in range(2):
        with pytest.raises(L2Unavailable):
            ask(transport, sync())

    assert relay.scripts == 1


def test_a_server_that_was_killed_is_found_again(connect: Connect, own_redis: RedisServer) -> None:
    transport = connect(own_redis.port)
    first = ask(transport, sync()).epoch
    own_redis.kill()
    with pytest.raises(L2Unavailable):
        ask(transport, sync())
    own_redis.start()
    transport.clock.advance(10)

    assert ask(transport, sync()).epoch != first
    assert not transport.breaker.is_open


def test_threads_that_meet_a_broken_server_all_go_without(connect: Connect, free_tcp_port: int) -> None:
    transport = Threads(free_tcp_port, timeout=SHORT, pool_size=2)
    outcomes = in_threads(*(lambda: ask(transport, sync()) for _ in range(10)))

    assert all(isinstance(outcome, L2Unavailable) for outcome in outcomes)
