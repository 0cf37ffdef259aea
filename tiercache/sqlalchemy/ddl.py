"""What DDL changes: of what is in tables, only what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import schema
from sqlalchemy.schema import DDL
from sqlalchemy.sql.ddl import DropTable

from tiercache.sqlalchemy.texts import Effect, effects_of

# What neither changes rows nor what a SELECT gives.
HARMLESS = (
    schema.CreateTable,
    schema.CreateIndex,
    schema.CreateSchema,
    schema.CreateSequence,
    schema.DropIndex,
    schema.DropSequence,
    schema.AddConstraint,
    schema.DropConstraint,
    schema.SetTableComment,
    schema.DropTableComment,
    schema.SetColumnComment,
    schema.DropColumnComment,
)


def written_by(compiled: Any, whole: Callable[[Any], Any]) -> tuple[tuple[Any, ...], tuple[Effect, ...]]:
    """The writes of a compiled DDL element, and what else it does."""
    element = compiled.statement
    if isinstance(element, DropTable):
        return (whole(element.element),), (Effect.READS,)
    if isinstance(element, DDL):
        return (), effects_of(element.statement)
    if isinstance(element, HARMLESS) or _is_type(element):
        return (), (Effect.READS,)
    return (), (Effect.EVERYTHING,)


def _is_type(element: Any) -> bool:
    """PostgreSQL's ENUMs and domains: what is in use cannot be dropped."""
    return type(element).__name__ in ("CreateEnumType", "DropEnumType", "CreateDomainType", "DropDomainType")
