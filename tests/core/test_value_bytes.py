"""What bytes Values makes, and that only its own come back as values."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
import pytest

from tiercache._core.value_trees import MAX_DEPTH
from tiercache._core.values import ENVELOPED, PLAIN, Unreadable, Values


class Colour(Enum):
    RED = 1
    GREEN = 2


@pytest.fixture
def values() -> Values:
    return Values()


JSON = {"a": [1, -(2**63), 2**64 - 1, 0.5, -0.0, True, None, "\u00e9"], "!b": {}, "!tuple": [1]}


def test_what_json_can_say_is_written_by_orjson_as_it_is(values: Values) -> None:
    data = values.encode(JSON)
    assert data == PLAIN + orjson.dumps(JSON)
    assert repr(values.decode(data)) == repr(JSON)


def test_one_exotic_part_leaves_the_rest_as_it_is(values: Values) -> None:
    data = values.encode([JSON, {"at": (1,)}, JSON])
    assert data == ENVELOPED + orjson.dumps([JSON, {"at": {"!tuple": [1]}}, JSON])


def test_storing_leaves_the_value_alone(values: Values) -> None:
    value = [{"a": (1, [UUID(int=1)])}, {1: {2}}]
    before = repr(value)
    values.encode(value)
    assert repr(value) == before


@pytest.mark.parametrize(
    "look_alike",
    [
        {"!tuple": [1]},
        {"!dict": ["!tuple", 1]},
        {"!class": ["m:C", "enum", "A"]},
        {"!unknown": 1},
        {"!": {"!": 1}},
        {"!int": "ff", "b": 1},
    ],
    ids=str,
)
def test_no_dict_of_a_user_is_taken_for_a_tag(look_alike: dict[str, Any], values: Values) -> None:
    for value in (look_alike, (look_alike, {1: look_alike})):
        assert values.decode(values.encode(value)) == value


@pytest.mark.parametrize(
    "tree",
    [
        {"!unknown": 1},
        {"!tuple": "ab"},
        {"!dict": [1]},
        {"!dict": [[], 1]},
        {"!dict": [1, 2, 1, 3]},
        {"!set": [{}]},
        {"!set": [1, 1]},
        {"!class": []},
        {"!class": [["unhashable"], "enum", "A"]},
        {"!bytes": "a"},
        {"!bytes": "YQ==YQ=="},
        {"!bytes": 3},
        {"!int": "xyz"},
        {"!int": 5},
        {"!Decimal": "one"},
        {"!Decimal": 0.1},
        {"!UUID": "5"},
        {"!date": "2024-02-30"},
        {"!datetime": ["2024-01-01", 2, None]},
        {"!datetime": ["2024-01-01", 0, "../../etc/passwd"]},
        {"!datetime": ["2024-01-01", 0, "Nowhere/Land"]},
        {"!datetime": ["2024-01-01", 0, [10**15, None]]},
        {"!timedelta": [10**10, 0, 0]},
        {"!timedelta": 1},
        {"!complex": ["0x1p0"]},
        {"!str": "ww=="},
    ],
    ids=str,
)
def test_an_envelope_that_encode_does_not_write_is_unreadable(tree: Any, values: Values) -> None:
    with pytest.raises(Unreadable):
        values.decode(ENVELOPED + orjson.dumps([tree]))


@pytest.mark.parametrize("parts", [["RED", "GREEN"], ["BLUE"], [1], [[]], []], ids=str)
def test_parts_that_do_not_fit_their_class_are_unreadable(parts: list[Any], values: Values) -> None:
    values.register(Colour)
    tree = {"!class": [f"{__name__}:Colour", "enum"]}
    assert values.decode(ENVELOPED + orjson.dumps({"!class": [*tree["!class"], "RED"]})) is Colour.RED
    with pytest.raises(Unreadable):
        values.decode(ENVELOPED + orjson.dumps({"!class": [*tree["!class"], *parts]}))


@pytest.mark.parametrize("kind", [PLAIN, ENVELOPED], ids=["plain", "enveloped"])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"[", b"]"), (b'{"a":', b"}"), (b'{"!tuple":[', b"]}"), (b'{"!dict":[1,', b"]}")],
    ids=repr,
)
def test_bytes_of_endless_depth_are_unreadable(
    kind: bytes, opening: bytes, closing: bytes, values: Values
) -> None:
    for levels in (MAX_DEPTH + 2, 500, 100_000):
        data = kind + opening * levels + b"1" + closing * levels
        if kind == ENVELOPED or levels > 1_024:
            with pytest.raises(Unreadable):
                values.decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"1", b"{}", b"\x80\x04.", b" 1", PLAIN, PLAIN + b"1 2", PLAIN + b"NaN"]
)
def test_foreign_bytes_are_unreadable(data: bytes, values: Values) -> None:
    with pytest.raises(Unreadable):
        values.decode(data)


def test_torn_bytes_are_unreadable(values: Values) -> None:
    for value in (JSON, (JSON, {1: UUID(int=1)})):
        data = values.encode(value)
        for length in range(len(data)):
            with pytest.raises(Unreadable):
                values.decode(data[:length])


def test_a_small_entry_kept_in_memory_stays_small() -> None:
    # In a process of its own, because only the peak of memory in use can be asked for.
    program = """if True:
        import resource
        from tiercache._core.values import Values
        values, kept = Values(), []
        kept.append(values.encode({"a": 0}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kept += [values.encode({"a": number}) for number in range(20_000)]
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    grown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(grown.stdout) < 10_000  # KiB; uncopied, orjson's results take some 80,000
