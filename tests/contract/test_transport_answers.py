"""What a transport makes of answers that no script of ours gave."""

from __future__ import annotations

import pytest

from tests.contract.commands import invalidate, read, sync
from tests.contract.relay import Relay
from tests.contract.worlds import Transport, ask
from tiercache._errors import L2Refused, L2Unavailable


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*-5\r\n",
        b"$-7\r\n",
        b"\0" * 1000,
    ],
    ids=lambda raw: repr(raw)[:30],
)
def test_what_is_no_redis_is_unavailable_and_its_connection_not_used_again(
    ready: Transport, relay: Relay, garbage: bytes
) -> None:
    relay.answer(garbage)

    with pytest.raises(L2Unavailable):
        ask(ready, sync())
    assert relay.scripts == 1
    ready.clock.advance(10)
    assert ask(ready, sync()).epoch > 0
    assert relay.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n" * 990 + b":1\r\n",
        b"$8\r\nwhatever\r\n",
        b"*2\r\n$1\r\n1\r\n-ERR inside\r\n",
        b"*8\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n$7\r\nrecords\r\n$3\r\nt:a\r\n",
        b"*9\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n$7\r\nrecords\r\n$3\r\nt:a\r\n$3\r\ninf\r\n",
        b"*9\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n$7\r\nrecords\r\n:1\r\n$1\r\n1\r\n",
    ],
    ids=lambda raw: repr(raw)[-30:],
)
def test_an_answer_that_is_not_our_scripts_is_refused_and_opens_no_circuit(
    ready: Transport, relay: Relay, answer: bytes
) -> None:
    relay.answer(answer)

    with pytest.raises(L2Refused, match="not our script's"):
        ask(ready, sync())
    assert not ready.breaker.is_open


@pytest.mark.parametrize(
    "answer",
    [
        b"*0\r\n",
        b":1\r\n",
        b"$3\r\nhit\r\n",
        b"$-1\r\n",
        b"*1\r\n$3\r\nhit\r\n",
        b"*3\r\n$3\r\nhit\r\n:1\r\n:1\r\n",
        b"*3\r\n$3\r\nhit\r\n$1\r\nx\r\n$1\r\n1\r\n",
        b"*4\r\n$3\r\nhit\r\n$1\r\nx\r\n:1\r\n:1\r\n",
        b"*2\r\n$4\r\nwait\r\n$1\r\n1\r\n",
        b"*1\r\n$5\r\nnever\r\n",
    ],
    ids=lambda raw: repr(raw)[-30:],
)
def test_an_answer_about_a_key_that_is_not_our_scripts_is_refused(
    ready: Transport, relay: Relay, answer: bytes
) -> None:
    relay.answer(b"*2\r\n$1\r\n1\r\n" + answer)

    with pytest.raises(L2Refused, match="not our script's"):
        ask(ready, read(1, "k"))


def test_replies_out_of_step_end_with_the_first_that_does_not_fit(ready: Transport, relay: Relay) -> None:
    """One reply too many, and each further command would get that of the one before it."""
    relay.answer(b"+OK\r\n:7\r\n")
    with pytest.raises(L2Refused):
        ask(ready, sync())

    assert ask(ready, sync()).epoch > 0
    assert relay.connections == 1


ERRORS = [
    "NOPERM this user has no permissions",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "WRONGTYPE Operation against a key",
    "BUSY Redis is busy running a script.",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN Hash slot not served",
    "MOVED 1 127.0.0.1:1",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MISCONF Redis is configured to save RDB snapshots",
    "MASTERDOWN Link with MASTER is down",
    "ERR anything else",
]


@pytest.mark.parametrize("said", ERRORS, ids=lambda said: said.split()[0])
def test_an_error_reply_is_a_refusal_that_says_what_the_server_said(
    ready: Transport, relay: Relay, said: str
) -> None:
    relay.answer(f"-{said}\r\n".encode())

    with pytest.raises(L2Refused, match="refused a sync") as caught:
        ask(ready, sync())
    assert said.partition(" ")[2] in str(caught.value)
    assert not ready.breaker.is_open
    assert ask(ready, sync()).epoch > 0


AWAY_WITH = {
    "READONLY You can't write against a read only replica.": True,
    "ERR Error running script (call to f_1): @user_script: 1: -READONLY You can't write": True,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": True,
    "NOREPLICAS Not enough good replicas to write.": True,
    "OOM command not allowed when used memory > 'maxmemory'.": False,
    "NOPERM this user has no permissions": False,
}


@pytest.mark.parametrize(("said", "is_left"), AWAY_WITH.items(), ids=lambda value: str(value)[:20])
def test_a_server_that_takes_no_writes_is_left_for_the_one_that_may_have_its_name_now(
    ready: Transport, relay: Relay, said: str, is_left: bool
) -> None:
    relay.answer(f"-{said}\r\n".encode())
    with pytest.raises(L2Refused):
        ask(ready, invalidate("a"))

    ask(ready, invalidate("a"))

    assert relay.connections == is_left


def test_a_server_that_still_loads_its_data_is_away(ready: Transport, relay: Relay) -> None:
    for _ in range(2):
        relay.answer(b"-LOADING Redis is loading the dataset in memory\r\n")

    with pytest.raises(L2Unavailable, match="loading") as caught:
        ask(ready, sync())
    assert not isinstance(caught.value, L2Refused)
    assert ready.breaker.is_open
