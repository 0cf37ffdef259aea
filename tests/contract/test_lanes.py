"""Looks of several threads as one: who goes along with whom, and what each gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.servers import TIMEOUT, eventually
from tiercache._core.commands import MAX_READ
from tiercache._core.looks import Look, Looked
from tiercache._errors import L2Unavailable
from tiercache._transport import lanes
from tiercache._transport.lanes import LANES, Lanes


def look(*keys: str, epoch: int = 1, seen: int = 0) -> Look:
    return Look(epoch, seen, keys, ())


class Road:
    """Looks on their way, each until it is let arrive; the head in an answer is the `seen` of the look."""

    def __init__(self) -> None:
        self.sent: list[Look] = []
        self._ends: list[Future[BaseException | None]] = []
        self._is_open = False
        self.lanes = Lanes(self._send)
        self._threads = ThreadPoolExecutor(200)

    def ask(self, *looks: Look) -> list[Future[list[Looked]]]:
        """Each asked by a thread of its own, in this order."""
        asked = []
        for each in looks:
            before = self._known()
            asked.append(self._threads.submit(self.lanes.ask, each))
            assert eventually(lambda before=before: self._known() > before)
        return asked

    def fill(self) -> list[Future[list[Looked]]]:
        """Have as many on their way as may be."""
        return self.ask(*(look(f"before {n}") for n in range(LANES)))

    def arrive(self, place: int, error: BaseException | None = None) -> None:
        self._ends[place].set_result(error)

    def let_pass(self) -> None:
        """Let those arrive that are sent from now on."""
        self._is_open = True

    def open(self) -> None:
        """Let all arrive that are on their way, and the others as they come."""
        self.let_pass()
        for end in self._ends:
            if not end.done():
                end.set_result(None)

    def close(self) -> None:
        self.open()
        self._threads.shutdown()

    def _known(self) -> int:
        return len(self.sent) + len(self.lanes._queue)

    def _send(self, sent: Look) -> list[Looked]:
        end: Future[BaseException | None] = Future()
        self._ends.append(end)
        self.sent.append(sent)
        if self._is_open:
            return [Looked(sent.seen)]
        error = end.result(TIMEOUT)
        if error is not None:
            raise error
        return [Looked(sent.seen)]


@pytest.fixture
def road(monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    monkeypatch.setattr(lanes, "PATIENCE", TIMEOUT)
    made = Road()
    yield made
    made.close()


def test_a_thread_alone_sends_what_it_asks(road: Road) -> None:
    (asked,) = road.ask(look("a", seen=7))
    road.arrive(0)

    assert asked.result(TIMEOUT) == [Looked(7)]
    assert road.sent == [look("a", seen=7)]


def test_looks_that_find_others_on_their_way_go_together_when_one_of_those_arrives(road: Road) -> None:
    road.fill()
    asked = road.ask(look("a", seen=3), look("b", seen=9), look("a", "c"))
    assert len(road.sent) == LANES

    road.arrive(0)
    assert eventually(lambda: len(road.sent) == LANES + 1)
    road.arrive(LANES)

    assert road.sent[LANES] == Look(1, 9, ("a", "b", "c"), ())
    assert [each.result(TIMEOUT) for each in asked] == [[Looked(9)]] * 3


def test_looks_of_another_epoch_go_apart(road: Road) -> None:
    road.fill()
    road.ask(look("a"), look("b", epoch=2), look("c"))

    road.arrive(0)
    assert eventually(lambda: len(road.sent) == LANES + 1)
    road.arrive(LANES)
    assert eventually(lambda: len(road.sent) == LANES + 2)

    assert road.sent[LANES:] == [look("a", "c"), look("b", epoch=2)]


def test_no_more_keys_go_together_than_one_round_trip_brings(road: Road) -> None:
    road.fill()
    road.ask(*(look(*(f"{n}.{m}" for m in range(30))) for n in range(5)))

    road.arrive(0)
    road.arrive(1)
    assert eventually(lambda: len(road.sent) == LANES + 2)

    assert all(len(each.keys) <= MAX_READ for each in road.sent)
    assert sum(len(each.keys) for each in road.sent[LANES:]) == 150


def test_an_error_is_raised_for_all_who_went_together_and_is_for_each_its_own(road: Road) -> None:
    road.fill()
    asked = road.ask(look("a"), look("b"), look("c"))
    road.arrive(0)
    assert eventually(lambda: len(road.sent) == LANES + 1)
    cause = OSError("cut")
    error = L2Unavailable("away")
    error.__cause__ = cause
    road.arrive(LANES, error)

    raised = [each.exception(TIMEOUT) for each in asked]
    assert [(type(each), str(each)) for each in raised] == [(L2Unavailable, "away")] * 3
    assert len(set(map(id, raised))) == 3
    assert all(each is not None and each.__cause__ is cause for each in raised)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_those_who_went_along_with_a_thread_that_met_an_error_of_its_own_ask_again(
    road: Road, error: type[BaseException]
) -> None:
    road.fill()
    asked = road.ask(look("a"), look("b"), look("c"))
    road.arrive(0)
    assert eventually(lambda: len(road.sent) == LANES + 1)
    road.arrive(LANES, error())
    road.open()

    assert isinstance(asked[0].exception(TIMEOUT), error)
    assert [each.result(TIMEOUT) for each in asked[1:]] == [[Looked(0)]] * 2


def test_the_main_thread_goes_alone_for_a_signal_may_interrupt_it_anywhere(road: Road) -> None:
    first = road.fill()
    road.let_pass()

    assert road.lanes.ask(look("mine")) == [Looked(0)]
    assert not any(each.done() for each in first)


def test_who_has_waited_long_enough_sends_beside_the_others(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = road.fill()
    monkeypatch.setattr(lanes, "PATIENCE", 0.0)
    (asked,) = road.ask(look("a"))
    assert eventually(lambda: len(road.sent) == LANES + 1)
    road.arrive(LANES)

    assert asked.result(TIMEOUT) == [Looked(0)]
    assert not any(each.done() for each in first)


def test_when_all_have_arrived_nobody_leads_any_more() -> None:
    many: Callable[[Look], list[Looked]] = lambda sent: [Looked(sent.seen)]  # noqa: E731
    made, all_at_once = Lanes(many), threading.Barrier(16)

    def work(n: int) -> None:
        all_at_once.wait(TIMEOUT)
        for m in range(100):
            assert made.ask(look(f"{n}", seen=m))[0].head is not None

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))

    assert (made._leaders, len(made._queue)) == (0, 0)
