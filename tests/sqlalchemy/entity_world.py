"""A database with entities in it, and a codec like that of a node that met none of them yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from tests.sqlalchemy.entity_models import (
    Animal,
    Base,
    Company,
    Dog,
    Group,
    Node,
    Note,
    Odd,
    OddPart,
    Place,
    Post,
    Puppy,
    Tag,
    User,
)
from tiercache import shapes
from tiercache._core.values import Values

T = TypeVar("T")


def fill(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        company = Company(id=1, name="Acme")
        groups = [Group(id=number, name=f"group {number}") for number in range(1, 4)]
        for number in range(1, 6):
            user = User(id=number, name=f"user {number}", company=company, settings={"theme": ["dark"]})
            user.posts = [Post(title=f"post {number}.{serial}") for serial in range(3)]
            user.groups = set(groups[: number % 3])
            user.notes = {key: Note(keyword=key, text=f"{key} of {number}") for key in ("home", "work")}
            user.picture = b"\x00png"
            session.add(user)
        root = Node(id=1, children=[Node(id=2, children=[Node(id=4)]), Node(id=3)])
        odd = Odd(id=1, first="odd", extra={"a": 1}, parts=[OddPart(name="p"), OddPart(name="q")])
        animals = [
            Animal(id=1, name="cat"),
            Dog(id=2, name="rex", tricks="sit"),
            Puppy(id=3, name="pup", tricks="none", age=1),
        ]
        session.add_all([root, odd, *animals, Tag("a", "en", uses=3), Place("here")])


def codec() -> Values:
    """As in a process that has the models and has stored and read nothing yet."""
    return Values(shapes.families())


def copy_of(value: T, *known: type) -> T:
    """*value* as another process reads it, which knows the classes *known* and those that are mapped."""
    there = codec()
    for cls in known:
        there.register(cls)
    copied: T = there.decode(codec().encode(value))
    return copied


@contextmanager
def no_statements(session: Session) -> Iterator[None]:
    """Inside, nothing reaches the database, and no transaction begins."""
    seen: list[Any] = []

    def note(*args: Any) -> None:
        seen.append(args[2])

    bind = session.get_bind()
    engine = bind if isinstance(bind, Engine) else bind.engine
    event.listen(engine, "before_cursor_execute", note)
    before = session.in_transaction()
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert seen == []
    assert session.in_transaction() == before
