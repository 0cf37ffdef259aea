"""One question to one database has one key, in every process, and no other question has it."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Engine,
    Integer,
    String,
    TypeDecorator,
    column,
    create_engine,
    event,
    func,
    literal,
    select,
    type_coerce,
    union,
)
from sqlalchemy.orm import Session, joinedload, selectinload, with_loader_criteria

from tests.sqlalchemy.query_models import Colour, Post, User
from tests.sqlalchemy.query_world import make_database
from tiercache import TierCache, UnstableKey
from tiercache.sqlalchemy import from_cache
from tiercache.sqlalchemy.query_keys import query_key
from tiercache.sqlalchemy.reading import reading_of

SQLITE = create_engine("sqlite:////srv/shop.db")


def key(
    statement: Any, engine: Engine = SQLITE, given: dict[str, Any] | None = None, schemas: Any = None
) -> str:
    reading, parameters = reading_of(engine.dialect, statement, given or {}, schemas)
    return query_key(engine, reading, parameters, schemas)


def test_a_statement_that_is_built_twice_has_one_key() -> None:
    def build() -> Any:
        few = select(Post.author_id).where(Post.id > 3).subquery()
        return select(User, func.count()).join(few).where(User.id.in_([1, 2])).group_by(User.id).limit(3)

    assert key(build()) == key(build())
    assert key(build().options(from_cache(ttl=5))) == key(build().options(from_cache(ttl=7)))


@pytest.mark.parametrize(
    "values",
    [
        [1, True, "1", 1.0, None, Decimal(1), b"1"],
        [0, -1, -2, "", False, 0.0],
        [[1], [1, 2], [2, 1], ["1"], [1, None], []],
        [datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), "2024-01-01"],
        [uuid.UUID(int=1), str(uuid.UUID(int=1)), uuid.UUID(int=1).hex],
        [Colour.RED, Colour.GREEN, "red", "RED"],
        ["a", "b", "a'", "a' OR 1", "a\0b", "a\0", "aa"],
    ],
    ids=lambda values: repr(values[0]),
)
def test_values_are_told_apart_by_type_and_content(values: list[Any]) -> None:
    def statement(value: Any) -> Any:
        if isinstance(value, list):
            return select(User).where(User.id.in_(value))
        return select(User).where(type_coerce(literal("x"), String) == literal(value, String))

    assert len({key(statement(value)) for value in values}) == len(values)


def test_two_values_do_not_flow_into_one_another() -> None:
    def statement(*names: str) -> Any:
        return select(User).where(User.name == names[0], User.name != names[1])

    assert key(statement("a", "b\0")) != key(statement("a\0", "b"))
    assert key(statement("1:a", "")) != key(statement("", "1:a"))


STATEMENTS = [
    select(User),
    select(User.id),
    select(User.name),
    select(User).where(User.id == 1),
    select(User).where(User.id != 1),
    select(User).limit(1),
    select(User).limit(2),
    select(User).offset(1),
    select(User).order_by(User.id),
    select(User).order_by(User.id.desc()),
    select(User).where(User.id.in_([1])),
    select(User).where(User.id.in_([1, 2])),
    select(User).where(User.id.in_([1, 2, 3])),
    select(User).options(joinedload(User.posts)),
    select(User).options(with_loader_criteria(User, User.tenant == 1)),
    select(User).options(with_loader_criteria(User, User.tenant == 2)),
    select(Post),
    select(User, Post).join(Post),
    select(User).distinct(),
    union(select(User.id), select(Post.id)),
]


def test_no_two_questions_share_a_key() -> None:
    assert len({key(statement) for statement in STATEMENTS}) == len(STATEMENTS)


def test_rows_of_another_type_have_another_key() -> None:
    assert key(select(column("n", String)).select_from(User)) != key(select(column("n")).select_from(User))


class Scaled(TypeDecorator[float]):
    impl = Integer
    cache_ok = True

    def __init__(self, factor: object) -> None:
        super().__init__()
        self.factor = factor


class Untold(Scaled):
    cache_ok = False


def test_a_type_of_the_user_is_told_apart_by_its_arguments() -> None:
    by_ten, by_hundred = Scaled(10), Scaled(100)
    types = [by_ten, by_hundred, ARRAY(by_ten), ARRAY(by_hundred), String().with_variant(by_ten, "sqlite")]

    assert key(select(type_coerce(User.id, Scaled(10)))) == key(select(type_coerce(User.id, by_ten)))
    assert len({key(select(type_coerce(User.id, each))) for each in types}) == len(types)


@pytest.mark.parametrize("made", [Untold(10), Scaled(object())], ids=["no cache_ok", "no text"])
def test_a_type_of_the_user_whose_arguments_nobody_can_tell_has_no_key(made: Any) -> None:
    with pytest.raises(UnstableKey, match="cache_ok"):
        key(select(type_coerce(User.id, made)))


def test_loader_options_that_ask_more_have_keys_of_their_own(
    tmp_path: Path, new_node: Callable[..., TierCache]
) -> None:
    """selectinload changes no SQL of the statement; it has a statement of its own, with a key of its own."""
    db = make_database(f"sqlite:///{tmp_path}/test.db", new_node("memory://"))

    def ask(*options: Any) -> tuple[list[int], int]:
        def question(session: Session) -> list[int]:
            users = session.scalars(select(User).order_by(User.id).options(from_cache(), *options))
            return [len(user.posts) if options else -1 for user in users]

        return db.ask(question)

    more = selectinload(User.posts.and_(Post.id > 20))
    for expected in ([-1] * 4, 1), ([-1] * 4, 0):
        found, statements = ask()
        assert (found[1], statements) == expected
    assert ask(selectinload(User.posts)) == (("list", [3, 3, 3, 3]), 1)
    assert ask(more) == (("list", [0, 2, 3, 3]), 1)
    assert ask(selectinload(User.posts)) == (("list", [3, 3, 3, 3]), 0)
    assert ask(more) == (("list", [0, 2, 3, 3]), 0)
    db.engine.dispose()


URLS = [
    "sqlite:////srv/shop.db",
    "sqlite:////srv/other.db",
    "postgresql+psycopg://u@db/shop",
    "postgresql+psycopg://u@db/other",
    "postgresql+psycopg://u@db:5433/shop",
    "postgresql+psycopg://u@standby/shop",
    "postgresql+psycopg://v@db/shop",
    "postgresql+psycopg://u@db/shop?options=-csearch_path%3Dtenant",
    "sqlite://",
]


def test_two_databases_share_no_key() -> None:
    engines = [*(create_engine(url) for url in URLS), create_engine("sqlite://")]
    assert len({key(select(User), engine) for engine in engines}) == len(engines)


def test_a_relative_path_is_where_it_led_when_the_engine_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    url, uri = "sqlite:///shop.db", "sqlite:///file:shop.db?uri=true"
    one, one_by_uri = create_engine(url), create_engine(uri)
    before = key(select(User), one)
    monkeypatch.chdir(tmp_path / "elsewhere")
    other, other_by_uri = create_engine(url), create_engine(uri)
    late = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")

    assert key(select(User), one) == before
    assert len({key(select(User), each) for each in (one, other, late, one_by_uri, other_by_uri)}) == 5


def test_what_an_engine_connects_with_is_part_of_the_key() -> None:
    """It may name another database, or a search path."""

    def of(**options: Any) -> str:
        return key(select(User), create_engine("postgresql+psycopg://u@db", **options))

    one, other = {"dbname": "one"}, {"dbname": "other"}
    assert of(connect_args=one) == of(connect_args={**one, "password": "secret", "cursor_factory": object})
    assert len({of(), of(connect_args=one), of(connect_args=other), of(connect_args={"options": "-cx"})}) == 4
    assert of(connect_args={"what": object()}) != of(connect_args={"what": object()})


def test_where_a_function_of_the_user_connects_an_engine_shares_no_key() -> None:
    def redirected() -> Engine:
        engine = create_engine("sqlite:////srv/shop.db")
        event.listen(engine, "do_connect", lambda *args: None)
        return engine

    def created() -> Engine:
        return create_engine("sqlite:////srv/shop.db", creator=lambda: None)

    engines = [SQLITE, redirected(), redirected(), created(), created()]
    assert len({key(select(User), engine) for engine in engines}) == len(engines)


def test_drivers_share_no_key_and_a_password_is_no_part_of_it() -> None:
    """One driver gives an inet column as text, another one as an address."""
    urls = [f"postgresql+{driver}://u@db/shop" for driver in ("psycopg", "psycopg2", "asyncpg")]
    urls.append("postgresql+psycopg://u:secret@db/shop")
    places = set()
    for url in urls:
        engine = create_engine(url) if "asyncpg" not in url else create_engine(url, _is_async=True)
        from tiercache.sqlalchemy.query_keys import place

        places.add(place(engine))
    assert len(places) == 3


def test_a_schema_translation_is_part_of_the_key() -> None:
    maps = [None, {None: "one"}, {None: "two"}, {"one": None}, {None: "one", "x": "y"}]
    assert len({key(select(User), schemas=schemas) for schemas in maps}) == len(maps)


def test_a_value_without_a_text_has_no_key() -> None:
    with pytest.raises(UnstableKey):
        key(select(User).where(User.id == literal(object(), String)))


PROGRAM = """
from tests.sqlalchemy.test_query_keys import STATEMENTS, key
from sqlalchemy import select, func
from tests.sqlalchemy.query_models import User, Post, Manager, Thing, THING
few = select(Post.author_id).where(Post.id > 3).cte()
more = [
    select(Manager), select(Thing).where(Thing.id == THING),
    select(User, func.count()).join(few, few.c.author_id == User.id).group_by(User.id),
    select(User).where(User.id.in_({3, 1})),
]
print([key(statement) for statement in [*STATEMENTS, *more[:-1]]])
"""


def test_two_interpreters_give_one_key() -> None:
    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    one, other = run("1"), run("2")
    assert one == other
    assert one.count("sql:") == len(STATEMENTS) + 3
