"""What is known of a mapped class and its instances, in the words that storing them needs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

from sqlalchemy import Column
from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm import ColumnProperty, Mapper, MapperProperty, RelationshipProperty, mapperlib
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.collections import collection_adapter
from sqlalchemy.types import TypeDecorator, TypeEngine

from tiercache.shapes import Refused

# A relationship that keeps no collection on the instance.
UNKEPT = ("dynamic", "write_only")
# What of a type decides what its values are, where it has such an attribute; repr() of one of a user's
# may hold an address.
TYPE_PARTS = ("length", "precision", "scale", "timezone", "asdecimal", "as_uuid", "enums", "dimensions")


def is_stored(prop: MapperProperty[Any]) -> bool:
    """Whether an instance may hold the attribute: composites, synonyms and proxies are made of others."""
    if isinstance(prop, RelationshipProperty):
        return prop.lazy not in UNKEPT
    return isinstance(prop, ColumnProperty) and getattr(prop, "instrument", True)


def print_of(mapper: Mapper[Any], properties: Iterable[MapperProperty[Any]]) -> str:
    """16 hex digits that another set of attributes, columns, types or targets would not have."""
    lines = [f"{mapper.class_.__qualname__} {[column.key for column in mapper.primary_key]}"]
    for prop in properties:
        if isinstance(prop, RelationshipProperty):
            target = prop.mapper.class_
            lines.append(f"{prop.key} {target.__module__}:{target.__qualname__} {prop.uselist}")
        elif isinstance(prop, ColumnProperty):
            # Of an expression no name: it may be made of an address.
            names = [column.name if isinstance(column, Column) else "" for column in prop.columns]
            columns = [
                f"{name} {type_of(column.type)}" for name, column in zip(names, prop.columns, strict=True)
            ]
            lines.append(f"{prop.key} {columns}")
    return blake2b("\n".join(sorted(lines)).encode(), digest_size=8).hexdigest()


def type_of(kind: TypeEngine[Any]) -> str:
    parts = [f"{name}={getattr(kind, name)!r}" for name in TYPE_PARTS if simple(getattr(kind, name, None))]
    inner = kind.impl_instance if isinstance(kind, TypeDecorator) else getattr(kind, "item_type", None)
    if isinstance(inner, TypeEngine):
        parts.append(type_of(inner))
    return f"{type(kind).__qualname__}({', '.join(parts)})"


def simple(part: Any) -> bool:
    return isinstance(part, str | int) or (isinstance(part, list) and all(isinstance(p, str) for p in part))


def value_classes(mapper: Mapper[Any]) -> Iterator[object]:
    """What the values of columns may be: by their types, and by `Mapped[...]`."""
    for prop in mapper.column_attrs:
        kind = getattr(prop.columns[0].type, "enum_class", None)
        if kind is not None:
            yield kind
    for base in mapper.class_.__mro__:
        module = sys.modules.get(base.__module__)
        for hint in inspect.get_annotations(base).values():
            if isinstance(hint, str):
                try:
                    yield eval(hint, vars(module) if module else {}, dict(vars(base)))
                except Exception:  # a name imported for type checkers only
                    continue
            else:
                yield hint


def mapped_classes(qualname: str) -> list[type]:
    """Those of this process that are called *qualname*, in whichever module."""
    found = []
    # The registries that are alive are listed nowhere in public; 2.0 and 2.1 have this.
    for each in mapperlib._all_registries():
        for mapper in each.mappers:
            cls = mapper.class_
            if cls.__qualname__ == qualname:
                found.append(cls)
    return found


def why_not(instance: Any) -> str:
    """Why *instance* does not show what the database holds, and what to do."""
    state = instance_state(instance)
    called = f"this {type(instance).__name__}"
    if state.key is None:
        return f"{called} was never flushed; session.add() it and commit before it is returned"
    if state.was_deleted:
        return f"{called} is deleted; do not return it"
    if state.modified:
        return f"{called} has changes that are not flushed; commit them before it is returned"
    return (
        f"{called} has expired: a commit or session.expire() emptied it; session.refresh() it before it is "
        f"returned, or make the session with expire_on_commit=False"
    )


def loaded(dict_: dict[str, Any], name: str, cls: type) -> Any:
    try:
        return dict_[name]
    except KeyError:  # it was there when the instance was met
        raise Refused(f"{cls.__name__}.{name} was expired meanwhile by another thread") from None


def members(collection: Any) -> Sequence[Any]:
    """All that is in a relationship's collection, of any class."""
    if isinstance(collection, list):
        return collection
    adapter = collection_adapter(collection)
    held = list(collection if adapter is None else adapter)
    if isinstance(collection, set):  # so that equal sets are equal bytes
        held.sort(key=lambda member: repr(instance_state(member).key))
    return held


def plain(values: Sequence[Any]) -> Sequence[Any]:
    """*values* without the wrappers of SQLAlchemy and drivers, which are put on again where they belong.

    A `MutableDict` tells its instance of changes, and a `load` event makes it of a dict; asyncpg's UUID is
    a UUID, equal to it and of the same hash.
    """
    kinds = set(map(type, values))
    if any(issubclass(kind, WRAPPERS) and kind is not UUID for kind in kinds):
        return [unwrapped(value) if isinstance(value, WRAPPERS) else value for value in values]
    return values


WRAPPERS = (MutableBase, UUID)


def unwrapped(value: Any) -> Any:
    if isinstance(value, UUID):
        return UUID(int=value.int) if type(value).__module__.startswith("asyncpg") else value
    for base in (dict, list, set):
        if isinstance(value, base):
            return base(value)
    return value
