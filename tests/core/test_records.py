"""The bytes of an entry and of a hint: what comes back from them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercache._core.records import (
    MAX_DEP_BYTES,
    MAX_DEPS,
    MAX_ENTRY_TAGS,
    MAX_HINT_BYTES,
    Hint,
    StoredEntry,
    check_of,
    key_dep,
    pack_deps,
    parse_entry,
    parse_entry_in_python,
    parse_hint,
    tag_dep,
)

Parse = Callable[[bytes, str], StoredEntry | None]
KEY = "profile:7"
EPOCH, EXPIRY = 271828182845904, 1_700_000_000_000
PAYLOAD = b'{"a":1}|\0|\xff'
each_half = pytest.mark.parametrize(
    "parse_entry", dict.fromkeys((parse_entry_in_python, parse_entry)), ids=lambda parse: type(parse).__name__
)
# Any text a key or a tag may be: no NUL.
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)

name = text.filter(lambda name: len(name.encode()) <= 512)


def stored(
    payload: bytes = PAYLOAD,
    tags: tuple[str, ...] = ("users", "user:7"),
    *,
    key: str = KEY,
    token: str = "42",
) -> bytes:
    """An entry as the scripts store it."""
    names = "\0".join(tags).encode()
    header = f"1|271828182845904|{token}|1700000000000|{check_of(key, tags, payload)}|1f|{len(names)}|"
    return header.encode() + names + payload


def hint(body: bytes, *, epoch: bytes = b"271828182845904", number: bytes = b"42") -> bytes:
    return b"1|" + epoch + b"|" + number + b"|" + body


@each_half
def test_an_entry_gives_back_what_was_stored(parse_entry: Parse) -> None:
    assert parse_entry(stored(), KEY) == StoredEntry(EPOCH, 42, EXPIRY, 0x1F, ("users", "user:7"), PAYLOAD)


@each_half
def test_an_entry_without_tags_has_none(parse_entry: Parse) -> None:
    entry = parse_entry(stored(tags=()), KEY)

    assert entry is not None
    assert entry.tags == ()


@each_half
@given(key=text, tags=st.lists(text, max_size=5).map(tuple), payload=st.binary())
def test_every_key_tag_and_payload_survives(
    key: str, tags: tuple[str, ...], payload: bytes, parse_entry: Parse
) -> None:
    assert parse_entry(stored(payload, tags, key=key), key) == StoredEntry(
        EPOCH, 42, EXPIRY, 0x1F, tags, payload
    )


@each_half
def test_an_entry_under_another_key_is_none(parse_entry: Parse) -> None:
    assert parse_entry(stored(), "profile:8") is None


@each_half
@pytest.mark.parametrize("length", range(len(stored())))
def test_an_entry_torn_at_any_byte_is_none(length: int, parse_entry: Parse) -> None:
    assert parse_entry(stored()[:length], KEY) is None


@each_half
@pytest.mark.parametrize("place", range(1, len(PAYLOAD) + 1))
def test_an_entry_with_any_byte_of_its_payload_changed_is_none(place: int, parse_entry: Parse) -> None:
    raw = bytearray(stored())
    raw[-place] ^= 1

    assert parse_entry(bytes(raw), KEY) is None


@each_half
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"0123456789",
        b"|||||||",
        b"2" + stored()[1:],
        stored(token="many"),
        stored(token="9" * 10_000),
        stored().replace(b"|12|", b"|-1|"),
        stored().replace(b"|12|", b"|99999999999999999999|"),
        stored().replace(b"users", b"\xff\xfe\xfd\xfc\xfb"),
        stored().replace(b"|1f|", b"|no print|"),
    ],
)
def test_what_no_script_of_ours_stored_is_none(raw: bytes, parse_entry: Parse) -> None:
    assert parse_entry(raw, KEY) is None


@each_half
def test_as_many_tags_as_a_function_may_have_are_read(parse_entry: Parse) -> None:
    tags = tuple(map(str, range(MAX_ENTRY_TAGS)))
    entry = parse_entry(stored(tags=tags), KEY)

    assert entry is not None
    assert entry.tags == tags


@each_half
def test_one_tag_more_is_none(parse_entry: Parse) -> None:
    assert parse_entry(stored(tags=tuple(map(str, range(MAX_ENTRY_TAGS + 1)))), KEY) is None


@each_half
@given(raw=st.binary())
@example(raw=b"1|1|1|1|\xff|1|0|")
def test_no_bytes_at_all_make_an_entry_fail(raw: bytes, parse_entry: Parse) -> None:
    assert parse_entry(raw, KEY) is None


@given(deps=st.lists(name.map(tag_dep) | name.map(key_dep), min_size=1).map(tuple))
def test_a_hint_names_what_was_packed(deps: tuple[str, ...]) -> None:
    assert parse_hint(hint(pack_deps(deps))) == Hint(271828182845904, 42, deps)


def test_a_hint_may_name_as_many_dependencies_as_a_record_has() -> None:
    deps = tuple("t:" + "x" * 508 + f"{n:04}" for n in range(MAX_DEPS))

    assert parse_hint(hint(pack_deps(deps))) == Hint(271828182845904, 42, deps)


@pytest.mark.parametrize("letter", ["x", "é", "鍵"])
def test_a_dependency_longer_than_any_of_ours_makes_a_hint_none(letter: str) -> None:
    """Each that is heard of is remembered for a while: ten thousand of a megabyte would be ten gigabytes."""
    size = len(letter.encode())
    longest = "t:" + letter * (512 // size) + "y" * (512 % size)
    assert len(longest.encode()) == MAX_DEP_BYTES

    assert parse_hint(hint(pack_deps(("t:a", longest)))) == Hint(271828182845904, 42, ("t:a", longest))
    assert parse_hint(hint(pack_deps(("t:a", longest + "y")))) is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "1|5|42|t:a",
        bytearray(hint(b"t:a")),
        b"",
        b"x",
        b"1|5|42",
        b"2" + hint(b"t:a")[1:],
        hint(b"t:a", epoch=b"none"),
        hint(b"t:a", number=b""),
        hint(b"t:a", number=b"0"),
        hint(b"t:a", number=b"-1"),
        hint(b"t:a", number=b"1e5"),
        hint(b"t:a", number=b"1" * 17),
        hint(b"t:a", epoch=b"1" * 17),
        hint(b"t:\xff"),
        hint(pack_deps(("t:a",) * (MAX_DEPS + 1))),
        hint(b"t:" + b"x" * MAX_HINT_BYTES),
    ],
    ids=lambda raw: repr(raw)[:40],
)
def test_what_no_script_of_ours_published_is_none(raw: object) -> None:
    assert parse_hint(raw) is None


@given(raw=st.binary())
def test_no_bytes_at_all_make_a_hint_fail(raw: bytes) -> None:
    assert parse_hint(raw) is None or raw.startswith(b"1|")
