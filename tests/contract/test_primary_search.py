"""Who is believed to be the primary: the search by script, with sentinels that say what they like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.exceptions import TimeoutError as RedisTimeout

from tiercache._core.plan import run
from tiercache._transport.address import Address
from tiercache._transport.primary import Inquire, Known, Leave, Named, Reach, Step, Where, search
from tiercache.testing import Clock

OLD, NEW = Where("old", 6379), Where("new", 6379)
GONE = redis.ConnectionError("refused")


class World:
    """What each sentinel says, and who is primary by its own account; a dict's value may be an error."""

    def __init__(self, said: list[Named | Exception | None], role: dict[Where, bool | Exception]) -> None:
        self.sentinels = [Address.of_url(f"redis://s{place}:26379", 1.0) for place in range(len(said))]
        self.said = dict(zip(self.sentinels, said, strict=True))
        self.role = role
        self.asked: list[Address] = []
        self.shares: list[float] = []
        self.reached: list[Where] = []
        self.left: list[Where] = []
        self.clock = Clock()
        self.known = Known(self.sentinels)
        self.takes = 0.0  # seconds a sentinel uses, of its share at most
        self.meanwhile: Callable[[], object] = lambda: None  # while a server is asked for its role

    def find(self) -> Where:
        """Where the connection leads that the search returns."""
        found: Where = run(search(self.known, "shop", 1.0, self.clock), self._perform)
        return found

    def _perform(self, step: Step) -> Any:
        match step:
            case Inquire(sentinel, share):
                self.asked.append(sentinel)
                self.shares.append(share)
                self.clock.advance(min(self.takes, share))
                return _or_raise(self.said[sentinel])
            case Reach(where):
                self.reached.append(where)
                self.meanwhile()
                return where if _or_raise(self.role[where]) else None
            case Leave(where):
                self.left.append(where)


def _or_raise(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_the_first_sentinel_that_answers_is_believed_when_the_server_says_so_too() -> None:
    world = World([GONE, Named(OLD, 1), Named(OLD, 1)], {OLD: True})

    assert world.find() == OLD
    assert world.asked == world.sentinels[:2]


def test_the_sentinel_that_was_right_is_asked_first_the_next_time() -> None:
    world = World([GONE, Named(OLD, 1), GONE], {OLD: True})
    world.find()
    world.asked.clear()

    world.find()

    assert world.asked == [world.sentinels[1]]


def test_a_server_that_is_a_replica_is_not_believed_and_the_next_sentinel_is_asked() -> None:
    world = World([Named(OLD, 1), Named(NEW, 2)], {OLD: False, NEW: True})

    assert world.find() == NEW


def test_a_server_is_asked_once_however_many_sentinels_name_it() -> None:
    world = World([Named(OLD, 1), Named(OLD, 1), Named(OLD, 1)], {OLD: GONE})

    with pytest.raises(redis.ConnectionError, match="old:6379, named by s0:26379, did not answer"):
        world.find()
    assert world.reached == [OLD]


def test_a_sentinel_that_is_behind_does_not_lead_back_to_a_primary_that_was_replaced() -> None:
    """Both say that they are primary: the old one has not been told yet."""
    world = World([Named(NEW, 2), GONE], {OLD: True, NEW: True})
    world.find()
    world.said = {world.sentinels[0]: GONE, world.sentinels[1]: Named(OLD, 1)}

    assert world.find() == NEW


def test_a_sentinel_that_is_behind_is_not_asked_first_again() -> None:
    world = World([Named(NEW, 2), Named(NEW, 2)], {OLD: True, NEW: True})
    world.find()
    world.said[world.sentinels[0]] = Named(OLD, 1)
    world.find()
    world.asked.clear()

    world.find()

    assert world.asked == [world.sentinels[1]]


def test_while_no_sentinel_answers_the_last_primary_goes_on_if_it_still_is_one() -> None:
    world = World([Named(OLD, 1), Named(OLD, 1)], {OLD: True})
    world.find()
    world.said = dict.fromkeys(world.sentinels, GONE)
    assert world.find() == OLD

    world.role[OLD] = False

    with pytest.raises(redis.ConnectionError, match="the last one known, is a replica"):
        world.find()


def test_sentinels_that_forgot_the_service_say_nothing_against_the_last_primary() -> None:
    world = World([Named(OLD, 1)], {OLD: True})
    world.find()
    world.said = {world.sentinels[0]: None}

    assert world.find() == OLD


def test_the_last_primary_is_not_returned_to_when_a_sentinel_names_another_that_is_not_there() -> None:
    world = World([Named(OLD, 1)], {OLD: True, NEW: GONE})
    world.find()
    world.said = {world.sentinels[0]: Named(NEW, 2)}

    with pytest.raises(redis.ConnectionError, match="new:6379"):
        world.find()
    assert world.reached == [OLD, NEW]


def test_sentinels_that_were_all_set_up_anew_are_believed_when_the_last_primary_is_gone() -> None:
    world = World([Named(OLD, 7), Named(OLD, 7)], {OLD: True, NEW: True})
    world.find()
    world.role[OLD] = GONE
    world.said = dict.fromkeys(world.sentinels, Named(NEW, 0))

    assert world.find() == NEW
    assert world.known.last == Named(NEW, 0)


def test_of_two_threads_the_one_that_found_the_earlier_primary_looks_again() -> None:
    world = World([Named(OLD, 1), Named(NEW, 2)], {OLD: True, NEW: True})
    world.meanwhile = lambda: world.known.found(Named(NEW, 2))

    assert world.find() == NEW
    assert (world.left, world.known.last) == ([OLD], Named(NEW, 2))


def test_a_service_that_no_sentinel_knows_is_said_to_be_unknown() -> None:
    world = World([None, GONE, None], {})

    with pytest.raises(redis.ConnectionError) as caught:
        world.find()
    for words in (
        "no primary of 'shop'",
        "s0:26379 knows no service 'shop'",
        "s1:26379 did not say",
        "s2:26379 knows",
    ):
        assert words in str(caught.value)


def test_a_sentinel_that_wants_a_password_is_said_to_and_the_options_are_named() -> None:
    world = World([redis.AuthenticationError("Authentication required.")], {})

    with pytest.raises(redis.ConnectionError, match="sentinel_username and sentinel_password"):
        world.find()


def test_silent_sentinels_share_one_timeout_and_what_one_leaves_the_others_get() -> None:
    world = World([GONE, GONE, GONE], {})
    with pytest.raises(redis.ConnectionError):
        world.find()
    assert world.shares == pytest.approx([1 / 3, 1 / 2, 1])

    world.shares.clear()
    world.takes = 9.0
    begun = world.clock()
    with pytest.raises(redis.ConnectionError):
        world.find()

    assert world.shares == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert world.clock() - begun == pytest.approx(1.0)


def test_a_server_that_is_silent_has_had_its_time_and_no_other_is_tried() -> None:
    world = World([Named(OLD, 1), Named(NEW, 2)], {OLD: RedisTimeout("silent"), NEW: True})

    with pytest.raises(RedisTimeout):
        world.find()
    assert world.reached == [OLD]


def test_a_sentinel_that_leads_to_a_silent_server_is_asked_last_the_next_time() -> None:
    """It may have been cut off together with it, while the others have found another."""
    world = World([Named(OLD, 1), Named(NEW, 2)], {OLD: RedisTimeout("silent"), NEW: True})
    with pytest.raises(RedisTimeout):
        world.find()

    assert world.find() == NEW


def test_once_a_later_primary_was_heard_of_the_sentinel_that_is_asked_first_does_not_lead_back() -> None:
    """Where it is cut off together with the old primary, and this process reaches them all."""
    world = World([Named(OLD, 1), Named(NEW, 2)], {OLD: True, NEW: True})
    assert world.find() == OLD

    assert world.known.hear(Named(NEW, 2))

    assert world.find() == NEW


def test_what_is_heard_in_turn_is_news_if_it_is_another_primary_and_not_one_before_it() -> None:
    world = World([Named(NEW, 2)], {NEW: True})
    assert not world.known.hear(Named(NEW, 2)), "nothing is in use yet"
    world.find()

    assert [world.known.hear(named) for named in (Named(NEW, 2), Named(OLD, 1), Named(OLD, 3))] == [
        False,
        False,
        True,
    ]


def test_each_sentinel_has_its_turn() -> None:
    known = World([GONE, GONE, GONE], {}).known

    assert len({id(known.next_in_turn()) for _ in range(3)}) == 3
