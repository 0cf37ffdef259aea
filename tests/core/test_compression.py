"""Compressed payloads: what was compressed comes back, and nothing else does, whatever it claims."""

from __future__ import annotations

import random
import tracemalloc
from typing import get_args

import lz4.frame
import pytest
import zstandard

from tiercache._core.compression import LZ4, MAX_INFLATED, ZSTD, Format, compress, inflate
from tiercache._core.values import Unreadable

PAYLOAD = b"\n" + b'{"name":"Ada Lovelace","roles":["admin","editor"]},' * 400
forms = pytest.mark.parametrize("form", get_args(Format))


@forms
def test_what_was_compressed_comes_back_and_is_shorter(form: Format) -> None:
    small = compress(PAYLOAD, form)

    assert len(small) < len(PAYLOAD) / 4
    assert inflate(small) == PAYLOAD


@forms
def test_what_would_hardly_get_shorter_stays_as_it_is(form: Format) -> None:
    noise = b"\n" + random.Random(1).randbytes(20_000)

    assert compress(noise, form) == noise
    assert inflate(noise) == noise


@forms
@pytest.mark.parametrize("cut", [1, 2, 10, -10, -1])
def test_torn_frames_are_unreadable(form: Format, cut: int) -> None:
    with pytest.raises(Unreadable):
        inflate(compress(PAYLOAD, form)[:cut])


@forms
def test_a_frame_with_something_behind_it_is_unreadable(form: Format) -> None:
    with pytest.raises(Unreadable):
        inflate(compress(PAYLOAD, form) + b"\0")


BOMB = b"\0" * (MAX_INFLATED + 1)
BOMBS = {
    "zstd": lambda: ZSTD + zstandard.compress(BOMB),
    "zstd that tells no length": lambda: (
        ZSTD + zstandard.ZstdCompressor(write_content_size=False).compress(BOMB)
    ),
    "lz4": lambda: LZ4 + lz4.frame.compress(BOMB),
    "lz4 that tells no length": lambda: LZ4 + lz4.frame.compress(BOMB, store_size=False),
    "lz4 that tells a shorter one": lambda: LZ4 + _lying(lz4.frame.compress(BOMB)),
}


def _lying(frame: bytes) -> bytes:
    """*frame* with ten bytes for its length, and the header's checksum made good for it."""
    told = lz4.frame.compress(b"0123456789")
    return told[:15] + frame[15:]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_unreadable_and_takes_no_memory(name: str) -> None:
    bomb = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable):
            inflate(bomb)
        assert tracemalloc.get_traced_memory()[1] < MAX_INFLATED / 4
    finally:
        tracemalloc.stop()


@forms
def test_what_is_longer_than_anybody_would_inflate_is_not_compressed(form: Format) -> None:
    assert compress(BOMB, form) is BOMB
