"""Methods: what counts of an object is the values of its attributes, never where it lies in memory."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from tiercache import cached, configure

pytestmark = pytest.mark.on_each_loop

runs: list[tuple[str, str]] = []  # of the methods below, in order


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @cached
    def orders(self, user: int) -> str:
        runs.append(("orders", self.name))
        return f"{self.name} {user}"

    @cached
    async def owner(self) -> str:
        runs.append(("owner", self.name))
        return f"owner of {self.name}"

    @classmethod
    @cached
    def kind(cls) -> str:
        runs.append(("kind", cls.__name__))
        return cls.__name__

    @cached
    @staticmethod
    def tax(country: str) -> str:
        runs.append(("tax", country))
        return f"tax of {country}"


class Market(Shop):
    pass


class Plain:
    def __init__(self, name: str) -> None:
        self.name = name

    def price(self, user: int) -> str:
        runs.append(("price", self.name))
        return f"{self.name} {user}"

    @classmethod
    def made(cls, user: int) -> str:
        return f"{cls.__name__} {user}"


class Other(Plain):
    pass


def of_outside(self: Repo, user: int) -> str:
    runs.append(("outside", self.name))
    return f"{self.name} {user}"


class Repo:
    def __init__(self, name: str) -> None:
        self.name = name

    @cached
    def __private(self, user: int) -> str:
        runs.append(("private", self.name))
        return f"{self.name} {user}"

    find = cached(of_outside)

    def get(self, user: int) -> str:
        return self.__private(user)

    def drop(self, user: int) -> None:
        self.__private.invalidate(self, user)


@cached
def title(book: int, *, short: bool = False) -> str:
    """What it is called."""
    return f"book {book}"


@cached
async def author(book: int) -> str:
    return f"author of {book}"


@pytest.fixture(autouse=True)
def default_cache_for_the_test(any_url: str) -> Iterator[None]:
    runs.clear()
    with configure(any_url).sync:
        yield


def test_a_method_is_cached_by_the_values_of_its_object() -> None:
    for _ in range(2):
        assert [Shop("a").orders(1), Shop("b").orders(1), Shop("a").orders(2)] == ["a 1", "b 1", "a 2"]
    assert len(runs) == 3


@pytest.mark.anyio
async def test_an_async_method_is_cached_by_the_values_of_its_object() -> None:
    for _ in range(2):
        assert [await Shop("a").owner(), await Shop("b").owner()] == ["owner of a", "owner of b"]
    assert len(runs) == 2


def test_a_class_method_is_cached_by_its_class() -> None:
    for _ in range(2):
        assert [Shop.kind(), Market.kind(), Shop("a").kind()] == ["Shop", "Market", "Shop"]
    assert len(runs) == 2


def test_a_static_method_is_cached_by_its_arguments_whatever_it_is_called_on() -> None:
    for _ in range(2):
        assert [Shop.tax("fr"), Shop("a").tax("fr"), Market.tax("de")] == [
            "tax of fr",
            "tax of fr",
            "tax of de",
        ]
    assert len(runs) == 2


def test_the_verbs_of_a_method_take_its_object_first() -> None:
    Shop("a").orders(1), Shop("b").orders(1)
    Shop.orders.invalidate(Shop("a"), 1)
    Shop("a").orders(1), Shop("b").orders(1)
    assert runs == [("orders", "a"), ("orders", "b"), ("orders", "a")]

    Shop.orders.invalidate_all()
    Shop("b").orders(1)
    assert runs[3:] == [("orders", "b")]


def test_the_verbs_of_a_method_that_its_class_has_under_another_name_take_its_object_first() -> None:
    repo = Repo("a")
    assert [repo.get(1), repo.find(1)] == ["a 1", "a 1"]

    repo.drop(1)
    Repo.find.invalidate(repo, 1)
    assert [repo.get(1), repo.find(1)] == ["a 1", "a 1"]

    assert runs == [("private", "a"), ("outside", "a")] * 2


def test_a_bound_method_is_cached_by_the_values_of_its_object() -> None:
    of_a, of_b = cached(Plain("a").price), cached(Plain("b").price)
    assert [of_a(1), of_b(1), of_a(1), of_b(1)] == ["a 1", "b 1", "a 1", "b 1"]
    assert runs == [("price", "a"), ("price", "b")]

    of_a.invalidate(Plain("a"), 1)
    assert [of_a(1), of_b(1)] == ["a 1", "b 1"]
    assert runs[2:] == [("price", "a")]


def test_a_bound_method_that_its_object_keeps_is_no_part_of_that() -> None:
    class Keeper(Plain):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.get = cached(self.price)

    assert [Keeper("a").get(1), Keeper("b").get(1), Keeper("a").get(1)] == ["a 1", "b 1", "a 1"]
    assert len(runs) == 2


def test_a_bound_class_method_is_cached_by_its_class() -> None:
    of_plain, of_other = cached(Plain.made), cached(Other.made)

    assert [of_plain(1), of_other(1), of_plain(1)] == ["Plain 1", "Other 1", "Plain 1"]


@pytest.mark.parametrize(
    "function",
    [{}.get, "a".join, functools.update_wrapper(functools.partial(of_outside, user=1), of_outside)],
    ids=["a dict's", "a text's", "a partial"],
)
def test_what_is_bound_to_values_that_no_key_would_have_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="is bound to what would be no part of its keys; write a def"):
        cached(function)


@pytest.mark.anyio
async def test_the_verbs_of_an_async_method_are_awaited() -> None:
    await Shop("a").owner()
    await Shop.owner.invalidate(Shop("a"))
    await Shop("a").owner()
    assert len(runs) == 2


def test_a_cached_function_is_a_python_function_and_its_pickle_is_its_name() -> None:
    for function in (title, author, Shop.orders, Shop.owner):
        assert inspect.isfunction(function)
        assert pickle.loads(pickle.dumps(function)) is function
    assert typing.get_type_hints(title) == {"book": int, "short": bool, "return": str}
    assert str(inspect.signature(title)) == "(book: 'int', *, short: 'bool' = False) -> 'str'"
    assert title.__doc__ == "What it is called."
    assert pickle.loads(pickle.dumps(functools.partial(title, short=True)))(7) == "book 7"


@pytest.mark.anyio
async def test_a_cached_coroutine_function_may_be_a_task_be_gathered_and_waited_for() -> None:
    for _ in range(2):
        assert await asyncio.gather(author(1), author(2)) == ["author of 1", "author of 2"]
        assert await asyncio.create_task(author(1)) == "author of 1"
        assert await asyncio.wait_for(author(2), 5) == "author of 2"
        coroutine = author(1)
        assert inspect.iscoroutine(coroutine)
        assert await coroutine == "author of 1"
