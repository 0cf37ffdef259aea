"""The way back from the tables of value_links.py. They may be anybody's: whatever is none of ours raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiercache._core.value_leaves import UNPACK
from tiercache._core.value_links import Layout, Linked
from tiercache._core.value_shapes import Shape
from tiercache._core.value_trees import Unpacker


def unpack_linked(node: Any, shapes: Mapping[str, Shape | Linked]) -> Any:
    """The value that pack_linked() made *node* of; takes over *node*."""
    tree, *tables = checked(node, list)
    plain = Unpacker(shapes)
    made = []
    total = 0
    for table in tables:
        shape, layout, numbers, links, members = made_of(checked(table, list), plain, shapes)
        made.append((shape, layout, numbers, links, members))
        total += len(members)
    everyone: list[Any] = [None] * total
    for _, _, numbers, _, members in made:
        for number, member in zip(numbers, members, strict=True):
            if number < 0 or everyone[number] is not None:
                raise ValueError("two instances of one number")
            everyone[number] = member
    for shape, layout, _, links, members in made:
        if links:
            several = len(layout.ones)
            ones = [referred(column, everyone) for column in links[:several]]
            many = [[referred(row, everyone) for row in column] for column in links[several:]]
            shape.refer(layout, members, ones, many)
    for shape, _, _, _, members in made:
        shape.finish(members)
    return Unpacker(shapes, everyone).unpack(tree)


def made_of(
    table: list[Any], plain: Unpacker, shapes: Mapping[str, Shape | Linked]
) -> tuple[Linked, Layout, Sequence[int], list[Any], list[Any]]:
    name, print_there, layout_tree, numbers, *columns = table
    shape = shapes[name]
    if not isinstance(shape, Linked) or print_there != shape.print:
        raise ValueError(f"{name} was stored as {print_there!r} and is another here")
    layout = shape.found(layout_tree)
    at = len(layout.values)
    if len(columns) != at + len(layout.ones) + len(layout.many):
        raise ValueError(f"{name} has other columns than its layout")
    values = [unpacked_column(column, plain) for column in columns[:at]]
    links = [checked(column, list) for column in columns[at:]]
    count = len([*values, *links, checked(numbers, list) if not (values or links) else ()][0])
    if type(numbers) is int:
        numbers = range(numbers, numbers + count)
    if any(len(column) != count for column in (*values, *links, checked_numbers(numbers))):
        raise ValueError(f"columns of {name} differ in length")
    return shape, layout, numbers, links, shape.make(layout, values, count)


def checked_numbers(numbers: Any) -> Any:
    return numbers if type(numbers) is range else checked(numbers, list)


def checked(node: Any, kind: type) -> Any:
    if type(node) is not kind:
        raise ValueError(f"a {type(node).__name__} where a {kind.__name__} belongs")
    return node


def unpacked_column(column: Any, plain: Unpacker) -> list[Any]:
    if type(column) is list:
        return column
    ((tag, body),) = checked(column, dict).items()
    checked(body, list)
    if tag == "!each":
        unpacked: list[Any] = plain.unpack(body)
        return unpacked
    if tag == "!class":
        name, print_there, *rows = body
        return [row if row is None else plain.instance(name, print_there, row) for row in rows]
    kind, leaf = UNPACK[tag]
    if not set(map(type, body)) <= {kind, type(None)}:
        raise ValueError(f"a foreign body in a column of {tag}")
    if None in body:
        return [each if each is None else leaf(each) for each in body]
    return list(map(leaf, body))


def referred(numbers: Any, everyone: Sequence[Any]) -> list[Any]:
    """Those that *numbers* name, None for null."""
    if not set(map(type, checked(numbers, list))) <= {int, type(None)}:
        raise ValueError("what is no number where a reference belongs")
    if any(number is not None and number < 0 for number in numbers):
        raise ValueError("a negative number where a reference belongs")
    return [number if number is None else everyone[number] for number in numbers]
