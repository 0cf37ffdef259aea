"""fence.lua, unfence.lua, and what a fence holds back, on each server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.redis.domain import ODD, Domain
from tests.servers import eventually
from tiercache._core.commands import Invalidate
from tiercache._core.fences import Unfence
from tiercache._core.records import MAX_DEPS, parse_hint

PAST = -1  # ms: of a fence that has run out when the next script looks


@pytest.fixture
def domain(domain: Domain) -> Domain:
    domain.sync()
    return domain


def live(domain: Domain) -> int:
    """Fences that are up: as the state counts them, and as they stand there."""
    count = int(-domain.client.zscore(domain.names.state, b"\1q"))
    assert domain.client.zcard(domain.names.domain[2]) == count
    return count


def fenced(domain: Domain) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = domain.client.hgetall(domain.names.domain[3])
    return found


def end(domain: Domain, *tags: str, keys: tuple[str, ...] = (), name: str = "f") -> None:
    domain.do(Invalidate(tags, keys, domain.cap, domain.key_cap, name))


def fill(domain: Domain, key: str, *tags: str) -> str:
    """The status of a whole load of *key*."""
    return domain.fill(key, domain.lead(key), *tags).status


# ---- a fence, from its beginning to its end


def test_a_fence_is_one_record_and_a_hint(domain: Domain) -> None:
    before = domain.head()
    with domain.heard() as messages:
        record = domain.fence("users", keys=("a",))

    assert (record.epoch, record.number, domain.head()) == (domain.epoch, before + 1, before + 1)
    hints = [parse_hint(data) for _, data in messages]
    assert [hint and (hint.number, hint.deps) for hint in hints] == [(before + 1, ("t:users", "k:a"))]


def test_what_was_stored_is_invalid_from_the_beginning_of_a_fence(domain: Domain) -> None:
    for key, tag in (("a", "users"), ("b", "posts"), ("c", "posts")):
        fill(domain, key, tag)

    domain.fence("users", keys=("b",))

    assert [domain.holds(key) for key in "abc"] == [False, False, True]
    assert not domain.client.exists(domain.names.entry("b"))


@pytest.mark.parametrize("what", ["tag", "key"])
def test_nothing_is_stored_under_a_fence(domain: Domain, what: str) -> None:
    domain.fence("users") if what == "tag" else domain.fence(keys=("a",))

    assert fill(domain, "a", "posts", "users") == "fenced"
    assert domain.set("a", "posts", "users").status == "fenced"
    assert domain.answer("a") == "miss"
    assert fill(domain, "b", "posts") == "ok"


def test_a_set_under_a_fence_makes_no_record_and_leaves_what_is_there(domain: Domain) -> None:
    domain.fence("users")
    before = domain.head()
    with domain.heard() as messages:
        record = domain.set("a", "users")

    assert (record.number, domain.head(), messages) == (before, before, [])


def test_a_sync_names_what_is_fenced(domain: Domain) -> None:
    assert domain.sync().fenced == ()
    domain.fence("users", keys=("a",))
    domain.fence("users", name="g")

    assert sorted(domain.sync().fenced) == ["k:a", "t:users"]


def test_a_sync_names_no_more_than_a_thousand(domain: Domain) -> None:
    domain.cap = 10_000
    domain.fence(*map(str, range(1000)))
    assert len(domain.sync().fenced) == 1000

    domain.fence("one more", name="g")

    assert domain.sync().fenced == ("*",)


def test_the_end_lifts_the_fence_with_a_record(domain: Domain) -> None:
    domain.fence("users", keys=("a",))
    loading = domain.lead("a")
    end(domain, "users", keys=("a",))

    assert (live(domain), fenced(domain), domain.sync().fenced) == (0, {}, ())
    assert domain.fill("a", loading, "users").status == "stale"
    assert fill(domain, "a", "users") == "ok"


def test_what_did_not_happen_lifts_the_fence_without_one(domain: Domain) -> None:
    domain.fence("users")
    before, loading = domain.head(), domain.lead("a")
    with domain.heard() as messages:
        assert domain.do(Unfence("f", ("t:users",)))

    assert (live(domain), fenced(domain), domain.head(), messages) == (0, {}, before, [])
    assert domain.fill("a", loading, "users").status == "ok"


def test_a_fence_that_is_not_there_cannot_be_lifted(domain: Domain) -> None:
    domain.fence("users")

    assert not domain.do(Unfence("g", ("t:users",)))
    assert not domain.do(Unfence("f", ("t:users", "t:posts")))
    end(domain, "users", name="g")

    assert live(domain) == 1


@pytest.mark.parametrize("name", ODD)
def test_a_fence_on_any_tag_and_key_is_lifted_by_its_name(domain: Domain, name: str) -> None:
    domain.fence(name, keys=(name,))
    assert fill(domain, "a", name) == "fenced"
    assert fill(domain, name) == "fenced"

    end(domain, name, keys=(name,))

    assert (live(domain), fenced(domain)) == (0, {})
    assert fill(domain, "a", name) == "ok"


def test_a_fence_takes_as_much_as_a_record(domain: Domain) -> None:
    domain.cap = 10_000
    tags = tuple(f"{i} {'x' * 500}" for i in range(MAX_DEPS))
    domain.fence(*tags)
    assert fill(domain, "a", tags[-1]) == "fenced"

    end(domain, *tags)

    assert (live(domain), fenced(domain)) == (0, {})


# ---- several


def test_a_fence_that_is_sent_twice_is_one_and_lives_from_the_second_on(domain: Domain) -> None:
    domain.fence("users", ttl_ms=PAST)
    domain.fence("users", ttl_ms=60_000)  # the one of before has run out; this is another
    domain.fence("users", ttl_ms=120_000)

    assert live(domain) == 1
    assert fenced(domain) == {b"t:users": b"1"}
    (runs_out,) = [score for _, score in domain.client.zrange(domain.names.domain[2], 0, -1, withscores=True)]
    assert runs_out > 1000 * domain.client.time()[0] + 60_000


def test_two_writers_fences_on_one_tag_are_counted(domain: Domain) -> None:
    """R20"""
    domain.fence("users", "posts", name="f")
    domain.fence("users", name="g")
    assert fenced(domain) == {b"t:users": b"2", b"t:posts": b"1"}
    end(domain, "users", "posts", name="f")
    assert fenced(domain) == {b"t:users": b"1"}
    assert fill(domain, "a", "users") == "fenced"

    end(domain, "users", name="g")

    assert fill(domain, "a", "users") == "ok"


@pytest.mark.parametrize("act", ["invalidate", "set", "sync"])
def test_an_act_of_somebody_else_lifts_nothing(domain: Domain, act: str) -> None:
    domain.fence("users")
    acts: dict[str, Callable[[], object]] = {
        "invalidate": lambda: domain.invalidate("users"),
        "set": lambda: domain.set("b"),
        "sync": domain.sync,
    }
    acts[act]()

    assert live(domain) == 1
    assert fill(domain, "a", "users") == "fenced"


def test_a_clear_keeps_fences_and_the_register(domain: Domain) -> None:
    domain.fence("users")
    domain.clear()

    assert live(domain) == 1
    assert fill(domain, "a", "users") == "fenced"
    assert [m for m in domain.client.zrange(domain.names.state, 0, -1) if m[:2] == b"\1n"]


# ---- one that runs out


@pytest.mark.parametrize("act", ["sync", "invalidate", "set", "clear", "fence"])
def test_a_fence_that_ran_out_becomes_a_record_before_anything_else_is_done(domain: Domain, act: str) -> None:
    domain.fence("users", keys=("a",), ttl_ms=PAST)
    before, loading = domain.head(), domain.lead("b")
    acts: dict[str, Callable[[], Any]] = {
        "sync": domain.sync,
        "invalidate": lambda: domain.invalidate("posts"),
        "set": lambda: domain.set("c", token=(domain.epoch, before)),
        "clear": domain.clear,
        "fence": lambda: domain.fence("posts", name="g"),
    }
    with domain.heard() as messages:
        acts[act]()

    first = parse_hint(messages[0][1])
    assert first is not None
    assert (first.number, first.deps) == (before + 1, ("t:users", "k:a"))
    assert live(domain) == (act == "fence")
    assert domain.fill("b", loading, "users").status in ("stale", "floor")
    assert fill(domain, "b", "users") == "ok"


def test_neither_a_fill_nor_a_read_makes_a_record_of_it(domain: Domain) -> None:
    """An old primary's head must stay below the records it lost."""
    domain.fence("users", ttl_ms=PAST)
    before = domain.head()

    assert fill(domain, "a", "users") == "fenced"
    domain.answer("a")

    assert domain.head() == before


def test_a_fence_runs_out_by_the_clock_of_redis(domain: Domain) -> None:
    domain.fence("users", ttl_ms=50)
    assert fill(domain, "a", "users") == "fenced"

    assert eventually(lambda: domain.sync(proved=domain.head()).fenced == ())
    assert fill(domain, "a", "users") == "ok"


def test_many_that_ran_out_go_so_many_at_a_time_and_hold_back_until_they_went(domain: Domain) -> None:
    for number in range(140):
        domain.fence(f"t{number}", name=f"f{number}", ttl_ms=60_000)
    domain.client.zadd(
        domain.names.domain[2],
        {m: i for i, m in enumerate(domain.client.zrange(domain.names.domain[2], 0, -1))},
    )
    before = domain.head()
    domain.sync()
    assert (domain.head(), live(domain)) == (before + 128, 12)
    left = [dep.decode().removeprefix("t:") for dep in fenced(domain)]
    assert {fill(domain, "a", tag) for tag in left} == {"fenced"}

    domain.sync()

    assert (domain.head(), live(domain)) == (before + 140, 0)
