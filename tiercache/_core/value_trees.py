"""A value as a tree that orjson writes faithfully, and back.

An object whose only key starts with "!" stands for something that JSON cannot say,

    {"!tuple": [...]}, {"!set": [...]}, {"!frozenset": [...]}       the items
    {"!dict": [key, value, ...]}          a dict with a key that is no text, or that looks like a tag
    {"!class": [name, print, part, ...]}  an instance of a class (value_shapes.py)
    {"!link": number}                     an instance that stands in a table (value_links.py)
    {"!links": [number, ...]}             a list of them
    {"!date": body}, ...                  a value without parts (value_leaves.py)

and every other node is itself. No dict of a user's can be taken for a tag: {"!tuple": 1} is
written as {"!dict": ["!tuple", 1]}. A value that JSON can say whole is its own tree: nothing
is rebuilt, and pack() returns the very object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from reprlib import Repr
from typing import Any, TypeAlias

from tiercache._core.value_leaves import PACK, UNPACK, is_text
from tiercache._core.value_shapes import Refused, Shape

# Containers within containers. Each takes at most two levels of JSON and a leaf three, and
# orjson writes 253. A value that contains itself is stopped here, too.
MAX_DEPTH = 100

# Types of which orjson writes each value as it is or refuses it aloud (integers beyond 64 bits,
# lone surrogates), and those of which it refuses none.
TRUSTED: frozenset[type] = frozenset((str, int, bool, type(None)))
CERTAIN: frozenset[type] = frozenset((bool, type(None)))


class TooDeep(Refused):
    """Containers within containers beyond MAX_DEPTH, perhaps because one contains itself."""

    def __init__(self) -> None:
        super().__init__(f"containers within containers, more than {MAX_DEPTH}; store a flatter value")

    def message(self) -> str:
        met: dict[int, int] = {}
        for depth, (owner, _) in enumerate(reversed(self.steps)):
            first = met.setdefault(id(owner), depth)
            if first != depth:
                return (
                    f"{self.path(depth)}: this is {self.path(first)} again; a value that contains itself "
                    f"cannot be stored, so break the circle with an id or a name"
                )
        return super().message()


class MetLinked(Exception):
    """The value holds a linked instance."""


class Packer:
    """One pass over a value; types in *sure* are taken without a look at the value.

    With TRUSTED, orjson may refuse the tree; with CERTAIN it does not, and the pass is slower.
    """

    __slots__ = ("_shape_of", "_sure")

    def __init__(self, shape_of: Callable[[type], Any], sure: frozenset[type]) -> None:
        self._shape_of = shape_of
        self._sure = sure

    def pack(self, value: Any) -> Any:
        """The tree of *value*: the value itself if JSON can say it whole. Raises Refused."""
        kind = type(value)
        if kind in self._sure or (kind is float and value - value == 0.0):
            return value
        return PACKERS.get(kind, Packer.instance)(self, value, 0)

    # The loops of row() and mapping() are the cost of storing a value. They decide the common types
    # in place, a float by arithmetic: NaN and the infinities, minus themselves, are NaN.

    def row(self, owner: Any, items: Sequence[Any], depth: int, way: Way) -> Sequence[Any]:
        """*items*, parts of *owner*, as trees: the very sequence if each is its own tree."""
        if depth >= MAX_DEPTH:
            raise TooDeep
        sure = self._sure
        trees: list[Any] | None = None
        index = 0
        try:
            for index, item in enumerate(items):
                kind = type(item)
                if kind in sure or (kind is float and item - item == 0.0):
                    continue
                tree = PACKERS.get(kind, Packer.instance)(self, item, depth + 1)
                if tree is not item:
                    if trees is None:
                        trees = list(items)
                    trees[index] = tree
        except Refused as refused:
            refused.steps.append((owner, way(items, index)))
            raise
        return items if trees is None else trees

    def mapping(self, value: dict[Any, Any], depth: int) -> Any:
        if depth >= MAX_DEPTH:
            raise TooDeep
        sure = self._sure
        if str not in sure and not all(map(is_text, value)):
            return self.pairs(value, depth)
        trees: dict[str, Any] | None = None
        key = ""
        try:
            for key, item in value.items():
                if type(key) is not str:
                    break
                kind = type(item)
                if kind in sure or (kind is float and item - item == 0.0):
                    continue
                tree = PACKERS.get(kind, Packer.instance)(self, item, depth + 1)
                if tree is not item:
                    if trees is None:
                        trees = value.copy()
                    trees[key] = tree
            else:
                if len(value) != 1 or not key.startswith("!"):
                    return value if trees is None else trees
        except Refused as refused:
            refused.steps.append((value, f"[{shown(key)}]"))
            raise
        return self.pairs(value, depth)

    def pairs(self, value: dict[Any, Any], depth: int) -> Any:
        flat = [part for pair in value.items() for part in pair]
        return {"!dict": self.row(value, flat, depth, way_to_pair)}

    def instance(self, value: Any, depth: int) -> Any:
        shape = self._shape_of(type(value))
        if not isinstance(shape, Shape):
            return self.link(value, shape)
        row = self.row(value, shape.take(value), depth, shape.way)
        return {"!class": [shape.name, shape.print, *row]}

    def link(self, value: Any, shape: Any) -> Any:
        """Where a linked instance stands; raises MetLinked: only a LinkPacker has tables."""
        raise MetLinked


Way: TypeAlias = Callable[[Sequence[Any], int], str]
Pack: TypeAlias = Callable[[Packer, Any, int], Any]


def way_to_index(items: Sequence[Any], index: int) -> str:
    return f"[{index}]"


def way_to_item(items: Sequence[Any], index: int) -> str:
    return ", an item"  # of a set: it has no other address


def way_to_pair(items: Sequence[Any], index: int) -> str:
    return f"[{shown(items[index - 1])}]" if index % 2 else f", key {shown(items[index])}"


SHORT = Repr()
SHORT.maxstring = 80


def shown(key: Any) -> str:
    try:
        return SHORT.repr(key)
    except ValueError:  # an integer of more digits than sys.set_int_max_str_digits allows
        return hex(key)[:80]


def packs_leaf(pack: Callable[[Any], Any]) -> Pack:
    return lambda packer, value, depth: pack(value)


PACKERS: dict[type, Pack] = {
    **{kind: packs_leaf(pack) for kind, pack in PACK.items()},
    list: lambda packer, value, depth: packer.row(value, value, depth, way_to_index),
    tuple: lambda packer, value, depth: {"!tuple": packer.row(value, value, depth, way_to_index)},
    set: lambda packer, value, depth: {"!set": packer.row(value, list(value), depth, way_to_item)},
    frozenset: lambda packer, value, depth: {
        "!frozenset": packer.row(value, list(value), depth, way_to_item)
    },
    dict: Packer.mapping,
}
BUILTIN = CERTAIN.union(PACKERS)


class Unpacker:
    """The way back. The trees may be anybody's: whatever is no tree of ours raises some Exception."""

    __slots__ = ("_linked", "_shapes")

    def __init__(self, shapes: Mapping[str, Any], linked: Sequence[Any] = ()) -> None:
        self._shapes = shapes  # by name
        self._linked = linked  # by number

    def unpack(self, node: Any, depth: int = 0) -> Any:
        """The value whose tree *node* is; takes over *node*."""
        if type(node) is list:
            return self._row(node, depth)
        if type(node) is not dict:
            return node
        if len(node) == 1:
            (tag,) = node
            if tag.startswith("!"):
                return self._tagged(tag, node[tag], depth)
        check_depth(depth)
        for key, item in node.items():
            kind = type(item)
            if kind is dict or kind is list:
                node[key] = self.unpack(item, depth + 1)
        return node

    def _row(self, body: Any, depth: int) -> list[Any]:
        if type(body) is not list:
            raise ValueError(f"a {type(body).__name__} where a list of parts belongs")
        check_depth(depth)
        for index, item in enumerate(body):
            kind = type(item)
            if kind is dict or kind is list:
                body[index] = self.unpack(item, depth + 1)
        return body

    def _tagged(self, tag: str, body: Any, depth: int) -> Any:
        if tag == "!class":
            name, print_there, *parts = self._row(body, depth)
            return self._made(name, print_there, parts)
        if tag in UNPACK:
            kind, leaf = UNPACK[tag]
            if type(body) is not kind:
                raise ValueError(f"a {type(body).__name__} in a {tag}")
            return leaf(body)
        if tag == "!link":
            return self._linked[checked_number(body)]
        if tag == "!links" and type(body) is list:
            return [self._linked[checked_number(number)] for number in body]
        row = self._row(body, depth)
        container = CONTAINERS[tag](row)
        # Keys that became equal on the way would swallow each other.
        if len(container) * (2 if tag == "!dict" else 1) != len(row):
            raise ValueError(f"a {tag} with equal keys or items")
        return container

    def instance(self, name: Any, print_there: Any, row: Any) -> Any:
        """The instance whose parts are the trees in *row*; takes over *row*."""
        return self._made(name, print_there, self._row(row, 0))

    def _made(self, name: Any, print_there: Any, parts: list[Any]) -> Any:
        shape = self._shapes[name]
        if not isinstance(shape, Shape):
            raise TypeError(f"{name} outside of a table")
        if print_there != shape.print or len(parts) != len(shape.ways):
            raise ValueError(f"{name} was stored as {print_there!r} and is {shape.print!r} here")
        made = shape.make(parts)
        if type(made) is not shape.cls:
            raise ValueError(f"{name} came back as a {type(made).__name__}")
        return made


def checked_number(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} where a number belongs")
    return number


def check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise ValueError(f"containers within containers, more than {MAX_DEPTH}")


CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "!tuple": tuple,
    "!set": set,
    "!frozenset": frozenset,
    "!dict": lambda row: dict(zip(row[::2], row[1::2], strict=True)),
}
