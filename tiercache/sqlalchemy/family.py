"""All that SQLAlchemy's users return from functions, and how it is stored: `tiercache.shapes` asks here."""

from __future__ import annotations

from sqlalchemy.engine import MappingResult, Result, Row, RowMapping, ScalarResult
from sqlalchemy.ext.asyncio import AsyncMappingResult, AsyncResult, AsyncScalarResult
from sqlalchemy.orm import Query
from sqlalchemy.orm.collections import InstrumentedList, InstrumentedSet

from tiercache.shapes import Linked, Refused, Shape
from tiercache.sqlalchemy.entities import entities_of
from tiercache.sqlalchemy.mapped import mapped_classes
from tiercache.sqlalchemy.rows import MAPPING, ROW

UNREAD = (Result, ScalarResult, MappingResult, AsyncResult, AsyncScalarResult, AsyncMappingResult, Query)

# A collection comes back without the entity whose it was.
LIST = Shape(
    InstrumentedList, "list", ("",), False, lambda held: (list(held),), lambda parts: InstrumentedList(*parts)
)
SET = Shape(
    InstrumentedSet, "set", ("",), False, lambda held: (set(held),), lambda parts: InstrumentedSet(*parts)
)
SHAPES: dict[type, Shape] = {Row: ROW, RowMapping: MAPPING, InstrumentedList: LIST, InstrumentedSet: SET}
NAMES = {shape.name: cls for cls, shape in SHAPES.items()}


class EntityFamily:
    """Mapped classes, rows, and a hint where a result was not read."""

    def shape(self, cls: type) -> Shape | Linked | None:
        if issubclass(cls, UNREAD):
            raise Refused(f"a {cls.__name__} is read once; return what it gives: .all() or .scalars().all()")
        return SHAPES.get(cls) or entities_of(cls)

    def named(self, name: str) -> type | None:
        found = NAMES.get(name)
        if found is not None:
            return found
        alike = (entities_of(cls) for cls in mapped_classes(name.rpartition(":")[2]))
        classes = [each.cls for each in alike if each is not None and each.name == name]
        return classes[0] if len(classes) == 1 else None  # of two that are called so, neither is meant


FAMILY = EntityFamily()
