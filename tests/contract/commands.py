"""The commands of a node, with defaults for what a test does not care about."""

from __future__ import annotations

from typing import Any

from tiercache._core.commands import Fill, Invalidate, KeyAsk, Read, Set, Sync
from tiercache._core.fences import Fence
from tiercache._core.records import check_of

NODE = "a" * 32
CAPS = (1_000, 1_000)
REFUSED = Fence(("t",), (), *CAPS, "f", "soon")  # type: ignore[arg-type]  # a script error


def sync(epoch: int = 0, proved: int = 0) -> Sync:
    return Sync(epoch, proved, NODE)


def invalidate(*tags: str, keys: tuple[str, ...] = ()) -> Invalidate:
    return Invalidate(tags, keys, *CAPS)


def read(epoch: int, *keys: str, mode: Any = "get") -> Read:
    return Read(epoch, 0, tuple(KeyAsk(key, mode, NODE + ":0") for key in keys))


def set_(epoch: int, key: str, payload: bytes = b"payload", *tags: str, token: int = 2**52) -> Set:
    """Of a value that is as new as *token*; by default newer than any record."""
    return Set(epoch, token, 60_000, key, check_of(key, tags, payload), payload, tags, CAPS[1])


def fill(epoch: int, token: int, key: str, payload: bytes = b"payload") -> Fill:
    return Fill(epoch, token, NODE + ":0", 60_000, key, check_of(key, (), payload), 0, payload, ())
