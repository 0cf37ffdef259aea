"""Values as bytes and back: what comes out has the type and value of what went in, at every depth.

The first byte is the kind, and JSON follows. PLAIN: the JSON is the value. ENVELOPED: it is
the value's tree (value_trees.py). LINKED: the tree, and tables of the instances that it links
(value_links.py). Decoding trusts nothing: a class is looked up by name among those that this
process knows, nothing is imported, and whatever does not fit is Unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, time
from typing import Any, NoReturn, Protocol

import orjson

from tiercache._core.value_leaves import IMMUTABLE, has_known_zone
from tiercache._core.value_links import Linked, LinkPacker
from tiercache._core.value_shapes import (
    Refused,
    Shape,
    called,
    classes_in,
    describe,
    register_hint,
    registered_shape,
)
from tiercache._core.value_tables import unpack_linked
from tiercache._core.value_trees import BUILTIN, CERTAIN, MAX_DEPTH, TRUSTED, MetLinked, Packer, Unpacker
from tiercache._errors import Unstorable
from tiercache._locks import Guard

# Both are white space to JSON, so that the parser takes the bytes uncut.
PLAIN = b"\n"
ENVELOPED = b"\t"
LINKED = b"\r"
CONTAINERS: frozenset[Any] = frozenset((dict, list, set, bytearray))  # which whoever holds one can change


class Unreadable(ValueError):
    """The bytes are torn or foreign, or name a class that is unknown here or has other parts here."""


class Family(Protocol):
    """Classes of a library whose instances somebody else knows how to store (`tiercache.shapes`)."""

    def shape(self, cls: type) -> Shape | Linked | None:
        """How an instance of *cls* is stored; None for a class of no concern. May raise Refused."""

    def named(self, name: str) -> type | None:
        """The class that is called *name*, "module:qualname", if this process has it. Imports nothing."""


class Known(dict[str, Shape | Linked]):
    """The shapes of one node by name, and those that a family finds for a name that is met."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def __missing__(self, name: str) -> Shape | Linked:
        shape = self._values.find(name)
        if shape is None:
            raise KeyError(name)
        return shape


class Values:
    """One node's knowledge of how values become bytes and come back; safe from any thread.

    A class is known, by its module and qualified name, once it was registered, learnt from an
    annotation, or stored, or if a family has it under that name. Two classes of one name are never
    mixed up: the one known first is meant until register() names another, and storing the other is
    refused.
    """

    def __init__(self, families: Sequence[Family] = ()) -> None:
        self._guard = Guard()
        self._families = families
        # Read without the lock, written under it; each shape stands in both.
        self._by_name = Known(self)
        self._by_class: dict[type, Shape | Linked] = {}

    def register(
        self,
        cls: type,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> bool:
        """Make instances of exactly *cls* storable; an Enum, dataclass or NamedTuple needs no functions.

        *encode* turns an instance into a value that can be stored, *decode* that value into an
        instance. Another class known by the same name, or another way, gives way to this: whether one was.
        """
        if not isinstance(cls, type):
            raise TypeError(f"register takes a class, not {cls!r}")
        if cls in BUILTIN:
            raise TypeError(f"{called(cls)} is stored as it is; register a class of your own")
        if encode is None and decode is None:
            try:
                shape = self._described(cls)
            except Refused as refused:
                raise Unstorable(str(refused)) from refused.cause
        elif callable(encode) and callable(decode):
            shape = registered_shape(cls, encode, decode)
        else:
            raise TypeError(f"write {register_hint(cls)} with two functions, not {encode!r} and {decode!r}")
        held = self._by_name.get(shape.name)
        self._keep(shape, instead=True)
        if encode is None:
            self.learn(cls)
        return held is not None and (held.cls is not cls or encode is not None or held.print != shape.print)

    def learn(self, annotation: object, *, linked: bool = True) -> None:
        """Make known every Enum, dataclass and NamedTuple that *annotation* names, through fields too.

        Also what a family knows; without *linked* none whose instances refer to each other, for those know
        each other, and one would lead to all.
        """
        for cls in classes_in(annotation):
            try:
                shape = None if cls in BUILTIN else self._describe(cls)
                if shape is not None and (linked or isinstance(shape, Shape)):
                    self._keep(shape)
            except Refused:
                continue  # storing an instance will say so, with its path

    def encode(self, value: Any) -> bytes:
        """The bytes of *value*; raises Unstorable, with the path, if it would not come back the same."""
        try:
            for sure in (TRUSTED, CERTAIN):
                try:
                    tree, kind = Packer(self._shape_of, sure).pack(value), ENVELOPED
                except MetLinked:
                    tree, kind = LinkPacker(self._shape_of, sure).pack_linked(value), LINKED
                try:
                    text = orjson.dumps(tree)
                except orjson.JSONEncodeError as error:
                    refusal = error
                    continue
                # The sum is also a copy: what orjson returns keeps 4 KB behind a small result.
                return (PLAIN if tree is value else kind) + text
        except Refused as refused:
            raise Unstorable(refused.message()) from refused.cause
        except RecursionError as error:
            raise Unstorable("value: the stack has too little room left to walk it") from error
        raise Unstorable(f"value: {refusal}; another thread may have changed it meanwhile") from refusal

    def decode(self, data: bytes) -> Any:
        """The value that encode() made *data* of; raises Unreadable for any other bytes.

        PLAIN bytes may hold more levels than encode() writes, to the 1,024 that the parser allows.
        """
        kind = data[:1]
        if kind != PLAIN and kind != ENVELOPED and kind != LINKED:
            raise Unreadable(f"bytes of an unknown kind, {kind!r}")
        try:
            tree = orjson.loads(data)
            if kind == PLAIN:
                return tree
            if kind == LINKED:
                return unpack_linked(tree, self._by_name)
            return Unpacker(self._by_name).unpack(tree)
        except Exception as error:  # bytes from outside met constructors and the user's functions
            raise Unreadable(f"the bytes hold no value: {error!r}") from error

    def encode_linked(self, value: Any) -> bytes:
        """The bytes of a *value* that holds linked instances, which are never shared; of any other, none."""
        try:
            Packer(self._shape_of, CERTAIN).pack(value)
        except MetLinked:
            return self.encode(value)
        except (Refused, RecursionError):
            pass  # it need not be storable to be shared
        return b""

    def is_shareable(self, value: Any) -> bool:
        """Whether nobody who holds *value* can change it: immutable to its depths, and known to be."""
        try:
            return self._is_immutable(value, 0)
        except (Refused, RecursionError):
            return False

    def _is_immutable(self, value: Any, depth: int) -> bool:
        kind = type(value)
        if kind in IMMUTABLE:
            return True
        if kind in CONTAINERS:
            return False
        if kind is datetime or kind is time:
            return has_known_zone(value)
        if depth >= MAX_DEPTH:
            return False
        if kind is tuple or kind is frozenset:
            return all(self._is_immutable(item, depth + 1) for item in value)
        shape = self._by_class.get(kind) or self._describe(kind)
        if not isinstance(shape, Shape) or not shape.immutable:
            return False
        return all(self._is_immutable(part, depth + 1) for part in shape.take(value))

    def find(self, name: str) -> Shape | Linked | None:
        """The shape of a class that is not known yet, by its name; None where no family has the one."""
        for family in self._families:
            cls = family.named(name)
            if cls is not None:
                shape = family.shape(cls)
                return None if shape is None or shape.name != name else self._keep(shape)
        return None

    def _shape_of(self, cls: type) -> Shape | Linked:
        return self._by_class.get(cls) or self._keep(self._described(cls))

    def _described(self, cls: type) -> Shape | Linked:
        shape = self._describe(cls)
        if shape is None:
            refuse(cls)
        return shape

    def _describe(self, cls: type) -> Shape | Linked | None:
        for family in self._families:
            shape = family.shape(cls)
            if shape is not None:
                return shape
        return describe(cls)

    def _keep(self, shape: Shape | Linked, *, instead: bool = False) -> Shape | Linked:
        """Make *shape* the meaning of its name; returns the one already there for its class."""
        with self._guard.lock:
            held = self._by_name.get(shape.name)
            if held is not None and not instead:
                if held.cls is shape.cls:
                    return held
                raise Refused(
                    f"two classes call themselves {shape.name}, and another than this one was known first; "
                    f"rename one, or say which is meant: cache.register({shape.cls.__name__})"
                )
            if held is not None and held.cls is not shape.cls:
                self._by_class.pop(held.cls, None)
            self._by_name[shape.name] = self._by_class[shape.cls] = shape
        if isinstance(shape, Linked):
            for annotation in shape.named_in_values():
                self.learn(annotation, linked=False)
        return shape


def refuse(cls: type) -> NoReturn:
    for base in cls.__mro__[1:-1]:
        if base in BUILTIN:
            raise Refused(
                f"{called(cls)} would come back as a plain {called(base)}; "
                f"return a {called(base)}, or {register_hint(cls)}"
            )
    raise Refused(f"{called(cls)} has no stored form; return plain data, or {register_hint(cls)}")
