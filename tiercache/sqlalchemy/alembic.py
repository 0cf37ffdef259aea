"""The triggers of `tiercache.sqlalchemy.postgres` as operations of an Alembic migration.

    import tiercache.sqlalchemy.alembic  # registers them

    def upgrade():
        op.create_tiercache_triggers("users", "posts")

    def downgrade():
        op.drop_tiercache_triggers("users", "posts")

Each is the other's reverse. They read the catalog, so an offline migration (`--sql`) is refused. The outbox
stands in a schema of its own: autogenerate does not propose to drop it, unless `include_schemas` is set; then
leave the schema "tiercache" out in `include_name`.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError
from sqlalchemy import Connection

from tiercache.sqlalchemy.triggers import SCHEMA, Watched, create_triggers, drop_triggers


@Operations.register_operation("create_tiercache_triggers")
class CreateTriggers(MigrateOperation):
    """`op.create_tiercache_triggers(*tables, schema="tiercache")`: see `create_triggers`."""

    def __init__(self, tables: Sequence[Watched], schema: str = SCHEMA) -> None:
        self.tables, self.schema = tables, schema

    @classmethod
    def create_tiercache_triggers(
        cls, operations: Operations, *tables: Watched, schema: str = SCHEMA
    ) -> None:
        operations.invoke(cls(tables, schema))

    def reverse(self) -> DropTriggers:
        return DropTriggers(self.tables, self.schema)


@Operations.register_operation("drop_tiercache_triggers")
class DropTriggers(MigrateOperation):
    """`op.drop_tiercache_triggers(*tables, schema="tiercache")`: see `drop_triggers`."""

    def __init__(self, tables: Sequence[Watched], schema: str = SCHEMA) -> None:
        self.tables, self.schema = tables, schema

    @classmethod
    def drop_tiercache_triggers(cls, operations: Operations, *tables: Watched, schema: str = SCHEMA) -> None:
        operations.invoke(cls(tables, schema))

    def reverse(self) -> CreateTriggers:
        return CreateTriggers(self.tables, self.schema)


@Operations.implementation_for(CreateTriggers)
def _create(operations: Operations, operation: CreateTriggers) -> None:
    create_triggers(_online(operations), operation.tables, schema=operation.schema)


@Operations.implementation_for(DropTriggers)
def _drop(operations: Operations, operation: DropTriggers) -> None:
    drop_triggers(_online(operations), operation.tables, schema=operation.schema)


def _online(operations: Operations) -> Connection:
    if operations.get_context().as_sql:
        raise CommandError("tiercache's triggers depend on the database's catalog: run this migration online")
    return operations.get_bind()
