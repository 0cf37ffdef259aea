"""The promises of targets.py, played by hypothesis for some seconds; `make fuzz` plays them for hours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import BY_TARGET, DICTIONARY, seeds
from tests.fuzz.targets import TARGETS, Taker, address_with_password, checked_entry, said, weight

Target = Callable[[bytes], None]
EACH = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)

words = st.sampled_from([word.encode() for word in DICTIONARY])
bytes_and_words = st.lists(st.binary(max_size=40) | words, max_size=20).map(b"".join)


@EACH
@settings(max_examples=100, deadline=None)
@given(data=bytes_and_words)
def test_any_bytes_keep_the_promise_of(target: Target, data: bytes) -> None:
    target(data)


@EACH
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_is_almost_ours_keeps_the_promise_of(target: Target, data: st.DataObject) -> None:
    """A seed with some of its bytes cut out, doubled, or replaced."""
    changed = data.draw(st.sampled_from(list(BY_TARGET[target.__name__]())))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(len(changed), start + 20)))
        between = data.draw(st.binary(max_size=8) | words | st.just(changed[start:end] * 2))
        changed = changed[:start] + between + changed[end:]
    target(changed)


def test_every_target_has_seeds_and_they_keep_its_promise() -> None:
    tried = set()
    for seed in seeds():
        target = TARGETS[seed[0]]
        target(seed[1:])
        tried.add(target)

    assert tried == set(TARGETS)


# ---- that the targets see what they are there for


def test_a_checked_entry_comes_through_to_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr("tests.fuzz.targets.VALUES.decode", decoded.append)
    for seed in BY_TARGET["checked_entry"]():
        checked_entry(seed)

    assert len(decoded) == len(list(BY_TARGET["checked_entry"]()))


def test_a_reply_can_be_any_shape_a_server_can_say() -> None:
    assert said(Taker(bytes((0, 5, 1, 0, 0, 0, 0, 0, 0, 0, 9, 2, 4, 3, 5, 0, 7, 6, 2)) + b"ab")) == [
        9,
        None,
        b"hit",
        b"7",
        b"ab",
    ]


def test_bytes_that_grow_are_noticed() -> None:
    assert weight([[]] * 1000) > 64 * 1000


@pytest.mark.parametrize(
    "data",
    [
        b"\x0aEurope/Paris\0\x03",  # a '/' in the user's name: the password was taken for the database
        b"\x05u[\x01::2]\0/x\xdd\x87\xbf\x963c",  # a '[': the password was taken for an address, and told
    ],
)
def test_what_was_found_once_stays_mended(data: bytes) -> None:
    address_with_password(data)
