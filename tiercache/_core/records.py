"""The bytes two nodes exchange: an entry in L2, and a hint on the channel.

Both open with decimal fields, so that a script can take them apart on any server::

    entry   1|epoch|token|expiry|check|print|bytes of tags|<tags, NUL between><payload>
    hint    1|epoch|number|<dependencies, NUL between>

Nothing here trusts what it reads: bytes that are torn, foreign or too large give None,
which every caller counts and treats as a miss. A dependency is a string, "t:" and a tag,
"k:" and a key, or "*" for everything.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tiercache._accelerator import compiled

EVERYTHING = "*"
MAX_DEPS = 2_000  # a record; more are sent in slices
MAX_DEP_BYTES = 514  # "t:" and a tag, or "k:" and a key as stored
MAX_HINT_BYTES = MAX_DEPS * 520 + 64
MAX_ENTRY_TAGS = 129  # 128 of the user's, and the function's own


def tag_dep(tag: str) -> str:
    return "t:" + tag


def key_dep(key: str) -> str:
    return "k:" + key


class StoredEntry(NamedTuple):
    """What an entry says of itself, and the payload it carries."""

    epoch: int
    token: int
    expiry_ms: int  # by the server's clock
    print: int
    tags: tuple[str, ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Hint:
    """That record *number* of *epoch* named *deps*; to be believed only as far as it costs a reload."""

    epoch: int
    number: int
    deps: tuple[str, ...]


def check_of(key: str, tags: Iterable[str], payload: bytes) -> str:
    """What ties key, tags and payload together: torn, or moved under another key, they have another check."""
    return f"{_crc_of(key, chr(0).join(tags).encode(), payload):08x}"


def _crc_of(key: str, named: bytes, payload: bytes) -> int:
    """*named*: the tags as an entry has them."""
    return zlib.crc32(payload, zlib.crc32(key.encode() + b"\0" + named if named else key.encode()))


def parse_entry_in_python(raw: bytes, key: str) -> StoredEntry | None:
    """The entry in *raw*, or None unless every byte of it is ours and belongs to *key*."""
    fields = raw.split(b"|", 7)
    if len(fields) != 8 or fields[0] != b"1":
        return None
    if len(fields[1]) > 16 or len(fields[2]) > 16 or len(fields[3]) > 16:
        return None
    try:
        epoch, token, expiry_ms = int(fields[1]), int(fields[2]), int(fields[3])
        print_, size = int(fields[5], 16), int(fields[6])
        rest = fields[7]
        if size < 0 or size > len(rest):
            return None
        named, payload = rest[:size], rest[size:]
        if fields[4] != b"%08x" % _crc_of(key, named, payload):
            return None
        tags = tuple(named.decode().split("\0")) if size else ()
    except ValueError:
        return None
    if len(tags) > MAX_ENTRY_TAGS:
        return None
    return StoredEntry(epoch, token, expiry_ms, print_, tags, payload)


parse_entry: Callable[[bytes, str], StoredEntry | None] = parse_entry_in_python
if compiled is not None:
    compiled.use_entries(StoredEntry, parse_entry_in_python)  # asked where an entry has an unusual form
    parse_entry = compiled.parse_entry


def pack_deps(deps: tuple[str, ...]) -> bytes:
    return "\0".join(deps).encode()


def parse_hint(raw: object) -> Hint | None:
    """The hint in *raw*, or None for anything else that somebody may have published."""
    if not isinstance(raw, bytes) or len(raw) > MAX_HINT_BYTES:
        return None
    fields = raw.split(b"|", 3)
    if len(fields) != 4 or fields[0] != b"1" or len(fields[1]) > 16 or len(fields[2]) > 16:
        return None
    # Each that is heard of is remembered for a while: ten thousand of a megabyte would be too much.
    named = fields[3].split(b"\0", MAX_DEPS)
    if len(named) > MAX_DEPS or max(map(len, named)) > MAX_DEP_BYTES:
        return None
    try:
        hint = Hint(int(fields[1]), int(fields[2]), tuple(fields[3].decode().split("\0")))
    except ValueError:
        return None
    return hint if hint.number > 0 else None
