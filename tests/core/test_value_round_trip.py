"""What comes back has the type and value of what went in, at every depth; other bytes never do harm."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter, namedtuple
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache._core.value_leaves import UNPACK
from tiercache._core.value_trees import CONTAINERS
from tiercache._core.values import ENVELOPED, PLAIN, Unreadable, Values


class Colour(Enum):
    RED = 1
    GREEN = [2]  # noqa: RUF012  # a value that has no hash
    ALSO_RED = 1


class Level(IntEnum):
    LOW = 1


class Name(StrEnum):
    ANN = "ann"


class Access(Flag):
    READ = 1
    WRITE = 2


class Wide(IntFlag):
    FIRST = 1
    LAST = 1 << 70


class Pair(NamedTuple):
    left: Any
    right: Any = None


class OwnPair(namedtuple("OwnPairBase", "a b")):
    """With a __new__ of its own, which must not run again."""

    def __new__(cls, a: Any) -> OwnPair:
        return super().__new__(cls, a, "own")


@dataclass
class Loose:
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Strict:
    only: Any


class Wrapped:
    def __init__(self, inside: Any) -> None:
        self.inside = inside


VALUES = Values()
VALUES.register(Wrapped, lambda wrapped: wrapped.inside, Wrapped)
VALUES.learn(Colour | Access | Wide | Pair | Loose | Strict)


def form(value: Any) -> Any:
    """A hashable that two values share exactly if no caller could tell one from the other."""
    kind = type(value)
    if kind is float:
        return kind, value.hex()
    if kind is complex:
        return kind, value.real.hex(), value.imag.hex()
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind is bytearray:
        return kind, bytes(value)
    if kind in (datetime, time):
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, zone_form(value.tzinfo)
    if isinstance(value, Enum):
        return kind, id(value)
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(form, value))
    if kind is dict:
        return kind, tuple((form(key), form(item)) for key, item in value.items())
    if kind in (set, frozenset):
        return kind, frozenset(Counter(map(form, value)).items())
    if is_dataclass(value):
        return kind, tuple(form(getattr(value, field.name)) for field in fields(value))
    if kind is Wrapped:
        return kind, form(value.inside)
    assert kind in (type(None), bool, int, str, bytes, UUID, date, timedelta)
    return kind, value


def zone_form(zone: Any) -> Any:
    return type(zone), zone.key if type(zone) is ZoneInfo else repr(zone)


def assert_comes_back(value: Any) -> None:
    assert form(VALUES.decode(VALUES.encode(value))) == form(value)


PARIS = ZoneInfo("Europe/Paris")
EXAMPLES = [
    *(0, -1, True, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**5_000, -(10**5_000)),
    *(0.0, -0.0, 1e22, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf")),
    *(1e16, 1.0, complex("nan"), complex(-0.0, float("inf")), 1 + 2j),
    *("", "\0", "\u20ac", "\U0001f600", "\ud800", "a\udfff\ud800b", "\ud83d\ude00"),
    *(b"", b"\0\xff", bytearray(b"ab"), None),
    *map(Decimal, ("0", "-0", "1.10", "NaN", "-NaN", "NaN123", "sNaN", "Infinity", "-Infinity", "1E+999999")),
    *(UUID(int=0), UUID(int=2**128 - 1), date.min, date.max, timedelta.min, timedelta.max, timedelta(0, -1)),
    *(datetime.min, datetime.max, datetime(2024, 1, 1, 12, 0, 0, 1), datetime(2024, 1, 1, fold=1)),
    *(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))),
    *(datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=PARIS) for fold in (0, 1)),
    *(datetime(2024, 1, 1, tzinfo=timezone(timedelta(minutes=-90), *name)) for name in ((), ("here",))),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "UTC")),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
    *(time.min, time.max, time(1, 2, fold=1), time(1, 2, tzinfo=PARIS), time(1, 2, tzinfo=UTC)),
    *(Colour.RED, Colour.GREEN, Colour.ALSO_RED, Level.LOW, Name.ANN),
    *(Access.READ, Access(0), Access.READ | Access.WRITE, ~Access.READ, Wide.LAST, Wide(8), ~Wide.LAST),
    *([], (), {}, set(), frozenset(), ((),), [()], {1, "1", 1.5, None, (2,)}, {True}, {1}, {1.0}),
    *({1: "a", "1": "b", None: "c", (1, "x"): "d"}, {True: 1}, {1: 1}, {1.0: 1}, {"b": 1, "a": 2}),
    *({b"k": 1}, {Colour.RED: 1}, {date.min: 1}, {float("nan"): 1, "": 2}, {"\ud800": 1, "a": {}}),
    *(Pair(1), Pair([Pair(2)], {}), OwnPair(3), Loose({1}, (2,)), {Strict(Strict(1))}, Wrapped([Wrapped(1)])),
    *({"!tuple": [1]}, {"!tuple": (1,)}, {"!": 1, "a": 2}, {"!dict": {"!dict": []}}),
]


@pytest.mark.parametrize("value", EXAMPLES, ids=[str(index) for index in range(len(EXAMPLES))])
def test_an_example_comes_back_as_it_was(value: Any) -> None:
    assert_comes_back(value)
    assert_comes_back([{"a": (value,)}])


def test_keys_and_items_keep_their_order() -> None:
    value = {2: "b", 1: "a", "z": {"y": 1, "x": 2}}
    back = VALUES.decode(VALUES.encode(value))
    assert [*back, *back["z"]] == [2, 1, "z", "y", "x"]


def test_an_integer_of_any_size_comes_back_under_any_limit_of_digits() -> None:
    assert sys.get_int_max_str_digits() <= 4_300
    assert VALUES.decode(VALUES.encode([10**100_000])) == [10**100_000]


zones = st.none() | st.just(UTC) | st.timezones()
offsets = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.complex_numbers(),
    st.decimals().filter(lambda number: not number.is_snan()),  # which has no hash
    st.uuids(),
    st.datetimes(timezones=zones | offsets),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.sampled_from([*Colour, *Level, *Name, *Access, ~Access.READ, *Wide, Wide.FIRST | Wide.LAST]),
)
leaves = hashable_leaves | st.builds(bytearray, st.binary()) | st.just(Decimal("sNaN"))
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.frozensets(inner, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Strict, inner),
    ),
    max_leaves=4,
)
tags = st.sampled_from(["!tuple", "!set", "!dict", "!class", "!int", "!str", "!", "!x"])
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=4),
        st.dictionaries(tags, inner, max_size=2),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Loose, inner, inner),
        st.builds(Strict, inner),
        st.builds(Wrapped, inner),
    ),
    max_leaves=12,
)


@settings(deadline=None)  # a busy machine is no failure
@given(anything)
def test_anything_comes_back_as_it_was(value: Any) -> None:
    assert_comes_back(value)


PIECES = [
    b"",
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"0",
    b"-1",
    b"1e308",
    b"null",
    b'"!tuple"',
    b"!class",
    b"!int",
]


def assert_only_unreadable(data: bytes) -> None:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        VALUES.decode(data)
    except Unreadable:
        pass
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < 1_000_000 + 100 * len(data)


@pytest.fixture(scope="module")
def traced() -> Any:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@settings(deadline=None)
@given(st.sampled_from([PLAIN, ENVELOPED, b""]), st.binary(max_size=200))
def test_random_bytes_are_unreadable_or_a_value(kind: bytes, data: bytes) -> None:
    assert_only_unreadable(kind + data)


@pytest.mark.usefixtures("traced")
@settings(deadline=None)
@given(anything, st.data())
def test_a_stored_value_with_bytes_changed_is_unreadable_or_a_value(value: Any, data: Any) -> None:
    mutated = bytearray(VALUES.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(mutated)))
        end = data.draw(st.integers(start, min(len(mutated), start + 8)))
        mutated[start:end] = data.draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    assert_only_unreadable(bytes(mutated))


CLASSES = [f"{__name__}:{cls.__qualname__}" for cls in (Colour, Access, Wide, Pair, Loose, Strict, Wrapped)]
TEXTS = ["enum", "flag", "registered", "namedtuple left,right", "dataclass left,right", "dataclass only"]
TEXTS += ["RED", "NaN", "sNaN", "1e999999", "-0x1f", "2024-01-01", "23:59", "Europe/Paris", "YQ==", "7ba0"]
texts = st.sampled_from(TEXTS + CLASSES) | st.text(max_size=4)
bodies = st.recursive(
    texts | st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(st.sampled_from([*UNPACK, *CONTAINERS, "!class"]), inner, min_size=1, max_size=1),
        st.builds(lambda *row: {"!class": row}, st.sampled_from(CLASSES), texts, inner),
        st.builds(lambda *row: {"!class": row}, st.sampled_from(CLASSES), texts, inner, inner),
    ),
    max_leaves=10,
)


@pytest.mark.usefixtures("traced")
@settings(deadline=None)
@given(bodies)
def test_an_envelope_of_anything_is_unreadable_or_a_value(tree: Any) -> None:
    assert_only_unreadable(ENVELOPED + orjson.dumps(tree))
