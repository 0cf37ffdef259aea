"""The board: who leads, who follows, and how a flight ends for those who wait.

Who may take what a flight brought is the join rule, tested with the plans.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from math import inf

import pytest

from tiercache._core import flights
from tiercache._core.coherence import Coherence
from tiercache._core.flights import ABANDONED, Board, Flight, Load
from tiercache._core.l1 import L1

CORE = Coherence(L1(1), max_staleness=inf, node="n")


@pytest.fixture
def board() -> Board:
    return Board(patience=30.0)


def claim(
    board: Board, key: str, inside: Load | None = None, *, now: float = 0.0, blocking: bool = False
) -> tuple[Flight, flights.Role]:
    """As a task claims; a blocking caller of the same thread is another matter, tested further down."""
    return board.claim(key, now, inside, blocking=blocking)


def lead(board: Board, key: str, inside: Load | None = None) -> Load:
    """The running load of a caller that is the first to want *key*."""
    flight, role = claim(board, key, inside)
    assert role == "lead"
    return Load(CORE, 1, 1, flight, inside)


def follow(board: Board, key: str, inside: Load | None = None) -> Flight:
    flight, role = claim(board, key, inside)
    assert role == "follow"
    return flight


class Failure(Exception):
    pass


def test_the_first_caller_leads_and_the_next_follow_it(board: Board) -> None:
    first, role = claim(board, "a")

    assert role == "lead"
    assert claim(board, "a") == (first, "follow")
    assert claim(board, "a") == (first, "follow")


def test_a_flight_whose_loop_was_closed_over_it_is_followed_by_nobody(board: Board) -> None:
    loop = asyncio.new_event_loop()
    board.running_loop = lambda: loop
    stranded, _ = claim(board, "a")
    assert claim(board, "a") == (stranded, "follow")
    loop.close()

    other, role = claim(board, "a")

    assert role == "lead"
    assert stranded.is_abandoned(), "who waits for it may take over"
    assert claim(board, "a", blocking=False)[1] == "lead", "that one's loop is closed as well"
    assert other.is_abandoned()


def test_callers_of_different_keys_do_not_wait_for_each_other(board: Board) -> None:
    lead(board, "a")

    assert claim(board, "b")[1] == "lead"


def test_followers_get_what_the_leader_brought(board: Board) -> None:
    flight, _ = claim(board, "a")
    followed = follow(board, "a")
    board.land(flight, "brought")

    assert followed.future.result(timeout=0) == "brought"


def test_followers_get_the_very_error_the_loader_raised(board: Board) -> None:
    flight, _ = claim(board, "a")
    followed, error = follow(board, "a"), Failure()
    board.fail(flight, error)

    assert followed.future.exception() is error


@pytest.mark.parametrize("end", ["land", "fail", "abandon"])
def test_a_flight_that_ended_is_joined_no_more(board: Board, end: str) -> None:
    flight, _ = claim(board, "a")
    match end:
        case "land":
            board.land(flight, None)
        case "fail":
            board.fail(flight, Failure())
        case "abandon":
            board.abandon(flight)

    assert claim(board, "a")[1] == "lead"


def test_followers_of_an_abandoned_flight_are_told_so(board: Board) -> None:
    flight, _ = claim(board, "a")
    followed = follow(board, "a")
    board.abandon(flight)

    assert followed.future.result(timeout=0) is ABANDONED


def test_abandoning_tells_whether_somebody_will_take_over(board: Board) -> None:
    alone, _ = claim(board, "a")
    followed, _ = claim(board, "b")
    follow(board, "b")

    assert not board.abandon(alone)
    assert board.abandon(followed)


def test_a_follower_that_left_takes_over_from_nobody(board: Board) -> None:
    flight, role = claim(board, "a")
    board.leave(follow(board, "a"), None, "follow")
    board.leave(flight, None, role)

    assert not board.abandon(flight)


def test_a_flight_that_landed_cannot_be_abandoned(board: Board) -> None:
    flight, _ = claim(board, "a")
    board.land(flight, "brought")

    assert not board.abandon(flight)
    assert flight.future.result(timeout=0) == "brought"


def test_a_follower_that_gives_up_does_not_take_the_flight_down(board: Board) -> None:
    flight, _ = claim(board, "a")

    with pytest.raises(TimeoutError):
        follow(board, "a").future.result(timeout=0)
    board.land(flight, "brought")
    assert flight.future.result(timeout=0) == "brought"


def test_a_flight_is_joined_until_patience_ends_and_then_replaced(board: Board) -> None:
    old, _ = claim(board, "a", now=0.0)

    assert claim(board, "a", now=29.9) == (old, "follow")
    assert claim(board, "a", now=30.0)[1] == "lead"


def test_who_wants_a_load_of_its_own_replaces_the_flight(board: Board) -> None:
    old, _ = claim(board, "a")
    new, role = board.claim("a", 0.0, None, blocking=False, afresh=True)

    assert role == "lead"
    assert claim(board, "a") == (new, "follow")
    assert new is not old


def test_who_was_refused_a_flight_replaces_that_one(board: Board) -> None:
    refused, _ = claim(board, "a")
    _, role = board.claim("a", 0.0, None, blocking=False, instead_of=refused)

    assert role == "lead"


def test_who_was_refused_a_flight_joins_the_one_that_replaced_it(board: Board) -> None:
    refused, _ = claim(board, "a")
    newer, _ = board.claim("a", 0.0, None, blocking=False, instead_of=refused)

    assert board.claim("a", 0.0, None, blocking=False, instead_of=refused) == (newer, "follow")


def test_those_who_wait_for_a_replaced_flight_still_get_what_it_brings(board: Board) -> None:
    old, _ = claim(board, "a")
    followed = follow(board, "a")
    board.claim("a", 0.0, None, blocking=False, afresh=True)
    board.land(old, "late")

    assert followed.future.result(timeout=0) == "late"


@pytest.mark.parametrize("end", ["land", "abandon"])
def test_the_end_of_a_replaced_flight_leaves_the_new_one_on_the_board(board: Board, end: str) -> None:
    old, _ = claim(board, "a")
    new, _ = board.claim("a", 0.0, None, blocking=False, afresh=True)
    if end == "land":
        board.land(old, "late")
    else:
        board.abandon(old)

    assert claim(board, "a") == (new, "follow")


def test_of_many_threads_one_leads(board: Board) -> None:
    ready = threading.Barrier(8)
    roles: list[str] = []

    def caller() -> None:
        ready.wait()
        roles.append(claim(board, "a", blocking=True)[1])

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(roles) == ["follow"] * 7 + ["lead"]


# ---- waits that would never end


def test_a_loader_that_asks_for_its_own_key_loads_on_its_own(board: Board) -> None:
    load = lead(board, "a")

    assert claim(board, "a", load)[1] == "lead"


def test_others_go_on_following_a_loader_that_asked_for_its_own_key(board: Board) -> None:
    load = lead(board, "a")
    claim(board, "a", load)

    assert follow(board, "a") is load.flight


def test_a_loader_that_asks_for_its_own_key_through_another_load_does_so_too(board: Board) -> None:
    outer = lead(board, "a")
    inner = lead(board, "b", outer)

    assert claim(board, "a", inner)[1] == "lead"


def test_two_loads_that_need_each_other_do_not_wait_for_each_other(board: Board) -> None:
    a, b = lead(board, "a"), lead(board, "b")

    assert follow(board, "b", a) is b.flight
    assert claim(board, "a", b)[1] == "lead"


@pytest.mark.parametrize("length", [3, 5, 40])
def test_a_circle_of_any_length_is_not_closed(board: Board, length: int) -> None:
    loads = [lead(board, f"k{n}") for n in range(length)]
    for n, load in enumerate(loads[:-1]):
        follow(board, f"k{n + 1}", load)

    assert claim(board, "k0", loads[-1])[1] == "lead"


def test_a_circle_through_the_loads_of_several_caches_is_not_closed() -> None:
    users, posts, likes = Board(30.0), Board(30.0), Board(30.0)
    a, b, c = lead(users, "a"), lead(posts, "b"), lead(likes, "c")
    follow(posts, "b", a)
    follow(likes, "c", b)

    assert claim(users, "a", c)[1] == "lead"


def test_a_circle_through_the_inner_load_of_another_is_not_closed(board: Board) -> None:
    """A's loader reads b, whose loader waits for C; C's loader asks for a."""
    a, c = lead(board, "a"), lead(board, "c")
    b = lead(board, "b", a)
    follow(board, "c", b)

    assert claim(board, "a", c)[1] == "lead"
    assert claim(board, "b", c)[1] == "lead"


def test_two_batches_that_overlap_do_not_wait_for_each_other(board: Board) -> None:
    """A loader of many keys leads them all: its loads stand one inside the other."""
    first = second = None
    for key in ("a", "b"):
        first = lead(board, key, first)
    for key in ("c", "d"):
        second = lead(board, key, second)
    follow(board, "c", first)

    assert claim(board, "a", second)[1] == "lead"
    assert claim(board, "b", second)[1] == "lead"


def test_a_wait_that_is_over_closes_no_circle(board: Board) -> None:
    a, b = lead(board, "a"), lead(board, "b")
    board.leave(follow(board, "b", a), a, "follow")

    assert claim(board, "a", b) == (a.flight, "follow")


def test_a_load_nested_twice_in_one_key_is_left_once_at_a_time(board: Board) -> None:
    """A's loader waits for b twice at once (a gather); one of the two waits ends."""
    a, b = lead(board, "a"), lead(board, "b")
    follow(board, "b", a)
    board.leave(follow(board, "b", a), a, "follow")

    assert claim(board, "a", b)[1] == "lead"


def test_two_loads_may_wait_for_a_third(board: Board) -> None:
    a, b, c = lead(board, "a"), lead(board, "b"), lead(board, "c")

    assert follow(board, "c", a) is c.flight
    assert follow(board, "c", b) is c.flight


def test_a_blocking_call_does_not_wait_for_a_task_of_its_own_thread(board: Board) -> None:
    lead(board, "a")

    assert claim(board, "a", blocking=True)[1] == "lead"


def test_a_blocking_call_does_not_wait_for_whoever_waits_for_its_own_thread(board: Board) -> None:
    """A thread's load of b waits for a task's load of a; a blocking call beside that task asks for b."""
    lead(board, "a")
    in_thread(lambda: follow(board, "a", lead(board, "b")))

    assert claim(board, "b", blocking=True)[1] == "lead"


def test_a_blocking_call_waits_for_another_thread(board: Board) -> None:
    in_thread(lambda: lead(board, "a"))

    assert claim(board, "a", blocking=True)[1] == "follow"


def test_a_task_waits_for_another_task_of_its_thread(board: Board) -> None:
    lead(board, "a")

    assert claim(board, "a", blocking=False)[1] == "follow"


def test_after_a_fork_nobody_waits_for_a_leader_of_the_parent(board: Board) -> None:
    lead(board, "a")
    board.forget()

    assert claim(board, "a")[1] == "lead"


def test_a_lock_held_over_a_fork_is_free_in_the_child(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "_lock", threading.Lock())  # the suite's own stays as it is
    flights._lock.acquire()
    flights.renew_lock()

    assert claim(board, "a")[1] == "lead"


def in_thread(work: object) -> None:
    done: Future[None] = Future()
    assert callable(work)

    def run() -> None:
        work()
        done.set_result(None)

    threading.Thread(target=run).start()
    done.result(timeout=10)
