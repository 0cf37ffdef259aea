"""Whoever hits a value that can be changed gets a copy of his own, the same, of which no part is shared."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings

from tests.core.test_value_round_trip import EXAMPLES, VALUES, Loose, Wrapped, anything, form
from tiercache._core.copies import COPY, DEEP, MAX_KEPT_WHOLE, Kept, kept

Keep = Callable[[Any], Kept]


def in_python(value: Any) -> Kept:
    return kept(VALUES, value, VALUES.encode(value), deep=None)


def in_c(value: Any) -> Kept:
    assert DEEP is not None
    return kept(VALUES, value, VALUES.encode(value), deep=DEEP)


@pytest.fixture(
    params=[in_python, pytest.param(in_c, marks=pytest.mark.skipif(DEEP is None, reason="not compiled here"))]
)
def keep(request: pytest.FixtureRequest) -> Keep:
    keep: Keep = request.param
    return keep


def changeable(value: Any) -> Iterator[int]:
    """The address of each part of *value* that somebody can change."""
    kind = type(value)
    if kind in COPY or isinstance(value, Loose | Wrapped):
        yield id(value)
    if kind is dict:
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif is_dataclass(value):
        parts = [getattr(value, field.name) for field in fields(value)]
    else:
        parts = [value.inside] if isinstance(value, Wrapped) else []
    for part in parts:
        yield from changeable(part)


def assert_copied(keep: Keep, value: Any) -> None:
    held = keep(value)
    one, other = held.restore(held.value), held.restore(held.value)
    assert form(one) == form(other) == form(value)
    parts = [set(changeable(each)) for each in (value, held.value, one, other)]
    assert len(set().union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize("value", EXAMPLES, ids=[str(index) for index in range(len(EXAMPLES))])
def test_each_copy_is_the_same_and_shares_no_part_that_can_be_changed(keep: Keep, value: Any) -> None:
    for around in ([value], {"a": value}, {"a": 1, "b": [value]}, [{"a": value}], [[], 1, {"a": [value]}]):
        assert_copied(keep, around)


@settings(deadline=None)  # a busy machine is no failure
@given(anything)
def test_each_copy_of_anything_is_the_same_and_shares_no_part_that_can_be_changed(value: Any) -> None:
    for keep in (in_python,) if DEEP is None else (in_python, in_c):
        assert_copied(keep, value)
        assert_copied(keep, {"a": value, "b": [value]})


@pytest.mark.parametrize(
    "value",
    [
        {"id": 7, "name": "Ann", "born": date(1990, 1, 1), "at": (1, 2)},
        [1, 2, 3],
        {1, 2, 3},
        bytearray(b"ab"),
        {"id": 7, "tags": ["a", "b"], "address": {"city": "London"}},
        [{"id": 1}, {"id": 2}],
        [1, [2], {"a": 3}],
    ],
)
def test_a_small_value_of_two_levels_is_kept_whole(keep: Keep, value: Any) -> None:
    assert type(keep(value).value) is type(value)


@pytest.mark.parametrize("value", [{"a": [[]]}, [[{}]], {"a": {"b": {}}}, {"a": [{date.min}]}])
def test_a_deeper_one_is_kept_as_its_bytes_where_copies_are_made_in_python(value: Any) -> None:
    assert type(in_python(value).value) is bytes
    assert DEEP is None or type(in_c(value).value) is type(value)


@pytest.mark.parametrize("value", [list(range(MAX_KEPT_WHOLE)), Loose([], 1), [Loose(1, 2)], [([],)]])
def test_a_large_one_or_one_with_parts_of_other_classes_is_kept_as_its_bytes(keep: Keep, value: Any) -> None:
    assert type(keep(value).value) is bytes


def test_a_value_that_is_kept_whole_counts_by_the_size_of_its_objects(keep: Keep) -> None:
    assert keep({"name": "x" * 1000}).size > 1000 + sys.getsizeof({})
    assert keep([["x" * 1000]]).size > 1000 + sys.getsizeof([])
    assert keep(["x" * MAX_KEPT_WHOLE]).size < MAX_KEPT_WHOLE + 10
    assert keep({letter * 900: 1 for letter in "abcd"}).size > 3600, "keys that no other value has"


def test_keys_that_are_equal_and_of_two_types_are_copied_as_they_are(keep: Keep) -> None:
    for key in (1, True, 1.0):
        held = keep({key: [key]})
        assert form(held.restore(held.value)) == form({key: [key]})
