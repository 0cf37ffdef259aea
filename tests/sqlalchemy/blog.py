"""The tables of the differential test, and what its programs do to them.

Every act is done twice, in a session whose reads are cached and in one on another database whose reads are
not; each returns what a caller could see, in plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKey, Table, delete, func, insert, select, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from tiercache.sqlalchemy import from_cache

TEAMS = ("red", "blue")
IDS = range(1, 5)


class Base(DeclarativeBase):
    pass


marks = Table(
    "marks",
    Base.metadata,
    Column("post_id", ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True),
)


class Label(Base):
    __tablename__ = "labels"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    word: Mapped[str]


class Person(Base):
    __tablename__ = "people"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    name: Mapped[str]
    team: Mapped[str]
    posts: Mapped[list[Post]] = relationship(
        back_populates="author", cascade="all, delete-orphan", passive_deletes=True, order_by="Post.id"
    )

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Editor(Person):
    __tablename__ = "editors"

    id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), primary_key=True)
    desk: Mapped[str]

    __mapper_args__ = {"polymorphic_identity": "editor"}  # noqa: RUF012


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author_id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"))
    title: Mapped[str]
    author: Mapped[Person] = relationship(back_populates="posts")
    labels: Mapped[list[Label]] = relationship(secondary=marks, order_by=Label.id)


Seen = Any
Cached = Callable[..., Any]


@dataclass
class Desk:
    """One session of one process, and how it asks: `by_cache` is an option for a statement, or nothing."""

    session: Session
    is_cached: bool

    def asked(self, statement: Any) -> Any:
        return statement.options(from_cache(ttl=60, relationships=True)) if self.is_cached else statement

    def options(self) -> list[Any]:
        return [from_cache(ttl=60)] if self.is_cached else []


def person(found: Person | None) -> Seen:
    return found and (found.id, found.kind, found.name, found.team, getattr(found, "desk", None))


# ---- reads


def by_key(desk: Desk, number: int) -> Seen:
    return person(desk.session.get(Person, number, options=desk.options()))


def editor_by_key(desk: Desk, number: int) -> Seen:
    return person(desk.session.get(Editor, number, options=desk.options()))


def of_team(desk: Desk, number: int) -> Seen:
    statement = select(Person).where(Person.team == TEAMS[number % 2]).order_by(Person.id)
    return [person(each) for each in desk.session.scalars(desk.asked(statement))]


def names(desk: Desk, number: int) -> Seen:
    statement = select(Person.id, Person.name).where(Person.id.in_([number, number + 1])).order_by(Person.id)
    return [(row.id, row.name) for row in desk.session.execute(desk.asked(statement))]


def posts_of_team(desk: Desk, number: int) -> Seen:
    writer = aliased(Person)
    statement = (
        select(Post.title, writer.name)
        .join(writer, Post.author_id == writer.id)
        .where(writer.team == TEAMS[number % 2])
        .order_by(Post.id)
    )
    return [tuple(row) for row in desk.session.execute(desk.asked(statement))]


def busy(desk: Desk, number: int) -> Seen:
    counts = select(Post.author_id, func.count().label("n")).group_by(Post.author_id).cte()
    statement = select(Person.name, counts.c.n).join(counts, counts.c.author_id == Person.id)
    rows = desk.session.execute(desk.asked(statement.where(counts.c.n >= number % 3).order_by(Person.id)))
    return [tuple(row) for row in rows]


def with_posts(desk: Desk, number: int) -> Seen:
    statement = select(Person).where(Person.id <= number).options(selectinload(Person.posts))
    found = desk.session.scalars(desk.asked(statement.order_by(Person.id)))
    return [(person(each), [post.title for post in each.posts]) for each in found]


def lazily(desk: Desk, number: int) -> Seen:
    found = desk.session.scalars(desk.asked(select(Person).where(Person.id == number))).one_or_none()
    return found and [(post.title, [label.word for label in post.labels]) for post in found.posts]


def with_author(desk: Desk, number: int) -> Seen:
    statement = select(Post).options(joinedload(Post.author)).where(Post.id == number)
    post = desk.session.scalars(desk.asked(statement)).one_or_none()
    return post and (post.title, person(post.author))


def labelled(desk: Desk, number: int) -> Seen:
    statement = select(func.count()).select_from(Post).where(Post.labels.any(Label.id == number))
    return desk.session.scalar(desk.asked(statement))


READS: dict[str, Callable[[Desk, int], Seen]] = {
    read.__name__: read
    for read in (
        by_key,
        editor_by_key,
        of_team,
        names,
        posts_of_team,
        busy,
        with_posts,
        lazily,
        with_author,
        labelled,
    )
}


# ---- writes; *new* is a number that no act before had


def add(desk: Desk, number: int, new: int) -> Seen:
    desk.session.add(Person(id=number, name=f"n{new}", team=TEAMS[new % 2]))
    desk.session.flush()


def add_editor(desk: Desk, number: int, new: int) -> Seen:
    desk.session.add(Editor(id=number, name=f"n{new}", team=TEAMS[new % 2], desk=f"d{new}"))
    desk.session.flush()


def rename(desk: Desk, number: int, new: int) -> Seen:
    found = desk.session.get(Person, number)
    if found is not None:
        found.name, found.team = f"n{new}", TEAMS[new % 2]
    return found is not None  # flushed by the next query, or by the commit


def move(desk: Desk, number: int, new: int) -> Seen:
    found = desk.session.get(Editor, number)
    if found is not None:
        found.desk = f"d{new}"
        desk.session.flush()
    return found is not None


def remove(desk: Desk, number: int, new: int) -> Seen:
    found = desk.session.get(Person, number)
    if found is not None:
        desk.session.delete(found)
        desk.session.flush()
    return found is not None


def post(desk: Desk, number: int, new: int) -> Seen:
    desk.session.add(Post(id=new, author_id=number, title=f"t{new}"))
    desk.session.flush()


def retitle(desk: Desk, number: int, new: int) -> Seen:
    changed = desk.session.execute(update(Post).where(Post.author_id == number).values(title=f"t{new}"))
    return changed.rowcount  # type: ignore[attr-defined]  # of a CursorResult


def hand_over(desk: Desk, number: int, new: int) -> Seen:
    values = {"author_id": IDS[new % len(IDS)]}
    return desk.session.execute(update(Post).where(Post.author_id == number).values(values)).rowcount  # type: ignore[attr-defined]


def drop_posts(desk: Desk, number: int, new: int) -> Seen:
    return desk.session.execute(delete(Post).where(Post.author_id == number)).rowcount  # type: ignore[attr-defined]


def drop_person(desk: Desk, number: int, new: int) -> Seen:
    """The database takes the rest away: posts, their marks, an editor's row."""
    found = desk.session.connection().execute(delete(Person.__table__).where(Person.__table__.c.id == number))
    desk.session.expire_all()
    return found.rowcount


def bulk(desk: Desk, number: int, new: int) -> Seen:
    desk.session.execute(
        insert(Post), [{"id": new * 1000 + n, "author_id": number, "title": f"b{new}"} for n in range(3)]
    )


def by_core(desk: Desk, number: int, new: int) -> Seen:
    people = Person.__table__
    desk.session.connection().execute(update(people).where(people.c.id == number).values(name=f"c{new}"))
    desk.session.expire_all()


def by_text(desk: Desk, number: int, new: int) -> Seen:
    statement = text("UPDATE people SET name = :name WHERE team = :team").execution_options(
        invalidates=[Person]
    )
    desk.session.execute(statement, {"name": f"x{new}", "team": TEAMS[number % 2]})
    desk.session.expire_all()


def label(desk: Desk, number: int, new: int) -> Seen:
    """The oldest post of a person gets a label, or loses its labels."""
    found = desk.session.scalars(select(Post).where(Post.author_id == number).order_by(Post.id)).first()
    if found is not None:
        word = desk.session.get(Label, new % 2)
        if word is not None and word not in found.labels:
            found.labels.append(word)
        else:
            found.labels.clear()
        desk.session.flush()
    return found is not None


WRITES: dict[str, Callable[[Desk, int, int], Seen]] = {
    write.__name__: write
    for write in (
        add,
        add_editor,
        rename,
        move,
        remove,
        post,
        retitle,
        hand_over,
        drop_posts,
        drop_person,
        bulk,
        by_core,
        by_text,
        label,
    )
}
