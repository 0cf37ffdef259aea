"""Keys are one to one with calls, and the same in every interpreter."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

import tiercache._core.key_text as key_text
from tests.core.key_samples import (
    HERE,
    Color,
    Kind,
    Level,
    Money,
    Point,
    Repository,
    Rights,
    Slotted,
    Weight,
    call_key,
    key_of,
    one,
    run_python,
)
from tiercache._core.keys import check_key

SHORTENED = re.compile(r"~[0-9a-f]{32}\Z")


alphabet = st.text(alphabet="a'\\u0, ()[]{}=:~1\n\0\ud800", max_size=6)
zones = st.sampled_from([None, UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=1))])
hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, float("nan"), float("inf")])
    | st.floats()
    | st.complex_numbers(max_magnitude=3)
    | alphabet
    | st.text()
    | st.binary(max_size=4)
    | st.decimals(-2, 2, places=1)
    | st.decimals().filter(lambda value: not value.is_snan())  # it cannot be hashed
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | alphabet.map(PurePosixPath)
    | st.sampled_from([*Color, *Level, *Kind, *Rights, Rights(0), Rights(3), one, int, Color]),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Point, inner, inner)
        | inner.map(lambda value: key_text.ValueText("f").of(value, "x"))  # a text that looks like a value
    ),
    max_leaves=5,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.sets(hashables, max_size=3)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.builds(Money, inner, inner)
        | st.builds(Weight, inner, inner)
        | st.builds(Slotted, inner)
        | st.dictionaries(alphabet, inner, max_size=2).map(lambda attributes: Repository(**attributes))
    ),
    max_leaves=6,
)


def identity(value: Any) -> Any:
    """Type and content of a value in a form that can be compared, made in another way than keys are."""
    cls = type(value)
    if cls in (list, tuple, Point):
        return cls, [identity(item) for item in value]
    if cls in (set, frozenset):
        return cls, sorted((identity(item) for item in value), key=repr)
    if cls is dict:
        return cls, sorted(((identity(k), identity(v)) for k, v in value.items()), key=repr)
    if cls in (Money, Weight, Repository):
        return cls, identity(vars(value))
    if cls is Slotted:
        return cls, identity(value.a)
    if cls is datetime:
        return cls, value.replace(tzinfo=None).isoformat(), str(value.tzinfo), value.utcoffset(), value.fold
    if cls is time:
        return cls, value.isoformat(), value.fold
    return cls, repr(value)


@given(values, values)
@example("1", 1)
@example(["a", "b"], ["a', 'b"])
@settings(max_examples=300, deadline=None)
def test_two_values_have_one_key_exactly_if_type_and_content_are_one(left: object, right: object) -> None:
    assert (key_of(left) == key_of(right)) == (identity(left) == identity(right))


@given(st.lists(values, max_size=3), st.lists(values, max_size=3))
@settings(max_examples=100, deadline=None)
def test_two_lists_of_arguments_have_one_key_exactly_if_they_are_one(left: Any, right: Any) -> None:
    def f(*args: object) -> None: ...

    assert (call_key(f, *left) == call_key(f, *right)) == (identity(left) == identity(right))


@given(st.text(max_size=600), st.text(max_size=600))
@settings(deadline=None)
def test_two_written_keys_are_stored_as_two(left: str, right: str) -> None:
    if left and right and not SHORTENED.search(left + "\n" + right):
        assert (check_key(left) == check_key(right)) == (left == right)


SAMPLE = """
import dataclasses, enum
from datetime import UTC, datetime
from pathlib import Path
from tiercache._core.keys import CallKeys

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass(frozen=True)
class Money:
    amount: int
    tags: frozenset

class Repository:
    def __init__(self):
        self.names = {"x", "y", "z"}
    def get(self, x): ...

def f(x): ...

words = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}
samples = [
    words, frozenset(words), {word: words for word in words}, {Color.RED: words}, Color.RED,
    Money(1, frozenset(words)), {Money(1, frozenset(words)), Money(2, frozenset())}, Repository(),
    Repository().get, Repository, f, datetime(2024, 1, 1, tzinfo=UTC), Path("/x"), (1, [2.5, None]),
]
def show():
    print(list(words))
    for sample in samples:
        print(CallKeys(f).key({"x": sample}))
"""


def test_two_interpreters_with_other_hash_seeds_make_the_same_keys(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(SAMPLE)
    order, *keys = run_python("-c", "import sample; sample.show()", folder=tmp_path, seed="1")
    other_order, *other_keys = run_python("-c", "import sample; sample.show()", folder=tmp_path, seed="2")

    assert order != other_order
    assert len(keys) == 14
    assert keys == other_keys


def test_a_module_run_as_a_script_makes_the_keys_of_the_module_imported(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(SAMPLE + "\nif __name__ == '__main__':\n    show()\n")
    imported = run_python("-c", "import sample; sample.show()", folder=tmp_path)

    assert run_python("sample.py", folder=tmp_path) == imported


def test_a_module_of_a_package_run_by_name_makes_the_keys_of_the_module_imported(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "sample.py").write_text(SAMPLE + "\nif __name__ == '__main__':\n    show()\n")
    imported = run_python("-c", "import shop.sample; shop.sample.show()", folder=tmp_path)

    assert run_python("-m", "shop.sample", folder=tmp_path) == imported


def test_a_spawned_worker_makes_the_keys_of_its_parent(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(
        SAMPLE
        + "\nif __name__ == '__main__':\n"
        + "    from multiprocessing import get_context\n"
        + "    show()\n"
        + "    import sys; sys.stdout.flush()\n"
        + "    worker = get_context('spawn').Process(target=show)\n"
        + "    worker.start(); worker.join()\n"
    )
    lines = run_python("sample.py", folder=tmp_path)
    assert len(lines) == 30
    assert lines[:15] == lines[15:]


def test_a_key_is_the_same_text_in_every_release_of_python() -> None:
    value = [Money(Decimal("1.50"), Color.RED), {"b", "a"}, "\u0378\U0001fae8\n", Path("/x"), 2**70]
    module = HERE
    assert key_of(value) == (
        f"{module}.one(x=[{module}:Money(amount=Decimal(1.50), currency={module}:Color[RED]), "
        "set('a', 'b'), '\u0378\U0001fae8\\u000a', PosixPath('/x'), 1180591620717411303424])"
    )
