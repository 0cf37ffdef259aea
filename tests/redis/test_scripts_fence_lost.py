"""Fences that are evicted, or planted over: a new epoch, and never a sync that fails."""

from __future__ import annotations

import pytest

from tests.redis.domain import Domain
from tests.redis.test_scripts_fence import end, fenced, fill, live
from tests.redis.test_scripts_planted import OTHER_TYPES, STRING, ZSET, Plant, each
from tiercache._core.commands import Hit
from tiercache._core.fences import Fence, Unfence


@pytest.fixture
def domain(domain: Domain) -> Domain:
    domain.sync()
    return domain


@pytest.mark.parametrize("place", [2, 3])
def test_fences_that_were_evicted_take_the_epoch_along(domain: Domain, place: int) -> None:
    domain.fence("users")
    before, loading = domain.epoch, domain.lead("a")
    domain.client.delete(domain.names.domain[place])
    if place == 3:
        assert domain.fill("b", domain.lead("b"), "posts").status == "fenced", "nobody can tell any more"

    assert domain.sync().epoch != before
    assert domain.fill("a", loading, "users", epoch=before).status == "epoch"
    assert live(domain) == 0


@each({**OTHER_TYPES, **STRING})
def test_fences_that_became_another_kind_take_the_epoch_along(domain: Domain, plant: Plant) -> None:
    domain.fence("users")
    before = domain.epoch
    domain.client.delete(domain.names.domain[2])
    plant(domain.client, domain.names.domain[2])

    assert domain.sync().epoch != before
    assert fill(domain, "a", "users") == "ok"


@each({**{kind: plant for kind, plant in OTHER_TYPES.items() if kind != "hash"}, **STRING, **ZSET})
def test_counts_that_became_another_kind_take_the_epoch_along(domain: Domain, plant: Plant) -> None:
    """Not one sync fails for it: that would be no lease for anybody until the fences ran out."""
    domain.fence("users")
    before = domain.epoch
    domain.client.delete(domain.names.domain[3])
    plant(domain.client, domain.names.domain[3])
    assert fill(domain, "b", "posts") == "fenced", "nobody can tell any more"

    assert domain.sync().epoch != before
    assert fill(domain, "a", "users") == "ok"


@each({**OTHER_TYPES, **STRING, **ZSET})
@pytest.mark.parametrize("place", [2, 3])
def test_what_was_planted_before_the_first_fence_goes_with_it(
    domain: Domain, plant: Plant, place: int
) -> None:
    plant(domain.client, domain.names.domain[place])

    domain.fence("users")

    assert (live(domain), fenced(domain)) == (1, {b"t:users": b"1"})
    assert domain.sync().epoch == domain.epoch


def test_a_planted_fence_takes_the_epoch_along(domain: Domain) -> None:
    domain.fence("users")
    before = domain.epoch
    domain.client.zadd(domain.names.domain[2], {b"x\0t:" + b"y" * 100: 1})

    assert domain.sync().epoch != before


@pytest.mark.parametrize("count", [b"x", b"9" * 30, b""])
def test_a_planted_count_holds_nothing_back_for_good(domain: Domain, count: bytes) -> None:
    domain.fence("users")
    domain.client.hset(domain.names.domain[3], "t:users", count)
    end(domain, "users")
    domain.sync()
    domain.sync()

    assert fill(domain, "a", "users") == "ok"


def test_an_entry_from_before_a_fence_stays_away_when_it_is_lifted(domain: Domain) -> None:
    fill(domain, "a", "users")
    domain.fence("users")
    domain.do(Unfence("f", ("t:users",)))

    assert not isinstance(domain.answer("a"), Hit)


def test_a_fence_of_keys_above_their_cap_still_holds(domain: Domain) -> None:
    domain.do(Fence((), tuple(f"k{i}" for i in range(30)), 10, 10, "f", 60_000))

    assert fill(domain, "k0") in ("fenced", "floor")
    assert fill(domain, "k29") in ("fenced", "floor")
    end(domain, keys=tuple(f"k{i}" for i in range(30)))
    assert live(domain) == 0
