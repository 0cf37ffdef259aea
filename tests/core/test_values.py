"""What Values refuses to store, how a dataclass comes back, and what may be handed out uncopied."""

from __future__ import annotations

import functools
import socket
import struct
import sys
from collections import OrderedDict, defaultdict, deque
from contextlib import closing
from dataclasses import InitVar, dataclass, field, make_dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from io import BytesIO
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tiercache._core.value_trees import MAX_DEPTH
from tiercache._core.values import Unreadable, Values
from tiercache._errors import Unstorable

T = TypeVar("T")


class Colour(Enum):
    RED = 1
    GREEN = 2


class Access(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: float
    y: float


class LoosePoint(Point):
    """Takes attributes, having no __slots__."""


@dataclass
class Item:
    name: str
    colour: Colour


@dataclass(frozen=True)
class Frozen:
    parts: Any


@dataclass
class Box(Generic[T]):
    content: T


@pytest.fixture
def values() -> Values:
    return Values()


def refusal(value: object) -> str:
    with pytest.raises(Unstorable) as caught:
        Values().encode(value)
    return str(caught.value)


def in_tuples(value: object, depth: int) -> Any:
    for _ in range(depth):
        value = (value,)
    return value


# Refusals


def test_a_refusal_shows_the_path_and_what_to_write_instead() -> None:
    with closing(socket.socket()) as connection:
        message = refusal({"items": [1, 2, 3, connection]})
    assert message == (
        "value['items'][3]: socket.socket has no stored form; "
        "return plain data, or cache.register(socket, encode, decode)"
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value: "),
        ((1, (object(),)), "value[1][0]: "),
        ({1: {"a": object()}}, "value[1]['a']: "),
        ({(1, object()): 2}, "value, key (1, <object obj"),
        ({10**5000: object()}, "value[0x"),
        ([{object()}], "value[0], an item: "),
        (frozenset([(1, object())]), "value, an item[1]: "),
        (Item("a", object()), "value.colour: "),
        ([Box([Item("a", Colour.RED), object()])], "value[0].content[1]: "),
        (Point(1.0, object()), "value.y: "),
        ({"\ud800": 1, "b": object()}, "value['b']: "),
    ],
)
def test_the_path_leads_to_the_part_through_every_container(value: object, path: str) -> None:
    assert path in refusal(value)


class MyDict(dict[str, int]):
    pass


class MyStr(str):
    pass


class MyDatetime(datetime):
    pass


# TZif: version, six counts (one type, four letters), the type (no offset, no DST), the letters
NAMELESS_ZONE = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"HERE"


@pytest.mark.parametrize(
    "value",
    [
        MyDict(),
        MyStr("a"),
        MyDatetime(2024, 1, 1),
        OrderedDict(),
        defaultdict(list),
        deque(),
        range(3),
        memoryview(b""),
        sys.version_info,
        {MyStr("a"): 1},
        datetime(2024, 1, 1, tzinfo=type("MyZone", (tzinfo,), {})()),
        datetime(2024, 1, 1, tzinfo=ZoneInfo.from_file(BytesIO(NAMELESS_ZONE))),
        (item for item in ()),
    ],
)
def test_a_type_that_would_come_back_as_another_is_refused(value: object) -> None:
    assert refusal([value]).startswith("value[0]")


def test_a_value_that_contains_itself_is_refused_by_name() -> None:
    value: dict[str, Any] = {"a": [1]}
    value["a"].append((value,))
    assert refusal([value]).startswith("value[0]['a'][1][0]: this is value[0] again")


def test_one_object_in_two_places_is_stored_twice(values: Values) -> None:
    shared = [1]
    first, second = values.decode(values.encode((shared, shared)))
    assert first == second == [1]
    assert first is not second


@pytest.mark.parametrize(
    "innermost", [[], {}, (), {1: 2}, {"!tuple": 1}, Point(1, 2), datetime(2024, 1, 1)], ids=repr
)
def test_values_go_as_deep_as_promised_and_no_deeper(innermost: object, values: Values) -> None:
    value = in_tuples(innermost, MAX_DEPTH - 1)
    assert values.decode(values.encode(value)) == value
    assert "more than 100" in refusal(in_tuples([], MAX_DEPTH))


@pytest.mark.parametrize(
    ("verb", "outcome"), [("encode", Unstorable), ("decode", Unreadable), ("is_shareable", False)]
)
def test_a_stack_with_little_room_left_is_no_recursion_error(verb: str, outcome: object) -> None:
    values = Values()
    value = in_tuples(1, MAX_DEPTH)
    argument = values.encode(value) if verb == "decode" else value
    met: set[object] = set()

    def descend() -> None:
        try:
            met.add(getattr(values, verb)(argument))
        except (Unstorable, Unreadable) as error:
            met.add(type(error))
        descend()

    with pytest.raises(RecursionError):
        descend()
    assert outcome in met


# Dataclasses


def test_a_dataclass_comes_back_past_its_init_and_its_frozen_setattr(values: Values) -> None:
    @dataclass(frozen=True, slots=True)
    class Base:
        width: int
        scale: InitVar[int] = 1
        area: int = field(init=False)

        def __post_init__(self, scale: int) -> None:
            object.__setattr__(self, "area", self.width * scale)

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        name: str = "x"

    back = values.decode(values.encode(Derived(3, scale=5, name="y")))
    assert type(back) is Derived
    assert (back.width, back.area, back.name) == (3, 15, "y")


def test_attributes_beyond_the_fields_are_refused_and_not_lost(values: Values) -> None:
    item = Item("a", Colour.RED)
    item.note = 1
    assert "'note'" in refusal([item])
    point = LoosePoint(1.0, 2.0)
    point.note = 1
    assert "'note'" in refusal([point])


def test_what_an_instance_makes_anew_from_its_fields_may_be_lost(values: Values) -> None:
    @dataclass
    class Sum:
        parts: list[int]

        @functools.cached_property
        def total(self) -> int:
            return sum(self.parts)

    value = Sum([1, 2])
    assert value.total == 3
    back = values.decode(values.encode([value, Box[int](1)]))
    assert back == [value, Box(1)]
    assert back[0].total == 3


def test_a_dataclass_that_is_more_than_its_fields_is_refused() -> None:
    class Hidden:
        __slots__ = ("_hidden",)

    class Descriptor:
        def __get__(self, instance: object, owner: type) -> int:
            return 1

        def __set__(self, instance: object, value: int) -> None:
            pass

    @dataclass
    class Behind:
        at: int = Descriptor()

    assert "more than its fields" in refusal(make_dataclass("InDict", ["x"], bases=(dict,))(1))
    assert "'_hidden'" in refusal(make_dataclass("Slotted", ["x"], bases=(Hidden,))(1))
    assert "descriptor" in refusal(Behind())


def test_a_field_without_a_value_is_refused() -> None:
    Unset = make_dataclass("Unset", [("x", int, field(init=False))])
    assert "field without a value" in refusal(Unset())


# Sharing


@pytest.mark.parametrize(
    "value",
    [
        None,
        "a",
        (1, 2.0, b"c", Decimal("1"), UUID(int=1), True),
        frozenset([(1, datetime(2024, 1, 1))]),
        datetime(2024, 1, 1, tzinfo=UTC),
        Colour.RED,
        Access.READ | Access.WRITE,
        Point(1.0, 2.0),
        Frozen((Point(1.0, 2.0), Colour.RED)),
    ],
)
def test_what_nobody_can_change_is_shareable(value: object, values: Values) -> None:
    assert values.is_shareable(value)
    values.encode(value)
    assert values.is_shareable(value)


class LooseFrozen(Frozen):
    """Takes attributes, being no dataclass of its own."""


@dataclass(frozen=True)
class Remembering:
    parts: tuple[int, ...]

    @functools.cached_property
    def as_list(self) -> list[int]:
        return list(self.parts)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        set(),
        bytearray(b"a"),
        object(),
        (1, ([],)),
        Frozen([1]),
        Point(1.0, []),
        Item("a", Colour.RED),
        MyStr("a"),
        LoosePoint(1.0, 2.0),
        LooseFrozen(1),
        Remembering((1,)),
        datetime(2024, 1, 1, tzinfo=type("MyZone", (tzinfo,), {})()),
    ],
)
def test_what_somebody_might_change_is_not_shareable(value: object, values: Values) -> None:
    assert not values.is_shareable(value)


def test_a_registered_class_is_not_shareable(values: Values) -> None:
    values.register(Frozen, lambda frozen: frozen.parts, Frozen)
    assert not values.is_shareable(Frozen(1))


def test_a_tuple_of_any_depth_can_be_asked_about(values: Values) -> None:
    assert values.is_shareable(in_tuples(1, MAX_DEPTH))
    assert not values.is_shareable(in_tuples(1, MAX_DEPTH + 1))
    assert not values.is_shareable(in_tuples(1, 100_000))
