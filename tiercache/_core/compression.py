"""Payloads as L2 stores them: compressed where they are long and it saves an eighth of them.

A compressed payload is a byte that names the format, and one frame that tells its own length. What a
node reads does not depend on what it writes, so processes with and without the setting share their
entries. A frame that claims or holds more than `MAX_INFLATED`, is torn, or has something behind it is
Unreadable, and so is one whose library is not installed: a miss, and a counter.
"""

from __future__ import annotations

from typing import Any, Literal

from tiercache._core.values import Unreadable

Format = Literal["zstd", "lz4"]
ZSTD, LZ4 = b"\x01", b"\x02"  # no kind of `values` begins so
MAX_INFLATED = 64 * 1024 * 1024  # bytes; a longer payload is stored as it is


def compress(payload: bytes, form: Format) -> bytes:
    """*payload* in *form*, or itself where that saves little; 2 to 4 ms of this thread for a megabyte.

    ImportError where the library of *form* is not installed.
    """
    if len(payload) > MAX_INFLATED:
        return payload
    if form == "zstd":
        import zstandard

        small = ZSTD + zstandard.compress(payload, 3)
    else:
        import lz4.frame

        small = LZ4 + lz4.frame.compress(payload, store_size=True)
    return small if len(small) < len(payload) * 7 // 8 else payload


def inflate(payload: bytes) -> bytes:
    """What `compress` was given; a payload that is not compressed is itself."""
    form = payload[:1]
    if form != ZSTD and form != LZ4:
        return payload
    try:
        return _of_zstd(payload[1:]) if form == ZSTD else _of_lz4(payload[1:])
    except ImportError as error:
        raise Unreadable(f"it is compressed, and {error.name} is not installed here") from error
    except Exception as error:  # bytes from outside met a library, each with errors of its own
        raise Unreadable(f"the compressed bytes hold no value: {error!r}") from error


def _of_zstd(frame: bytes) -> bytes:
    import zstandard

    length = zstandard.get_frame_parameters(frame).content_size
    _check(length)
    whole: bytes = zstandard.ZstdDecompressor().decompress(
        frame, max_output_size=length, allow_extra_data=False
    )
    return whole


def _of_lz4(frame: bytes) -> bytes:
    import lz4.frame

    length = lz4.frame.get_frame_info(frame)["content_size"]
    _check(length)
    reader: Any = lz4.frame.LZ4FrameDecompressor()
    whole: bytes = reader.decompress(frame, max_length=length)
    if not reader.eof or reader.unused_data:
        raise Unreadable("there is more than it tells, or less")
    return whole


def _check(length: int) -> None:
    if not 0 < length <= MAX_INFLATED:
        raise Unreadable(f"it claims to be {length} bytes long")
