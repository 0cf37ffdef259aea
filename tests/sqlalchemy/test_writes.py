"""What a write makes invalid, whichever way it is written: the row and its table, and no other."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    column,
    delete,
    insert,
    literal,
    select,
    table,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.sqlalchemy.caching import Entries
from tests.sqlalchemy.models import (
    Animal,
    Code,
    Color,
    Dog,
    Label,
    Note,
    Paint,
    Post,
    Seat,
    Thing,
    Truck,
    User,
    followers,
    post_labels,
    private,
)
from tiercache.sqlalchemy import from_cache

USERS = User.__table__
NOTHING = "table:labels row:labels:1"


@pytest.fixture
def session(engine: Engine, plain_engine: Engine) -> Any:
    with Session(engine) as session:
        yield session


@pytest.fixture(autouse=True)
def rows(engine: Engine) -> None:
    with Session(engine) as session:
        for number in (1, 2, 3):
            session.add(User(id=number))
            session.add(Label(id=number))
            session.add(Seat(row=number, letter="a"))
            session.add(Dog(id=number))
        session.flush()
        session.add_all([Post(id=number, author_id=number) for number in (1, 2, 3)])
        session.add_all([Note(id=number, user_id=number) for number in (1, 2, 3)])
        session.flush()
        session.add_all([Truck(id=1), Code(code="a"), Paint(color=Color.RED), Paint(color=Color.BLUE)])
        session.commit()


# ---- the unit of work


def test_an_object_added_is_its_row(engine: Engine, entries: Entries) -> None:
    with entries.changed("table:users row:users:7", "row:users:1 table:posts"), Session(engine) as session:
        session.add(User(id=7))
        session.commit()


def test_a_key_that_the_database_gave_is_known(engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT setval('users_id_seq', 3)"))
    with entries.changed("table:users row:users:4 row:users:5", "row:users:1 row:users:6 " + NOTHING):
        with Session(engine) as session:
            session.add_all([User(), User()])
            session.commit()
    with entries.changed("table:users row:users:6", "row:users:1 row:users:7"), Session(engine) as session:
        session.add(User())
        session.commit()


def test_an_object_changed_is_its_row(session: Session, entries: Entries) -> None:
    with entries.changed("table:users row:users:2", "row:users:1 " + NOTHING):
        session.get_one(User, 2).name = "changed"
        session.commit()


def test_several_objects_changed_in_one_statement_are_their_rows(session: Session, entries: Entries) -> None:
    with entries.changed("table:users row:users:1 row:users:2", "row:users:3 " + NOTHING):
        for number in (1, 2):
            session.get_one(User, number).name = "changed"
        session.commit()


def test_an_object_deleted_goes_with_what_cascades(session: Session, entries: Entries) -> None:
    goes = "table:users row:users:2 table:posts row:posts:2 table:notes row:notes:2"
    with entries.changed(goes, "row:users:1 row:posts:1 table:labels"):
        session.delete(session.get_one(User, 2))
        session.commit()


def test_an_orphan_deleted_is_its_row(session: Session, entries: Entries) -> None:
    user = session.get_one(User, 2)
    with entries.changed("table:posts row:posts:2", "row:posts:1 table:users row:users:2"):
        user.posts.clear()
        session.commit()


def test_a_changed_key_is_any_row(session: Session, entries: Entries) -> None:
    with entries.changed("table:seats row:seats:1,a row:seats:9,a row:seats:2,a", NOTHING):
        session.get_one(Seat, (1, "a")).row = 9
        session.commit()


def test_a_composite_key_is_its_values(session: Session, entries: Entries) -> None:
    with entries.changed("table:seats row:seats:2,a", "row:seats:1,a row:seats:3,a"):
        session.get_one(Seat, (2, "a")).taken = True
        session.commit()


def test_a_label_given_to_a_post_is_both_of_them(session: Session, entries: Entries) -> None:
    goes = "table:post_labels row:post_labels:1,2 row:posts:1 row:labels:2"
    stays = "row:post_labels:1,1 row:posts:2 row:labels:1 table:posts table:labels"
    post = session.get_one(Post, 1)
    with entries.changed(goes, stays):
        post.labels.append(session.get_one(Label, 2))
        session.commit()
    with entries.changed(goes, stays):
        post.labels.clear()
        session.commit()


def test_an_association_without_a_key_is_what_it_points_to(engine: Engine, entries: Entries) -> None:
    goes = "table:followers row:users:1 row:labels:2"
    with entries.changed(goes, "row:users:2 row:labels:1 table:users"), engine.begin() as connection:
        connection.execute(insert(followers).values(user_id=1, label_id=2))
    with entries.changed(goes, "row:users:2 row:labels:1"), engine.begin() as connection:
        connection.execute(delete(followers).where(followers.c.user_id == 1, followers.c.label_id == 2))


def test_half_of_an_association_is_one_row_here_and_any_row_there(engine: Engine, entries: Entries) -> None:
    goes = "table:post_labels row:post_labels:1,2 row:posts:1 row:labels:1 row:labels:2"
    with entries.changed(goes, "row:posts:2"), engine.begin() as connection:
        connection.execute(delete(post_labels).where(post_labels.c.post_id == 1))


def test_a_joined_object_is_a_row_in_each_of_its_tables(session: Session, entries: Entries) -> None:
    goes = "table:animals row:animals:7 table:dogs row:dogs:7"
    with entries.changed(goes, "row:animals:1 row:dogs:1 " + NOTHING):
        session.add(Dog(id=7))
        session.commit()


def test_what_a_joined_class_adds_is_the_object(session: Session, entries: Entries) -> None:
    goes = "table:dogs row:dogs:1 row:animals:1"
    with entries.changed(goes, "row:dogs:2 row:animals:2 table:animals"):
        session.get_one(Dog, 1).tricks = 3
        session.commit()


def test_a_joined_object_deleted_is_its_rows(session: Session, entries: Entries) -> None:
    goes = "table:animals row:animals:1 table:dogs row:dogs:1"
    with entries.changed(goes, "row:animals:2 row:dogs:2 " + NOTHING):
        session.delete(session.get_one(Animal, 1))
        session.commit()


def test_a_single_table_object_is_a_row_of_that_table(session: Session, entries: Entries) -> None:
    with entries.changed("table:vehicles row:vehicles:1", "row:vehicles:2"):
        session.get_one(Truck, 1).wheels = 6
        session.commit()


def test_a_uuid_is_its_text(session: Session, entries: Entries) -> None:
    number, other = uuid.uuid4(), uuid.uuid4()
    with entries.changed(f"table:things row:things:{number}", f"row:things:{other}"):
        session.add(Thing(id=number))
        session.commit()
    with entries.changed(f"table:things row:things:{number}", f"row:things:{other}"):
        session.get_one(Thing, number).size = 2
        session.commit()


def test_a_member_of_an_enum_is_its_value(session: Session, entries: Entries) -> None:
    with entries.changed("table:paints row:paints:red", "row:paints:blue"):
        session.get_one(Paint, Color.RED).liters = 1
        session.commit()


def test_the_empty_text_is_a_key(engine: Engine, entries: Entries) -> None:
    words = Table(
        "blank_words", MetaData(), Column("word", String(9), primary_key=True), Column("n", Integer)
    )
    words.create(engine)
    with (
        entries.changed("table:blank_words row:blank_words:", "row:blank_words:a"),
        engine.begin() as connection,
    ):
        connection.execute(insert(words).values(word="", n=1))
    with (
        entries.changed("table:blank_words row:blank_words: row:blank_words:a", NOTHING),
        engine.begin() as connection,
    ):
        connection.execute(update(words).values(n=2))
    with (
        entries.changed("table:blank_words row:blank_words:", "row:blank_words:a"),
        engine.begin() as connection,
    ):
        connection.execute(text("SELECT 1").execution_options(invalidates=["row:blank_words:"]))


def test_a_text_that_ends_with_a_space_is_any_row(engine: Engine, entries: Entries) -> None:
    """PostgreSQL stores it without, where there is no room for it."""
    codes = Table("cut_words", MetaData(), Column("word", String(2), primary_key=True), Column("n", Integer))
    codes.create(engine)
    with entries.changed("table:cut_words row:cut_words:ab", NOTHING), engine.begin() as connection:
        connection.execute(insert(codes).values(word="ab ", n=1))
    with entries.changed("table:cut_words row:cut_words:cd", NOTHING), engine.begin() as connection:
        connection.execute(insert(codes), [{"word": "cd  ", "n": 1}, {"word": "ef", "n": 1}])


def test_a_text_that_equals_others_is_any_row(engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "postgresql":
        pytest.skip("its texts are equal only where they are the same")
    with entries.changed("table:codes row:codes:a row:codes:b", NOTHING), engine.begin() as connection:
        assert connection.execute(update(Code).where(Code.code == "A").values(uses=1)).rowcount == 1


def test_a_flush_within_commit_counts(session: Session, entries: Entries) -> None:
    user = session.get_one(User, 1)
    session.commit()
    with entries.changed("table:users row:users:1", "row:users:2"):
        user.name = "changed"
        session.commit()


# ---- bulk


@pytest.mark.parametrize("keys", [True, False], ids=["keys given", "keys from the database"])
@pytest.mark.parametrize("way", ["insert", "insert returning", "save", "mappings", "add_all"])
def test_rows_inserted_in_bulk(engine: Engine, entries: Entries, way: str, keys: bool) -> None:
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT setval('users_id_seq', 3)"))
    given: list[dict[str, Any]] = [{"id": n, "name": "n"} if keys else {"name": "n"} for n in (4, 5)]
    knows = keys or way in ("add_all", "insert returning")
    goes, stays = "table:users row:users:4 row:users:5", "row:users:1"
    with entries.changed(goes if knows else f"{goes} {stays}", f"{stays} {NOTHING}" if knows else NOTHING):
        with Session(engine) as session:
            if way == "insert":
                session.execute(insert(User), given)
            elif way == "insert returning":
                assert len(session.scalars(insert(User).returning(User), given).all()) == 2
            elif way == "save":
                session.bulk_save_objects([User(**each) for each in given])
            elif way == "mappings":
                session.bulk_insert_mappings(User, given)  # type: ignore[arg-type]  # a class is a mapper here
            else:
                session.add_all([User(**each) for each in given])
            session.commit()


@pytest.mark.parametrize("way", ["update", "mappings", "save"])
def test_rows_updated_in_bulk_are_these_rows(engine: Engine, entries: Entries, way: str) -> None:
    given: list[dict[str, Any]] = [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]
    with entries.changed("table:users row:users:1 row:users:2", "row:users:3 " + NOTHING):
        with Session(engine) as session:
            if way == "update":
                session.execute(update(User), given)
            elif way == "mappings":
                session.bulk_update_mappings(User, given)  # type: ignore[arg-type]  # a class is a mapper here
            else:
                users = session.scalars(select(User).where(User.id.in_([1, 2]))).all()
                session.expunge_all()
                for user in users:
                    user.name = "z"
                session.bulk_save_objects(users)
            session.commit()


def test_joined_rows_inserted_in_bulk(session: Session, entries: Entries) -> None:
    goes = "table:animals row:animals:7 row:animals:8 table:dogs row:dogs:7 row:dogs:8"
    with entries.changed(goes, "row:animals:1 row:dogs:1"):
        session.execute(insert(Dog), [{"id": 7, "tricks": 1}, {"id": 8, "tricks": 2}])
        session.commit()


# ---- statements, in a session and on a connection


@pytest.fixture(params=["session", "connection"])
def executes(request: pytest.FixtureRequest, engine: Engine) -> Any:
    """What executes and commits, with a scope of its own."""
    return Session if request.param == "session" else lambda engine: engine.connect()


STATEMENTS = {
    "update by key": (lambda: update(User).where(User.id == 1).values(name="x"), "row:users:1"),
    "update by keys": (lambda: update(User).where(User.id.in_([1, 9])).values(name="x"), "row:users:1"),
    "update by key, and more": (
        lambda: update(User).where(User.id == 1, User.name == "").values(name="x"),
        "row:users:1",
    ),
    "update by key, returning": (
        lambda: update(User).where(User.id == 1).values(name="x").returning(User.id),
        "row:users:1",
    ),
    "update of the table": (lambda: update(USERS).where(USERS.c.id == 1).values(name="x"), "row:users:1"),
    "delete by key": (lambda: delete(Note).where(Note.id == 1), "row:notes:1"),
    "insert": (lambda: insert(User).values(id=7), "row:users:7"),
    "insert of several": (lambda: insert(User).values([{"id": 7}, {"id": 8}]), "row:users:7 row:users:8"),
    "insert of a computed key": (lambda: insert(User).values(id=literal(3) + 4), "row:users:7"),
    "insert, returning": (lambda: insert(User).values(id=7).returning(User.id), "row:users:7"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_with_a_key_is_that_row(
    engine: Engine, entries: Entries, executes: Any, name: str
) -> None:
    make, goes = STATEMENTS[name]
    table = goes.split(":")[1]
    with entries.changed(f"table:{table} {goes}", f"row:{table}:2 {NOTHING}"), executes(engine) as scope:
        scope.execute(make())
        scope.commit()


ANY_ROW = {
    "update of all": lambda: update(User).values(name="x"),
    "update by another column": lambda: update(User).where(User.name == "").values(name="x"),
    "update by this or that": lambda: update(User).where((User.id == 1) | (User.id == 3)).values(name="x"),
    "update by a range": lambda: update(User).where(User.id > 2).values(name="x"),
    "update by a subquery": lambda: (
        update(User).where(User.id == select(Post.author_id).limit(1).scalar_subquery()).values(name="x")
    ),
    "update by a tuple": lambda: (
        update(User).where(tuple_(User.id, User.name).in_([(1, "")])).values(name="x")
    ),
    "update from another table": lambda: update(User).where(User.id == Post.author_id).values(name="x"),
    "insert from select": lambda: insert(User).from_select(["id", "name"], select(User.id + 10, User.name)),
}


@pytest.mark.parametrize("name", ANY_ROW)
def test_a_statement_whose_rows_are_not_known_is_any_row(
    engine: Engine, entries: Entries, executes: Any, name: str
) -> None:
    with entries.changed("table:users row:users:1 row:users:2 row:users:7", "table:posts row:posts:1"):
        with executes(engine) as scope:
            result = scope.execute(ANY_ROW[name](), **({"execution_options": {"synchronize_session": False}}))
            assert result.rowcount != 0
            scope.commit()


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_parameters_of_a_connection_name_the_rows(engine: Engine, entries: Entries, many: bool) -> None:
    given = [{"key": 1, "to": "x"}, {"key": 2, "to": "y"}]
    statement = update(USERS).where(USERS.c.id == bindparam("key")).values(name=bindparam("to"))
    goes, stays = (
        ("table:users row:users:1 row:users:2", "row:users:3") if many else ("row:users:1", "row:users:2")
    )
    with entries.changed(goes, stays), engine.begin() as connection:
        connection.execute(statement, given if many else given[0])


def test_one_compiled_form_serves_other_rows(engine: Engine, entries: Entries) -> None:
    for number, other in ((1, 2), (2, 1)):
        with entries.changed(f"table:users row:users:{number}", f"row:users:{other}"):
            with Session(engine) as session:
                session.execute(update(User).where(User.id == number).values(name="x"))
                session.commit()


def test_rows_inserted_by_core(engine: Engine, entries: Entries) -> None:
    with entries.changed("table:users row:users:7 row:users:8", "row:users:1"), engine.begin() as connection:
        connection.execute(insert(USERS), [{"id": 7, "name": ""}, {"id": 8, "name": ""}])
    with entries.changed("table:users row:users:9", "row:users:1"), engine.begin() as connection:
        assert connection.execute(insert(USERS).values(id=9, name="")).inserted_primary_key == (9,)


def test_a_delete_reaches_what_the_database_deletes_with_it(engine: Engine, entries: Entries) -> None:
    with Session(engine) as session:
        post = session.get_one(Post, 2)
        post.labels.append(session.get_one(Label, 3))
        session.commit()
    goes = "table:posts row:posts:2 table:post_labels row:post_labels:2,3 row:labels:3"
    with entries.changed(goes, "row:posts:1 table:labels table:users"), engine.begin() as connection:
        connection.execute(delete(Post).where(Post.id == 2))
    goes = "table:animals row:animals:2 table:dogs row:dogs:2"
    with entries.changed(goes, "row:animals:1 row:dogs:1"), engine.begin() as connection:
        connection.execute(delete(Animal).where(Animal.id == 2))


@pytest.mark.parametrize("where", ["the same", "another"])
def test_a_delete_reaches_what_was_declared_since(engine: Engine, entries: Entries, where: str) -> None:
    class One(DeclarativeBase):
        pass

    class Other(DeclarativeBase):
        pass

    class Parent(One):
        __tablename__ = "parents"
        id: Mapped[int] = mapped_column(primary_key=True)

    def remove(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(insert(Parent).values(id=number))
            connection.execute(delete(Parent).where(Parent.id == number))

    One.metadata.create_all(engine)
    remove(1)

    class Child(One if where == "the same" else Other):  # type: ignore[misc]  # either has what it needs
        __tablename__ = "children"
        id: Mapped[int] = mapped_column(
            ForeignKey(Parent.__table__.c.id, ondelete="CASCADE"), primary_key=True
        )

    with entries.changed("table:children row:children:1", "row:children:2"):
        remove(1)


def another(schema: str | None) -> list[Any]:
    """Objects for `parents` of which no foreign key knows."""
    light: Any = table("parents", column("id"), schema=schema)
    own = Table("parents", MetaData(), Column("id", Integer, primary_key=True), schema=schema)
    return [light, own]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("is_named", [False, True])
def test_foreign_keys_are_those_of_the_table_whichever_object_is_written_to(
    engine: Engine, entries: Entries, which: int, is_named: bool
) -> None:
    metadata = MetaData()
    parents = Table("parents", metadata, Column("id", Integer, primary_key=True))
    Table(
        "children",
        metadata,
        Column("id", ForeignKey(parents.c.id, ondelete="CASCADE", onupdate="CASCADE"), primary_key=True),
    )
    Table("grandchildren", metadata, Column("id", ForeignKey("children.id", ondelete="SET NULL")))
    metadata.create_all(engine)
    with engine.connect():
        written = another(engine.dialect.default_schema_name if is_named else None)[which]

    goes = "table:parents row:parents:1 table:children row:children:1 table:grandchildren"
    with entries.changed(goes, NOTHING), engine.begin() as connection:
        connection.execute(delete(written).where(written.c.id == 1))
    with entries.changed("table:children row:children:1 row:parents:1", NOTHING):
        with engine.begin() as connection:
            connection.execute(update(written).values(id=8))
    with entries.changed("table:parents row:parents:7", "table:children table:grandchildren"):
        with engine.begin() as connection:
            connection.execute(insert(written).values(id=7))


def test_foreign_keys_to_what_another_metadata_has_are_followed(engine: Engine, entries: Entries) -> None:
    """As declared by name alone, before there is such a table."""
    elsewhere = MetaData()
    Table("boxed", elsewhere, Column("id", ForeignKey("boxes.id", ondelete="CASCADE"), primary_key=True))
    boxes = Table("boxes", MetaData(), Column("id", Integer, primary_key=True))
    boxes.create(engine)
    with entries.changed("table:boxes row:boxes:1 table:boxed row:boxed:1", "row:boxes:2"):
        with engine.begin() as connection:
            connection.execute(delete(boxes).where(boxes.c.id == 1))


def test_an_association_is_what_it_points_to_whichever_object_is_written_to(
    engine: Engine, entries: Entries
) -> None:
    light: Any = table("post_labels", column("post_id"), column("label_id"))
    with entries.changed("table:post_labels row:posts:1 row:labels:2", "table:users"):
        with engine.begin() as connection:
            connection.execute(insert(light).values(post_id=1, label_id=2))


@pytest.mark.parametrize("said", [User, USERS, "users", "table:users", "row:users:1"])
def test_what_a_text_says_that_it_touches_reaches_what_its_foreign_keys_do(
    engine: Engine, entries: Entries, said: Any
) -> None:
    def execute(sql: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(sql).execution_options(invalidates=[said]))

    with entries.changed("row:users:1 table:notes row:notes:1", NOTHING):
        execute("DELETE FROM users WHERE id = 99")
    with entries.changed("row:users:1", "table:notes row:notes:1"):
        execute("UPDATE users SET name = 'x' WHERE id = 1")


def test_a_row_that_a_text_names_is_those_it_stands_for(engine: Engine, entries: Entries) -> None:
    with entries.changed("row:post_labels:1,2 row:posts:1 row:labels:2", "row:posts:2 row:labels:1"):
        with engine.begin() as connection:
            connection.execute(text("SELECT 1").execution_options(invalidates=["row:post_labels:1,2"]))


def test_a_delete_follows_each_of_several_ways(engine: Engine, entries: Entries) -> None:
    """One foreign key has its rows emptied, another one deletes them, and what hangs on them."""
    metadata = MetaData()
    top = Table("top", metadata, Column("id", Integer, primary_key=True))
    Table(
        "middle",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("a", ForeignKey(top.c.id, ondelete="SET NULL")),
        Column("b", ForeignKey(top.c.id, ondelete="CASCADE")),
    )
    Table("low", metadata, Column("middle_id", ForeignKey("middle.id", ondelete="CASCADE"), primary_key=True))
    metadata.create_all(engine)

    with entries.changed("table:top table:middle table:low row:low:1", NOTHING), engine.begin() as connection:
        connection.execute(delete(top).where(top.c.id == 1))


@pytest.mark.parametrize("changes", ["computed", "by a default"])
def test_what_follows_a_column_that_changes_by_itself_goes_with_it(
    engine: Engine, entries: Entries, changes: str
) -> None:
    metadata = MetaData()
    changing: Any = {
        "computed": Column("code", String(9), Computed("upper(name)", persisted=True), unique=True),
        "by a default": Column("code", String(9), onupdate="B", unique=True),
    }[changes]
    named = Table(
        "named", metadata, Column("id", Integer, primary_key=True), Column("name", String(9)), changing
    )
    Table(
        "referring", metadata, Column("code", ForeignKey(named.c.code, onupdate="CASCADE"), primary_key=True)
    )
    metadata.create_all(engine)

    with entries.changed("table:named row:named:1 table:referring row:referring:A", "row:named:2"):
        with engine.begin() as connection:
            connection.execute(update(named).where(named.c.id == 1).values(name="b"))


def test_an_update_may_change_a_key_that_it_does_not_name(engine: Engine, entries: Entries) -> None:
    metadata = MetaData()
    version = Column("n", Integer, onupdate=5, primary_key=True)
    versioned = Table(
        "versioned", metadata, Column("id", Integer, primary_key=True), version, Column("name", String(9))
    )
    metadata.create_all(engine)

    with entries.changed("row:versioned:1,1 row:versioned:1,5", NOTHING), engine.begin() as connection:
        connection.execute(update(versioned).where(versioned.c.id == 1, versioned.c.n == 1).values(name="b"))


def test_a_table_shows_the_rows_of_those_that_inherit_it(engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("PostgreSQL's")
    metadata = MetaData()
    top = Table("top", metadata, Column("id", Integer, primary_key=True))
    left = Table("left", metadata, Column("x", Integer), postgresql_inherits="top")
    Table("right", metadata, Column("x", Integer), postgresql_inherits="top")
    metadata.create_all(engine)

    with entries.changed("table:left table:top row:top:7", "table:right"), engine.begin() as connection:
        connection.execute(insert(left).values(x=1))
    with entries.changed("table:top", "table:left table:right"), engine.begin() as connection:
        connection.execute(insert(top).values(id=1))
    with entries.changed("table:left table:right table:top", "table:users"), engine.begin() as connection:
        connection.execute(update(top).values(id=2))
    with entries.changed("table:left table:top row:top:7", "table:right"), engine.begin() as connection:
        connection.execute(text("SELECT 1").execution_options(invalidates=[left]))


@pytest.mark.parametrize("clause", ["nothing", "update"])
def test_an_upsert_on_the_key_is_its_row(engine: Engine, entries: Entries, clause: str) -> None:
    made: Any = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(User)
    made = made.values(id=1, name="x")
    if clause == "nothing":
        made = made.on_conflict_do_nothing()
    else:
        made = made.on_conflict_do_update(index_elements=[User.id], set_={"name": made.excluded.name})
    with entries.changed("table:users row:users:1", "row:users:2"), engine.begin() as connection:
        connection.execute(made)


def test_an_upsert_that_changes_the_key_is_any_row(engine: Engine, entries: Entries) -> None:
    made: Any = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(Seat)
    made = made.values(row=1, letter="a", taken=True)
    made = made.on_conflict_do_update(index_elements=[Seat.row, Seat.letter], set_={"letter": "z"})
    with entries.changed("table:seats row:seats:1,a row:seats:1,z", NOTHING), engine.begin() as connection:
        connection.execute(made)


def test_a_replace_is_any_row(engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "postgresql":
        pytest.skip("SQLite's")
    with entries.changed("table:users row:users:1 row:users:2 table:notes row:notes:2", "table:labels"):
        with engine.begin() as connection:
            connection.execute(insert(Note).prefix_with("OR REPLACE").values(id=1))
            connection.execute(delete(Post))
            connection.execute(insert(User).prefix_with("OR REPLACE").values(id=1))


def test_a_part_of_a_select_that_writes(engine: Engine, entries: Entries) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("PostgreSQL's")
    gone = delete(Note).where(Note.id == 2).returning(Note.id).cte()
    with entries.changed("table:notes row:notes:2", "row:notes:1 " + NOTHING), engine.begin() as connection:
        assert connection.execute(select(gone.c.id)).all() == [(2,)]
    made = insert(Label).values(id=7).returning(Label.id).cte()
    with (
        entries.changed("table:labels row:labels:7", "table:users row:users:1"),
        engine.begin() as connection,
    ):
        assert connection.execute(select(made.c.id)).all() == [(7,)]


def test_a_schema_is_a_part_of_the_name(engine: Engine, entries: Entries) -> None:
    goes, stays = "table:tenant.private row:tenant.private:1", "table:private row:private:1"
    with entries.changed(goes, stays), engine.begin() as connection:
        connection.execute(insert(private).values(id=1))


def test_a_colon_in_a_name_does_not_end_it(engine: Engine, entries: Entries) -> None:
    odd = Table("a:b", MetaData(), Column("id", Integer, primary_key=True), Column("size", Integer))
    odd.create(engine)
    with entries.changed("table:a%3Ab row:a%3Ab:1", "table:a row:a:b"), Session(engine) as session:
        assert session.scalars(select(odd.c.size).options(from_cache(ttl=60))).all() == []
        session.execute(insert(odd).values(id=1, size=1))
        session.execute(update(odd).values(size=2))
        assert session.scalar(select(odd.c.size).options(from_cache(ttl=60))) == 2
        session.commit()
    with entries.changed("table:a%3Ab", "table:a"), engine.begin() as connection:
        connection.execute(text("SELECT 1").execution_options(invalidates=["table:a:b"]))


def test_a_translated_schema_is_both_names(engine: Engine, entries: Entries) -> None:
    goes = "table:tenant.users row:tenant.users:1 table:users row:users:1"
    own = engine.execution_options(schema_translate_map={None: "tenant"})
    with own.begin() as connection:
        USERS.create(connection)
    with entries.changed(goes, "row:users:2 row:tenant.users:2"), own.begin() as connection:
        connection.execute(insert(User).values(id=1, name=""))


def test_a_read_is_no_write(engine: Engine, entries: Entries) -> None:
    with entries.unchanged("table:users", "row:users:1"), Session(engine) as session:
        session.get(User, 1)
        session.scalars(select(User).with_for_update()).all()
        session.commit()


def test_a_table_dropped_is_its_table(engine: Engine, entries: Entries) -> None:
    with entries.changed("table:codes row:codes:a", NOTHING), engine.begin() as connection:
        Code.__table__.drop(connection)  # type: ignore[attr-defined]  # a Table
    with entries.unchanged("table:users"), engine.begin() as connection:
        Code.__table__.create(connection)  # type: ignore[attr-defined]  # a Table


def test_more_than_a_thousand_rows_are_any_row(engine: Engine, entries: Entries) -> None:
    goes = "table:labels row:labels:1001 row:labels:1"
    with entries.changed(goes, "table:users"), Session(engine) as session:
        session.execute(insert(Label), [{"id": n} for n in range(1000, 2001)])
        session.commit()


def test_a_key_too_long_for_a_tag_is_any_row(engine: Engine, entries: Entries) -> None:
    long = "é" * 300
    with entries.changed("table:codes row:codes:a", "table:users"), engine.begin() as connection:
        connection.execute(delete(Code).where(Code.code == long))
