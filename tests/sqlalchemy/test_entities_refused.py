"""Entities that are not stored, and stored ones that are not read: each with what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Enum, Integer, PickleType, String, create_engine, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    registry,
    selectinload,
)

from tests.sqlalchemy.entity_models import Node, Odd, Rank, User
from tests.sqlalchemy.entity_world import codec, copy_of, fill
from tiercache import Unstorable
from tiercache._core.values import LINKED, Unreadable


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine = create_engine(f"sqlite:///{tmp_path}/db")
    fill(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def refusal(value: object) -> str:
    with pytest.raises(Unstorable) as caught:
        codec().encode(value)
    return str(caught.value)


def test_an_instance_that_was_never_flushed_is_refused(session: Session) -> None:
    pending = User(name="new")
    session.add(pending)

    for new in (pending, User(name="never added")):
        assert "value[0]: this User was never flushed; session.add() it and commit" in refusal([new])


def test_an_instance_with_changes_is_refused(session: Session) -> None:
    user = session.get_one(User, 1)
    user.name = "changed"

    assert "value: this User has changes that are not flushed; commit them" in refusal(user)
    session.flush()
    assert copy_of(user).name == "changed"


def test_an_expired_instance_is_refused(session: Session) -> None:
    user = session.get_one(User, 1)
    session.commit()

    message = refusal({"user": user})

    assert "value['user']: this User has expired" in message
    assert "session.refresh()" in message
    assert "expire_on_commit=False" in message
    session.refresh(user)
    assert copy_of(user).name == "user 1"


def test_a_deleted_instance_is_refused_before_and_after_the_flush(session: Session) -> None:
    node = session.get_one(Node, 4)
    session.delete(node)

    assert "this Node is to be deleted" in refusal(node)
    session.flush()
    assert "this Node is deleted" in refusal(node)


def test_the_path_leads_through_relationships(session: Session) -> None:
    user = session.scalars(select(User).options(selectinload(User.posts)).filter_by(id=2)).one()
    user.posts[1].title = "changed"

    assert "value['all'][0].posts[1]: this Post has changes" in refusal({"all": [user]})


class Local(DeclarativeBase):
    pass


class Thing(Local):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    held: Mapped[Any] = mapped_column(PickleType)


def test_a_value_without_a_stored_form_is_refused_with_its_path() -> None:
    engine = create_engine("sqlite://")
    Local.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        things = [Thing(held=1), Thing(held={"a": [Path("here")]})]
        session.add_all(things)
        session.commit()

        assert "value[1].held['a'][0]: pathlib" in refusal(things)
    engine.dispose()


def test_a_result_that_was_not_read_is_refused(session: Session) -> None:
    for result in (session.execute(select(User)), session.scalars(select(User)), session.query(User)):
        assert "is read once; return what it gives: .all()" in refusal(result)


# ---- a model that changed


def model(*, module: str = "shop.models", **columns: Any) -> type:
    """A class called Account, each time another one, as releases of a program have it."""

    class Base(DeclarativeBase):
        pass

    body = {
        "__tablename__": "accounts",
        "__module__": module,
        "__qualname__": "Account",
        "id": mapped_column(Integer, primary_key=True),
        **columns,
    }
    return type("Account", (Base,), body)


def stored(cls: Any, **values: Any) -> bytes:
    engine = create_engine("sqlite://")
    cls.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        account = cls(id=1, **values)
        session.add(account)
        session.commit()
        data = codec().encode(account)
    engine.dispose()
    return data


@pytest.mark.parametrize(
    "now",
    [
        {"name": mapped_column(String), "extra": mapped_column(String)},
        {},
        {"title": mapped_column(String)},
        {"name": mapped_column(Integer)},
        {"name": mapped_column(String(20))},
        {"name": mapped_column("title", String)},
    ],
    ids=["added", "removed", "renamed", "retyped", "resized", "column renamed"],
)
def test_what_another_release_of_the_model_stored_is_a_miss(now: dict[str, Any]) -> None:
    data = stored(model(name=mapped_column(String)), name="a")
    values = codec()
    values.register(model(**now))

    with pytest.raises(Unreadable):
        values.decode(data)


def test_what_the_same_model_stored_is_read() -> None:
    data = stored(model(name=mapped_column(String)), name="a")
    values = codec()
    values.register(model(name=mapped_column(String)))

    assert values.decode(data).name == "a"


def test_who_knows_a_model_knows_the_enum_of_its_column() -> None:
    cls: Any = model(module="shop.ranks", rank=mapped_column(Enum(Rank)))
    data = stored(cls, rank=Rank.ADMIN)

    assert codec().decode(data).rank is Rank.ADMIN


def test_an_attribute_that_was_mapped_later_changes_the_model() -> None:
    cls: Any = model(name=mapped_column(String))
    data = stored(cls, name="a")
    values = codec()
    values.register(cls)
    assert values.decode(data).name == "a"

    cls.extra = mapped_column(String)

    with pytest.raises(Unreadable):
        values.decode(data)


def test_of_two_mapped_classes_of_one_name_neither_is_guessed() -> None:
    one = model(module="shop.twice", name=mapped_column(String))
    data = stored(one, name="a")
    assert type(codec().decode(data)) is one
    other = model(module="shop.twice", name=mapped_column(String))

    with pytest.raises(Unreadable):
        codec().decode(data)
    assert one is not other


def test_classes_of_one_name_in_two_modules_are_told_apart() -> None:
    one = model(module="shop.orders", name=mapped_column(String))
    other = model(module="shop.billing", name=mapped_column(String))

    values = codec()
    assert type(values.decode(stored(one, name="a"))) is one
    assert type(values.decode(stored(other, name="a"))) is other


def test_an_unmapped_subclass_is_refused(session: Session) -> None:
    class Plain:
        pass

    registry().map_imperatively(Plain, User.__table__)

    class Sub(Plain):
        pass

    assert "has no stored form" in refusal(Sub.__new__(Sub))


# ---- bytes that somebody made up


def planted(session: Session, change: Callable[[Any], None]) -> bytes:
    """What is stored of a user and a post, changed."""
    user = session.scalars(select(User).options(selectinload(User.posts)).filter_by(id=1)).one()
    tree = orjson.loads(codec().encode([user, *user.posts]))
    change(tree)
    return LINKED + orjson.dumps(tree)


def column(tree: Any, name: str) -> tuple[Any, int]:
    """The table of users, and where in it the column *name* stands."""
    return tree[1], 4 + tree[1][2].index(name)


def put(name: str, part: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        table, index = column(tree, name)
        table[index] = part

    return change


def rename(tree: Any) -> None:
    tree[1][2][1] = "__class__"


def disorder(tree: Any) -> None:
    tree[1][2].reverse()


CHANGES: dict[str, Callable[[Any], None]] = {
    "a user among its posts": put("posts", [[0]]),
    "none among its posts": put("posts", [[None]]),
    "a primary key that cannot be looked up": put("id", [[1]]),
    "a primary key of a dict": put("id", [{"a": 1}]),
    "a name that is no attribute": rename,
    "names in another order": disorder,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_entities_that_somebody_made_up_are_unreadable(
    session: Session, change: Callable[[Any], None]
) -> None:
    assert codec().decode(planted(session, lambda tree: None))[0].posts[0].title == "post 1.0"

    with pytest.raises(Unreadable):
        codec().decode(planted(session, change))


# ---- in another process

READER = """
import sys
from tiercache import shapes
from tiercache._core.values import Unreadable, Values
if sys.argv[1:]:
    import tests.sqlalchemy.entity_models
values = Values(shapes.families())
try:
    user, odd = values.decode(sys.stdin.buffer.read())
    print(user.name, user.rank, [post.title for post in user.posts], odd.total, odd.count)
except Unreadable:
    print("unreadable", "sqlalchemy" in sys.modules, "tests.sqlalchemy.entity_models" in sys.modules)
"""


def read_elsewhere(data: bytes, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", READER, *arguments], input=data, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def test_a_process_with_the_models_reads_what_another_stored(session: Session) -> None:
    user = session.scalars(select(User).options(selectinload(User.posts)).filter_by(id=1)).one()

    assert (
        read_elsewhere(codec().encode([user, session.get_one(Odd, 1)]), "with models")
        == "user 1 Rank.MEMBER ['post 1.0', 'post 1.1', 'post 1.2'] 3 2"
    )


def test_a_process_without_the_models_imports_nothing_for_an_entry(session: Session) -> None:
    data = codec().encode([session.get_one(User, 1), session.get_one(Odd, 1)])

    assert read_elsewhere(data) == "unreadable False False"
