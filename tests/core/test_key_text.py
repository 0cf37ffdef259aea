"""What a value is in a key: distinct ones apart, one together, and no text for what has none."""

from __future__ import annotations

import collections
import functools
import io
import re
import socket
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import pytest

from tests.core.key_samples import (
    Color,
    Empty,
    Id,
    Kind,
    Level,
    Loud,
    Money,
    OrderId,
    OtherRepository,
    Point,
    Repository,
    Rights,
    Row,
    Rows,
    Shelf,
    Shifted,
    Slotted,
    Subslotted,
    Tenant,
    Weight,
    Zone,
    get_user,
    key_of,
    one,
)
from tiercache._errors import UnstableKey


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({1, 2, 3}, {3, 2, 1}),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
        (float("nan"), -float("nan")),
        (Color.RED, Color.CRIMSON),
        (Rights.READ | Rights.WRITE, Rights(3)),
        (Money(1, "EUR"), Money(1, "EUR")),
        (Repository(a=1, b=2), Repository(b=2, a=1)),
        (Tenant("a", noise=1), Tenant("a", noise=object())),
        (Shelf(), Shelf()),
        (Empty(), Empty()),
        (range(3), range(0, 3)),
        (datetime(2024, 1, 1, tzinfo=Zone()), datetime(2024, 1, 1, tzinfo=Zone())),
    ],
)
def test_equal_content_makes_one_key(left: object, right: object) -> None:
    assert key_of(left) == key_of(right)


def test_a_decimal_does_not_depend_on_the_decimal_context() -> None:
    before = key_of(Decimal("1E+30"))
    with localcontext() as context:
        context.capitals = 0
        assert key_of(Decimal("1E+30")) == before


def test_a_cached_property_makes_no_difference_before_and_after_it_was_read() -> None:
    repository = Repository(tenant="a")
    before = key_of(repository)
    assert repository.table == "users"
    assert key_of(repository) == before


def test_an_attribute_of_a_number_counts() -> None:
    tagged = Id(7)
    tagged.source = "a"  # type: ignore[attr-defined]  # what the test is about
    assert key_of(tagged) != key_of(Id(7))


def test_what_a_base_remembers_for_itself_makes_no_difference() -> None:
    used, unused = (type("Folder", (type(Path()),), {})("/x") for _ in range(2))
    assert {used: str(used)} == {used: "/x"}
    assert key_of(used) == key_of(unused)
    assert key_of(OrderId(int=7)) != key_of(uuid.UUID(int=7))


def test_an_id_of_the_asyncpg_driver_is_the_uuid_it_equals() -> None:
    drivers = type("UUID", (uuid.UUID,), {"__module__": "asyncpg.pgproto.pgproto"})
    assert key_of(drivers(int=7)) == key_of(uuid.UUID(int=7))


@pytest.mark.parametrize(
    "family",
    [
        [1, "1", True, 1.0, Decimal(1), b"1", 1 + 0j, Level.LOW, (1,), [1], {1}, frozenset({1}), {1: 1}],
        [None, "", "None", (), [], {}, set(), frozenset(), b"", bytearray(), False, 0, ...],
        [-1, -2, "-1"],
        ["a", Kind.A, b"a", bytearray(b"a"), Loud("a"), Loud("b"), PurePosixPath("a"), Path("a")],
        ["a b", ("a", "b"), ("a b",), "('a', 'b')", ["a", "b"], ["a", ["b"]], [["a"], "b"]],
        ["'", "\\", "\\'", "''", "\\u0000", "\0", "\ud800", "\\ud800", "\ud83d\ude00", "😀"],
        [Decimal("1.0"), Decimal("1.00"), Decimal("NaN"), Decimal("sNaN"), Decimal("-0"), Decimal(0)],
        [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e300],
        [10**5000, 10**5000 + 1, -(10**5000)],
        [
            datetime(2024, 1, 1),
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Paris")),
            datetime(2024, 1, 1, tzinfo=Shifted(1)),
            datetime(2024, 1, 1, tzinfo=Shifted(2)),
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime(2024, 1, 1, fold=1),
            date(2024, 1, 1),
            time(0),
            time(0, tzinfo=UTC),
            "2024-01-01T00:00:00",
        ],
        [uuid.UUID(int=7), uuid.UUID(int=7).hex, str(uuid.UUID(int=7)), 7],
        [Color.RED, Color.BLUE, Rights.READ, Rights.WRITE, Rights(0), "RED", "Color.RED"],
        [Point(1, 2), (1, 2), Point("1", 2), Money(1, 2), Weight(1, 2), {"amount": 1, "currency": 2}],
        [Slotted(1), Slotted("1"), Subslotted(1)],
        [Tenant("a"), Tenant("b"), "a", Shelf()],
        [one, get_user, "one", Empty, Empty(), int, len, Repository.get, OtherRepository.get],
        [Repository().get, OtherRepository().get, Repository(a=1).get, Repository.load, OtherRepository.load],
        [Row(a=1), Row(a=2), {"a": 1}, collections.Counter(a=1), collections.OrderedDict(a=1)],
        [collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}],
        [Rows([1]), Rows([2]), [1]],
        [7, Id(7), Id(8), bool(7), Level.LOW],
        [re.compile("a"), re.compile("a", re.I), re.compile(b"a"), re.compile(Loud("b")), "a"],
        [range(3), range(4), (0, 1, 2)],
    ],
)
def test_values_of_another_type_or_content_make_another_key(family: list[object]) -> None:
    assert len({key_of(value) for value in family}) == len(family)


def test_an_attribute_with_an_odd_name_is_not_two_attributes() -> None:
    odd = Repository()
    setattr(odd, "a=1, b", 2)
    assert key_of(odd) != key_of(Repository(a=1, b=2))


def count_up() -> Iterator[int]:
    yield 1


class Node:
    def __init__(self) -> None:
        self.children = [self]


def nested(depth: int) -> list[object]:
    return [nested(depth - 1)] if depth else []


def unstable_values() -> list[object]:
    return [
        object(),
        count_up(),
        iter([1]),
        map(str, [1]),
        io.StringIO(),
        socket.socket.__new__(socket.socket),
        sys,
        weakref.ref(Empty),
        functools.partial(one, 1),
        lambda: 1,
        types.MappingProxyType({}),
        memoryview(b"a"),
        ValueError("x"),
        [].append,
        threading.local(),
        Node(),
        nested(100),
        Tenant(None),  # type: ignore[arg-type]  # so its __cache_key__ is None
    ]


@pytest.mark.parametrize("value", unstable_values(), ids=lambda value: type(value).__name__)
def test_a_value_without_a_stable_text_is_refused(value: object) -> None:
    with pytest.raises(UnstableKey, match=r"^one\(\): argument 'x'.*same in every process.*ignore=\[\"x\"\]"):
        key_of(value)


def test_an_awaitable_is_refused() -> None:
    async def load() -> None: ...

    coroutine = load()
    with pytest.raises(UnstableKey, match="coroutine"):
        key_of(coroutine)
    coroutine.close()


def test_a_function_and_a_class_of_a_function_are_refused() -> None:
    class Local: ...

    def local() -> None: ...

    for value in (Local, local):
        with pytest.raises(UnstableKey, match="<locals>"):
            key_of(value)


def test_a_function_whose_name_leads_to_another_is_refused() -> None:
    @functools.wraps(one)
    def wrapper(x: object) -> None: ...

    with pytest.raises(UnstableKey, match="lead back"):
        key_of(wrapper)


def test_a_subclass_of_a_plain_type_with_state_out_of_sight_is_refused() -> None:
    deque = type("Deque", (collections.deque,), {})
    with pytest.raises(UnstableKey, match="not in its attributes"):
        key_of(deque([1]))


def test_the_error_names_the_way_to_the_part() -> None:
    client = Repository(pools={"main": [1, object()]})
    with pytest.raises(UnstableKey, match=r"argument 'x'\.pools\['main'\]\[1\]: object"):
        key_of(client)


def test_the_error_tells_a_cycle_where_it_closes() -> None:
    with pytest.raises(UnstableKey, match=r"argument 'x'\.children\[0\]: Node .* it holds itself"):
        key_of(Node())


def test_one_object_in_two_places_is_no_cycle() -> None:
    shared = [1]
    assert key_of([shared, shared]) == key_of([[1], [1]])
