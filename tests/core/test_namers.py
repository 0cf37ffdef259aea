"""What names the usual calls at once says what the keys and the tags say, or nothing."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiercache._core.key_text as key_text
from tiercache._accelerator import compiled
from tiercache._core.keys import CallKeys, check_key, register_uncounted
from tiercache._core.namers import Named, check_names, namer_of
from tiercache._core.tags import TagTemplates, check_entry_tags

needs_compiled = pytest.mark.skipif(compiled is None, reason="the compiled half was not built")

TEMPLATES = (
    "users",
    "user:{b}",
    "{a}",
    "of {a}!",
    "row:users:{a}",
    "{{{a}}}",
    "x{a!r}",
    "{a.real}",
    "user:1",
    "é{a}",
)
SEEN = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 10**18 - 1, 10**18, -(10**18), 2**63, True, 1.0, None, b"a"]),
    st.text(max_size=5),
    st.text(alphabet=st.characters(max_codepoint=127), max_size=140),
    st.integers(0, 600).map(lambda size: "x" * size),
)


class Text(str):
    """Prints as something else."""

    def __str__(self) -> str:
        return "other"


def one(a: Any, b: Any = 1) -> None: ...
def ignoring(a: Any, b: Any = 1) -> None: ...
def by_name(a: Any, *, b: Any = 1) -> None: ...
def many(a: Any, *b: Any) -> None: ...
def größe(a: Any, b: Any = 1) -> None: ...
def sized(a: Any, größe: Any = 1) -> None: ...


FUNCTIONS: tuple[tuple[Callable[..., None], dict[str, Any]], ...] = (
    (one, {}),
    (one, {"version": 2}),
    (one, {"key": "{a}"}),
    (one, {"key": lambda a: a}),
    (ignoring, {"ignore": ["b"]}),
    (ignoring, {"ignore": ["a", "b"]}),
    (by_name, {}),
    (many, {}),
    (größe, {}),
)


def in_python(
    keys: CallKeys, templates: TagTemplates, own: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Named | Exception:
    arguments = keys.bind(args, kwargs)
    try:
        return keys.key(arguments), (*templates.render(arguments), own)
    except ValueError as error:
        return error


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.sampled_from(TEMPLATES), max_size=3, unique=True),
    st.one_of(
        st.tuples(st.tuples(SEEN, SEEN), st.just({})),
        st.tuples(st.tuples(SEEN), st.fixed_dictionaries({}, optional={"b": SEEN})),
    ),
)
def test_a_name_is_what_the_keys_and_the_tags_say(
    made_of: tuple[Callable[..., None], dict[str, Any]],
    tags: list[str],
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> None:
    function, options = made_of
    args, kwargs = call
    if function is by_name:
        args, kwargs = args[:1], {"b": 2, **kwargs} if kwargs else kwargs
    if function is many:
        kwargs = {}
    keys, templates = CallKeys(function, **options), TagTemplates(tags, ["a", "b"])
    own = keys.prefix + "()"

    namer = namer_of(keys, templates, own)
    named = None if namer is None else namer.name(args, kwargs)

    assert named is None or named == in_python(keys, templates, own, args, kwargs)


@needs_compiled
@pytest.mark.parametrize(
    ("args", "key", "tags"),
    [
        ((7, "a b"), "one(a=7, b='a b')", ("users", "user:a b", "7:")),
        ((-(10**18) + 1, ""), f"one(a={-(10**18) + 1}, b='')", ("users", "user:", f"{-(10**18) + 1}:")),
        (("x", 0), "one(a='x', b=0)", ("users", "user:0", "x:")),
    ],
)
def test_the_usual_calls_have_a_name(args: tuple[Any, ...], key: str, tags: tuple[str, ...]) -> None:
    keys = CallKeys(one)
    templates = TagTemplates(["users", "user:{b}"], ["a", "b"])

    assert namer_of(keys, templates, "own").name(args, {}) == (f"{__name__}.{key}", (*tags[:2], "own"))


@needs_compiled
@pytest.mark.parametrize(
    "args",
    [
        (1,),
        (1, 2, 3),
        (True, 2),
        (1.0, 2),
        (10**18, 2),
        ("x" * 129, 2),
        ("é", 2),
        ("a'b", 2),
        (Text("a"), 2),
        ("\n", 2),
    ],
    ids=repr,
)
def test_any_other_call_has_none(args: tuple[Any, ...]) -> None:
    assert namer_of(CallKeys(one), TagTemplates((), ["a", "b"]), "own").name(args, {}) is None


def test_a_parameter_may_have_any_name() -> None:
    keys = CallKeys(sized)

    assert namer_of(keys, TagTemplates((), keys.parameters), "own") is None
    assert keys.key(keys.bind((1, 2), {})) == f"{__name__}.sized(a=1, größe=2)"


@needs_compiled
def test_tags_that_come_out_alike_are_left_to_python() -> None:
    name = namer_of(CallKeys(one), TagTemplates(["x{a}", "x{b}"], ["a", "b"]), "own").name

    assert name((1, 2), {}) is not None
    assert name((1, 1), {}) is None
    assert name((1, "1"), {}) is None


@needs_compiled
def test_arguments_of_a_type_that_was_registered_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_text, "_registered", [])
    name = namer_of(CallKeys(one), TagTemplates((), ["a", "b"]), "own").name
    before = dict(key_text.COUNTED_LEAVES)
    assert name((1, "a"), {}) is not None
    try:
        register_uncounted(str)
        assert name((1, "a"), {}) is None
        assert name((1, 2), {}) is not None
    finally:
        key_text.COUNTED_LEAVES.update(before)
        key_text._is_uncounted_class.cache_clear()  # other tests have keys of it


@needs_compiled
def test_naming_leaves_nothing_behind() -> None:
    name = namer_of(CallKeys(one), TagTemplates(["x{a}", "y{b}"], ["a", "b"]), "own").name
    calls = [((7, "a"), {}), ((1, 1.0), {}), ((1, "x" * 500), {}), ((1,), {})]

    def held_by(rounds: int) -> int:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(rounds):
            for args, kwargs in calls:
                name(args, kwargs)
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        held_by(10)
        assert held_by(1_000) < 2_000
    finally:
        tracemalloc.stop()


GIVEN = st.one_of(
    SEEN,
    st.sampled_from(["row:users:7", "row:", "row", "r", "", "a\0", "\x7f", "~", " ", "\ud800", Text("a")]),
    st.integers(510, 514).map(lambda size: "x" * size),
    st.sampled_from("abc"),
)
SEVERAL = st.lists(GIVEN, max_size=4) | st.integers(0, 130).map(lambda size: [f"t{n}" for n in range(size)])


@given(
    GIVEN, st.one_of(SEVERAL, SEVERAL.map(tuple), SEVERAL.map(lambda tags: dict.fromkeys(tags).keys()), GIVEN)
)
def test_what_is_given_is_checked_as_key_and_tags_are(key: Any, tags: Any) -> None:
    try:
        expected: Named | type[Exception] = check_key(key), check_entry_tags(tags)
    except (TypeError, ValueError) as error:
        expected = type(error)
    try:
        checked: Named | type[Exception] = check_names(key, tags)
    except (TypeError, ValueError) as error:
        checked = type(error)

    assert checked == expected
    if isinstance(checked, tuple):
        assert {type(checked[0]), *map(type, checked[1])} == {str}


@needs_compiled
@pytest.mark.parametrize("tags", [[], (), ["a"], ("a", "b" * 512)], ids=repr)
def test_usual_ones_are_checked_at_once(tags: Any) -> None:
    assert compiled is not None

    assert compiled.sure_tags("k" * 512, tags) == tuple(tags)


@needs_compiled
@pytest.mark.parametrize(
    ("key", "tags"),
    [
        ("", []),
        (b"k", []),
        (Text("k"), []),
        ("k" * 513, []),
        ("é", []),
        ("\n", []),
        ("k", "a"),
        ("k", {"a"}),
        ("k", ["row:users:7"]),
        ("k", ["a", "a"]),
        ("k", ["a", 1]),
        ("k", ["\x7f"]),
        ("k", [f"t{n}" for n in range(17)]),
    ],
    ids=repr,
)
def test_all_others_are_left_to_python(key: Any, tags: Any) -> None:
    assert compiled is not None

    assert compiled.sure_tags(key, tags) is None


@needs_compiled
def test_tags_that_change_meanwhile_are_checked_as_they_are_kept() -> None:
    """A finalizer, or another thread, may run where the tuple is made: up to Python 3.11 by the collector."""
    assert compiled is not None
    tags: list[Any] = []
    kept = []

    def change(*_: Any) -> None:
        tags[:1] = [7]

    usual = gc.get_threshold()
    gc.callbacks.append(change)
    try:
        for _ in range(5_000):  # tuples that are let go are used again, and then nothing is collected
            gc.set_threshold(0)
            tags[:] = "abcdefgh"
            gc.set_threshold(1)
            kept.append(compiled.sure_tags("k", tags))
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(change)

    assert {type(tag) for each in kept if each is not None for tag in each} <= {str}


@needs_compiled
def test_a_namer_is_made_of_what_fits_together() -> None:
    assert compiled is not None
    for wrong in (((), (("a", -1),)), ((("a", 1),), ()), ((("é", -1),), ())):
        with pytest.raises(ValueError, match="piece"):
            compiled.Namer({}, 1, *wrong)
    with pytest.raises(TypeError):
        compiled.Namer({}, 1, ("a",), ())
    with pytest.raises(TypeError):
        compiled.Namer({}, 1, (("a", -1),), ()).name(1, 2)
