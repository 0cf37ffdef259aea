"""A query that bears from_cache gives what it gives without, and asks the database once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    String,
    bindparam,
    case,
    cast,
    func,
    lambda_stmt,
    literal,
    literal_column,
    select,
    text,
    union,
    union_all,
)
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    defer,
    joinedload,
    load_only,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
    with_polymorphic,
)

from tests.sqlalchemy.query_models import THING, Animal, Dog, Employee, Manager, Post, Thing, User
from tests.sqlalchemy.query_world import Database, make_database
from tiercache import TierCache
from tiercache.sqlalchemy import from_cache


@pytest.fixture(params=["sqlite", "psycopg", "psycopg2"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    name = request.getfixturevalue("postgres_database")
    found: str = request.getfixturevalue("postgres").url(request.param, name)
    return found


@pytest.fixture
def db(url: str, new_node: Callable[..., TierCache]) -> Iterator[Database]:
    database = make_database(url, new_node("memory://"))
    yield database
    database.engine.dispose()


MANAGER = with_polymorphic(Employee, [Manager])
OTHER = aliased(User)
YOUNG = select(User).where(User.id < 3).subquery()
YOUNG_USER = aliased(User, YOUNG)
FEW = select(User.id).where(User.id < 3).cte("few")

QUERIES: dict[str, Callable[[Session, Any], Any]] = {
    "entities": lambda s, o: s.scalars(select(User).order_by(User.id).options(*o)).all(),
    "execute": lambda s, o: s.execute(select(User).where(User.id == 2).options(*o)).all(),
    "one": lambda s, o: s.execute(select(User).where(User.id == 2).options(*o)).scalar_one(),
    "none": lambda s, o: s.execute(select(User).where(User.id == 99).options(*o)).scalar_one_or_none(),
    "get": lambda s, o: s.get(User, 3, options=o),
    "get none": lambda s, o: s.get(User, 99, options=o),
    "scalar": lambda s, o: s.scalar(select(func.count()).select_from(User).options(*o)),
    "columns": lambda s, o: s.execute(select(User.id, User.name).order_by(User.id).options(*o)).all(),
    "mappings": lambda s, o: s.execute(select(User.id, User.name.label("n")).options(*o)).mappings().all(),
    "labels": lambda s, o: [
        row.n for row in s.execute(select(User.name.label("n")).order_by(User.id).options(*o))
    ],
    "mixed": lambda s, o: s.execute(
        select(User, Post.title, func.length(Post.title).label("long"))
        .join(Post)
        .order_by(Post.id)
        .options(*o)
    ).all(),
    "two entities": lambda s, o: s.execute(select(User, Post).join(Post).order_by(Post.id).options(*o)).all(),
    "by column": lambda s, o: [
        (row._mapping[User.id], row._mapping["name"])
        for row in s.execute(select(User.id, User.name).order_by(User.id).options(*o))
    ],
    "by entity": lambda s, o: [
        row._mapping[User]
        for row in s.execute(select(User, Post.id).join(Post).order_by(Post.id).options(*o))
    ],
    "partitions": lambda s, o: list(s.scalars(select(User).order_by(User.id).options(*o)).partitions(2)),
    "first": lambda s, o: s.scalars(select(User).order_by(User.id).options(*o)).first(),
    "slices": lambda s, o: (
        s.execute(select(User.id, User.name).order_by(User.id).options(*o)).columns(1).all()
    ),
    "aggregate": lambda s, o: s.execute(
        select(Post.author_id, func.count(), func.max(Post.title))
        .group_by(Post.author_id)
        .order_by(Post.author_id)
        .options(*o)
    ).all(),
    "exists": lambda s, o: s.scalars(
        select(User).where(User.posts.any(Post.title == "post 1.1")).options(*o)
    ).all(),
    "subquery": lambda s, o: s.scalars(
        select(User)
        .where(User.id.in_(select(Post.author_id).where(Post.id > 30)))
        .order_by(User.id)
        .options(*o)
    ).all(),
    "from subquery": lambda s, o: s.scalars(select(YOUNG_USER).order_by(YOUNG_USER.id).options(*o)).all(),
    "cte": lambda s, o: s.scalars(
        select(User).join(FEW, FEW.c.id == User.id).order_by(User.id).options(*o)
    ).all(),
    "aliased": lambda s, o: s.execute(
        select(User, OTHER).join(OTHER, OTHER.id == User.id + 1).order_by(User.id).options(*o)
    ).all(),
    "union of columns": lambda s, o: s.execute(
        union(select(User.id), select(Post.id)).order_by("id").options(*o)
    ).all(),
    "union of entities": lambda s, o: s.scalars(
        select(User)
        .from_statement(union_all(select(User).where(User.id == 1), select(User).where(User.id == 2)))
        .options(*o)
    ).all(),
    "case": lambda s, o: s.execute(
        select(User.id, case((User.id > 2, "big"), else_="small").label("size")).order_by(User.id).options(*o)
    ).all(),
    "cast": lambda s, o: s.scalars(select(cast(User.id, String)).order_by(User.id).options(*o)).all(),
    "in": lambda s, o: s.scalars(select(User).where(User.id.in_([1, 3])).order_by(User.id).options(*o)).all(),
    "bound": lambda s, o: s.scalars(
        select(User).where(User.id == bindparam("which")).options(*o), {"which": 2}
    ).all(),
    "params": lambda s, o: s.scalars(
        select(User).where(User.id == bindparam("which")).params(which=2).options(*o)
    ).all(),
    "limit": lambda s, o: s.scalars(select(User).order_by(User.id).limit(2).offset(1).options(*o)).all(),
    "distinct": lambda s, o: s.scalars(
        select(Post.author_id).distinct().order_by(Post.author_id).options(*o)
    ).all(),
    "bundle": lambda s, o: s.execute(
        select(Bundle("b", User.id, User.name)).order_by(User.id).options(*o)
    ).all(),
    "literal": lambda s, o: s.execute(
        select(literal(1), literal("x"), User.id).order_by(User.id).options(*o)
    ).all(),
    "literal column": lambda s, o: s.execute(
        select(literal_column("1"), User.id).order_by(User.id).options(*o)
    ).all(),
    "no columns twice": lambda s, o: s.execute(select(User.id, User.id).order_by(User.id).options(*o)).all(),
    "window": lambda s, o: s.execute(
        select(Post.id, func.row_number().over(partition_by=Post.author_id, order_by=Post.id))
        .order_by(Post.id)
        .options(*o)
    ).all(),
    "core table": lambda s, o: s.execute(select(User.__table__).order_by(User.id).options(*o)).all(),
    "core columns": lambda s, o: [
        row._mapping[User.__table__.c.name]
        for row in s.execute(select(User.__table__.c.name).order_by(User.__table__.c.id).options(*o))
    ],
    "lambda": lambda s, o: s.scalars(lambda_stmt(lambda: select(User).order_by(User.id)).options(*o)).all(),
    "joined inheritance": lambda s, o: s.scalars(select(Manager).options(*o)).all(),
    "with polymorphic": lambda s, o: s.scalars(select(MANAGER).order_by(MANAGER.id).options(*o)).all(),
    "selectin polymorphic": lambda s, o: s.scalars(
        select(Employee).order_by(Employee.id).options(*o, selectin_polymorphic(Employee, [Manager]))
    ).all(),
    "single inheritance": lambda s, o: s.scalars(select(Animal).order_by(Animal.id).options(*o)).all(),
    "single subclass": lambda s, o: s.scalars(select(Dog).options(*o)).all(),
    "types": lambda s, o: s.get(Thing, THING, options=o),
    "types as columns": lambda s, o: s.execute(select(*Thing.__table__.c).options(*o)).all(),
    "joinedload": lambda s, o: (
        s.scalars(select(User).order_by(User.id).options(*o, joinedload(User.posts))).unique().all()
    ),
    "joinedload to one": lambda s, o: s.scalars(
        select(Post).order_by(Post.id).options(*o, joinedload(Post.author))
    ).all(),
    "joinedload and limit": lambda s, o: (
        s.scalars(select(User).order_by(User.id).limit(2).options(*o, joinedload(User.posts))).unique().all()
    ),
    "selectinload": lambda s, o: s.scalars(
        select(User).order_by(User.id).options(*o, selectinload(User.posts))
    ).all(),
    "selectinload deep": lambda s, o: s.scalars(
        select(User).order_by(User.id).options(*o, selectinload(User.posts).selectinload(Post.tags))
    ).all(),
    "selectinload to one": lambda s, o: s.scalars(
        select(Post).order_by(Post.id).options(*o, selectinload(Post.author))
    ).all(),
    "selectinload and joinedload": lambda s, o: s.scalars(
        select(User).order_by(User.id).options(*o, selectinload(User.posts).joinedload(Post.tags))
    ).all(),
    "selectinload with criteria": lambda s, o: s.scalars(
        select(User).order_by(User.id).options(*o, selectinload(User.posts.and_(Post.id > 20)))
    ).all(),
    "subqueryload": lambda s, o: s.scalars(
        select(User).order_by(User.id).options(*o, subqueryload(User.posts))
    ).all(),
    "contains_eager": lambda s, o: (
        s.scalars(
            select(User)
            .join(User.posts)
            .where(Post.id > 20)
            .order_by(Post.id)
            .options(*o, contains_eager(User.posts))
        )
        .unique()
        .all()
    ),
    "loader criteria": lambda s, o: s.scalars(
        select(User)
        .order_by(User.id)
        .options(*o, selectinload(User.posts), with_loader_criteria(Post, Post.id > 20))
    ).all(),
    "load_only": lambda s, o: s.scalars(
        select(User).order_by(User.id).options(*o, load_only(User.name))
    ).all(),
    "defer": lambda s, o: s.scalars(select(User).order_by(User.id).options(*o, defer(User.name))).all(),
    "undefer": lambda s, o: s.scalars(
        select(Post).order_by(Post.id).options(*o, undefer(Post.content))
    ).all(),
    "legacy": lambda s, o: s.query(User).order_by(User.id).options(*o).all(),
    "legacy one": lambda s, o: s.query(User).filter_by(id=2).options(*o).one(),
    "legacy count": lambda s, o: s.query(User).options(*o).count(),
    "legacy columns": lambda s, o: s.query(User.id, User.name).order_by(User.id).options(*o).all(),
    "legacy joinedload": lambda s, o: (
        s.query(User).order_by(User.id).options(*o, joinedload(User.posts)).all()
    ),
    "legacy get": lambda s, o: s.query(User).options(*o).get(2),
    "text of entities": lambda s, o: s.scalars(
        select(User).from_statement(text("SELECT id, name, tenant FROM users ORDER BY id")).options(*o)
    ).all(),
    "text": lambda s, o: s.execute(
        text("SELECT id, name FROM users ORDER BY id").columns(User.id, User.name).options(*o)
    ).all(),
    "bare text": lambda s, o: s.execute(text("SELECT name, id FROM users ORDER BY id").options(*o)).all(),
}
OF_TEXT = {"text of entities", "text", "bare text"}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.LegacyAPIWarning")
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.parametrize("name", QUERIES)
def test_a_cached_query_gives_what_the_query_gives(db: Database, name: str) -> None:
    option = from_cache(ttl=300, tables=[User] if name in OF_TEXT else None)
    fresh, statements = db.ask(lambda session: QUERIES[name](session, []))

    filled, while_filling = db.ask(lambda session: QUERIES[name](session, [option]))
    hit, while_hitting = db.ask(lambda session: QUERIES[name](session, [option]))

    assert filled == fresh
    assert hit == fresh
    assert (while_filling, while_hitting) == (statements, 0)
    assert statements > 0
