"""The tables of these tests: one of each kind that a write can touch."""

from __future__ import annotations

import enum
import uuid

from sqlalchemy import Column, Enum, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    metadata = MetaData()


post_labels = Table(
    "post_labels",
    Base.metadata,
    Column("post_id", ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True),
)

followers = Table(  # without a primary key
    "followers",
    Base.metadata,
    Column("user_id", ForeignKey("users.id")),
    Column("label_id", ForeignKey("labels.id")),
)


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="")
    posts: Mapped[list[Post]] = relationship(
        back_populates="author", cascade="all, delete-orphan", order_by="Post.id"
    )
    notes: Mapped[list[Note]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str] = mapped_column(String(50), default="")
    author: Mapped[User] = relationship(back_populates="posts")
    labels: Mapped[list[Label]] = relationship(secondary=post_labels, back_populates="posts")


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class Label(Base):
    __tablename__ = "labels"

    id: Mapped[int] = mapped_column(primary_key=True)
    posts: Mapped[list[Post]] = relationship(secondary=post_labels, back_populates="labels")


class Animal(Base):
    """Joined: each kind has a table of its own beside it."""

    __tablename__ = "animals"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(50), default="")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    __tablename__ = "dogs"

    id: Mapped[int] = mapped_column(ForeignKey("animals.id", ondelete="CASCADE"), primary_key=True)
    tricks: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Vehicle(Base):
    """Single: all kinds in one table."""

    __tablename__ = "vehicles"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    wheels: Mapped[int] = mapped_column(default=4)

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012


class Truck(Vehicle):
    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012


class Seat(Base):
    __tablename__ = "seats"

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    letter: Mapped[str] = mapped_column(String(1), primary_key=True)
    taken: Mapped[bool] = mapped_column(default=False)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Thing(Base):
    """Keys of other kinds."""

    __tablename__ = "things"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    size: Mapped[int] = mapped_column(default=0)


class Paint(Base):
    __tablename__ = "paints"

    color: Mapped[Color] = mapped_column(Enum(Color, native_enum=False), primary_key=True)
    liters: Mapped[int] = mapped_column(default=0)


NOCASE = String(10).with_variant(String(10, collation="NOCASE"), "sqlite")


class Code(Base):
    """On SQLite, texts that differ may be equal."""

    __tablename__ = "codes"

    code: Mapped[str] = mapped_column(NOCASE, primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


private = Table(
    "private",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("size", Integer),
    schema="tenant",
)
