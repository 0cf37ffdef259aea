"""Whoever hits a value that can be changed gets a copy of his own, the same, of which no part is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings

from tests.core.test_value_round_trip import EXAMPLES, VALUES, Loose, Wrapped, anything, form
from tiercache._core.copies import COPY, MAX_KEPT_WHOLE, Kept, kept


def kept_of(value: Any) -> Kept:
    return kept(VALUES, value, VALUES.encode(value))


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


def assert_copied(value: Any) -> None:
    held = kept_of(value)
    one, other = held.restore(held.value), held.restore(held.value)
    assert form(one) == form(other) == form(value)
    parts = [set(changeable(each)) for each in (value, held.value, one, other)]
    assert len(set().union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize("value", EXAMPLES, ids=[str(index) for index in range(len(EXAMPLES))])
def test_each_copy_is_the_same_and_shares_no_part_that_can_be_changed(value: Any) -> None:
    for around in ([value], {"a": value}, {"a": 1, "b": [value]}, [{"a": value}], [[], 1, {"a": [value]}]):
        assert_copied(around)


@settings(deadline=None)  # a busy machine is no failure
@given(anything)
def test_each_copy_of_anything_is_the_same_and_shares_no_part_that_can_be_changed(value: Any) -> None:
    assert_copied(value)
    assert_copied({"a": value, "b": [value]})


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
def test_a_small_value_of_two_levels_is_kept_whole(value: Any) -> None:
    assert type(kept_of(value).value) is type(value)


@pytest.mark.parametrize(
    "value", [{"a": [[]]}, [[{}]], {"a": {"b": {}}}, list(range(MAX_KEPT_WHOLE)), Loose([], 1), [Loose(1, 2)]]
)
def test_a_large_or_a_deeper_one_is_kept_as_its_bytes(value: Any) -> None:
    assert type(kept_of(value).value) is bytes


def test_a_value_that_is_kept_whole_counts_by_the_size_of_its_objects() -> None:
    payload = VALUES.encode({"name": "x" * 1000})

    assert kept(VALUES, {}, payload).size > len(payload)
    assert kept_of({"a": [["x" * 1000]]}).size < 1050


def test_keys_that_are_equal_and_of_two_types_are_copied_as_they_are() -> None:
    for key in (1, True, 1.0):
        held = kept_of({key: [key]})
        assert form(held.restore(held.value)) == form({key: [key]})
