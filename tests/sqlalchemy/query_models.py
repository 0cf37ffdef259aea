"""What cached queries are asked about: users, posts and tags, inheritance, columns of many types."""

from __future__ import annotations

import datetime
import enum
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Enum, ForeignKey, LargeBinary, Numeric, String, Table, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


post_tags = Table(
    "post_tags",
    Base.metadata,
    Column("post_id", ForeignKey("posts.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    tenant: Mapped[int] = mapped_column(default=1)
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    content: Mapped[str] = mapped_column(default="", deferred=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tags, order_by="Tag.id")


class Tag(Base):
    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Employee(Base):
    """Joined inheritance."""

    __tablename__ = "employees"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012


class Manager(Employee):
    __tablename__ = "managers"

    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    budget: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012


class Animal(Base):
    """Single-table inheritance."""

    __tablename__ = "animals"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    breed: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Thing(Base):
    """A column of each type that people use."""

    __tablename__ = "things"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    made: Mapped[datetime.datetime]
    zoned: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    day: Mapped[datetime.date]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    weight: Mapped[float]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    colour: Mapped[Colour] = mapped_column(Enum(Colour))
    flag: Mapped[bool]
    nil: Mapped[str | None]
    title: Mapped[str] = column_property(Column("title_text", String))


THING = uuid.UUID(int=7)


def fill(session: Session) -> None:
    tags = [Tag(id=1, name="red"), Tag(id=2, name="blue")]
    for user in range(1, 5):
        posts = [
            Post(id=user * 10 + n, title=f"post {user}.{n}", content="long", tags=tags[:n]) for n in range(3)
        ]
        session.add(User(id=user, name=f"user {user}", tenant=1 + user % 2, posts=posts))
    session.add_all([Employee(id=1, name="Ann"), Manager(id=2, name="Bob", budget=7)])
    session.add_all([Animal(id=1, name="Tom"), Dog(id=2, name="Rex", breed="pug")])
    session.add(
        Thing(
            id=THING,
            made=datetime.datetime(2024, 2, 29, 12, 30, 1, 5),
            zoned=datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
            day=datetime.date(2024, 2, 29),
            price=Decimal("12.50"),
            weight=0.1,
            data={"a": [1, None, {"b": "c"}]},
            blob=b"\x00\xff",
            colour=Colour.GREEN,
            flag=True,
            nil=None,
            title="thing",
        )
    )
    session.commit()
