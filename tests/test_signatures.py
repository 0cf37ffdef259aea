"""What is told of a function that is not called, and what comes of a class that is named anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import make_dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from tests.scripts import output_of
from tests.servers import RedisServer
from tiercache import TierCache
from tiercache._signatures import returned

if TYPE_CHECKING:
    from nowhere import Session


@pytest.fixture
def cache() -> Iterator[TierCache]:
    made = TierCache("memory://", private=True)
    yield made
    made.sync.close()


class Checked:
    def __class_getitem__(cls, size: int) -> type:
        raise ValueError("the size of a checked type must be positive")


def one_parameter_unknown(db: Session, number: int) -> Fraction:
    return Fraction(number)


def parameter_that_raises(number: Checked[-1]) -> Fraction:  # type: ignore[type-arg]
    return Fraction(number)


def return_that_raises(number: int) -> Checked[-1]: ...  # type: ignore[type-arg]


def test_what_a_function_returns_is_told_whatever_its_parameters_are() -> None:
    assert returned(one_parameter_unknown) is Fraction
    assert returned(parameter_that_raises) is Fraction


def test_a_return_annotation_that_raises_tells_nothing() -> None:
    assert returned(return_that_raises) is None


def test_an_annotation_that_raises_is_no_error_of_the_call(cache: TierCache) -> None:
    cache.register(Fraction, str, Fraction)

    assert cache.cached(parameter_that_raises)(3) == Fraction(3)


def test_what_l1_has_of_a_class_that_is_registered_anew_is_a_miss(cache: TierCache) -> None:
    """As when the cell of a notebook is run twice, or a module reloaded."""
    before = make_dataclass("Point", ["x"])
    cache.sync.set("point", before(1))
    cache.register(before)
    assert cache.sync.get("point") == before(1)

    cache.register(make_dataclass("Point", ["x", "y"]))

    assert cache.sync.get("point") is None


def test_a_timeout_that_is_given_counts_where_the_url_is_of_the_environment(
    redis_server: RedisServer,
) -> None:
    program = (
        "from tiercache import TierCache\n"
        "cache = TierCache(namespace='a', timeout=2.0)\n"
        "print(cache._node.address.timeout, TierCache(namespace='b', timeout=0.2)._node.address.timeout)\n"
    )
    assert output_of(program, TIERCACHE_URL=redis_server.url()) == "2.0 0.2\n"
