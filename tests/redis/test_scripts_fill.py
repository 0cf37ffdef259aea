"""fill.lua and unlock.lua: what a load may store, and whom its end wakes."""

from __future__ import annotations

import pytest
import redis

from tests.redis.domain import ME, ODD, OTHER, THIRD, Domain
from tiercache._core.commands import Hit
from tiercache._core.records import key_dep


@pytest.fixture
def domain(domain: Domain) -> Domain:
    domain.sync()
    return domain


# ---- fill


def test_a_fill_is_found(domain: Domain) -> None:
    token = domain.lead("a")
    filled = domain.fill("a", token, "users")

    assert (filled.status, filled.head, filled.accepted) == ("ok", domain.head(), True)
    assert domain.holds("a")


def test_a_fill_does_not_move_the_head(domain: Domain) -> None:
    before = domain.head()
    domain.fill("a", domain.lead("a"))

    assert domain.head() == before


@pytest.mark.parametrize("what", ["tag", "second tag", "key", "set", "clear"])
def test_a_load_that_was_overtaken_fills_nothing(domain: Domain, what: str) -> None:
    token = domain.lead("a")
    match what:
        case "tag":
            domain.invalidate("users")
        case "second tag":
            domain.invalidate("posts")
        case "key":
            domain.invalidate(keys=("a",))
        case "set":
            domain.set("a", payload=b"newer")
        case "clear":
            domain.clear()
    filled = domain.fill("a", token, "users", "posts", payload=b"older")

    assert (filled.status, filled.accepted) == ("floor" if what == "clear" else "stale", False)
    answer = domain.answer("a")
    assert answer == "miss" or (isinstance(answer, Hit) and answer.raw.endswith(b"newer"))


def test_a_fill_outlives_the_invalidation_of_something_else(domain: Domain) -> None:
    token = domain.lead("a")
    domain.invalidate("posts", keys=("b",))

    assert domain.fill("a", token, "users").status == "ok"


def test_a_fill_of_another_epoch_is_refused(domain: Domain) -> None:
    assert domain.fill("a", domain.lead("a"), epoch=domain.epoch + 1).status == "epoch"
    assert not domain.holds("a")


def test_a_fill_into_a_domain_that_was_lost_is_refused(domain: Domain) -> None:
    token = domain.lead("a")
    domain.client.delete(domain.names.state)

    assert domain.fill("a", token).status == "epoch"


def test_the_newer_of_two_loads_stays(domain: Domain) -> None:
    old = domain.lead("a")
    domain.invalidate("elsewhere")
    domain.fill("a", domain.lead("a"), payload=b"newer")

    assert domain.fill("a", old, payload=b"older").status == "older"
    answer = domain.answer("a")
    assert isinstance(answer, Hit)
    assert answer.raw.endswith(b"newer")


def test_of_two_loads_with_one_token_the_second_stays(domain: Domain) -> None:
    token = domain.lead("a")
    domain.fill("a", token, payload=b"first")
    domain.fill("a", token, payload=b"second")
    answer = domain.answer("a")

    assert isinstance(answer, Hit)
    assert answer.raw.endswith(b"second")


def test_nothing_is_filled_while_a_write_of_the_truth_is_fenced(domain: Domain) -> None:
    token = domain.lead("a")
    domain.client.zadd(domain.names.state, {b"\1q": -1})

    assert domain.fill("a", token).status == "fenced"


def test_a_refused_argument_is_an_error_and_stores_nothing(domain: Domain) -> None:
    token = domain.lead("a")

    with pytest.raises(redis.ResponseError):
        domain.fill("a", token, ttl_ms=0)
    assert not domain.holds("a")


def test_a_fill_ends_in_redis_when_its_ttl_does(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"), ttl_ms=60_000)

    assert 50_000 < domain.client.pttl(domain.names.entry("a")) <= 60_000


# ---- locks and wake-ups


def test_a_fill_wakes_exactly_those_who_wait(domain: Domain) -> None:
    token = domain.lead("a", ME + ":0")
    domain.answer("a", "lead", OTHER + ":5")
    domain.lead("b", OTHER + ":6")
    domain.answer("b", "lead", THIRD + ":0")
    with domain.heard() as messages:
        domain.fill("a", token, owner=ME + ":0")

    assert messages == [(domain.names.wake + OTHER, b"k:a")]


@pytest.mark.parametrize("name", ODD)
def test_a_wake_up_names_any_key(domain: Domain, name: str) -> None:
    token = domain.lead(name, ME + ":0")
    domain.answer(name, "lead", OTHER + ":0")
    with domain.heard() as messages:
        domain.fill(name, token)

    assert messages == [(domain.names.wake + OTHER, key_dep(name).encode())]


def test_a_waiter_that_asked_twice_is_woken_once(domain: Domain) -> None:
    domain.lead("a", ME + ":0")
    for load in range(3):
        domain.answer("a", "lead", f"{OTHER}:{load}")
    with domain.heard() as messages:
        domain.unlock("a", ME + ":0")

    assert len(messages) == 1


@pytest.mark.parametrize("status", ["ok", "stale"])
def test_a_fill_ends_its_lock_whether_it_was_accepted_or_not(domain: Domain, status: str) -> None:
    token = domain.lead("a")
    if status == "stale":
        domain.invalidate(keys=("a",))

    assert domain.fill("a", token).status == status
    assert not domain.client.exists(domain.names.lock("a"))


def test_a_late_fill_leaves_the_lock_of_the_next_load_alone(domain: Domain) -> None:
    token = domain.lead("a", ME + ":0")
    domain.lead("a", ME + ":1")
    with domain.heard() as messages:
        domain.fill("a", token, owner=ME + ":0")

    assert domain.client.exists(domain.names.lock("a"))
    assert messages == []


def test_an_unlock_wakes_those_who_wait_and_one_of_them_leads(domain: Domain) -> None:
    domain.lead("a", ME + ":0")
    domain.answer("a", "lead", OTHER + ":0")
    with domain.heard() as messages:
        assert domain.unlock("a", ME + ":0") == 1

    assert messages == [(domain.names.wake + OTHER, b"k:a")]
    assert domain.answer("a", "lead", OTHER + ":0") == "lead"


@pytest.mark.parametrize("owner", [OTHER + ":0", ME + ":1"])
def test_the_lock_of_another_load_cannot_be_opened(domain: Domain, owner: str) -> None:
    domain.lead("a", ME + ":0")

    assert domain.unlock("a", owner) == 0
    assert domain.client.exists(domain.names.lock("a"))


def test_a_lock_that_is_gone_cannot_be_opened(domain: Domain) -> None:
    assert domain.unlock("a") == 0
