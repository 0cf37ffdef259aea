"""Copies that join a session: as a fresh query in it would have given them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.orm import Session, load_only, scoped_session, selectinload, sessionmaker
from sqlalchemy.orm.exc import DetachedInstanceError

from tests.sqlalchemy.entity_models import Company, Note, Odd, Post, User
from tests.sqlalchemy.entity_world import copy_of, fill, no_statements
from tiercache.sqlalchemy import NotLoaded, attach


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    engine = create_engine(f"sqlite:///{tmp_path}/db")
    fill(engine)
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """The session that asks the cache; another one has loaded what is in it."""
    with sessions() as session:
        yield session


LOADED = (
    selectinload(User.posts).joinedload(Post.author),
    selectinload(User.company),
    selectinload(User.notes),
)


def cached_user(sessions: sessionmaker[Session], *options: Any, number: int = 1) -> User:
    """A copy of a user as a cache gives it."""
    with sessions() as other:
        return copy_of(other.scalars(select(User).options(*options).filter_by(id=number)).one())


def test_a_copy_becomes_persistent_with_all_that_it_leads_to(
    sessions: sessionmaker[Session], session: Session
) -> None:
    copy = cached_user(sessions, *LOADED)

    with no_statements(session):
        attached = attach(session, copy)
        _ = attached.name, attached.posts[0].title, attached.posts[0].author, attached.company

    assert attached is copy
    for entity in (copy, *copy.posts, copy.company, *copy.notes.values()):
        assert inspect(entity).persistent
        assert inspect(entity).session is session
    with no_statements(session):
        assert session.get(User, 1) is copy
    assert session.scalars(select(User).filter_by(id=1)).one() is copy
    assert list(session.dirty | session.new | session.deleted) == []


def test_an_attached_copy_loads_flushes_expires_and_refreshes_as_any_instance(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user = attach(session, cached_user(sessions, load_only(User.name)))
    assert (user.score, len(user.posts), user.picture) == (1.5, 3, b"\x00png")

    user.name = "changed"
    assert user in session.dirty
    session.rollback()
    assert user.name == "user 1"
    user.name = "committed"
    user.posts[0].title = "too"
    session.commit()

    with sessions() as other:
        assert other.get_one(User, 1).name == "committed"
    assert user.name == "committed"
    session.delete(user.notes["home"])
    session.commit()
    session.refresh(user)
    assert set(user.notes) == {"work"}


@pytest.mark.parametrize("join", [attach, lambda session, copy: session.add(copy)], ids=["attach", "add"])
def test_the_columns_that_a_copy_lacks_are_loaded_at_once(
    sessions: sessionmaker[Session], session: Session, join: Callable[[Session, User], object]
) -> None:
    copy = cached_user(sessions, load_only(User.name))
    join(session, copy)

    assert copy.score == 1.5

    with no_statements(session):
        assert (copy.active, copy.settings) == (True, {"theme": ["dark"]})


def test_an_attached_copy_that_leaves_its_session_is_like_any_other(
    sessions: sessionmaker[Session], session: Session
) -> None:
    user = attach(session, cached_user(sessions))
    session.expunge(user)

    with pytest.raises(DetachedInstanceError) as caught:
        _ = user.posts

    assert not isinstance(caught.value, NotLoaded)


def test_the_instance_that_the_session_has_wins_and_keeps_its_changes(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(User, 1)
    mine.name = "pending"
    copy = cached_user(sessions, *LOADED)

    with no_statements(session):
        assert attach(session, copy) is mine

    assert (mine.name, list(session.dirty)) == ("pending", [mine])
    with no_statements(session):
        assert [post.title for post in mine.posts] == ["post 1.0", "post 1.1", "post 1.2"]
        assert mine.posts[0].author is mine
        assert mine.company is not None
        assert mine.company.name == "Acme"
    session.commit()
    assert session.scalars(select(User.name).filter_by(id=1)).one() == "pending"


def test_what_the_session_has_loaded_stays_although_the_copy_is_newer(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(User, 1)
    with sessions() as other:
        other.get_one(User, 1).name = "newer"
        other.commit()

    attach(session, cached_user(sessions))

    assert mine.name == "user 1"


def test_a_loaded_collection_of_the_session_keeps_its_changes(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(User, 1)
    removed = mine.posts.pop()
    mine.posts.append(added := Post(title="added"))

    with session.no_autoflush:
        attach(session, cached_user(sessions, *LOADED))

        assert removed not in mine.posts
        assert added in mine.posts
        assert len(mine.posts) == 3


def test_an_expired_instance_of_the_session_is_filled_without_a_query(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(User, 1)
    copy = cached_user(sessions)
    session.commit()
    assert inspect(mine).expired

    with no_statements(session):
        assert attach(session, copy) is mine
        assert (mine.name, mine.score) == ("user 1", 1.5)
        assert not inspect(mine).expired
        assert not session.dirty
    mine.name = "changed"
    session.commit()
    assert session.scalars(select(User.name).filter_by(id=1)).one() == "changed"


def test_a_pending_delete_of_an_attribute_is_not_undone(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(User, 1)
    assert mine.company is not None
    del mine.company

    attach(session, cached_user(sessions, *LOADED))

    assert mine.company is None
    session.commit()
    assert session.scalars(select(User.company_id).filter_by(id=1)).one() is None


def test_a_pending_change_of_an_expired_instance_is_not_overwritten(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(User, 1)
    copy = cached_user(sessions)
    session.commit()
    mine.name = "pending"  # set, and the others are expired

    attach(session, copy)

    assert mine.name == "pending"
    assert mine.score == 1.5
    session.commit()
    assert session.scalars(select(User.name).filter_by(id=1)).one() == "pending"


def test_all_refer_to_the_instance_that_the_session_has(
    sessions: sessionmaker[Session], session: Session
) -> None:
    company, post = session.get_one(Company, 1), session.get_one(Post, 2)
    note = session.scalars(select(Note).filter_by(user_id=1, keyword="work")).one()

    user = attach(session, cached_user(sessions, *LOADED))

    assert user.company is company
    assert user.posts[1] is post
    assert user.notes["work"] is note
    assert type(user.notes).__name__ == type(User().notes).__name__
    assert not session.dirty


@dataclass(frozen=True)
class Page:
    user: Any


class Pair(NamedTuple):
    user: Any
    number: int


HOLDERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "list": (lambda user: [1, user], lambda held: held[1]),
    "dict": (lambda user: {"a": [user]}, lambda held: held["a"][0]),
    "key": (lambda user: {user: 1}, lambda held: next(iter(held))),
    "set": (lambda user: {user}, lambda held: next(iter(held))),
    "frozenset": (lambda user: frozenset([user]), lambda held: next(iter(held))),
    "tuple": (lambda user: (1, (user,)), lambda held: held[1][0]),
    "namedtuple": (lambda user: Pair(user, 7), lambda held: held.user),
    "dataclass": (lambda user: Page(user), lambda held: held.user),
}


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
@pytest.mark.parametrize(("hold", "get"), HOLDERS.values(), ids=HOLDERS)
def test_entities_are_attached_wherever_a_value_holds_them(
    sessions: sessionmaker[Session],
    session: Session,
    hold: Callable[[Any], Any],
    get: Callable[[Any], Any],
    known: bool,
) -> None:
    mine = session.get_one(User, 1) if known else None
    value = hold(cached_user(sessions))

    attached = attach(session, value)

    assert type(attached) is type(value)
    assert get(attached) is (mine or get(value))
    assert inspect(get(attached)).session is session


def test_the_members_of_a_collection_alone_are_attached(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.get_one(Post, 2)
    with sessions() as other:
        posts = copy_of(other.get_one(User, 1).posts)

    attached = attach(session, posts)

    assert attached is posts
    assert [post.id for post in posts] == [1, 2, 3]
    assert posts[1] is mine
    assert all(post in session for post in posts)


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_entities_in_rows_are_attached(
    sessions: sessionmaker[Session], session: Session, known: bool
) -> None:
    mine = session.get_one(User, 1) if known else None
    query = select(User, User.name.label("called")).where(User.id == 1)
    with sessions() as other:
        row = copy_of(other.execute(query).one())
        mapping = copy_of(other.execute(query).mappings().one())

    row, mapping = attach(session, [row, mapping])

    assert inspect(row.User).session is session
    assert (row.called, row._fields) == ("user 1", ("User", "called"))
    assert mapping["User"] is row.User
    assert mine is None or row.User is mine


def test_two_copies_of_one_identity_become_one(sessions: sessionmaker[Session], session: Session) -> None:
    one, other = attach(session, [cached_user(sessions), cached_user(sessions, *LOADED)])

    assert one is other
    with no_statements(session):
        assert len(one.posts) == 3


def test_the_session_holds_an_attached_copy_weakly(sessions: sessionmaker[Session], session: Session) -> None:
    reference = weakref.ref(attach(session, cached_user(sessions)))

    assert reference() is None
    assert session.get_one(User, 1).name == "user 1"


def test_what_is_in_a_session_already_stays_where_it_is(
    sessions: sessionmaker[Session], session: Session
) -> None:
    with sessions() as other:
        theirs, new = other.get_one(User, 1), User(name="new")

        assert attach(session, [theirs, new, None, 7]) == [theirs, new, None, 7]

        assert inspect(theirs).session is other
        assert inspect(new).transient


def test_load_events_and_reconstructors_run(sessions: sessionmaker[Session], session: Session) -> None:
    loaded, persistent = [], []
    event.listen(Odd, "load", lambda target, context: loaded.append(target))
    event.listen(session, "loaded_as_persistent", lambda owner, target: persistent.append(target))
    with sessions() as other:
        original = other.scalars(select(Odd)).one()
        loaded.clear()

        copy = attach(session, copy_of(original))

    assert loaded == [copy]
    assert persistent == [copy]
    assert copy.reconstructed == 1


def test_a_mutable_column_that_was_filled_in_tells_of_changes(
    sessions: sessionmaker[Session], session: Session
) -> None:
    mine = session.scalars(select(Odd).options(load_only(Odd.first))).one()
    with sessions() as other:
        copy = copy_of(other.scalars(select(Odd)).one())

    attach(session, copy)
    assert not session.dirty
    mine.extra["b"] = 2

    assert mine in session.dirty


def test_a_session_may_be_scoped(sessions: sessionmaker[Session]) -> None:
    scoped = scoped_session(sessions)

    user = attach(scoped, cached_user(sessions))

    assert inspect(user).session is scoped()
    scoped.remove()


@pytest.mark.anyio
async def test_a_session_may_be_async(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/db")
    async with AsyncSession(engine) as session:
        user = attach(session, cached_user(sessions))

        assert user in session
        await session.refresh(user, ["posts"])
        assert len(user.posts) == 3
        user.name = "changed"
        await session.commit()
    scoped = async_scoped_session(lambda: AsyncSession(engine), lambda: 1)
    assert attach(scoped, cached_user(sessions)) in scoped
    await scoped.remove()
    await engine.dispose()


def test_what_is_no_session_is_refused() -> None:
    with pytest.raises(TypeError, match="a Session or an AsyncSession, not to 'db'"):
        attach("db", [])  # type: ignore[type-var]
