"""Which classes Values knows by name, and what it does with names it does not know."""

from __future__ import annotations

import sys
import typing
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, make_dataclass
from enum import Enum, Flag
from threading import Barrier
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

import orjson
import pytest

from tiercache._core.values import ENVELOPED, Unreadable, Values
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


@dataclass
class Item:
    name: str
    colour: Colour


@dataclass
class Order:
    number: int
    items: list[Item]
    parent: Order | None = None


@dataclass
class Box(Generic[T]):
    content: T


@pytest.fixture
def values() -> Values:
    return Values()


def moved(value: object, reader: Values) -> Any:
    """What another process, which has stored nothing, reads."""
    return reader.decode(Values().encode(value))


@pytest.mark.parametrize("value", [Colour.RED, Access.READ | Access.WRITE, Point(1, 2), Order(1, [])])
def test_a_class_this_process_never_met_is_unreadable(value: object, values: Values) -> None:
    with pytest.raises(Unreadable):
        moved(value, values)


def test_a_class_is_known_once_an_instance_was_stored(values: Values) -> None:
    values.encode(Colour.RED)
    assert moved([Colour.GREEN], values) == [Colour.GREEN]


def test_a_class_is_known_once_it_was_registered_and_so_are_those_of_its_fields(values: Values) -> None:
    values.register(Order)
    order = Order(1, [Item("a", Colour.RED)])
    assert moved(order, values) == order


class Row(TypedDict):
    item: Item


class Linked(NamedTuple):
    next: Linked | None
    item: Item


@dataclass
class HalfUnknown:
    missing: NowhereDefined  # noqa: F821  # as under `if TYPE_CHECKING`
    item: Item


ItemId = NewType("ItemId", Item)


@pytest.mark.parametrize(
    "annotation",
    [
        Item,
        Optional[Item],  # noqa: UP045  # as much user code spells it
        Item | None,
        list[Item],
        dict[str, tuple[Item, ...]],
        Annotated[Item, "x", ["unhashable"]],
        Awaitable[list[Item]],
        typing.Callable[[Item], int],
        Box[Item],
        Order,
        Row,
        Linked,
        HalfUnknown,
        ItemId,
        Item | Literal["x"],
    ],
    ids=str,
)
def test_a_class_is_known_once_an_annotation_leads_to_it(annotation: object, values: Values) -> None:
    values.learn(annotation)
    item = Item("a", Colour.RED)
    assert moved(item, values) == item


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` came with Python 3.12")
def test_a_class_is_known_once_a_type_alias_leads_to_it(values: Values) -> None:
    values.learn(typing.TypeAliasType("Items", list[Item]))
    assert moved(Item("a", Colour.RED), values) == Item("a", Colour.RED)


def test_a_generic_class_is_known_once_an_annotation_gives_it_arguments(values: Values) -> None:
    values.learn(Box[int])
    assert moved(Box(1), values) == Box(1)


def test_a_literal_makes_its_enum_known_and_annotated_extras_make_nothing_known(values: Values) -> None:
    values.learn(Literal[Colour.RED])
    assert moved(Colour.GREEN, values) is Colour.GREEN
    values.learn(Annotated[int, Point])
    with pytest.raises(Unreadable):
        moved(Point(1, 2), values)


@pytest.mark.parametrize(
    "annotation", [None, "Item", 3, ..., T, Any, [1], {}, make_dataclass("D", ["x"], bases=(dict,))], ids=str
)
def test_an_annotation_that_means_nothing_here_is_passed_over(annotation: object, values: Values) -> None:
    values.learn(annotation)
    assert values.decode(values.encode(1)) == 1


def two_of_one_name() -> tuple[type, type]:
    first, second = (make_dataclass("Twin", ["x"]) for _ in range(2))
    return first, second


def test_two_classes_of_one_name_are_not_mixed_up(values: Values) -> None:
    first, second = two_of_one_name()
    data = values.encode(first(1))
    with pytest.raises(Unstorable, match="two classes call themselves"):
        values.encode([second(1)])
    values.learn(second)
    assert type(values.decode(data)) is first


def test_registering_says_which_of_two_classes_is_meant(values: Values) -> None:
    first, second = two_of_one_name()
    data = values.encode(first(1))
    values.register(second)
    assert type(values.decode(data)) is second
    with pytest.raises(Unstorable, match="two classes call themselves"):
        values.encode(first(1))


def test_a_class_of_other_fields_than_were_stored_is_unreadable(values: Values) -> None:
    values.register(make_dataclass("Twin", ["x", "y"]))
    with pytest.raises(Unreadable, match="was stored as 'dataclass x'"):
        moved(make_dataclass("Twin", ["x"])(1), values)


def test_a_member_that_is_gone_is_unreadable(values: Values) -> None:
    values.register(Enum("Size", "SMALL"))
    with pytest.raises(Unreadable):
        moved(Enum("Size", "SMALL LARGE").LARGE, values)


def made_up(cls: type[Enum], name: str, number: int) -> Enum:
    member = object.__new__(cls)
    member._name_, member._value_ = name, number
    return member


@pytest.mark.parametrize(
    "member", [made_up(Colour, "BLUE", 3), made_up(Access, "READ", 1)], ids=["enum", "flag"]
)
def test_a_member_that_its_class_does_not_find_again_is_refused(member: Enum, values: Values) -> None:
    with pytest.raises(Unstorable, match="does not find this"):
        values.encode(member)


def test_a_local_class_travels_by_its_name_too(values: Values) -> None:
    @dataclass
    class Local:
        x: int

    values.register(Local)
    assert moved(Local(1), values) == Local(1)


def test_a_class_named_in_the_bytes_is_never_imported(values: Values) -> None:
    assert "this" not in sys.modules
    with pytest.raises(Unreadable):
        values.decode(ENVELOPED + orjson.dumps({"!class": ["this:Zen", "enum", "A"]}))
    assert "this" not in sys.modules


def test_threads_that_store_one_new_class_agree_on_it(values: Values) -> None:
    Twin = make_dataclass("Twin", ["x"])
    start = Barrier(8)

    def store() -> object:
        start.wait()
        return values.decode(values.encode(Twin(1)))

    with ThreadPoolExecutor(8) as pool:
        stored = [pool.submit(store) for _ in range(8)]
    assert [task.result() for task in stored] == [Twin(1)] * 8


# Registered functions


class Plain:
    def __init__(self, inside: object) -> None:
        self.inside = inside


class MorePlain(Plain):
    pass


def unwrap(plain: Plain) -> object:
    return plain.inside


def test_a_registered_class_comes_back_by_its_functions_in_any_container(values: Values) -> None:
    values.register(Plain, unwrap, Plain)
    back = values.decode(values.encode({(1, 2): [Plain({Colour.RED: Plain(3)})]}))
    inside = back[1, 2][0].inside
    assert type(inside[Colour.RED]) is Plain
    assert inside[Colour.RED].inside == 3


def test_registered_functions_come_before_the_fields_of_a_dataclass(values: Values) -> None:
    values.register(Item, lambda item: item.name, lambda name: Item(name, Colour.GREEN))
    assert values.decode(values.encode(Item("a", Colour.RED))) == Item("a", Colour.GREEN)


def test_a_registration_is_for_the_exact_type(values: Values) -> None:
    values.register(Plain, unwrap, Plain)
    with pytest.raises(Unstorable, match="MorePlain has no stored form"):
        values.encode(MorePlain(1))


def test_the_path_leads_into_what_a_registered_encode_returned(values: Values) -> None:
    values.register(Plain, unwrap, Plain)
    with pytest.raises(Unstorable, match=r"value\['a'\], encoded\[1\]: object has no stored form"):
        values.encode({"a": Plain([1, object()])})


def test_a_registered_encode_that_raises_is_chained_and_shows_the_path(values: Values) -> None:
    values.register(Plain, lambda plain: plain.nowhere, Plain)
    with pytest.raises(Unstorable, match=r"value\[0\]: encode of .*Plain raised AttributeError") as caught:
        values.encode([Plain(1)])
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_registered_encode_that_returns_its_instance_ends(values: Values) -> None:
    values.register(Plain, lambda plain: plain, Plain)
    with pytest.raises(Unstorable, match="value, encoded: this is value again"):
        values.encode(Plain(1))


def test_a_registered_decode_that_raises_makes_the_bytes_unreadable_and_is_chained(values: Values) -> None:
    values.register(Plain, unwrap, lambda inside: 1 // 0)
    data = values.encode(Plain(1))
    with pytest.raises(Unreadable) as caught:
        values.decode(data)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_registered_decode_that_makes_another_type_makes_the_bytes_unreadable(values: Values) -> None:
    values.register(Plain, unwrap, MorePlain)
    data = values.encode(Plain(1))
    with pytest.raises(Unreadable, match="came back as a MorePlain"):
        values.decode(data)


def test_a_class_stored_by_its_fields_is_unreadable_where_functions_are_registered(values: Values) -> None:
    values.register(Item, lambda item: item.name, lambda name: Item(name, Colour.GREEN))
    with pytest.raises(Unreadable):
        moved(Item("a", Colour.RED), values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Plain",), "register takes a class"),
        ((Plain,), "Plain has no stored form"),
        ((Plain, unwrap), "with two functions"),
        ((Plain, unwrap, 3), "with two functions"),
        ((dict, dict, dict), "dict is stored as it is"),
        ((make_dataclass("InDict", ["x"], bases=(dict,)),), "more than its fields"),
    ],
)
def test_a_registration_that_cannot_work_is_a_type_error_at_once(
    arguments: tuple[Any, ...], message: str, values: Values
) -> None:
    with pytest.raises(TypeError, match=message):
        values.register(*arguments)
