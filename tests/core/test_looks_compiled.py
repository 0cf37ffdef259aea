"""Looks and entries compiled: for any bytes, numbers and shapes, what the rules in Python say of them."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.leaks import left_behind
from tiercache._accelerator import compiled as built
from tiercache._core.looks import Look, end_of
from tiercache._core.records import StoredEntry, check_of, parse_entry_in_python
from tiercache._core.scripts import Names
from tiercache._transport.replies import packed

if built is None:
    pytest.skip("not compiled here: no C compiler, or TIERCACHE_PURE is set", allow_module_level=True)
compiled: Any = built

EPOCH, HEAD, FLOOR, NOW_MS = 271828182845904, 40, 5, 1_700_000_000_000
KEY, TAGS = "profile(7)", ("users", "user:7")
NAMES = Names("shop", 0)
IN_EVERY_LOOK = NAMES.state, NAMES.entry(""), packed(end_of(NAMES))
# As Python's int() reads them, or does not; and what of it is too much for C.
ODD = [
    *(b"", b"-", b"0", b"-0", b"00", b"+7", b"-7", b" 7 ", b"1_0", b"1__0", b"0x1f", b"1F", b"7\0", b"\xff"),
    *(
        b"1e3",
        b"7.0",
        b"1e+16",
        b"1.5",
        b"-1e+8",
        b"inf",
        b"-inf",
        b"nan",
        "٣".encode(),
        b"f" * 15,
        b"f" * 16,
    ),
    *(b"9007199254740992", b"9007199254740993", b"9999999999999999", b"10000000000000000", b"9" * 25),
    *(b"-9007199254740993", b"0000000000000042", b"00000000000000042", b"9" * 5000),
]
any_text = st.text(st.characters(), max_size=6) | st.sampled_from(["a", KEY, *TAGS])  # lone surrogates, too
numbers = st.integers(0, 60).map(b"%d".__mod__)
odd = numbers | st.sampled_from(ODD)


def entry(
    epoch: bytes = b"%d" % EPOCH,
    token: bytes = b"30",
    expiry: bytes = b"%d" % (NOW_MS + 60_000),
    print: bytes = b"1f",
    named: bytes = "\0".join(TAGS).encode(),
    payload: bytes = b'\n{"a":1}|',
    *,
    size: bytes | None = None,
    check: bytes | None = None,
) -> bytes:
    """An entry of KEY, whose check is right unless it is given."""
    if check is None:
        try:
            check = check_of(KEY, (named.decode(),) if named else (), payload).encode()
        except UnicodeDecodeError:
            check = b"0" * 8
    size = b"%d" % len(named) if size is None else size
    return b"|".join((b"1", epoch, token, expiry, check, print, size, named + payload))


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """Of which few fields are not the usual ones."""
    names = ("epoch", "token", "expiry", "print", "size", "check")
    some = draw(st.dictionaries(st.sampled_from(names), odd, max_size=2))
    if draw(st.booleans()):
        some["named"] = draw(
            st.binary(max_size=8) | any_text.map(lambda text: text.encode("utf-8", "replace"))
        )
    return entry(**some, payload=draw(st.binary(max_size=8)))  # type: ignore[arg-type]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """Of which some bytes are others, or gone."""
    raw = bytearray(entry())
    for at in draw(st.lists(st.integers(0, len(raw) - 4), max_size=3)):
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw)


def outcome(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return type(error)


@given(raw=entries() | changed() | st.binary(), key=st.just(KEY) | any_text)
@example(raw=entry(named=b"\0".join([b"t"] * 129)), key=KEY)
@example(raw=entry(named=b"\0".join([b"t"] * 130)), key=KEY)
@example(raw=entry(named=b"\0"), key=KEY)
@example(raw=entry(payload=b""), key=KEY)
@example(raw=entry(check=b"0" * 9), key=KEY)
@example(raw=entry(), key="\ud800")
def test_any_bytes_are_the_entry_that_they_are_in_python(raw: bytes, key: str) -> None:
    assert outcome(compiled.parse_entry, raw, key) == outcome(parse_entry_in_python, raw, key)


@pytest.mark.parametrize("field", ["epoch", "token", "expiry", "print", "size", "check", "named"])
@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:30])
def test_an_odd_field_is_what_it_is_in_python(field: str, value: bytes) -> None:
    raw = entry(**{field: value})  # type: ignore[arg-type]

    assert outcome(compiled.parse_entry, raw, KEY) == outcome(parse_entry_in_python, raw, KEY)


def test_a_check_of_fewer_digits_is_another() -> None:
    payload = next(b"%d" % n for n in range(1000) if check_of(KEY, (), b"%d" % n)[0] == "0")
    short = entry(named=b"", payload=payload, check=check_of(KEY, (), payload)[1:].encode())

    assert compiled.parse_entry(short, KEY) is parse_entry_in_python(short, KEY) is None


@pytest.mark.parametrize("raw", [None, 7, "text", bytearray(entry()), memoryview(entry()), [entry()]])
@pytest.mark.parametrize("key", [None, b"bytes", 7, type("Key", (str,), {})(KEY)])
def test_what_is_no_entry_at_all_is_the_same_error(raw: Any, key: Any) -> None:
    for pair in ((raw, KEY), (entry(), key), (raw, key)):
        assert outcome(compiled.parse_entry, *pair) == outcome(parse_entry_in_python, *pair)


def test_an_entry_is_of_the_class_that_python_makes() -> None:
    parsed = compiled.parse_entry(entry(), KEY)

    assert type(parsed) is StoredEntry
    assert hash(parsed) == hash(parse_entry_in_python(entry(), KEY))


# ---- what a look found

things = st.none() | odd | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
shapes = st.recursive(things, lambda inner: st.lists(inner, max_size=6) | st.tuples(inner), max_leaves=20)


@st.composite
def replies(draw: st.DrawFn) -> Any:
    """To a look for the keys KEY and "b" and TAGS, of which a place or two is not the usual one."""
    state = [b"-%d" % EPOCH, b"-%d" % HEAD, b"-%d" % FLOOR]
    versions = [draw(st.none() | numbers) for _ in TAGS]
    found = [draw(st.none() | entries() | changed()), draw(st.none() | st.just(entry()))]
    time = [b"%d" % (NOW_MS // 1000), b"%d" % (NOW_MS % 1000 * 1000)]
    raw: list[Any] = [[*state, *versions], found, time, state[:2]]
    for _ in range(draw(st.integers(0, 2))):
        part = draw(st.integers(0, 3))
        if isinstance(raw[part], list) and raw[part]:
            raw[part] = list(raw[part])
            raw[part][draw(st.integers(0, len(raw[part]) - 1))] = draw(things)
    if draw(st.integers(0, 9)) == 0:
        raw[draw(st.integers(0, 3))] = draw(shapes)
    return raw


def told(looked: Any, keys: tuple[Any, ...]) -> Any:
    """All that *looked* says, or the error in its place."""
    if looked is None or isinstance(looked, type):
        return looked
    fields = (looked.head, looked.epoch, looked.floor, looked.versions, looked.entries, looked.now_ms)
    return fields, [outcome(looked.good, key) for key in keys]


@settings(max_examples=300)
@given(raw=replies() | shapes, seen=st.integers(0, HEAD + 1) | st.just(2**70), epoch=st.just(EPOCH) | things)
def test_any_replies_say_what_they_say_in_python(raw: Any, seen: int, epoch: Any) -> None:
    look = Look(epoch, seen, (KEY, "b"), TAGS)
    quick = outcome(compiled.looked, look, raw)
    if quick is not None:
        keys = (KEY, "b", "c", "\ud800", None, [])
        assert told(quick, keys) == told(outcome(look.parse, raw), keys)


SCORES = [b"-%d" % EPOCH, b"-%d" % HEAD, b"-%d" % FLOOR, b"30", None]
REPLIES = [SCORES, [entry(), None], [b"1700000000", b"0"], SCORES[:2]]


def test_the_usual_replies_are_read_by_what_is_compiled() -> None:
    looked = compiled.looked(Look(EPOCH, HEAD, (KEY, "b"), TAGS), REPLIES)

    assert told(looked, (KEY, "b")) == told(Look(EPOCH, HEAD, (KEY, "b"), TAGS).parse(REPLIES), (KEY, "b"))
    assert looked.good(KEY) == (parse_entry_in_python(entry(), KEY), 60.0)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:30])
def test_an_odd_score_is_what_it_is_in_python(place: int, value: bytes) -> None:
    scores: list[bytes | None] = [*SCORES]
    scores[place] = value
    look, raw = Look(EPOCH, 0, (KEY, "b"), TAGS), [scores, *REPLIES[1:]]
    quick = outcome(compiled.looked, look, raw)

    assert quick is None or told(quick, (KEY,)) == told(outcome(look.parse, raw), (KEY,))


@pytest.mark.parametrize("place", range(2))
@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:30])
def test_an_odd_time_is_what_it_is_in_python(place: int, value: bytes) -> None:
    time = [*REPLIES[2]]
    time[place] = value
    look, raw = Look(EPOCH, 0, (KEY, "b"), TAGS), [*REPLIES[:2], time, REPLIES[3]]
    quick = outcome(compiled.looked, look, raw)

    assert quick is None or told(quick, (KEY,)) == told(outcome(look.parse, raw), (KEY,))


@pytest.mark.parametrize("token", [FLOOR - 1, FLOOR, FLOOR + 1, HEAD - 1, HEAD, HEAD + 1])
@pytest.mark.parametrize("version", [FLOOR, FLOOR + 1, HEAD - 1, HEAD])
@pytest.mark.parametrize("left", [-1, 0, 1])
def test_at_each_bound_an_entry_is_as_good_as_it_is_in_python(token: int, version: int, left: int) -> None:
    raw = entry(token=b"%d" % token, expiry=b"%d" % (NOW_MS + left))
    look = Look(EPOCH, 0, (KEY,), TAGS)
    found = [[*SCORES[:3], b"%d" % version, None], [raw], *REPLIES[2:]]

    assert told(compiled.looked(look, found), (KEY,)) == told(look.parse(found), (KEY,))


@pytest.mark.parametrize("after", [HEAD - 1, HEAD, HEAD + 1])
@pytest.mark.parametrize("seen", [HEAD - 1, HEAD, HEAD + 1])
def test_at_each_bound_a_head_stands_as_in_python(after: int, seen: int) -> None:
    look, found = Look(EPOCH, seen, (KEY, "b"), TAGS), [*REPLIES[:3], [b"-%d" % EPOCH, b"-%d" % after]]
    quick, slow = compiled.looked(look, found), look.parse(found)

    assert (quick is None) == (slow.head is None)


@given(
    keys=st.lists(any_text, max_size=4).map(tuple),
    tags=st.lists(any_text, max_size=4).map(tuple),
    epoch=things,
)
@example(keys=("k" * 5000,), tags=("é" * 3000,), epoch=1)
@example(keys=tuple(map(str, range(300))), tags=("a",) * 300, epoch=1)
def test_a_look_is_packed_as_the_client_packs_it(keys: Any, tags: Any, epoch: Any) -> None:
    look = Look(epoch, 0, keys, tags)
    quick = compiled.pack_look(look, *IN_EVERY_LOOK)
    if quick is None:
        assert (
            not isinstance(epoch, int)
            or abs(epoch) >= 2**63
            or outcome("".join((*keys, *tags)).encode) is not str
        )
    else:
        assert quick == packed(look.plain(NAMES))


@pytest.mark.parametrize(
    "look", [None, (), (1, 2, 3), (1, 2, ["a"], ()), (1, 2, (b"a",), ()), (1, 2, ("a",), (7,))]
)
def test_what_is_no_look_is_left_to_python(look: Any) -> None:
    assert compiled.pack_look(look, *IN_EVERY_LOOK) is None
    assert compiled.looked(look, REPLIES) is None


def test_neither_the_usual_nor_the_odd_leaves_anything_behind() -> None:
    key = "clé(7)"
    raws = [
        entry(),
        entry(token=b"1_0"),
        entry(print=b"1F"),
        entry()[:-1],
        entry(named=b"\xff"),
        b"",
        b"x" * 9000,
    ]
    looks = [Look(EPOCH, 0, (KEY, "b"), TAGS), Look(EPOCH, 0, (key, "\ud800"), TAGS), Look(1, 2, ("a",), ())]
    odd_replies = [*REPLIES[:1], [entry(token=b"0_7"), 7], *REPLIES[2:]]

    def run(times: int) -> None:
        for _ in range(times):
            for raw in raws:
                compiled.parse_entry(raw, KEY), compiled.parse_entry(raw, key)
            for look in looks:
                compiled.pack_look(look, *IN_EVERY_LOOK)
                for raw_replies in (REPLIES, odd_replies, [entry()] * 4):
                    looked = compiled.looked(look, raw_replies)
                    if looked is not None:
                        for asked in (*look.keys, "c", None):
                            outcome(looked.good, asked)

    watched = [key, KEY, *TAGS, *raws, StoredEntry, compiled.Looked, parse_entry_in_python, None, REPLIES[0]]
    references, memory = left_behind(run, watched, 300)
    assert references < 100, "of 900 rounds"
    assert memory < 5_000, "bytes, of 300 rounds"


def test_lists_that_the_collector_empties_amid_a_look_are_not_read_behind_their_end() -> None:
    """What makes the result may start it, and it runs what __del__ does."""

    class Emptying:
        def __init__(self, replies: list[list[Any]]) -> None:
            self.itself, self.replies = self, replies

        def __del__(self) -> None:
            for each in self.replies:
                each.clear()

    keys, tags = tuple(f"k{n}" for n in range(300)), tuple(f"t{n}" for n in range(300))
    look, thresholds = Look(EPOCH, 0, keys, tags), gc.get_threshold()
    try:
        for _ in range(20):
            gc.disable()
            scores = [b"-%d" % EPOCH, b"-40", b"-5", *(b"%d" % (n + 10**6) for n in range(300))]
            raw = [scores, [b"entry %d" % n for n in range(300)], [b"1", b"2"], scores[:2]]
            Emptying(raw)
            gc.set_threshold(1)
            gc.enable()
            looked = compiled.looked(look, raw)
            gc.disable()
            if looked is not None:
                assert looked.entries == {f"k{n}": b"entry %d" % n for n in range(300)}
                assert looked.versions == {f"t{n}": n + 10**6 for n in range(300)}
            gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
