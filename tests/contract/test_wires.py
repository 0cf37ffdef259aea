"""The places for connections, and who waits for one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.servers import TIMEOUT
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
