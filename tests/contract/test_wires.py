"""The places for connections, who waits for one, and what is sent on it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.scripts import run_script
from tests.servers import TIMEOUT
from tiercache import L2Unavailable
from tiercache._transport.wire import Wires


class Interrupted(Exception):
    """What the handler of a signal raises."""


@pytest.fixture
def interrupted_soon() -> Iterator[None]:
    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_thread_that_is_interrupted_while_it_waits_for_a_place_takes_none_along(
    interrupted_soon: None,
) -> None:
    wires = Wires(1, TIMEOUT)
    only = wires.take()
    with pytest.raises(Interrupted):
        wires.take()
    wires.give(only)

    assert wires.take() is only


def test_a_place_that_nobody_has_any_more_is_there_again() -> None:
    wires = Wires(2, 0.01)
    used = wires.take()
    wires.take()  # by one who was interrupted before it had it

    again = wires.take()

    assert again is not used
    with pytest.raises(L2Unavailable):
        wires.take()


def test_a_signal_that_raises_while_a_command_is_packed_is_raised() -> None:
    """And does not end the process, as it does where hiredis makes text of ints."""
    program = (
        "import signal\n"
        "from tiercache._transport.replies import packed\n"
        "def interrupt(*_): raise InterruptedError\n"
        "signal.signal(signal.SIGALRM, interrupt)\n"
        "wire = [('EVALSHA', *range(2000))]\n"
        "for _ in range(100):\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 2e-5)\n"
        "        while True: packed(wire)\n"
        "    except InterruptedError: pass\n"
        "print('done')\n"
    )
    assert run_script(program).out == "done\n"
