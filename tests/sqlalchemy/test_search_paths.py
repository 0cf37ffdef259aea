"""One table that two engines call by two names, since the default schema of one is another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, select, update
from sqlalchemy.orm import Session, registry

from tests.sqlalchemy.caching import Entries
from tiercache.sqlalchemy import from_cache, install, noting_reads


def mapped(schema: str | None) -> Any:
    table = Table(
        "sizes", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer), schema=schema
    )
    cls: Any = type("Size", (), {})
    registry().map_imperatively(cls, table)
    return cls


@pytest.mark.parametrize("schema", ["tenant", "public"])
@pytest.mark.parametrize("writer", ["default", "tenant"])
@pytest.mark.parametrize("by_key", [False, True])
def test_a_table_is_one_under_whichever_default_schema(
    postgres_url: str,
    new_engine: Callable[..., Engine],
    entries: Entries,
    schema: str,
    writer: str,
    by_key: bool,
) -> None:
    engines = {
        "default": new_engine(postgres_url),
        "tenant": new_engine(postgres_url, connect_args={"options": "-csearch_path=tenant"}),
    }
    with engines["default"].begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
        connection.exec_driver_sql(f"CREATE TABLE {schema}.sizes (id int primary key, n int)")
        connection.exec_driver_sql(f"INSERT INTO {schema}.sizes VALUES (1, 1)")
    for engine in engines.values():
        install(entries.cache, engine)
    by_itself = "default" if schema == "public" else "tenant"
    classes = {name: mapped(None if name == by_itself else schema) for name in engines}
    reader = "tenant" if writer == "default" else "default"

    def read() -> int:
        cls = classes[reader]
        asked = select(cls.n).where(cls.id == 1) if by_key else select(cls.n)
        with Session(engines[reader]) as session, noting_reads() as reads:
            found: int = session.scalars(asked.options(from_cache(ttl=100))).one()
        noted.update(reads.tags)
        return found

    noted: set[str] = set()
    assert (read(), read()) == (1, 1)
    entries.cache.sync.set("by what was noted", 1, tags=noted)
    with entries.unchanged("table:others"), engines[writer].begin() as connection:
        connection.execute(update(classes[writer].__table__).values(n=2))
    assert read() == 2
    assert entries.cache.sync.get("by what was noted") is None
