"""Models with all that SQLAlchemy can map, for the tests of entities as values."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, Column, ForeignKey, Integer, Numeric, String, Table, func, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    MappedAsDataclass,
    WriteOnlyMapped,
    attribute_keyed_dict,
    column_property,
    composite,
    mapped_column,
    query_expression,
    reconstructor,
    registry,
    relationship,
    synonym,
)


class Base(DeclarativeBase):
    pass


class Rank(enum.Enum):
    MEMBER = "member"
    ADMIN = "admin"


class Company(Base):
    __tablename__ = "companies"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    users: Mapped[list[User]] = relationship(back_populates="company")


group_members = Table(
    "group_members",
    Base.metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("group_id", ForeignKey("groups.id"), primary_key=True),
)


class Group(Base):
    __tablename__ = "groups"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    keyword: Mapped[str]
    text: Mapped[str]


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str | None]
    rank: Mapped[Rank] = mapped_column(default=Rank.MEMBER)
    created_at: Mapped[datetime] = mapped_column(default=datetime(2026, 1, 2, 3, 4, 5, 6))
    balance: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal("1.20"))
    token: Mapped[UUID] = mapped_column(default=uuid4)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    active: Mapped[bool] = mapped_column(default=True)
    score: Mapped[float] = mapped_column(default=1.5)
    picture: Mapped[bytes | None] = mapped_column(deferred=True)
    company_id: Mapped[int | None] = mapped_column(ForeignKey("companies.id"))
    company: Mapped[Company | None] = relationship(back_populates="users")
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")
    groups: Mapped[set[Group]] = relationship(secondary=group_members)
    notes: Mapped[dict[str, Note]] = relationship(collection_class=attribute_keyed_dict("keyword"))


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")


class Node(Base):
    """A tree in one table."""

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[list[Node]] = relationship(back_populates="parent", order_by="Node.id")


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]  # mutable


class Odd(Base):
    """One of each kind of attribute that is no plain column."""

    __tablename__ = "odds"
    id: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[str]
    x: Mapped[int] = mapped_column(Integer, default=1)
    y: Mapped[int] = mapped_column(Integer, default=2)
    version: Mapped[int] = mapped_column()
    at: Mapped[Point] = composite("x", "y")
    total: Mapped[int] = column_property(x + y)
    twice: Mapped[int] = query_expression()
    extra: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    called = synonym("first")
    parts: Mapped[list[OddPart]] = relationship(order_by="OddPart.id")
    part_names: AssociationProxy[list[str]] = association_proxy("parts", "name")
    later: DynamicMapped[OddPart] = relationship(viewonly=True)
    written: WriteOnlyMapped[OddPart] = relationship(viewonly=True)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012

    @hybrid_property
    def shout(self) -> str:
        return self.first.upper()

    @reconstructor
    def begin(self) -> None:
        self.reconstructed = getattr(self, "reconstructed", 0) + 1


class OddPart(Base):
    __tablename__ = "odd_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    odd_id: Mapped[int] = mapped_column(ForeignKey("odds.id"))
    name: Mapped[str]


Odd.count = column_property(
    select(func.count(OddPart.id)).where(OddPart.odd_id == Odd.id).correlate_except(OddPart).scalar_subquery()
)


class Animal(Base):
    """Joined inheritance, and below it single-table inheritance."""

    __tablename__ = "animals"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    __tablename__ = "dogs"
    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
    tricks: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Puppy(Dog):
    age: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "puppy"}  # noqa: RUF012


class DataBase(MappedAsDataclass, DeclarativeBase):
    metadata = Base.metadata


class Tag(DataBase):
    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(primary_key=True)
    lang: Mapped[str] = mapped_column(primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


class Place:
    """Mapped imperatively."""

    def __init__(self, name: str) -> None:
        self.name = name


imperative = registry(metadata=Base.metadata)
imperative.map_imperatively(
    Place, Table("places", Base.metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))
)
