"""Entities as values: what a copy is, in each way that SQLAlchemy can map a class."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    Session,
    defer,
    joinedload,
    load_only,
    selectinload,
    undefer,
    with_expression,
    with_polymorphic,
)
from sqlalchemy.orm.collections import InstrumentedList
from sqlalchemy.orm.exc import DetachedInstanceError

from tests.sqlalchemy.entity_models import (
    Animal,
    Company,
    Dog,
    Node,
    Odd,
    OddPart,
    Place,
    Point,
    Post,
    Puppy,
    Rank,
    Tag,
    User,
)
from tests.sqlalchemy.entity_world import codec, copy_of, fill
from tiercache.sqlalchemy import NotLoaded


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine = create_engine(f"sqlite:///{tmp_path}/db")
    fill(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


@dataclass
class Page:
    user: User
    related: list[User]


def test_a_copy_is_of_its_class_detached_and_has_all_that_was_loaded(session: Session) -> None:
    user = session.get_one(User, 1)

    copy = copy_of(user)

    assert type(copy) is User
    assert copy is not user
    assert inspect(copy).detached
    assert inspect(copy).identity_key == inspect(user).identity_key
    assert not inspect(copy).modified
    for name in (
        "id",
        "name",
        "email",
        "rank",
        "created_at",
        "balance",
        "token",
        "settings",
        "active",
        "score",
    ):
        assert getattr(copy, name) == getattr(user, name), name
        assert type(getattr(copy, name)) is type(getattr(user, name)), name
    assert (copy.rank, copy.balance, type(copy.token)) == (Rank.MEMBER, Decimal("1.20"), UUID)
    assert copy.created_at == datetime(2026, 1, 2, 3, 4, 5, 6)


def test_two_copies_share_nothing_that_can_be_changed(session: Session) -> None:
    values = codec()
    stored = values.encode(session.get_one(User, 1))

    one, other = values.decode(stored), values.decode(stored)
    one.settings["theme"].append("light")
    one.name = "changed"

    assert (other.settings, other.name) == ({"theme": ["dark"]}, "user 1")


HOLDERS: dict[str, Callable[[User], Any]] = {
    "list": lambda user: [user],
    "dict": lambda user: {"user": user, 7: [user]},
    "tuple": lambda user: (user, {"a"}),
    "dataclass": lambda user: Page(user, [user]),
    "set": lambda user: {user},
    "mixed": lambda user: [None, 1, user],
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_entities_are_stored_wherever_a_value_holds_them(
    session: Session, hold: Callable[[User], Any]
) -> None:
    copy = copy_of(hold(session.get_one(User, 1)), Page)

    assert type(copy) is type(hold(User()))
    users = [part for part in parts_of(copy) if isinstance(part, User)]
    assert users
    assert {id(user) for user in users} == {id(users[0])}
    assert users[0].name == "user 1"


def parts_of(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, Page):
        value = [value.user, *value.related]
    if isinstance(value, list | tuple | set):
        for part in value:
            yield from parts_of(part)


def test_loaded_relationships_are_followed_in_circles(session: Session) -> None:
    user = session.scalars(select(User).options(selectinload(User.posts).joinedload(Post.author))).first()

    copy = copy_of(user)

    assert copy is not None
    assert [post.title for post in copy.posts] == ["post 1.0", "post 1.1", "post 1.2"]
    assert isinstance(copy.posts, InstrumentedList)
    assert all(post.author is copy for post in copy.posts)


def test_what_many_refer_to_is_stored_once_and_is_one_again(session: Session) -> None:
    users = session.scalars(select(User).options(joinedload(User.company))).all()
    stored = codec().encode(users)

    copies = codec().decode(stored)

    assert stored.count(b"Acme") == 1
    assert len({id(copy.company) for copy in copies}) == 1
    assert copies[0].company.name == "Acme"


def test_sets_and_dicts_of_entities_are_sets_and_dicts_again(session: Session) -> None:
    query = select(User).options(selectinload(User.groups), selectinload(User.notes)).filter_by(id=2)
    user = session.scalars(query).one()

    copy = copy_of(user)

    assert type(copy.groups) is type(user.groups)
    assert {group.name for group in copy.groups} == {"group 1", "group 2"}
    assert type(copy.notes) is type(user.notes)
    assert {key: note.text for key, note in copy.notes.items()} == {"home": "home of 2", "work": "work of 2"}


def test_a_tree_in_one_table_comes_back(session: Session) -> None:
    query = select(Node).options(selectinload(Node.children, recursion_depth=-1)).filter_by(id=1)

    root = copy_of(session.scalars(query).one())

    assert [child.id for child in root.children] == [2, 3]
    assert [child.id for child in root.children[0].children] == [4]


def test_a_relationship_to_nothing_is_none(session: Session) -> None:
    user = session.get_one(User, 1)
    user.company = None
    session.commit()
    assert user.company is None

    assert copy_of(user).company is None


def test_a_collection_alone_keeps_its_type(session: Session) -> None:
    posts = session.get_one(User, 1).posts

    copy = copy_of(posts)

    assert type(copy) is InstrumentedList
    assert [post.title for post in copy] == ["post 1.0", "post 1.1", "post 1.2"]


def test_a_changed_copy_of_a_list_is_flushed_as_a_change(session: Session) -> None:
    copy = copy_of(session.scalars(select(User).options(selectinload(User.posts)).filter_by(id=1)).one())
    session.expunge_all()

    session.add(copy)
    copy.posts.append(Post(title="new"))
    copy.posts[0].title = "changed"
    session.commit()

    titles = session.scalars(select(Post.title).filter_by(author_id=1).order_by(Post.id)).all()
    assert titles == ["changed", "post 1.1", "post 1.2", "new"]


# ---- what was not loaded


@pytest.mark.parametrize("name", ["posts", "company", "groups", "notes", "picture"])
def test_what_was_not_loaded_says_how_to_load_it(session: Session, name: str) -> None:
    copy = copy_of(session.get_one(User, 1))

    with pytest.raises(NotLoaded) as caught:
        getattr(copy, name)

    assert isinstance(caught.value, DetachedInstanceError)
    loader = "undefer" if name == "picture" else "selectinload"
    assert f"options({loader}(User.{name}))" in str(caught.value)
    assert name in inspect(copy).unloaded


def test_columns_that_a_query_left_out_stay_unloaded(session: Session) -> None:
    first = session.scalars(select(User).options(load_only(User.name)).filter_by(id=1)).one()
    second = session.scalars(select(User).options(defer(User.email)).filter_by(id=2)).one()

    first, second = copy_of([first, second])

    assert (first.name, first.id, second.name) == ("user 1", 1, "user 2")
    with pytest.raises(NotLoaded, match=r"undefer\(User\.score\)"):
        _ = first.score
    with pytest.raises(NotLoaded, match=r"undefer\(User\.email\)"):
        _ = second.email


def test_a_deferred_column_that_was_loaded_is_stored(session: Session) -> None:
    user = session.scalars(select(User).options(undefer(User.picture)).filter_by(id=1)).one()

    assert copy_of(user).picture == b"\x00png"


@pytest.mark.parametrize("name", ["posts", "company", "picture"])
def test_a_copy_that_was_added_to_a_session_loads_what_it_lacks(session: Session, name: str) -> None:
    copy = copy_of(session.get_one(User, 1))
    expected = {"posts": 3, "company": "Acme", "picture": b"\x00png"}[name]
    session.expunge_all()

    session.add(copy)

    found = getattr(copy, name)
    assert {"posts": len, "company": lambda c: c.name, "picture": bytes}[name](found) == expected
    assert not session.dirty


def test_a_plain_column_that_a_copy_lacks_is_loaded_in_a_session(session: Session) -> None:
    copy = copy_of(session.scalars(select(User).options(load_only(User.name)).filter_by(id=1)).one())
    session.expunge_all()

    session.add(copy)

    assert (copy.score, copy.active) == (1.5, True)


def test_a_merged_copy_is_a_persistent_instance(session: Session) -> None:
    copy = copy_of(session.scalars(select(User).options(load_only(User.name)).filter_by(id=1)).one())
    session.expunge_all()
    copy.name = "merged"

    merged = session.merge(copy)

    assert merged is not copy
    assert merged in session.dirty
    assert (merged.score, len(merged.posts)) == (1.5, 3)
    session.commit()
    assert session.scalars(select(User.name).filter_by(id=1)).one() == "merged"


def test_a_copy_merged_without_a_load_loads_what_it_lacks(session: Session) -> None:
    copy = copy_of(session.get_one(User, 1))
    session.expunge_all()

    merged = session.merge(copy, load=False)

    assert len(merged.posts) == 3
    assert merged.picture == b"\x00png"


def test_what_was_not_loaded_can_be_set(session: Session) -> None:
    copy = copy_of(session.get_one(User, 1))

    copy.picture = b"new"
    copy.company = Company(name="other")

    assert (copy.picture, copy.company.name) == (b"new", "other")


def test_a_copy_can_be_pickled(session: Session) -> None:
    copy = pickle.loads(pickle.dumps(copy_of(session.get_one(User, 1))))

    assert copy.name == "user 1"
    with pytest.raises(NotLoaded):
        _ = copy.posts


# ---- kinds of mapping


def test_each_kind_of_attribute_works_on_a_copy(session: Session) -> None:
    query = select(Odd).options(with_expression(Odd.twice, Odd.x * 2), selectinload(Odd.parts))
    odd = session.scalars(query).one()
    _ = odd.at  # a composite is kept where it was asked for

    copy = copy_of(odd)

    assert (copy.at, copy.twice, copy.count, copy.called, copy.shout) == (Point(1, 2), 2, 2, "odd", "ODD")
    assert list(copy.part_names) == ["p", "q"]
    assert copy.version == 1


def test_a_mutable_column_tells_of_changes_again(session: Session) -> None:
    copy = copy_of(session.scalars(select(Odd)).one())
    assert isinstance(copy.extra, MutableDict)
    session.expunge_all()
    session.add(copy)

    copy.extra["b"] = 2

    assert copy in session.dirty
    session.commit()
    assert session.scalars(select(Odd.extra)).one() == {"a": 1, "b": 2}


def test_a_reconstructor_runs_once_and_what_is_not_mapped_is_not_stored(session: Session) -> None:
    odd = session.scalars(select(Odd)).one()
    odd.own = "lost"

    copy = copy_of(odd)

    assert copy.reconstructed == 1
    assert not hasattr(copy, "own")


def test_collections_that_are_never_in_memory_break_nothing(session: Session) -> None:
    copy = copy_of(session.scalars(select(Odd)).one())
    session.expunge_all()
    session.add(copy)

    assert [part.name for part in copy.later.order_by(OddPart.id)] == ["p", "q"]
    assert len(session.scalars(copy.written.select()).all()) == 2


def test_subclasses_come_back_as_what_they_are(session: Session) -> None:
    everything = with_polymorphic(Animal, "*")
    animals = copy_of(session.scalars(select(everything).order_by(everything.id)).all())

    assert [type(animal) for animal in animals] == [Animal, Dog, Puppy]
    assert isinstance(animals[2], Puppy)
    assert (animals[2].tricks, animals[2].age, animals[2].name) == ("none", 1, "pup")
    assert inspect(animals[2]).identity_key == (Animal, (3,), None)


def test_columns_of_a_subclass_that_its_base_did_not_query_stay_unloaded(session: Session) -> None:
    dog = copy_of(session.scalars(select(Animal).filter_by(id=2)).one())

    assert type(dog) is Dog
    with pytest.raises(NotLoaded, match=r"Dog\.tricks"):
        _ = dog.tricks
    session.expunge_all()
    session.add(dog)
    assert dog.tricks == "sit"


def test_dataclass_and_imperative_mappings_are_entities(session: Session) -> None:
    tag, place = copy_of([session.scalars(select(Tag)).one(), session.scalars(select(Place)).one()])

    assert tag == Tag("a", "en", uses=3)
    assert inspect(tag).identity == ("a", "en")
    assert (type(place), place.name) == (Place, "here")


def test_the_identity_is_kept_where_its_attribute_is_not_loaded(session: Session) -> None:
    user = session.get_one(User, 1)
    session.expire(user, ["id"])

    copy = copy_of([user])[0]

    assert inspect(copy).identity == (1,)
    with pytest.raises(NotLoaded, match=r"User\.id"):
        _ = copy.id
    session.expunge_all()
    session.add(copy)
    assert copy.id == 1


def test_the_identity_token_is_kept(session: Session) -> None:
    query = select(User).order_by(User.id).execution_options(identity_token="eu")

    copies = copy_of(session.scalars(query).all())

    assert [inspect(copy).key for copy in copies[:2]] == [(User, (1,), "eu"), (User, (2,), "eu")]
    assert inspect(copies[0]).identity_token == "eu"


def test_equal_values_are_equal_bytes(session: Session) -> None:
    query = select(User).options(selectinload(User.groups)).filter_by(id=2)
    first = codec().encode(session.scalars(query).one())
    session.expunge_all()
    kept = [object() for _ in range(1000)]  # other addresses, another order in a set

    assert codec().encode(session.scalars(query).one()) == first
    assert kept


def test_a_row_with_entities_and_scalars_is_a_row_again(session: Session) -> None:
    query = select(User, User.name.label("called"), Company.name).join(User.company).order_by(User.id)

    rows = copy_of(session.execute(query).all())

    assert type(rows[0]).__name__ == "Row"
    assert rows[0]._fields == ("User", "called", "name")
    assert (rows[0].User.id, rows[0].called, rows[0][2]) == (1, "user 1", "Acme")
    assert rows[0][1:] == ("user 1", "Acme")
    assert rows[0]._mapping["called"] == "user 1"
    user, called, _ = rows[1]
    assert (user.name, called) == ("user 2", "user 2")
    assert copy_of(session.execute(select(User.id, User.name)).first()) == (1, "user 1")


def test_a_row_mapping_is_a_row_mapping_again(session: Session) -> None:
    mapping = copy_of(session.execute(select(User.id, User.created_at)).mappings().first())

    assert mapping is not None
    assert type(mapping).__name__ == "RowMapping"
    assert dict(mapping) == {"id": 1, "created_at": datetime(2026, 1, 2, 3, 4, 5, 6)}
