"""Instances with identity, which may refer to each other in circles: stored in tables beside the tree.

A tree says where one stands, `{"!link": number}`, or that it is a list of them, `{"!links": [number, ...]}`;
the instances themselves are in tables, one for each
class and set of parts, column by column. So one that is referred to from many places is stored once and
is one again, a circle is a number like any other, and no chain of references is ever deep:

    [tree, [name, print, layout, numbers, column, ...], ...]

*numbers* are those of the instances, in the order of the rows, or the first one where they follow each
other. First come the columns of values,

    [value, ...]                          each is its own tree: nothing is looked at again
    {"!datetime": [body, ...]}            bodies of one tag (value_leaves.py), or null
    {"!class": [name, print, [part, ...], ...]}     parts of one class, or null
    {"!each": [tree, ...]}                trees of any kind

then those of references to one instance, `[number, ...]` with null for none, and those of references to
several, `[[number, ...], ...]`. All instances are made, with their values, before the first reference is
set (value_tables.py). Values of columns refer to no instances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tiercache._core.tags import module_name
from tiercache._core.value_leaves import PACK
from tiercache._core.value_shapes import Refused, Shape, called
from tiercache._core.value_trees import Packer, way_to_index

NOTHING = type(None)


class Layout:
    """Which parts an instance has, by name, in the order of the columns; equal ones are one object."""

    __slots__ = ("many", "ones", "tree", "values")

    def __init__(self, tree: Any, values: Sequence[str], ones: Sequence[str], many: Sequence[str]) -> None:
        self.tree = tree  # as stored: any JSON
        self.values = tuple(values)
        self.ones = tuple(ones)  # each refers to one instance or to none
        self.many = tuple(many)  # each refers to several


class Linked(ABC):
    """One class's way into tables and back. What decodes may raise anything: its columns may be anybody's."""

    immutable = False

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.name = f"{module_name(cls.__module__)}:{cls.__qualname__}"

    @property
    @abstractmethod
    def print(self) -> str:
        """Of the parts that the class has; what was stored under another one is unreadable."""

    def named_in_values(self) -> Iterable[object]:
        """Annotations that name the classes of values: who knows this class knows those."""
        return ()

    @abstractmethod
    def layout(self, instance: Any) -> Layout:
        """The parts that *instance* has; raises Refused where it cannot be stored."""

    @abstractmethod
    def values(self, layout: Layout, instances: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The columns of values. Raises Refused."""

    @abstractmethod
    def ones(self, layout: Layout, instances: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The columns of instances, or None."""

    @abstractmethod
    def many(self, layout: Layout, instances: Sequence[Any]) -> Sequence[Sequence[Sequence[Any]]]:
        """The columns of instances, several in each row."""

    @abstractmethod
    def found(self, tree: Any) -> Layout:
        """The layout that was stored as *tree*."""

    @abstractmethod
    def make(self, layout: Layout, columns: Sequence[list[Any]], count: int) -> list[Any]:
        """*count* instances with their values and without their references."""

    @abstractmethod
    def refer(
        self,
        layout: Layout,
        instances: Sequence[Any],
        ones: Sequence[list[Any]],
        many: Sequence[list[list[Any]]],
    ) -> None:
        """Set the references of what make() made; who is referred to has its values already."""

    def finish(self, instances: Sequence[Any]) -> None:
        """All references of all instances are set."""
        return


class Table:
    """The instances of one class and layout that were met so far, and how far they were looked through."""

    __slots__ = ("done", "layout", "links", "members", "numbers", "shape")

    def __init__(self, shape: Linked, layout: Layout) -> None:
        self.shape, self.layout = shape, layout
        self.members: list[Any] = []
        self.numbers: list[int] = []
        self.links: list[list[Any]] = [[] for _ in (*layout.ones, *layout.many)]
        self.done = 0


ShapeOf = Callable[[type], Shape | Linked]


class LinkPacker(Packer):
    """A Packer of values that hold linked instances."""

    __slots__ = ("_numbers", "_root", "_tables", "_target")

    def __init__(self, shape_of: ShapeOf, sure: frozenset[type], target: Any = None) -> None:
        super().__init__(shape_of, sure)
        self._numbers: dict[int, int] = {}  # by id; the tables keep the instances alive
        self._tables: dict[tuple[Linked, Layout], Table] = {}
        self._target = target  # refused where it is met, for the way to it

    def link(self, value: Any, shape: Linked) -> Any:
        if value is self._target:
            raise Refused("the target")
        return {"!link": self._number(value, shape)}

    def _number(self, instance: Any, shape: Linked) -> int:
        number = self._numbers.get(id(instance))
        if number is None:
            layout = shape.layout(instance)
            table = self._tables.get((shape, layout))
            if table is None:
                table = self._tables[shape, layout] = Table(shape, layout)
            number = self._numbers[id(instance)] = len(self._numbers)
            table.members.append(instance)
            table.numbers.append(number)
        return number

    def pack_linked(self, value: Any) -> list[Any]:
        """The tree of *value* and the tables of all that it leads to. Raises Refused."""
        tree = self.pack(value)
        if type(value) is list and all(type(each) is dict and each.keys() == LINK for each in tree):
            tree = {"!links": [each["!link"] for each in tree]}
        self._follow(value)
        return [tree, *(self._packed(table, value) for table in self._tables.values())]

    def _follow(self, root: Any) -> None:
        """Number all that is referred to, in rounds: no stack, whatever the length of a chain."""
        while pending := [table for table in self._tables.values() if table.done < len(table.members)]:
            for table in pending:
                fresh = table.members[table.done :]
                begun, table.done = table.done, len(table.members)
                shape, layout = table.shape, table.layout
                several = len(layout.ones)
                for links, column in zip(table.links, shape.ones(layout, fresh), strict=False):
                    links += self._numbered(root, table, begun, links, column)
                for links, rows in zip(table.links[several:], shape.many(layout, fresh), strict=True):
                    for row in rows:
                        links.append(self._numbered(root, table, len(links), links, row, of_row=True))

    def _numbered(
        self, root: Any, table: Table, at: int, links: Any, targets: Sequence[Any], *, of_row: bool = False
    ) -> list[int | None]:
        numbers = self._numbers
        found: list[int | None] = []
        try:
            for target in targets:
                if target is None:
                    found.append(None)
                    continue
                number = numbers.get(id(target))
                if number is None:
                    shape = self._shape_of(type(target))
                    if not isinstance(shape, Linked):
                        raise Refused(f"a {called(type(target))} where a linked instance belongs")
                    number = self._number(target, shape)
                found.append(number)
        except Refused as refused:
            index = len(found)
            column = next(i for i, each in enumerate(table.links) if each is links)
            name = (*table.layout.ones, *table.layout.many)[column]
            row, way = (at, f".{name}[{index}]") if of_row else (at + index, f".{name}")
            refused.steps.append((table.members[row], way))
            self._trace(refused, root, table.members[row])
            raise
        return found

    def _packed(self, table: Table, root: Any) -> list[Any]:
        numbers: Any = table.numbers
        if numbers[-1] - numbers[0] == len(numbers) - 1:  # they only grow
            numbers = numbers[0]
        shape, layout = table.shape, table.layout
        columns = []
        for name, values in zip(layout.values, shape.values(layout, table.members), strict=True):
            try:
                columns.append(self._column(values))
            except Refused:
                self._refuse(table, name, values, root)
                raise
        return [shape.name, shape.print, layout.tree, numbers, *columns, *table.links]

    def _column(self, values: Sequence[Any]) -> Any:
        kinds = set(map(type, values))
        if kinds <= self._sure:
            return values
        kinds.discard(NOTHING)
        if len(kinds) == 1:
            (kind,) = kinds
            if kind in UNIFORM:
                return packed_leaves(values, PACK[kind])
            if kind not in PACK:
                shape = self._shape_of(kind) if kind not in CONTAINERS else None
                if isinstance(shape, Shape):
                    plain = ColumnPacker(self._shape_of, self._sure)
                    rows = [v if v is None else plain.row(v, shape.take(v), 0, shape.way) for v in values]
                    return {"!class": [shape.name, shape.print, *rows]}
        trees = ColumnPacker(self._shape_of, self._sure).row(values, values, 0, way_to_index)
        return values if trees is values else {"!each": trees}

    def _refuse(self, table: Table, name: str, values: Sequence[Any], root: Any) -> None:
        """Raise what refused the column, with the way to the value."""
        for member, value in zip(table.members, values, strict=True):
            try:
                ColumnPacker(self._shape_of, self._sure).pack(value)
            except Refused as refused:
                refused.steps.append((member, f".{name}"))
                self._trace(refused, root, member)
                raise

    def _trace(self, refused: Refused, root: Any, member: Any) -> None:
        """Add the way from *root* to *member*: through those that refer to it, and the tree to the first."""
        number = self._numbers[id(member)]
        while (referrer := self._first_to(number)) is not None:
            member, way, number = referrer
            refused.steps.append((member, way))
        try:
            LinkPacker(self._shape_of, self._sure, target=member).pack(root)
        except Refused as there:
            refused.steps += there.steps

    def _first_to(self, number: int) -> tuple[Any, str, int] | None:
        """Who of a lower number refers to *number*, and how; numbers are given as instances are met."""
        for table in self._tables.values():
            names = (*table.layout.ones, *table.layout.many)
            for name, links in zip(names, table.links, strict=True):
                for member, own, link in zip(table.members, table.numbers, links, strict=False):
                    if own < number and link == number:
                        return member, f".{name}", own
                    if own < number and isinstance(link, list) and number in link:
                        return member, f".{name}[{link.index(number)}]", own
        return None


class ColumnPacker(Packer):
    """Of values beside which there is no tree that could say where a linked instance stands."""

    def link(self, value: Any, shape: Linked) -> Any:
        raise Refused(f"a {shape.name} inside the value of an attribute; refer to it by a relationship")


# Of these each value has the one tag of its type; so long an int or odd a str as needs one is rare.
UNIFORM = frozenset(PACK) - {str, int, float}
LINK = {"!link": 0}.keys()
CONTAINERS = frozenset((list, tuple, set, frozenset, dict))


def packed_leaves(values: Sequence[Any], pack: Callable[[Any], Any]) -> Any:
    tag = ""
    bodies: list[Any] = []
    for value in values:
        if value is None:
            bodies.append(None)
        else:
            ((tag, body),) = pack(value).items()
            bodies.append(body)
    return {tag: bodies}
