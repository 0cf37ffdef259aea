"""Mapped classes that the fuzzed codec knows, and values that hold some."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, attribute_keyed_dict, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Genre(enum.Enum):
    NOVEL = 1
    POEMS = 2


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    born: Mapped[datetime | None]
    data: Mapped[Any] = mapped_column(JSON)
    books: Mapped[list[Book]] = relationship(back_populates="author")
    teacher_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
    teacher: Mapped[Author | None] = relationship(remote_side=[id])


class Book(Base):
    __tablename__ = "books"
    title: Mapped[str] = mapped_column(primary_key=True)
    edition: Mapped[int] = mapped_column(primary_key=True)
    genre: Mapped[Genre | None]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author | None] = relationship(back_populates="books")
    words: Mapped[dict[str, Word]] = relationship(collection_class=attribute_keyed_dict("text"))


class Word(Base):
    __tablename__ = "words"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    title: Mapped[str]
    edition: Mapped[int]
    __table_args__ = (ForeignKeyConstraint(["title", "edition"], ["books.title", "books.edition"]),)


def samples() -> Iterator[Any]:
    """Some alone and some that refer to each other in circles."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        teacher = Author(id=1, name="t", data=None)
        author = Author(id=2, name="a", born=datetime(2026, 1, 2), data={"!x": [1]}, teacher=teacher)
        book = Book(title="b", edition=1, genre=Genre.NOVEL, author=author)
        book.words = {text: Word(text=text) for text in ("one", "two")}
        session.add_all([author, Book(title="c", edition=2, author=author)])
    with Session(engine) as session:
        yield session.get_one(Author, 1)
        author = session.get_one(Author, 2)
        _ = author.teacher, [(book.author, book.words) for book in author.books]
        yield [author, {"books": author.books}, (author.books[0],)]
        yield list(session.query(Author.id, Author.name, Author))
    engine.dispose()
