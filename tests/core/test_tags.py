"""Tags: what is refused and why, and what a template renders."""

from __future__ import annotations

import enum
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiercache._core.tags as tags_module
from tiercache._core.tags import MAX_TAG_BYTES, MAX_TAGS, TagTemplates, check_entry_tags, check_tags


class Kind(enum.Enum):
    BOOK = "book"
    NOTHING = None


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    USERS = "users"


class User:
    id = 7
    _secret = "s"


def users_and(user_id: object) -> list[str]:
    return ["users", f"user:{user_id}"]


def render(tags: Any, **arguments: object) -> tuple[str, ...]:
    return TagTemplates(tags, arguments).render(arguments)


def test_a_lone_str_is_one_tag() -> None:
    assert check_tags("users") == ("users",)


@pytest.mark.parametrize(
    "several", [["a", "b", "a"], ("a", "b"), iter(["a", "b", "b"]), {"a": 1, "b": 2}.keys()]
)
def test_tags_are_each_kept_once_in_their_order(several: Any) -> None:
    assert check_tags(several) == ("a", "b")


def test_no_tags_are_no_tags() -> None:
    assert check_tags([]) == ()


def test_a_str_enum_member_is_the_tag_of_its_value() -> None:
    (tag,) = check_tags(Name.USERS)
    assert (tag, type(tag)) == ("users", str)


@pytest.mark.parametrize("limit", ["x" * MAX_TAG_BYTES, "ü" * (MAX_TAG_BYTES // 2)])
def test_a_tag_may_be_as_long_as_the_limit(limit: str) -> None:
    assert check_tags(limit) == (limit,)


def test_an_entry_may_have_as_many_tags_as_the_limit() -> None:
    assert len(check_tags([f"t{i}" for i in range(MAX_TAGS)] * 2)) == MAX_TAGS


@pytest.mark.parametrize(
    ("tags", "kind", "message"),
    [
        (b"users", TypeError, "b'users'"),
        ([b"users"], TypeError, "a tag must be a str, not b'users'"),
        ({"users": 1}, TypeError, "not {'users': 1}"),
        (None, TypeError, "not None; for none write []"),
        (7, TypeError, "not 7"),
        (["a", 7], TypeError, "not 7; write f'name:{value}'"),
        ("", ValueError, "must not be empty"),
        (["a", ""], ValueError, "must not be empty"),
        ("a\0b", ValueError, r"NUL: 'a\x00b'"),
        ("a\ud800", ValueError, r"lone surrogates: 'a\ud800'"),
        ("x" * (MAX_TAG_BYTES + 1), ValueError, "at most 512 bytes, not 513: 'xxx"),
        ("ü" * MAX_TAG_BYTES, ValueError, "at most 512 bytes, not 1024"),
        ([f"t{i}" for i in range(MAX_TAGS + 1)], ValueError, "at most 128 tags, not 129"),
    ],
)
def test_bad_tags_are_refused_with_the_value_and_the_limit(
    tags: object, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        check_tags(tags)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=99)
    )
)
def test_every_other_text_is_a_tag_as_it_stands(tags: list[str]) -> None:
    assert check_tags(tags) == tuple(dict.fromkeys(tags))


def test_constant_tags_are_rendered_once() -> None:
    templates = TagTemplates(["users", "{{all}}"], ["user_id"])
    assert templates.render({"user_id": 7}) == ("users", "{all}")
    assert templates.render({"user_id": 7}) is templates.render({"user_id": 8})


@pytest.mark.parametrize(
    ("template", "arguments", "tag"),
    [
        ("user:{user_id}", {"user_id": 7}, "user:7"),
        ("{a}:{b}", {"a": 1, "b": "x"}, "1:x"),
        ("user:{user.id}", {"user": User()}, "user:7"),
        ("order:{order[id]}", {"order": {"id": 9}}, "order:9"),
        ("order:{rows[0][id]}", {"rows": [{"id": 9}]}, "order:9"),
        ("order:{n:05}", {"n": 9}, "order:00009"),
        ("name:{name!r:>5}", {"name": "a"}, "name:  'a'"),
        ("kind:{kind}", {"kind": Kind.BOOK}, "kind:book"),
        ("level:{level:02}", {"level": Level.LOW}, "level:01"),
        ("kind:{kind.name}", {"kind": Kind.BOOK}, "kind:BOOK"),
        ("{{{x}}}", {"x": 1}, "{1}"),
        ("text:{x}", {"x": "<a at 0x1f>"}, "text:<a at 0x1f>"),
        ("straße:{straße}", {"straße": "ü"}, "straße:ü"),
    ],
)
def test_a_template_renders_over_the_arguments(template: str, arguments: dict[str, Any], tag: str) -> None:
    assert render(template, **arguments) == (tag,)


def test_two_templates_that_render_alike_are_one_tag() -> None:
    assert render(["user:{a}", "user:{b}"], a=1, b=1) == ("user:1",)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("user:{usr_id}", "'usr_id' is no parameter; did you mean 'user_id'?"),
        ("user:{zzz}", "'zzz' is no parameter; there are 'user_id', 'user'"),
        ("user:{}", "{} names no parameter"),
        ("user:{0}", "{0} names no parameter"),
        ("user:{user.}", "{user.} names no parameter"),
        ("user:{user id}", "{user id} names no parameter"),
        ("user:{user_id", "'user:{user_id'"),
        ("user:user_id}", "write {parameter} for a field, {{ and }} for braces"),
        ("user:{user._secret}", "private attribute '_secret'"),
        ("user:{user.__class__}", "private attribute '__class__'"),
        ("user:{user.id.__class__.name}", "private attribute '__class__'"),
        ("user:{user_id!x}", "unknown conversion"),
        ("user:{user_id:{user}}", "a field in its format"),
    ],
)
def test_a_template_that_cannot_work_is_an_error_when_it_is_built(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TagTemplates(["users", template], ["user_id", "user"])
    assert repr(template) in str(caught.value)


def test_bad_constant_tags_are_an_error_when_they_are_built() -> None:
    for tags in ("", ["a\0b"], [f"t{i}" for i in range(MAX_TAGS + 1)]):
        with pytest.raises(ValueError, match="tag"):
            TagTemplates(tags, [])


@pytest.mark.parametrize(
    ("template", "value", "message"),
    [
        ("user:{x}", None, "{x} is None"),
        ("user:{x}", Kind.NOTHING, "{x} is None"),
        ("user:{x!s}", None, "{x} is None"),
        ("user:{x}", object(), "memory address"),
        ("user:{x}", [object()], "memory address"),
        ("user:{x!r}", User(), "name an attribute, {x.id}"),
        ("user:{x}", {"a", "b"}, "is a set"),
        ("user:{x}", frozenset(), "is a set"),
        ("user:{x}", ([1, {"a", "b"}],), "holds what holds what is a set"),
        ("user:{x}", {"b": 1, "a": 2}, "is a dict, in the order in which it was filled"),
        ("user:{x}", [{}], "holds what is a dict"),
        ("user:{x.id}", None, "has no value: AttributeError"),
        ("user:{x[id]}", {}, "has no value: KeyError"),
        ("user:{x[id]}", 7, "has no value: TypeError"),
        ("user:{x:05d}", "a", "format"),
        ("user:{x:>9}", User(), "unsupported format string"),
    ],
)
def test_a_field_that_makes_no_tag_is_an_error_that_names_it(
    template: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        render(template, x=value)
    assert repr(template) in str(caught.value)


def test_a_rendered_tag_is_checked_like_any_other() -> None:
    with pytest.raises(ValueError, match="at most 512 bytes"):
        render("user:{x}", x="x" * MAX_TAG_BYTES)


def test_a_callable_gets_the_arguments_that_it_names() -> None:
    assert render(lambda user_id, *, more=("x",): [f"user:{user_id}", *more], user_id=7, other=1) == (
        "user:7",
        "x",
    )


def test_a_callable_with_keywords_gets_all_arguments() -> None:
    assert render(lambda **arguments: sorted(arguments), a=1, b=2) == ("a", "b")


def test_a_callable_may_give_one_tag_or_none() -> None:
    assert render(lambda x: f"user:{x}", x=7) == ("user:7",)
    assert render(lambda x: [], x=7) == ()


def test_what_a_callable_gives_is_checked() -> None:
    with pytest.raises(TypeError, match="for none write"):
        render(lambda x: None, x=7)


async def tags_later(x: object) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda usr_id: [], ValueError, "requires 'usr_id', no parameter; did you mean 'user_id'?"),
        (lambda *args: [], ValueError, "takes 'args' by position"),
        (lambda user_id, /: [], ValueError, "takes 'user_id' by position"),
        (tags_later, TypeError, "async def"),
        (dict.fromkeys, ValueError, "by position"),
    ],
)
def test_a_callable_that_cannot_be_called_is_an_error_when_it_is_built(
    function: Callable[..., Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        TagTemplates(function, ["user_id"])


def test_no_declared_tags_have_the_print_zero() -> None:
    assert TagTemplates([], ["x"]).print == 0


def test_the_print_does_not_depend_on_order_or_repetition() -> None:
    prints = {
        TagTemplates(tags, ["x"]).print
        for tags in (["a", "b:{x}"], ["b:{x}", "a"], {"b:{x}", "a"}, ["a", "b:{x}", "a"])
    }
    assert len(prints) == 1


def test_another_declaration_has_another_print() -> None:
    declarations: list[Any] = [
        "a",
        ["a", "b"],
        ["ab"],
        "a:{x}",
        "a:{y}",
        users_and,
        f"{__name__}:users_and",
        lambda x: [],
    ]
    prints = [TagTemplates(tags, ["x", "y", "user_id"]).print for tags in declarations]
    assert len({0, *prints}) == len(declarations) + 1


def test_the_print_is_32_bits_and_the_same_in_every_release() -> None:
    assert TagTemplates(["users", "user:{user_id}"], ["user_id"]).print == 0x70CE92BF


def test_the_print_of_a_callable_is_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "declared.py").write_text("def tags_of(x): return []\n")
    root = Path(tags_module.__file__).parents[2]
    script = (
        "import declared, tiercache._core.tags as t; print(t.TagTemplates(declared.tags_of, ['x']).print)"
    )
    prints = set()
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
        process = subprocess.run(
            [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
        )
        prints.add(int(process.stdout))
    assert len(prints) == 1


def test_a_callable_object_has_the_print_of_its_class() -> None:
    first, second = functools.partial(users_and), functools.partial(users_and)
    assert TagTemplates(first, ["user_id"]).print == TagTemplates(second, ["user_id"]).print


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (["row:users:7"], ("row:users:7", "row:users:*")),
        (
            ["row:users:7", "table:posts", "row:users:8"],
            (
                "row:users:7",
                "table:posts",
                "row:users:8",
                "row:users:*",
            ),
        ),
        (["row:shop.users:a:b"], ("row:shop.users:a:b", "row:shop.users:*")),
        (["row:users:*"], ("row:users:*",)),
        (["row:users:"], ("row:users:", "row:users:*")),  # its key is the empty text
        (["row:users", "row::7", "arrow:users:7"], ("row:users", "row::7", "arrow:users:7")),
    ],
)
def test_an_entry_of_a_row_depends_on_all_rows_of_its_table_too(
    tags: list[str], kept: tuple[str, ...]
) -> None:
    assert check_entry_tags(tags) == kept
    assert TagTemplates(tags, []).render({}) == kept


def test_a_template_of_a_row_depends_on_all_rows_of_its_table_too() -> None:
    assert TagTemplates("row:users:{number}", ["number"]).render({"number": 7}) == (
        "row:users:7",
        "row:users:*",
    )
    chosen = TagTemplates(lambda number: f"row:users:{number}", ["number"])
    assert chosen.render({"number": 7}) == ("row:users:7", "row:users:*")


def test_all_rows_count_among_the_tags_of_an_entry() -> None:
    with pytest.raises(ValueError, match="at most 128"):
        check_entry_tags([f"row:users:{n}" for n in range(128)])
