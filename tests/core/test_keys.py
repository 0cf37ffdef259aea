"""How a call becomes a key: its form, its arguments, what a user may choose."""

from __future__ import annotations

import functools
import re
import threading
from typing import Any

import pytest

from tests.core.key_samples import (
    HERE,
    Kind,
    Money,
    OtherRepository,
    Repository,
    call_key,
    get_user,
    key_of,
    one,
)
from tiercache._core.keys import MAX_KEY, CallKeys, check_key
from tiercache._errors import UnstableKey

SHORTENED = re.compile(r"~[0-9a-f]{32}\Z")


@pytest.mark.parametrize("key", ["a", "user:7", "größe 7 🙂", "x" * MAX_KEY, "ü" * (MAX_KEY // 2)])
def test_a_key_that_fits_is_stored_as_it_was_written(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["x" * (MAX_KEY + 1), "ü" * MAX_KEY, "a\0b", "a\nb", "a\x7fb", "a\x85b", "a\ud800b"]
)
def test_a_key_that_does_not_fit_keeps_its_readable_head(key: str) -> None:
    stored = check_key(key)

    assert stored[0] == key[0]
    assert SHORTENED.search(stored)
    assert len(stored.encode()) <= MAX_KEY
    assert stored.isprintable()


def test_two_keys_that_differ_only_beyond_the_limit_stay_two() -> None:
    assert check_key("x" * MAX_KEY + "a") != check_key("x" * MAX_KEY + "b")


def test_two_keys_that_differ_only_in_a_control_character_stay_two() -> None:
    assert len({check_key("a\0b"), check_key("a\1b"), check_key("a?b"), check_key("a\ud800b")}) == 4
    assert check_key("a\ud800b") != check_key("a\ud801b")


def test_a_stored_key_handed_back_is_the_same_key() -> None:
    stored = check_key("x" * 1000)
    assert check_key(stored) == stored


def test_a_str_enum_member_is_stored_as_its_value() -> None:
    stored = check_key(Kind.A)
    assert (stored, type(stored)) == ("a", str)


@pytest.mark.parametrize(
    ("key", "advice"), [(b"user", "write key.decode()"), (7, "write f'name:{key}'"), (None, "must be a str")]
)
def test_a_key_of_another_type_is_refused_with_what_to_write(key: object, advice: str) -> None:
    with pytest.raises(TypeError, match=re.escape(advice)):
        check_key(key)


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        check_key("")


def test_a_key_reads_like_the_call() -> None:
    assert call_key(get_user, 7) == f"{HERE}.get_user(user_id=7, active=True, more=(), options={{}})"


def test_the_prefix_is_the_name_of_the_function_and_its_version() -> None:
    assert CallKeys(Repository.get).prefix == f"{HERE}.Repository.get"
    assert CallKeys(Repository.get, version=2).prefix == f"{HERE}.Repository.get@2"


def test_every_key_begins_with_the_prefix_and_a_parenthesis() -> None:
    def long_name() -> None: ...

    long_name.__qualname__ = "n" * 600
    for function, value in ((one, 7), (one, "v" * 1000), (long_name, None)):
        keys = CallKeys(function)
        key = keys.key({"x": value})
        assert key.startswith(keys.prefix + "(")
        assert len(key.encode()) <= MAX_KEY


def test_a_long_call_is_stored_in_the_form_that_check_key_leaves_alone() -> None:
    key = key_of("v" * 1000)
    assert SHORTENED.search(key)
    assert check_key(key) == key


def test_two_long_names_of_functions_stay_two() -> None:
    def first() -> None: ...
    def second() -> None: ...

    first.__qualname__, second.__qualname__ = "n" * 600 + "1", "n" * 600 + "2"
    assert CallKeys(first).prefix != CallKeys(second).prefix


@pytest.mark.parametrize("version", [True, "", "a(b", "ü", 1.5])
def test_a_version_that_could_blur_the_prefix_is_refused(version: Any) -> None:
    with pytest.raises(ValueError, match="version must be"):
        CallKeys(one, version=version)


def test_a_function_without_a_name_of_its_own_is_refused() -> None:
    for function in (lambda x: x, functools.partial(one)):
        with pytest.raises(TypeError, match="write a def"):
            CallKeys(function)


def test_position_keyword_and_default_make_no_difference() -> None:
    def f(a: int, b: int = 2, *, c: int = 3) -> None: ...

    calls = [call_key(f, 1), call_key(f, 1, 2), call_key(f, b=2, a=1), call_key(f, 1, c=3, b=2)]
    assert len(set(calls)) == 1


def test_the_order_of_keyword_arguments_makes_no_difference() -> None:
    def f(**options: int) -> None: ...

    assert call_key(f, a=1, b=2) == call_key(f, b=2, a=1)


def test_bind_gives_each_parameter_with_its_value() -> None:
    bound = CallKeys(get_user).bind((7, False, "x"), {"color": "red"})
    assert bound == {"user_id": 7, "active": False, "more": ("x",), "options": {"color": "red"}}


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"x": 1}), ((), {"y": 1})])
def test_a_call_that_would_be_a_type_error_is_one_when_bound(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError):
        one(*args, **kwargs)
    with pytest.raises(TypeError, match=r"^one\(\) "):
        CallKeys(one).bind(args, kwargs)


@pytest.mark.parametrize("sentinel", [object(), lambda: None])
def test_a_default_without_a_key_counts_as_the_default(sentinel: object) -> None:
    def f(x: object = sentinel) -> None: ...

    assert call_key(f) == call_key(f, sentinel)
    assert call_key(f) != call_key(f, "default")
    with pytest.raises(UnstableKey):
        call_key(f, object())


def test_arguments_do_not_run_into_each_other() -> None:
    def f(a: str, b: str = "", *more: str, **options: str) -> None: ...

    keys = [
        call_key(f, "a b"),
        call_key(f, "a", "b"),
        call_key(f, "a', b='b"),
        call_key(f, "a", "", "b"),
        call_key(f, "a", more="b"),
        call_key(f, "a", "b", "c", "d"),
        call_key(f, "a", "b", "c, d"),
    ]
    assert len(set(keys)) == len(keys)


def test_methods_of_one_name_in_two_classes_have_two_prefixes() -> None:
    assert CallKeys(Repository.get).prefix != CallKeys(OtherRepository.get).prefix


def test_an_inherited_method_counts_the_class_it_is_called_on() -> None:
    assert call_key(Repository.get, Repository(), 7) != call_key(Repository.get, OtherRepository(), 7)


def test_a_class_method_counts_its_class_by_name() -> None:
    load = Repository.__dict__["load"].__func__
    assert call_key(load, Repository, 7) == f"{HERE}.Repository.load(cls={HERE}:Repository, user_id=7)"
    assert call_key(load, Repository, 7) != call_key(load, OtherRepository, 7)


def test_functions_of_one_name_in_two_modules_have_two_prefixes() -> None:
    def f() -> None: ...

    before = CallKeys(f).prefix
    f.__module__ = "elsewhere"
    assert CallKeys(f).prefix != before


def test_an_ignored_parameter_does_not_count() -> None:
    keys = CallKeys(get_user, ignore=["active", "options"])
    assert keys.key(keys.bind((7,), {})) == keys.key(keys.bind((7, False), {"client": object()}))
    assert keys.key(keys.bind((7,), {})) != keys.key(keys.bind((8,), {}))


def test_one_name_alone_can_be_ignored() -> None:
    assert CallKeys(one, ignore="x").key({"x": object()}) == f"{HERE}.one()"


def test_an_unknown_name_to_ignore_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'usr_id' is no parameter.*did you mean 'user_id'"):
        CallKeys(get_user, ignore=["usr_id"])


def test_a_key_callable_decides_alone_by_the_arguments_it_names() -> None:
    keys = CallKeys(get_user, key=lambda user_id: user_id % 10)
    assert keys.key(keys.bind((7, True), {})) == keys.key(keys.bind((17, False), {})) == f"{keys.prefix}(7)"


def test_what_a_key_callable_returns_counts_by_its_type() -> None:
    keys = CallKeys(one, key=lambda x: x)
    assert len({keys.key({"x": value}) for value in (1, "1", True, 1.0, None, (1,))}) == 6


def test_a_key_template_counts_its_fields_by_type_and_extent() -> None:
    def f(a: object, b: object, c: object = None) -> None: ...

    keys = CallKeys(f, key="pair:{a}:{b}")
    assert keys.key({"a": 1, "b": "x"}) == f"{keys.prefix}(pair:{{1}}:{{'x'}})"
    calls = [(1, 2), ("1", 2), ("1:2", 3), ("1", "2:3"), ("1}:{2", 3), (None, None), ("None", None)]
    assert len({keys.key({"a": a, "b": b}) for a, b in calls}) == len(calls)


def test_a_key_template_may_format_and_look_into_an_argument() -> None:
    keys = CallKeys(one, key="{x.amount:.1f}/{x.currency[0]}")
    assert keys.key({"x": Money(1.23, "EUR")}) == f"{keys.prefix}({{'1.2'}}/{{'E'}})"


@pytest.mark.parametrize("key", ["{x}", lambda x: x])
def test_a_key_made_of_nothing_that_counts_is_refused(key: Any) -> None:
    with pytest.raises(UnstableKey, match="all calls would have one"):
        CallKeys(one, key=key).key({"x": threading.Lock()})


@pytest.mark.parametrize("key", ["{x}", lambda x: x])
def test_a_key_made_of_something_unstable_is_refused(key: Any) -> None:
    with pytest.raises(UnstableKey, match="object has no key"):
        CallKeys(one, key=key).key({"x": object()})


@pytest.mark.parametrize(
    ("key", "kind", "message"),
    [
        ("x", ValueError, "names no argument; write key='{x}'"),
        ("{y}", ValueError, "'y' is no parameter"),
        ("{", ValueError, "key template"),
        (lambda y: y, ValueError, "requires 'y'"),
        (7, TypeError, "a callable or a template"),
    ],
)
def test_a_key_setting_that_cannot_work_is_an_error_at_once(
    key: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        CallKeys(one, key=key)


def test_ignore_and_key_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ignore= or key="):
        CallKeys(one, ignore=["x"], key="{x}")
