"""Instances that refer to each other: as values, and as bytes that somebody made up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from tiercache._core.value_links import Layout, Linked
from tiercache._core.value_shapes import Refused, Shape
from tiercache._core.values import LINKED, Unreadable, Values
from tiercache._errors import Unstorable


class Node:
    """Refers to one other and to several."""

    def __init__(self, name: Any, other: Node | None = None, *many: Node) -> None:
        self.name, self.at, self.other, self.many = name, datetime(2026, 1, 2), other, list(many)
        self.finished = False


class Twin(Node):
    pass


LAYOUT = Layout("all", ("name", "at"), ("other",), ("many",))


class Nodes(Linked):
    print = "1"

    def layout(self, instance: Node) -> Layout:
        if instance.name == "refused":
            raise Refused("refused by its name")
        return LAYOUT

    def values(self, layout: Layout, instances: Sequence[Node]) -> Sequence[Sequence[Any]]:
        return [[each.name for each in instances], [each.at for each in instances]]

    def ones(self, layout: Layout, instances: Sequence[Node]) -> Sequence[Sequence[Any]]:
        return [[each.other for each in instances]]

    def many(self, layout: Layout, instances: Sequence[Node]) -> Sequence[Sequence[Sequence[Any]]]:
        return [[each.many for each in instances]]

    def found(self, tree: Any) -> Layout:
        return {"all": LAYOUT}[tree]

    def make(self, layout: Layout, columns: Sequence[list[Any]], count: int) -> list[Any]:
        made = []
        for name, at in zip(*columns, strict=True):
            node = self.cls(name)
            node.at = at
            made.append(node)
        return made

    def refer(
        self, layout: Layout, instances: Sequence[Any], ones: Sequence[list[Any]], many: Sequence[Any]
    ) -> None:
        for node, other, several in zip(instances, ones[0], many[0], strict=True):
            node.other, node.many = other, several

    def finish(self, instances: Sequence[Node]) -> None:
        for node in instances:
            assert node.other is None or isinstance(node.other, Node)
            node.finished = True


class Family:
    def shape(self, cls: type) -> Shape | Linked | None:
        return Nodes(cls) if issubclass(cls, Node) else None

    def named(self, name: str) -> type | None:
        return Node if name == Nodes(Node).name else None


NAME = Nodes(Node).name


@pytest.fixture
def values() -> Values:
    return Values([Family()])


def there_and_back(values: Values, value: Any) -> Any:
    return Values([Family()]).decode(values.encode(value))


def test_an_instance_stored_at_any_depth_comes_back(values: Values) -> None:
    came = there_and_back(values, {"a": [1, (Node("x"), {2: Node("y")})]})

    (one, other) = came["a"][1]
    assert (type(one), one.name, one.at, other[2].name) == (Node, "x", datetime(2026, 1, 2), "y")


def test_one_that_is_referred_to_twice_is_one_again(values: Values) -> None:
    shared = Node("shared")

    one, other, itself = there_and_back(values, [Node("a", shared), Node("b", None, shared, shared), shared])

    assert one.other is itself
    assert other.many == [itself, itself]


def test_a_circle_comes_back_as_a_circle(values: Values) -> None:
    one = Node("one")
    one.other = Node("two", one)
    one.many = [one]

    came = there_and_back(values, one)

    assert came.other.other is came
    assert came.many == [came]


def test_a_chain_may_be_longer_than_the_stack(values: Values) -> None:
    chain = None
    for number in range(20_000):
        chain = Node(number, chain)

    came = there_and_back(values, chain)

    length = 0
    while came is not None:
        came, length = came.other, length + 1
    assert length == 20_000


def test_instances_of_several_classes_have_a_table_each(values: Values) -> None:
    value = [Node("a"), Twin("b"), Node("c", Twin("d"))]

    came = values.decode(values.encode(value))

    assert [type(node) for node in came] == [Node, Twin, Node]
    assert (type(came[2].other), came[2].other.name) == (Twin, "d")


def test_all_are_finished_once_all_references_are_set(values: Values) -> None:
    came = there_and_back(values, Node("a", Node("b")))

    assert came.finished
    assert came.other.finished


@pytest.mark.parametrize(
    "names",
    [
        ["a", None, "\ud800", 2**80, -1, True, 1.5, float("inf")],
        [Decimal("1.20"), None, Decimal("NaN")],
        [b"bytes", None],
        [{"!tuple": 1}, (1, 2), {"a": [1]}, {1}],
        [[1, 2], [3]],
    ],
)
def test_values_of_any_kind_stand_in_one_column(values: Values, names: list[Any]) -> None:
    came = there_and_back(values, [Node(name) for name in names])

    assert repr([node.name for node in came]) == repr(names)
    assert [type(node.name) for node in came] == [type(name) for name in names]


def test_equal_values_are_equal_bytes(values: Values) -> None:
    def made() -> list[Node]:
        shared = Node("s")
        return [Node("a", shared, shared), shared]

    assert values.encode(made()) == Values([Family()]).encode(made())


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([0, {"k": Node("refused")}], "value[1]['k']: refused by its name"),
        ([0, Node("a", Node("b", None, Node("c"), Node("refused")))], "value[1].other.many[1]: refused"),
        ([Node(1), (Node(2), Node(object()))], "value[1][1].name: builtins.object has no stored form"),
        (
            {"x": Node("a", None, Node(1), Node([1, {"k": object()}]))},
            "value['x'].many[1].name[1]['k']: ",
        ),
        ([Node("a", Node(Node("b")))], "value[0].other.name: a "),
    ],
)
def test_a_refusal_shows_the_way_through_references(values: Values, value: object, path: str) -> None:
    with pytest.raises(Unstorable) as caught:
        values.encode(value)

    assert path.replace("builtins.", "") in str(caught.value)


def test_a_reference_to_what_is_not_linked_is_refused(values: Values) -> None:
    node = Node("a")
    node.other = 7  # type: ignore[assignment]

    with pytest.raises(Unstorable, match=r"value\.other: "):
        values.encode(node)


def test_linked_instances_are_never_shareable(values: Values) -> None:
    assert not values.is_shareable((Node("a"),))


ROW = [NAME, "1", "all", 0, ["x"], {"!datetime": [["2026-01-02T00:00:00", 0, None]]}, [None], [[]]]


def with_(index: int, part: Any) -> list[Any]:
    return [*ROW[:index], part, *ROW[index + 1 :]]


def test_the_format_is_the_one_that_is_documented(values: Values) -> None:
    assert values.encode(Node("x")) == LINKED + orjson.dumps([{"!link": 0}, ROW])
    assert values.encode([Node("x")]) == LINKED + orjson.dumps([{"!links": [0]}, ROW])
    assert values.encode([Node("x"), 1]) == LINKED + orjson.dumps([[{"!link": 0}, 1], ROW])


@pytest.mark.parametrize(
    "planted",
    [
        [],
        {},
        7,
        [{"!link": 0}],
        [{"!link": 1}, ROW],
        [{"!link": -1}, ROW],
        [{"!link": False}, ROW],
        [{"!link": "0"}, ROW],
        [{"!link": [0]}, ROW],
        [{"!links": 0}, ROW],
        [{"!links": [1]}, ROW],
        [{"!links": [None]}, ROW],
        [{"!link": 0}, with_(0, "os:system")],
        [{"!link": 0}, with_(0, "unknown:Node")],
        [{"!link": 0}, with_(0, 7)],
        [{"!link": 0}, with_(0, [])],
        [{"!link": 0}, with_(1, "2")],
        [{"!link": 0}, with_(2, "other")],
        [{"!link": 0}, with_(2, [])],
        [{"!link": 0}, with_(3, 1)],
        [{"!link": 0}, with_(3, -1)],
        [{"!link": 0}, with_(3, 10**15)],
        [{"!link": 0}, with_(3, [0, 0])],
        [{"!link": 0}, with_(3, ["0"])],
        [{"!link": 0}, with_(3, None)],
        [{"!link": 0}, with_(4, ["x", "y"])],
        [{"!link": 0}, with_(4, "x")],
        [{"!link": 0}, with_(4, {"!tuple": ["x"]})],
        [{"!link": 0}, with_(4, {"!each": "x"})],
        [{"!link": 0}, with_(4, {"!each": [{"!link": 0}]})],
        [{"!link": 0}, with_(4, {"!class": ["os:system", "", ["ls"]]})],
        [{"!link": 0}, with_(4, {"!class": [NAME, "1", ["x", None, None, []]]})],
        [{"!link": 0}, with_(5, {"!datetime": [7]})],
        [{"!link": 0}, with_(6, [0, 0])],
        [{"!link": 0}, with_(6, [-1])],
        [{"!link": 0}, with_(6, [1])],
        [{"!link": 0}, with_(6, [0.0])],
        [{"!link": 0}, with_(6, [True])],
        [{"!link": 0}, with_(6, [[0]])],
        [{"!link": 0}, with_(7, [0])],
        [{"!link": 0}, with_(7, [[None, 9]])],
        [{"!link": 0}, ROW[:-1]],
        [{"!link": 0}, [*ROW, [None]]],
        [{"!link": 0}, ROW, ROW],
        [{"!class": [NAME, "1", "x", None, None, []]}, ROW],
    ],
)
def test_tables_that_somebody_made_up_are_unreadable(values: Values, planted: Any) -> None:
    with pytest.raises(Unreadable):
        values.decode(LINKED + orjson.dumps(planted))


def test_a_link_outside_of_a_value_with_tables_is_unreadable(values: Values) -> None:
    with pytest.raises(Unreadable):
        values.decode(b"\t" + orjson.dumps({"!link": 0}))


def test_what_a_user_calls_a_link_is_no_link(values: Values) -> None:
    came = there_and_back(values, [{"!link": 0}, Node("x")])

    assert came[0] == {"!link": 0}


def test_a_class_that_no_family_has_is_unreadable(values: Values) -> None:
    stored = values.encode(Node("x"))

    with pytest.raises(Unreadable):
        Values().decode(stored)
