"""What a cached query brings belongs to the session that asked, and a transaction sees what it wrote."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    cast,
    create_engine,
    delete,
    event,
    exists,
    func,
    inspect,
    literal,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import Session, joinedload, selectinload, sessionmaker, with_loader_criteria

from tests.sqlalchemy.query_models import Base, Post, User
from tests.sqlalchemy.query_world import Database, make_database
from tiercache import SettingError, TierCache, cached_dependency
from tiercache.sqlalchemy import from_cache, install

CACHED = from_cache(ttl=300)
SEVERAL = select(User).order_by(User.id).options(CACHED)
FIRST = select(User).where(User.id == 1).options(CACHED)


@pytest.fixture(params=["sqlite", "psycopg"])
def db(
    request: pytest.FixtureRequest, tmp_path: Path, new_node: Callable[..., TierCache]
) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/test.db"
    if request.param != "sqlite":
        name = request.getfixturevalue("postgres_database")
        url = request.getfixturevalue("postgres").url(request.param, name)
    database = make_database(url, new_node("memory://"))
    with database.session() as session:
        session.scalars(SEVERAL).all()
        session.scalars(FIRST).all()
    yield database
    database.engine.dispose()


def names(db: Database, statement: Any = SEVERAL) -> list[str]:
    with db.session() as session:
        return [user.name for user in session.scalars(statement)]


# ---- instances


def test_an_instance_from_the_cache_is_persistent_and_loads_lazily(db: Database) -> None:
    with db.session() as session:
        with db.counting() as statements:
            user = session.scalars(FIRST).one()
        assert statements == []
        assert inspect(user).persistent
        assert [post.title for post in user.posts] == ["post 1.0", "post 1.1", "post 1.2"]


def test_an_instance_that_the_session_has_is_the_one_that_comes(db: Database) -> None:
    with db.session() as session:
        mine = session.get(User, 1)
        with db.counting() as statements:
            assert session.scalars(FIRST).one() is mine
            assert session.scalars(SEVERAL).first() is mine
        assert statements == []


def test_a_change_that_is_not_flushed_is_not_overwritten(db: Database) -> None:
    with db.session(autoflush=False) as session:
        user = session.get_one(User, 1)
        user.name = "pending"
        with db.counting() as statements:
            assert session.scalars(FIRST).one().name == "pending"
        assert statements == []
        assert inspect(user).attrs.name.history.has_changes()
        session.commit()
    assert names(db)[0] == "pending"


def test_a_pending_change_of_the_leaders_session_reaches_nobody(db: Database) -> None:
    statement = select(User).where(User.id <= 2).options(CACHED)
    with db.session(autoflush=False) as session:
        session.get_one(User, 1).name = "pending"
        assert [user.name for user in session.scalars(statement)] == ["pending", "user 2"]
    assert names(db, statement) == ["user 1", "user 2"]


def test_what_the_leaders_session_had_loaded_before_is_not_taken_for_the_row(db: Database) -> None:
    statement = select(User).where(User.id <= 2).options(CACHED)
    with db.session(expire_on_commit=False) as session:
        old = session.get_one(User, 1)
        session.commit()
        with db.session() as other:
            other.get_one(User, 1).name = "new"
            other.commit()
        assert session.scalars(statement).first() is old
        assert old.name == "user 1"  # not expired, so a query does not refresh it
    assert names(db, statement) == ["new", "user 2"]


def test_expired_attributes_are_refreshed_from_the_cache(db: Database) -> None:
    with db.session() as session:
        user = session.get_one(User, 1)
        session.expire(user)
        with db.counting() as statements:
            session.scalars(FIRST).one()
            assert user.name == "user 1"
        assert statements == []


def test_a_refresh_asks_the_database(db: Database) -> None:
    with db.session() as session:
        user = session.scalars(FIRST).one()
        with db.counting() as statements:
            session.refresh(user)
        assert len(statements) == 1


def test_events_and_changes_work_as_on_a_fresh_instance(db: Database) -> None:
    loaded: list[str] = []
    with db.session() as session:
        event.listen(session, "loaded_as_persistent", lambda session, instance: loaded.append(instance.name))
        user = session.scalars(FIRST).one()
        assert loaded == ["user 1"]
        user.name = "renamed"
        session.commit()
    assert names(db, FIRST) == ["renamed"]


def test_two_readers_get_json_of_their_own(db: Database) -> None:
    from tests.sqlalchemy.query_models import THING, Thing

    def ask() -> Thing:
        with db.session() as session:
            return session.get_one(Thing, THING, options=[CACHED])

    ask().data["a"].append("mine")
    assert ask().data == {"a": [1, None, {"b": "c"}]}


def test_joined_collections_demand_unique_from_the_cache_too(db: Database) -> None:
    statement = select(User).options(CACHED, joinedload(User.posts))
    for _ in range(2):
        with db.session() as session:
            with pytest.raises(InvalidRequestError, match="unique"):
                session.scalars(statement).all()
            assert len(session.scalars(statement).unique().all()) == 4


def test_lazy_loads_are_cached_in_both_directions_where_asked_for(db: Database) -> None:
    def titles(session: Session) -> list[str]:
        option = from_cache(ttl=300, relationships=True)
        users = session.scalars(select(User).order_by(User.id).options(option)).all()
        return [post.title for user in users for post in user.posts]

    def authors(session: Session) -> list[str]:
        option = from_cache(ttl=300, relationships=True)
        return [
            post.author.name
            for post in session.scalars(select(Post).where(Post.author_id > 1).options(option))
        ]

    # The users are known from the fixture.
    for question, statements in ((titles, 4), (authors, 1 + 3)):
        first, asked = db.ask(question)
        assert asked == statements
        assert db.ask(question) == (first, 0)
    assert db.ask(lambda session: [user.posts for user in session.scalars(SEVERAL)])[1] == 4


def test_lazy_loads_are_cached_where_the_plain_statement_ran_first(db: Database) -> None:
    def ask(*options: Any) -> int:
        statement = select(Post).where(Post.id.between(20, 29)).options(*options)
        return db.ask(lambda session: [post.author.name for post in session.scalars(statement)])[1]

    assert ask() == 2
    assert ask(CACHED) == 2
    assert ask(CACHED) == 1
    assert ask(from_cache(ttl=300, relationships=True)) == 1
    assert ask(from_cache(ttl=300, relationships=True)) == 0
    assert ask(CACHED) == 1


# ---- transactions


def test_pending_changes_are_flushed_before_the_cache_is_asked(db: Database) -> None:
    with db.session() as session:
        session.get_one(User, 1).name = "flushed"
        session.add(User(id=9, name="added"))
        assert [user.name for user in session.scalars(SEVERAL)] == [
            "flushed", "user 2", "user 3", "user 4", "added",
        ]  # fmt: skip
        session.rollback()
        assert session.scalars(SEVERAL).first().name == "user 1"


def test_a_transaction_sees_its_own_writes_and_others_what_is_committed(db: Database) -> None:
    with db.session() as writer:
        writer.execute(update(User).where(User.id == 1).values(name="mine"))
        count = select(func.count()).select_from(User).where(User.name == "mine").options(CACHED)
        assert writer.scalars(SEVERAL).first().name == "mine"
        assert writer.scalar(count) == 1

        assert names(db)[0] == "user 1"
        with db.session() as other:
            assert other.scalar(count) == 0

        writer.commit()
        assert writer.scalars(SEVERAL).first().name == "mine"
        assert writer.scalar(count) == 1
    assert names(db)[0] == "mine"
    with db.session() as other:
        assert other.scalar(count) == 1


def test_what_is_rolled_back_is_nowhere(db: Database) -> None:
    fresh = select(User.name).where(User.id == 1).options(CACHED)
    with db.session() as writer:
        writer.execute(update(User).where(User.id == 1).values(name="mine"))
        assert writer.scalar(fresh) == "mine"
        writer.rollback()
        assert writer.scalar(fresh) == "user 1"
    assert names(db)[0] == "user 1"
    with db.session() as other:
        assert other.scalar(fresh) == "user 1"


def test_a_transaction_that_wrote_to_another_table_is_answered(db: Database) -> None:
    with db.session() as session:
        session.execute(update(Post).where(Post.id == 10).values(title="other"))
        with db.counting() as statements:
            assert session.scalars(SEVERAL).first().name == "user 1"
        assert statements == []
        session.rollback()


def test_a_session_that_goes_from_thread_to_thread_sees_its_own_writes(db: Database) -> None:
    """As with FastAPI: each step of a sync dependency runs in a copy of the context."""
    import contextvars

    with db.session() as session:
        contextvars.copy_context().run(session.execute, update(User).where(User.id == 1).values(name="mine"))
        read = contextvars.copy_context().run(lambda: session.scalars(SEVERAL).all())
        assert read[0].name == "mine"
        session.rollback()


def test_an_inserted_row_ends_the_entry_of_a_count_and_of_its_absence(db: Database) -> None:
    absent = select(User).where(User.id == 9).options(CACHED)
    count = select(func.count()).select_from(User).options(CACHED)
    assert names(db, absent) == []
    with db.session() as session:
        assert session.scalar(count) == 4
        session.add(User(id=9, name="new"))
        session.commit()
        assert session.scalar(count) == 5
    assert names(db, absent) == ["new"]


def test_a_write_to_an_eagerly_loaded_table_shows(db: Database) -> None:
    for load in (selectinload, joinedload):
        statement = select(User).where(User.id == 1).options(CACHED, load(User.posts))
        with db.session() as session:
            session.scalars(statement).unique().one()
        with db.session() as session:
            title = f"by {load.__name__}"
            session.get_one(Post, 10).title = title
            session.commit()
        with db.session() as session:
            assert session.scalars(statement).unique().one().posts[0].title == title


# ---- what has to reach the database


@pytest.mark.parametrize(
    "statement",
    [
        SEVERAL.with_for_update(),
        SEVERAL.execution_options(populate_existing=True),
        SEVERAL.execution_options(yield_per=2),
        SEVERAL.execution_options(stream_results=True),
    ],
    ids=["with_for_update", "populate_existing", "yield_per", "stream_results"],
)
def test_such_a_statement_is_neither_answered_nor_kept(db: Database, statement: Any) -> None:
    loads = db.cache.stats().loads
    for _ in range(2):
        with db.session() as session, db.counting() as statements:
            assert len(session.scalars(statement).all()) == 4
        assert len(statements) == 1
    assert db.cache.stats().loads == loads


def test_legacy_populate_existing_and_yield_per_ask_the_database(db: Database) -> None:
    for change in (lambda q: q.populate_existing(), lambda q: q.yield_per(2), lambda q: q.with_for_update()):
        with db.session() as session:
            query = change(session.query(User).order_by(User.id).options(CACHED))
            with db.counting() as statements:
                assert len(list(query)) == 4
            assert len(statements) == 1


def rewrite(connection: Any, statement: Any, *rest: Any) -> Any:
    return statement.where(User.id == TENANT.get()), *rest[:2]


def rewrite_text(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> Any:
    return statement.replace("ORDER", f"WHERE users.id = {TENANT.get()} ORDER"), parameters


TENANT: ContextVar[int] = ContextVar("tenant")


@pytest.mark.parametrize("on", ["engine", "connection"])
@pytest.mark.parametrize(
    ("name", "listener"), [("before_execute", rewrite), ("before_cursor_execute", rewrite_text)]
)
def test_what_a_listener_of_the_engine_may_rewrite_is_not_kept(
    db: Database, name: str, listener: Any, on: str
) -> None:
    if on == "engine":
        event.listen(db.engine, name, listener, retval=True)
    for tenant in (1, 2):
        TENANT.set(tenant)
        with db.session() as session:
            if on == "connection":
                event.listen(session.connection(), name, listener, retval=True)
            assert [user.id for user in session.scalars(SEVERAL)] == [tenant]


def test_a_listener_that_adds_comments_alone_is_let_be(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def comment(*args: Any) -> Any:
        return f"{args[2]} /* traced */", args[3]

    monkeypatch.setattr(comment, "__module__", "opentelemetry.instrumentation.sqlalchemy.engine")
    event.listen(db.engine, "before_cursor_execute", comment, retval=True)

    with db.counting() as statements:
        assert len(names(db)) == 4
    assert not statements


@pytest.mark.parametrize(
    "part",
    [func.now(), func.my_own(), text("(SELECT 1)"), func.random(), text("CURRENT_TIMESTAMP")],
    ids=["clock", "function of the user", "text", "random", "clock by text"],
)
def test_a_statement_with_a_part_that_cannot_be_seen_is_not_kept(
    db: Database, part: Any, caplog: pytest.LogCaptureFixture
) -> None:
    statement = select(User.id).where(User.id == 1).order_by(part).options(CACHED)
    failures = 0
    for _ in range(2):
        with db.session() as session, db.counting() as statements:
            try:
                session.execute(statement).all()
            except DBAPIError:  # there is no such function
                failures += 1
            assert len(statements) == 1
    assert failures in (0, 2)
    assert caplog.text.count("tables=[...]") == 1
    if failures == 0:
        named = select(User.id).where(User.id == 1).order_by(part).options(from_cache(tables=[User]))
        assert db.ask(lambda session: session.execute(named).all())[1] == 1
        assert db.ask(lambda session: session.execute(named).all())[1] == 0


class Uncacheable(TypeDecorator[str]):
    impl = String
    cache_ok = False  # so a statement with it has no key of SQLAlchemy's


def test_why_a_statement_is_not_kept_is_said_once_though_it_has_no_key(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        name = type_coerce(User.name, Uncacheable())
        statement = select(name, func.random()).where(User.id == number).options(CACHED)
        assert db.ask(lambda session, statement=statement: session.execute(statement).all())[1] == 1
    assert caplog.text.count("tables=[...]") == 1


@pytest.mark.parametrize(
    "statement",
    [
        select(User.id).where(exists(select(text("1")).select_from(text("posts")))),
        select(User.id).where(User.name < literal_column("current_user")),
        select(User.id).with_statement_hint("-- FOR UPDATE"),
        select(Table("users", MetaData(), Column("id", Integer), prefixes=["TEMPORARY"]).c.id),
    ],
    ids=["text in FROM", "who asks", "hint", "temporary table"],
)
def test_a_statement_that_reads_what_is_hidden_in_it_is_not_kept(db: Database, statement: Any) -> None:
    if "current_user" in str(statement) and db.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no users")
    for _ in range(2):
        assert db.ask(lambda session: session.scalars(statement.options(CACHED)).all())[1] == 1


@pytest.mark.parametrize(
    "part", [text("'now'"), literal("now"), literal("today 12:00")], ids=["text", "now", "today"]
)
def test_the_time_it_is_by_a_text_is_not_kept(db: Database, part: Any) -> None:
    if db.engine.dialect.name == "sqlite":
        pytest.skip("no clock of SQLite's is in a text alone")
    statement = select(User.id).where(cast(part, DateTime) > literal(datetime(2024, 1, 1), DateTime))
    for _ in range(2):
        assert db.ask(lambda session: session.scalars(statement.options(CACHED)).all())[1] == 1


def test_text_depends_on_the_tables_that_are_named_for_it(db: Database) -> None:
    statement = text("SELECT count(*) FROM users").options(from_cache(tables=["users"]))
    assert db.ask(lambda session: session.scalar(statement)) == (4, 1)
    assert db.ask(lambda session: session.scalar(statement)) == (4, 0)
    with db.session() as session:
        session.add(User(id=9, name="one more"))
        session.commit()
    assert db.ask(lambda session: session.scalar(statement)) == (5, 1)


def test_a_table_may_be_named_with_the_schema_that_is_the_default(db: Database) -> None:
    named = f"{db.engine.dialect.default_schema_name}.users"
    statement = text("SELECT count(*) FROM users").options(from_cache(tables=[named]))
    assert db.ask(lambda session: session.scalar(statement)) == (4, 1)
    with db.session() as session:
        session.add(User(id=9, name="one more"))
        session.commit()
    assert db.ask(lambda session: session.scalar(statement)) == (5, 1)


@pytest.mark.parametrize("ttl", ["10 minuts", -1, 0, float("nan")])
def test_a_ttl_that_is_none_is_refused_where_it_is_written(ttl: Any) -> None:
    with pytest.raises(SettingError, match="ttl"):
        from_cache(ttl=ttl)
    with pytest.raises(SettingError, match="ttl"):
        cached_dependency(Session, ttl=ttl)


def test_an_error_of_the_database_passes_through(db: Database) -> None:
    statement = text("SELECT nothing FROM nowhere").options(from_cache(tables=["users"]))
    for _ in range(2):
        with db.session() as session, pytest.raises(DBAPIError, match="nowhere"):
            session.execute(statement)


def test_a_failed_transaction_of_one_is_not_the_error_of_another(db: Database) -> None:
    with db.session() as broken:
        with pytest.raises(DBAPIError):
            broken.execute(text("SELECT nothing FROM nowhere"))
        with db.session() as other:
            assert len(other.scalars(select(User).where(User.id > 1).options(CACHED)).all()) == 3


# ---- caches


def test_without_an_installed_cache_the_error_says_what_to_write(db: Database) -> None:
    other = create_engine(db.engine.url)
    with Session(other) as session, pytest.raises(ValueError, match="install"):
        session.scalars(SEVERAL).all()
    with Session(other) as session, pytest.raises(ValueError, match="install"):
        session.scalars(select(User).options(from_cache(cache=db.cache))).all()
    other.dispose()


def test_the_cache_that_is_named_answers(db: Database, new_node: Callable[..., TierCache]) -> None:
    second = new_node("memory://")
    install(second, db.engine)
    statement = select(User).order_by(User.id).options(from_cache(cache=second))
    before = db.cache.stats()
    assert db.ask(lambda session: len(session.scalars(statement).all())) == (4, 1)
    assert db.ask(lambda session: len(session.scalars(statement).all())) == (4, 0)
    assert (second.stats().loads, db.cache.stats().loads) == (1, before.loads)


def test_a_session_that_is_installed_is_enough(tmp_path: Path, new_node: Callable[..., TierCache]) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    Base.metadata.create_all(engine)
    maker = sessionmaker(engine)
    install(new_node("memory://"), maker)
    for _ in range(2):
        with maker() as session:
            assert session.scalars(SEVERAL).all() == []
    with maker() as session:
        session.add(User(id=1, name="new"))
        session.commit()
    with maker() as session:
        assert [user.name for user in session.scalars(SEVERAL)] == ["new"]
    engine.dispose()


# ---- listeners


@pytest.mark.parametrize("when", ["before", "after", "on the session"])
def test_a_tenants_criteria_keep_entries_apart(
    tmp_path: Path, new_node: Callable[..., TierCache], when: str
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/tenants.db")
    maker = sessionmaker(engine)

    def restrict(state: Any) -> None:
        if state.is_select and "tenant" in state.session.info:
            tenant = state.session.info["tenant"]
            state.statement = state.statement.options(
                with_loader_criteria(User, lambda cls: cls.tenant == tenant, include_aliases=True)
            )

    if when == "before":
        event.listen(maker, "do_orm_execute", restrict)
    db = make_database(str(engine.url), new_node("memory://"))
    install(db.cache, engine)
    if when == "after":
        event.listen(maker, "do_orm_execute", restrict)

    def ask(tenant: int) -> list[int]:
        with maker(info={"tenant": tenant}) as session:
            if when == "on the session":
                event.listen(session, "do_orm_execute", restrict)
            return [user.id for user in session.scalars(SEVERAL)]

    for _ in range(2):
        assert ask(1) == [2, 4]
        assert ask(2) == [1, 3]
    with maker() as session:
        assert len(session.scalars(SEVERAL).all()) == 4
    engine.dispose()
    db.engine.dispose()


def test_a_later_listener_that_executes_by_itself_is_answered(db: Database) -> None:
    seen = []

    def timing(state: Any) -> Any:
        result = state.invoke_statement()
        seen.append(state)
        return result

    for _ in range(2):
        with db.session() as session:
            event.listen(session, "do_orm_execute", timing)
            with db.counting() as statements:
                assert len(session.scalars(SEVERAL).all()) == 4
            assert statements == []
    assert len(seen) == 2


def test_a_listener_speaks_once_also_where_the_database_is_asked(db: Database) -> None:
    heard = []
    with db.session() as session:
        event.listen(session, "do_orm_execute", lambda state: heard.append(state) and None)
        session.scalars(SEVERAL.with_for_update()).all()
    assert len(heard) == 1


# ---- what an entry depends on


def test_a_row_that_is_read_by_its_key_outlives_writes_to_others(db: Database) -> None:
    statements = [
        (FIRST, 0),
        (select(User).where(User.id.in_([1, 3])).options(CACHED), 0),
        (select(User).where(User.id == 1, User.tenant == 2).options(CACHED), 0),
        (select(User).where(User.id > 0).options(CACHED), 1),
        (select(User).where((User.id == 1) | (User.name == "x")).options(CACHED), 1),
        (select(User).where(User.id != 1).options(CACHED), 1),
        (select(User).join(Post).where(User.id == 1).distinct().options(CACHED), 1),
        (SEVERAL, 1),
    ]
    for statement, _ in statements:
        names(db, statement)
    with db.session() as session:
        session.get_one(User, 2).name = "new"
        session.commit()
    asked = []
    for statement, _ in statements:
        with db.counting() as noted:
            names(db, statement)
            asked.append(len(noted))
    assert asked == [expected for _, expected in statements]


@pytest.mark.parametrize(
    "write",
    [
        update(User).where(User.id == 1).values(name="new"),
        update(User).where(User.name == "user 1").values(name="new"),
        text("UPDATE users SET name = 'new' WHERE id = 1").execution_options(invalidates=["users"]),
        text("UPDATE users SET name = 'new' WHERE id = 1"),
    ],
    ids=["by key", "by another column", "text that says so", "text"],
)
def test_a_row_that_is_read_by_its_key_ends_with_a_write_that_reaches_it(db: Database, write: Any) -> None:
    with db.session() as session:
        session.execute(write)
        session.commit()
    assert names(db, FIRST) == ["new"]


def test_schemas_that_are_translated_are_kept_apart(
    postgres_url: str, new_node: Callable[..., TierCache]
) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.schema import CreateSchema

    db = Database(create_engine(postgres_url), new_node("memory://"))
    for schema in ("one", "two"):
        mapped = db.engine.execution_options(schema_translate_map={None: schema})
        with mapped.begin() as connection:
            connection.execute(CreateSchema(schema))
            Base.metadata.create_all(connection)
        with Session(mapped) as session:
            session.add(User(id=1, name=schema))
            session.commit()

    def ask(schema: str) -> tuple[list[str], int]:
        options = {"schema_translate_map": {None: schema}}
        with db.session() as session, db.counting() as statements:
            return [user.name for user in session.scalars(SEVERAL, execution_options=options)], len(
                statements
            )

    for expected in (1, 0):
        assert [ask("one"), ask("two")] == [(["one"], expected), (["two"], expected)]
    with Session(db.engine.execution_options(schema_translate_map={None: "two"})) as session:
        session.get_one(User, 1).name = "new"
        session.commit()
    assert [ask("one"), ask("two")] == [(["one"], 0), (["new"], 1)]
    db.engine.dispose()


def test_an_auditor_does_not_use_the_session_of_who_was_answered(
    tmp_path: Path, new_node: Callable[..., TierCache]
) -> None:
    db = make_database(f"sqlite:///{tmp_path}/audited.db", new_node("memory://", audit=1))
    statement = select(User).where(User.id.in_(range(40))).options(CACHED)
    names(db, statement)
    with db.session() as session:
        session.execute(select(Post.id)).all()  # has a connection from here on
        with db.counting() as statements:
            assert len(session.scalars(statement).all()) == 4
        assert statements == []
    (figures,) = db.cache.stats().audit.values()
    assert figures == {"unrepeatable": 1}
    db.engine.dispose()


def test_a_session_bound_to_a_connection_commits_what_it_writes_after_a_cached_query(db: Database) -> None:
    with db.engine.connect() as connection:
        with Session(connection) as session:
            assert session.scalar(select(func.count()).select_from(Post).options(CACHED)) == 12
            session.add(User(id=99, name="new"))
            session.commit()
        assert not connection.in_transaction()
    with db.session() as session:
        assert session.get(User, 99) is not None


def test_what_comes_from_the_cache_expires_with_a_rollback(db: Database) -> None:
    with db.session() as session:
        user = session.scalars(FIRST).one()
        session.rollback()
        with db.session() as other:
            other.get_one(User, 1).name = "new"
            other.commit()
        assert user.name == "new"


def test_a_session_that_does_not_begin_by_itself_says_so_where_the_cache_could_answer(db: Database) -> None:
    with db.session(autobegin=False) as session:
        with pytest.raises(InvalidRequestError, match="begin"):
            session.scalars(FIRST)
        with session.begin():
            assert session.scalars(FIRST).one().id == 1


def test_where_a_query_could_not_run_the_cache_does_not_answer(db: Database) -> None:
    with db.session() as session:
        session.add(User(id=1, name="there is one"))
        with pytest.raises(DBAPIError):
            session.flush()
        with pytest.raises(PendingRollbackError):
            session.scalars(FIRST)
        session.rollback()
        assert session.scalars(FIRST).one().id == 1
    with db.session() as session, session.begin():
        session.commit()
        with pytest.raises(InvalidRequestError, match="closed transaction"):
            session.scalars(FIRST)


def test_an_entry_is_of_the_engine_that_was_asked_however_the_session_routes(
    db: Database, tmp_path: Path, new_node: Callable[..., TierCache]
) -> None:
    other = make_database(f"sqlite:///{tmp_path}/other.db", db.cache)
    with other.session() as session:
        session.get_one(User, 1).name = "other"
        session.commit()
    binds = iter([db.engine, other.engine] * 9)

    class Routing(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return next(binds)

    statement = select(User.name).where(User.id == 1).options(CACHED)
    with Routing() as session:
        session.scalar(statement)
    with db.session() as session:
        assert session.scalar(statement) == "user 1"
    with other.session() as session:
        assert session.scalar(statement) == "other"
    other.engine.dispose()


def test_what_is_known_of_an_engine_or_of_metadata_goes_with_it(
    tmp_path: Path, new_node: Callable[..., TierCache]
) -> None:
    gone: list[weakref.ref[Any]] = []

    def use() -> None:
        metadata = MetaData()
        parent = Table("parents", metadata, Column("id", Integer, primary_key=True))
        Table(
            "children", metadata, Column("id", ForeignKey(parent.c.id, ondelete="CASCADE"), primary_key=True)
        )
        engine = create_engine(f"sqlite:///{tmp_path}/gone.db")
        install(new_node("memory://"), engine)
        metadata.create_all(engine)
        with Session(engine) as session:
            session.execute(delete(parent))
            session.execute(select(parent).options(CACHED))
        engine.dispose()
        gone.extend([weakref.ref(engine.dialect), weakref.ref(metadata)])

    use()
    gc.collect()  # the engine; with it goes what is installed on it, which has
    gc.collect()  # the dialect

    assert [each() for each in gone] == [None, None]
