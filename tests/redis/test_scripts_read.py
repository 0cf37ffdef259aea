"""read.lua: what a node learns of its keys in one round trip."""

from __future__ import annotations

import pytest

from tests.redis.domain import ME, ODD, OTHER, THIRD, Domain
from tests.servers import eventually
from tiercache._core.commands import LOCK_MS, MAX_READ, Answers, Hit, Wait
from tiercache._core.large import Large
from tiercache._core.records import MAX_ENTRY_TAGS, parse_entry


@pytest.fixture
def domain(domain: Domain) -> Domain:
    domain.sync()
    return domain


def test_a_node_that_knows_no_epoch_must_sync_first(domain: Domain) -> None:
    assert domain.read("a", epoch=0) == Answers(None)


def test_a_node_of_another_epoch_must_sync_first(domain: Domain) -> None:
    assert domain.read("a", epoch=domain.epoch + 1) == Answers(None)


def test_a_node_that_has_met_a_newer_head_must_sync_first(domain: Domain) -> None:
    assert domain.read("a", seen=domain.head() + 1) == Answers(None)


def test_a_node_that_has_met_this_head_is_answered(domain: Domain) -> None:
    assert domain.read("a", seen=domain.head()) == Answers(domain.head(), ("miss",))


def test_a_domain_that_was_lost_answers_nobody(domain: Domain) -> None:
    domain.client.delete(domain.names.state)

    assert domain.read("a") == Answers(None)


def test_who_only_asks_gets_a_miss_and_no_leave(domain: Domain) -> None:
    assert domain.answer("a") == "miss"
    assert not domain.client.exists(domain.names.lock("a"))


def test_who_would_load_gets_leave_with_the_head_as_token(domain: Domain) -> None:
    domain.invalidate("users")

    assert domain.read("a", mode="lead") == Answers(domain.head(), ("lead",))


def test_a_hit_brings_the_entry_and_its_time_to_live(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"), "users", ttl_ms=60_000)
    answer = domain.answer("a")

    assert isinstance(answer, Hit)
    entry = parse_entry(answer.raw, "a")
    assert entry is not None
    assert (entry.tags, entry.payload, entry.print) == (("users",), b"payload", 31)
    assert answer.left is not None
    assert 50 < answer.left <= 60


def test_an_entry_without_an_end_in_redis_has_none(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"))
    domain.client.persist(domain.names.entry("a"))
    answer = domain.answer("a")

    assert isinstance(answer, Hit)
    assert answer.left is None


def test_a_hit_needs_no_leave(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"))

    assert isinstance(domain.answer("a", "lead"), Hit)
    assert not domain.client.exists(domain.names.lock("a"))


def test_a_refresh_has_leave_whatever_is_stored(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"))

    assert domain.answer("a", "renew") == "lead"
    assert domain.holds("a")


@pytest.mark.parametrize("name", ODD)
def test_any_key_and_tag_is_found_again(domain: Domain, name: str) -> None:
    domain.fill(name, domain.lead(name), name, payload=name.encode())
    answer = domain.answer(name)

    assert isinstance(answer, Hit)
    entry = parse_entry(answer.raw, name)
    assert entry is not None
    assert (entry.tags, entry.payload) == ((name,), name.encode())


@pytest.mark.parametrize("name", ODD)
def test_any_tag_invalidates_what_is_under_it(domain: Domain, name: str) -> None:
    domain.fill("a", domain.lead("a"), "before", name, "after")
    domain.invalidate(name)

    assert not domain.holds("a")


def test_an_entry_outlives_the_invalidation_of_other_tags(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"), "users")
    domain.invalidate("posts", "user")

    assert domain.holds("a")


def test_an_entry_with_as_many_tags_as_there_may_be_is_found_and_invalidated(domain: Domain) -> None:
    tags = [f"{n:0512}" for n in range(MAX_ENTRY_TAGS)]
    domain.fill("a", domain.lead("a"), *tags)
    assert domain.holds("a")

    domain.invalidate(tags[-1])
    assert not domain.holds("a")


def test_an_entry_of_another_epoch_is_a_miss(domain: Domain) -> None:
    domain.fill("a", domain.lead("a"))
    domain.client.delete(domain.names.state)
    domain.sync()

    assert domain.answer("a") == "miss"


def test_a_hundred_keys_are_answered_in_their_order(domain: Domain) -> None:
    keys = [f"k{n}" for n in range(MAX_READ)]
    for key in keys[::2]:
        domain.fill(key, domain.lead(key), payload=key.encode())
    found = domain.read(*keys).found

    for n, (key, answer) in enumerate(zip(keys, found, strict=True)):
        if n % 2:
            assert answer == "miss"
        else:
            assert isinstance(answer, Hit)
            assert parse_entry(answer.raw, key) is not None


def test_what_is_to_be_asked_again_is_not_read_in_vain(real: Domain) -> None:
    real.sync()
    keys = [str(number) for number in range(20)]
    for key in keys:
        real.fill(key, real.lead(key), payload=b"x" * 100_000)
    real.client.config_resetstat()

    assert real.read(*keys).found.count("again") == 18
    assert real.client.info("commandstats")["cmdstat_get"]["calls"] == 2


def test_what_exceeds_256_kilobytes_is_to_be_asked_again(domain: Domain) -> None:
    for key in "abc":
        domain.fill(key, domain.lead(key), payload=b"x" * 100_000)
    found = domain.read("a", "b", "c", "d").found

    assert [type(answer) for answer in found[:2]] == [Hit, Hit]
    assert found[2:] == ("again", "miss")


def test_of_one_entry_larger_than_that_only_tags_and_length_come(domain: Domain) -> None:
    for key, tags in (("large", ("x", "y")), ("bare", ())):
        domain.fill(key, domain.lead(key), *tags, payload=b"x" * 300_000)
    large, bare = (domain.client.strlen(domain.names.entry(key)) for key in ("large", "bare"))

    found = domain.read("missing", "large", "bare").found
    assert found == ("miss", Large(("x", "y"), large), Large((), bare))

    domain.invalidate("y")

    assert domain.read("large", "bare").found == ("miss", Large((), bare))


# ---- leave to load


def test_another_node_waits_for_as_long_as_the_lock_lives(domain: Domain) -> None:
    domain.lead("a", ME + ":0")
    answer = domain.answer("a", "lead", OTHER + ":0")

    assert isinstance(answer, Wait)
    assert 0 < answer.left <= LOCK_MS / 1000
    assert answer.owner == (ME + ":0").encode(), "whose load it is: the next one has another name"


def test_a_refresh_waits_for_the_load_of_another_node(domain: Domain) -> None:
    domain.lead("a", ME + ":0")

    assert isinstance(domain.answer("a", "renew", OTHER + ":0"), Wait)


def test_the_node_that_has_the_lock_may_lead_again(domain: Domain) -> None:
    """Its leader was cancelled, and a follower of it takes over."""
    domain.lead("a", ME + ":0")

    assert domain.answer("a", "lead", ME + ":1") == "lead"
    assert domain.client.hget(domain.names.lock("a"), "owner") == (ME + ":1").encode()


def test_two_callers_of_one_node_in_one_read_both_have_leave(domain: Domain) -> None:
    assert domain.read("a", "a", mode="lead").found == ("lead", "lead")


def test_a_lock_that_ran_out_is_free(domain: Domain) -> None:
    domain.lead("a", ME + ":0")
    domain.client.pexpire(domain.names.lock("a"), 1)
    assert eventually(lambda: not domain.client.exists(domain.names.lock("a")))

    assert domain.answer("a", "lead", OTHER + ":0") == "lead"


def test_a_lock_has_an_end_when_it_is_taken_over_too(domain: Domain) -> None:
    domain.lead("a", ME + ":0")
    domain.client.pexpire(domain.names.lock("a"), 1_000)
    domain.lead("a", ME + ":1")

    assert 1_000 < domain.client.pttl(domain.names.lock("a")) <= LOCK_MS


def test_a_lock_somebody_planted_without_an_end_keeps_nobody_waiting(domain: Domain) -> None:
    domain.client.hset(domain.names.lock("a"), "owner", OTHER + ":0")

    assert domain.answer("a", "lead", ME + ":0") == "lead"
    assert 0 < domain.client.pttl(domain.names.lock("a")) <= LOCK_MS


def test_a_batch_has_an_answer_of_its_own_for_each_lock(domain: Domain) -> None:
    domain.lead("taken", OTHER + ":0")
    found = domain.read("taken", "free", mode="lead").found

    assert isinstance(found[0], Wait)
    assert found[1] == "lead"


def test_a_third_node_waits_beside_the_second(domain: Domain) -> None:
    domain.lead("a", ME + ":0")
    for node in (OTHER, THIRD):
        domain.answer("a", "lead", node + ":0")
    with domain.heard() as messages:
        domain.unlock("a", ME + ":0")

    assert sorted(messages) == [(domain.names.wake + node, b"k:a") for node in (OTHER, THIRD)]
