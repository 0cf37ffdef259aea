"""What a look by plain commands may call good, and what it must leave to the script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiercache._accelerator import compiled
from tiercache._core.looks import Look, Looked, together
from tiercache._core.records import check_of
from tiercache._core.scripts import Names

Parse = Callable[[Look, list[Any]], Looked]
EPOCH, HEAD, FLOOR, NOW_MS = 271828182845904, 40, 5, 1_700_000_000_000
TAGS = ("users", "user:7")
KEY, PAYLOAD = "profile(7)", b'\n{"a":1}'


def entry(
    *,
    token: int = 30,
    epoch: int = EPOCH,
    tags: tuple[str, ...] = TAGS,
    left_ms: int = 60_000,
    key: str = KEY,
) -> bytes:
    names = "\0".join(tags).encode()
    header = f"1|{epoch}|{token}|{NOW_MS + left_ms}|{check_of(key, tags, PAYLOAD)}|1f|{len(names)}|"
    return header.encode() + names + PAYLOAD


@pytest.fixture(params=["pure", "compiled"])
def parse(request: pytest.FixtureRequest) -> Parse:
    """What the replies to a look come to, in each half."""
    if request.param == "pure":
        return Look.parse
    if compiled is None:
        pytest.skip("looks were not compiled here: no C compiler, or TIERCACHE_PURE is set")
    looked: Callable[[Look, list[Any]], Any] = compiled.looked

    def quick(look: Look, raw: list[Any]) -> Looked:
        found = looked(look, raw)
        return look.parse(raw) if found is None else found

    return quick


@pytest.fixture
def looked(parse: Parse) -> Callable[..., Looked]:
    def looked(
        raw: bytes | None,
        versions: tuple[bytes | None, ...] = (None, None),
        *,
        seen: int = 0,
        after: tuple[int | None, int | None] | None = None,
        **state: Any,
    ) -> Looked:
        """What a look for KEY and TAGS finds in a server with the *state*; *after*: as of its end."""
        numbers = {"epoch": EPOCH, "head": HEAD, "floor": FLOOR} | state
        scores = [None if n is None else b"-%d" % n for n in numbers.values()]
        still = scores[:2] if after is None else [None if n is None else b"-%d" % n for n in after]
        time = [b"%d" % (NOW_MS // 1000), b"%d" % (NOW_MS % 1000 * 1000)]
        return parse(Look(EPOCH, seen, (KEY,), TAGS), [[*scores, *versions], [raw], time, still])

    return looked


def test_an_entry_whose_tags_had_no_record_after_its_token_is_good(looked: Callable[..., Looked]) -> None:
    found = looked(entry(token=30), (b"30", None)).good(KEY)

    assert found is not None
    stored, left = found
    assert (stored.payload, stored.tags, left) == (PAYLOAD, TAGS, 60.0)


@pytest.mark.parametrize(
    ("raw", "versions"),
    [
        pytest.param(None, (None, None), id="there is none"),
        pytest.param(entry(token=30), (b"31", None), id="a record on the first of its tags"),
        pytest.param(entry(token=30), (None, b"40"), id="a record on the last of its tags"),
        pytest.param(entry(tags=("users", "team:1")), (None, None), id="a tag that was not asked for"),
        pytest.param(entry(token=41), (None, None), id="a token above the head, of a fill in between"),
        pytest.param(entry(token=4), (None, None), id="a token below the floor"),
        pytest.param(entry(epoch=1), (None, None), id="of another epoch"),
        pytest.param(entry(left_ms=0), (None, None), id="at its end"),
        pytest.param(entry(key="profile(8)"), (None, None), id="of another key"),
        pytest.param(entry()[:-1], (None, None), id="torn"),
        pytest.param(b"1|" + b"9" * 400 + entry()[17:], (None, None), id="a planted number"),
    ],
)
def test_nothing_is_learned_of_an_entry_that_may_not_be_good(
    raw: bytes | None, versions: tuple[bytes | None, ...], looked: Callable[..., Looked]
) -> None:
    assert looked(raw, versions).good(KEY) is None


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"epoch": 1}, id="another epoch"),
        pytest.param({"epoch": None, "head": None, "floor": None}, id="no state"),
        pytest.param({"head": 34}, id="a head below one met before"),
    ],
)
def test_a_server_with_another_history_says_nothing_of_any_entry(
    state: dict[str, int | None], looked: Callable[..., Looked]
) -> None:
    found = looked(entry(), seen=35, **state)

    assert found.head is None
    assert found.good(KEY) is None


@pytest.mark.parametrize(
    "after",
    [
        pytest.param((EPOCH, HEAD - 1), id="an older copy has taken its place"),
        pytest.param((1, HEAD + 5), id="it began another epoch"),
        pytest.param((None, None), id="its state was evicted"),
    ],
)
def test_a_server_that_fell_behind_during_a_look_says_nothing_of_any_entry(
    after: tuple[int | None, int | None], looked: Callable[..., Looked]
) -> None:
    assert looked(entry(), after=after).good(KEY) is None


def test_records_made_during_a_look_do_not_make_it_void(looked: Callable[..., Looked]) -> None:
    found = looked(entry(), after=(EPOCH, HEAD + 1))

    assert found.head == HEAD
    assert found.good(KEY) is not None


STILL = [b"-1", b"-1"]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param([[b"-1"] * 5, [None], [b"1", b"1"]], id="three replies"),
        pytest.param([[b"-1"] * 4, [None], [b"1", b"1"], STILL], id="a score too few"),
        pytest.param([[b"-1"] * 5, [], [b"1", b"1"], STILL], id="an entry too few"),
        pytest.param([b"-1-1-1-1-1", [None], [b"1", b"1"], STILL], id="a string"),
        pytest.param([[b"-inf"] * 5, [None], [b"1", b"1"], STILL], id="no number"),
    ],
)
def test_replies_of_another_form_are_an_error_of_a_kind_that_a_transport_expects(
    raw: list[Any], parse: Parse
) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        parse(Look(EPOCH, 0, (KEY,), TAGS), raw)


def test_the_versions_are_asked_for_before_the_entries() -> None:
    verbs = [command[0] for command in Look(EPOCH, 0, (KEY,), TAGS).plain(Names("shop", 0))]

    assert verbs == ["ZMSCORE", "MGET", "TIME", "ZMSCORE"]


def test_looks_that_go_together_ask_once_for_each_key_and_tag_under_the_strictest_head() -> None:
    one = Look(EPOCH, 3, ("a",), ("users", "user:1"))
    other = Look(EPOCH, 9, ("b", "a"), ("users", "user:2"))

    assert together([one, other]) == Look(EPOCH, 9, ("a", "b"), ("users", "user:1", "user:2"))
