"""The register of nodes in the state, and barrier.lua, ack.lua and forget.lua, which keep it."""

from __future__ import annotations

import pytest

from tests.redis.domain import ME, OTHER, THIRD, Domain
from tests.redis.test_scripts_planted import OTHER_TYPES, STRING, ZSET, Plant, each
from tiercache._core.barriers import Ack, Barrier, Behind, Forget, Question, parse_question
from tiercache._core.commands import Sync, member_of

ROOM = 4_096  # of the register, the names of the domain included
D_MS = 5_000
MARK = "-0.25"


@pytest.fixture
def domain(domain: Domain) -> Domain:
    domain.sync()
    domain.client.zrem(domain.names.state, b"\1n" + member_of(ME, 0).encode())
    return domain


def sync(domain: Domain, node: str, proved: int, *, epoch: int | None = None, settled: bool = False) -> None:
    domain.do(Sync(domain.epoch if epoch is None else epoch, proved, node, D_MS, settled))


def member(node: str) -> str:
    return member_of(node, D_MS)


def barrier(domain: Domain, number: int, mark: str = "") -> Behind:
    behind = domain.do(Barrier(domain.epoch, number, ME, mark))
    assert behind is not None, "the server does not know the record"
    return behind


def ack(domain: Domain, node: str, proved: int, number: int) -> bool:
    return domain.do(Ack(domain.epoch, proved, member(node), number, ME))


def register(domain: Domain) -> dict[str, float]:
    members = domain.client.zrange(domain.names.state, 0, -1, withscores=True)
    return {m.decode()[2:]: score for m, score in members if m[:2] == b"\1n"}


def records(domain: Domain, count: int) -> int:
    for _ in range(count):
        domain.invalidate("users")
    return domain.head()


# ---- who is on it


def test_a_sync_puts_a_node_on_the_register_with_what_it_had_applied_when_it_asked(domain: Domain) -> None:
    head = records(domain, 5)
    sync(domain, OTHER, head - 2)

    assert register(domain) == {member(OTHER): -(head - 2)}


@pytest.mark.parametrize("epoch", [0, 4711])
def test_a_node_of_another_epoch_has_applied_nothing(domain: Domain, epoch: int) -> None:
    head = records(domain, 5)
    sync(domain, OTHER, head, epoch=epoch)

    assert register(domain) == {member(OTHER): 0}


def test_what_a_node_cannot_have_applied_is_not_believed(domain: Domain) -> None:
    head = records(domain, 2)
    sync(domain, OTHER, 10**15)

    assert register(domain) == {member(OTHER): -head}
    number = records(domain, 1)
    assert barrier(domain, number).members.keys() == {member(OTHER)}


def test_the_register_is_lost_with_the_epoch(domain: Domain) -> None:
    sync(domain, OTHER, 1, settled=True)
    assert barrier(domain, 1).settled
    domain.client.delete(domain.names.state)
    domain.sync()

    assert register(domain) == {member_of(ME, 0): 0}
    assert not barrier(domain, 1).settled


def test_an_epoch_is_settled_from_the_first_who_says_so_on(domain: Domain) -> None:
    sync(domain, OTHER, 1)
    assert not barrier(domain, 1).settled
    sync(domain, OTHER, 1, settled=True)
    sync(domain, THIRD, 1)

    assert barrier(domain, 1).settled


def test_who_says_so_of_another_epoch_says_nothing(domain: Domain) -> None:
    sync(domain, OTHER, 1, epoch=4711, settled=True)

    assert not barrier(domain, 1).settled


def test_a_full_register_leaves_out_who_is_most_behind_and_says_so(domain: Domain) -> None:
    head = records(domain, 3)
    sync(domain, OTHER, head)
    sync(domain, THIRD, 1)
    names = domain.client.zcount(domain.names.state, "-inf", 0) - 2
    crowd = {b"\1n" + member(f"{i:032x}").encode(): -2 for i in range(ROOM - names - 2)}
    domain.client.zadd(domain.names.state, crowd)
    assert barrier(domain, head).left_out == "0"

    sync(domain, "d" * 32, 2)

    assert domain.client.zcount(domain.names.state, "-inf", 0) <= ROOM + 1, "and how many were left out"
    assert int(barrier(domain, head).left_out) < 0
    assert member(THIRD) not in register(domain)
    assert {member(OTHER), member("d" * 32)} <= register(domain).keys()


def test_who_syncs_is_not_left_out_itself(domain: Domain) -> None:
    names = domain.client.zcount(domain.names.state, "-inf", 0)
    head = records(domain, 3)
    crowd = {b"\1n" + member(f"{i:032x}").encode(): -2 for i in range(ROOM - names)}
    domain.client.zadd(domain.names.state, crowd)

    sync(domain, OTHER, 0, epoch=4711)  # the most behind of all

    assert register(domain)[member(OTHER)] == 0
    assert int(barrier(domain, head).left_out) < 0


def test_a_register_that_left_out_nobody_more_since_is_whole_again(domain: Domain) -> None:
    domain.client.zadd(domain.names.state, {b"\1x": -3})
    domain.do(Forget((), "-2"))
    assert barrier(domain, 1).left_out == "-3", "one was left out since"

    domain.do(Forget((), "-3"))

    assert barrier(domain, 1).left_out == "0"


# ---- who is behind


def test_those_are_behind_who_have_not_applied_the_record(domain: Domain) -> None:
    number = records(domain, 5)
    for node, proved in ((OTHER, number), (THIRD, number - 1), ("d" * 32, 0)):
        sync(domain, node, proved)

    assert barrier(domain, number).members.keys() == {member(THIRD), member("d" * 32)}
    assert barrier(domain, number - 1).members.keys() == {member("d" * 32)}


def test_who_waits_is_not_behind(domain: Domain) -> None:
    number = records(domain, 1)
    sync(domain, ME, 0)

    assert barrier(domain, number).members == {}


@pytest.mark.parametrize("state", ["another epoch", "no such record", "gone"])
def test_a_record_that_is_not_known_is_answered_with_nothing(domain: Domain, state: str) -> None:
    epoch, number = domain.epoch, records(domain, 1)
    if state == "gone":
        domain.client.delete(domain.names.state)
    asked = {"another epoch": (epoch + 1, number), "no such record": (epoch, number + 1)}
    sent = Barrier(*asked.get(state, (epoch, number)), ME, MARK)
    with domain.heard() as messages:
        assert domain.do(sent) is None

    assert messages == []


@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_state_of_another_kind_is_answered_with_nothing(domain: Domain, plant: Plant) -> None:
    domain.client.delete(domain.names.state)
    plant(domain.client, domain.names.state)

    assert domain.do(Barrier(domain.epoch, 1, ME, MARK)) is None
    assert not ack(domain, OTHER, 1, 1)
    domain.do(Forget(((member(OTHER), ""),), "-1"))


def test_who_is_behind_is_asked_and_marked_once(domain: Domain) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)
    with domain.heard() as messages:
        first = barrier(domain, number, MARK)
    assert [parse_question(data) for _, data in messages] == [Question(domain.epoch, number, ME)]
    assert [channel for channel, _ in messages] == [domain.names.channel]
    assert {m: float(score) for m, score in first.members.items()} == {member(OTHER): -0.25}

    second = barrier(domain, number, "-0.5")

    assert second == first, "it bears the mark of who asked first"


def test_a_look_asks_nobody_and_marks_nobody(domain: Domain) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)
    with domain.heard() as messages:
        barrier(domain, number)

    assert messages == []
    assert register(domain) == {member(OTHER): -1}


def test_nobody_is_asked_where_nobody_is_behind(domain: Domain) -> None:
    number = records(domain, 1)
    sync(domain, OTHER, number)
    with domain.heard() as messages:
        assert barrier(domain, number, MARK).members == {}

    assert messages == []


@pytest.mark.parametrize("mark", ["-0.4999999999999982", "-3.552713678800501e-15", "-0.1234567890123456"])
def test_a_mark_comes_back_as_it_is_told_and_is_known_again(domain: Domain, mark: str) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)
    told = barrier(domain, number, mark).members
    assert barrier(domain, number).members == told

    domain.do(Forget(tuple(told.items())))

    assert register(domain) == {}


def test_a_sync_puts_a_whole_number_in_the_place_of_a_mark(domain: Domain) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)
    marked = barrier(domain, number, MARK).members
    sync(domain, OTHER, 1)
    domain.do(Forget(tuple(marked.items())))

    assert register(domain) == {member(OTHER): -1}


# ---- acknowledgements


def test_an_acknowledgement_takes_a_node_from_those_behind(domain: Domain) -> None:
    for node in (OTHER, THIRD):
        sync(domain, node, 1)
    number = records(domain, 1)
    barrier(domain, number, MARK)

    assert not ack(domain, OTHER, number, number)
    assert barrier(domain, number).members.keys() == {member(THIRD)}


def test_the_last_acknowledgement_wakes_who_waits(domain: Domain) -> None:
    for node in (OTHER, THIRD):
        sync(domain, node, 1)
    number = records(domain, 1)
    with domain.heard() as messages:
        ack(domain, OTHER, number, number)
        assert ack(domain, THIRD, number, number)

    assert messages == [(domain.names.wake + ME, b"barrier")]


def test_an_acknowledgement_of_less_takes_nothing_back(domain: Domain) -> None:
    number = records(domain, 3)
    sync(domain, OTHER, number)
    ack(domain, OTHER, 1, number)

    assert register(domain) == {member(OTHER): -number}


def test_an_acknowledgement_of_who_is_not_on_the_register_counts_for_nothing(domain: Domain) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)
    with domain.heard() as messages:
        assert not ack(domain, THIRD, number, number)

    assert messages == []
    assert register(domain) == {member(OTHER): -1}


def test_an_acknowledgement_of_another_epoch_counts_for_nothing(domain: Domain) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)

    assert not domain.do(Ack(domain.epoch + 1, number, member(OTHER), number, ME))
    assert register(domain) == {member(OTHER): -1}


# ---- leaving


def test_a_node_leaves_at_its_own_word(domain: Domain) -> None:
    for node in (OTHER, THIRD):
        sync(domain, node, 1)
    domain.do(Forget(((member(OTHER), ""),)))

    assert register(domain).keys() == {member(THIRD)}


def test_only_who_still_has_its_score_is_forgotten(domain: Domain) -> None:
    for node in (OTHER, THIRD):
        sync(domain, node, 1)
    number = records(domain, 1)
    marked = tuple(barrier(domain, number, MARK).members.items())
    ack(domain, THIRD, number, number)
    domain.do(Forget(marked))

    assert register(domain) == {member(THIRD): -number}


def test_forgetting_takes_nothing_but_nodes(domain: Domain) -> None:
    domain.invalidate("users")
    before = domain.client.zrange(domain.names.state, 0, -1)
    domain.do(Forget((("e", ""), ("\1e", ""), ("t:users", ""), ("", ""))))

    assert domain.client.zrange(domain.names.state, 0, -1) == before


# ---- planted


def test_a_planted_member_is_waited_for_by_nobody(domain: Domain) -> None:
    number = records(domain, 1)
    sync(domain, OTHER, 1)
    domain.client.zadd(
        domain.names.state,
        {b"\1n\xff\xff": 0, b"\1nx:" + b"9" * 5000: 0, b"\1n": 0, b"\1n" + b"y" * 100: -0.5},
    )

    assert barrier(domain, number, MARK).members.keys() == {member(OTHER)}


@pytest.mark.parametrize("waiter", ["", "-", "x" * 1000])
def test_an_acknowledgement_with_a_forged_waiter_harms_nobody(domain: Domain, waiter: str) -> None:
    sync(domain, OTHER, 1)
    number = records(domain, 1)
    domain.do(Ack(domain.epoch, 1, member(OTHER), number, waiter))

    assert barrier(domain, number).members.keys() == {member(OTHER)}
