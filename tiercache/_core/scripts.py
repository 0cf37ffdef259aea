"""The Lua scripts, and the names they work on."""

from __future__ import annotations

import hashlib
import reprlib
from functools import cached_property
from secrets import randbits
from typing import Any, NamedTuple


class Script:
    """One Lua script: its source, the name Redis knows it by, and whether it may run twice unharmed."""

    def __init__(self, *parts: str, repeatable: bool = True) -> None:
        self.name = parts[-1]
        self.repeatable = repeatable
        self._parts = parts
        ALL.append(self)

    @cached_property
    def source(self) -> str:
        from importlib.resources import files

        folder = files("tiercache._core") / "lua"
        return "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in self._parts)

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


ALL: list[Script] = []

SYNC = Script("prelude", "sync")
READ = Script("read")
FILL = Script("rule", "wake", "fill")
# A set that ran, and whose reply was lost, must not run again over a newer one.
SET = Script("prelude", "rule", "set", repeatable=False)
INVALIDATE = Script("prelude", "invalidate")
CLEAR = Script("prelude", "clear")
FENCE = Script("prelude", "fence")
UNFENCE = Script("prelude", "unfence")
BARRIER = Script("barrier")
ACK = Script("ack")
FORGET = Script("forget")
UNLOCK = Script("wake", "unlock")
TOUCH = Script("touch")


class Names:
    """The keys and channels of one domain: one hash tag, so one slot of a cluster."""

    def __init__(self, namespace: str, database: int) -> None:
        # The 1 is the version of the formats: releases that differ in it share nothing.
        domain = f"{{{namespace}}}1:"
        self.state = domain + "v"
        self.domain = (domain + "v", domain + "k", domain + "p", domain + "q")
        self.members = domain + "m"
        self._entry, self._lock, self._staged = domain + "e:", domain + "l:", domain + "s:"
        # Channels, unlike keys, are not apart by database.
        self.channel = f"{{{namespace}}}1@{database}:c"
        self.wake = f"{{{namespace}}}1@{database}:w:"

    def entry(self, key: str) -> str:
        return self._entry + key

    def staged(self, name: str) -> str:
        return self._staged + name

    def lock(self, key: str) -> str:
        return self._lock + key


class Parts(NamedTuple):
    """A script call, and the command that goes ahead of it, if there is one; its reply is not looked at."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Any, ...]
    ahead: tuple[Any, ...] | None = None


def fields_of(raw: Any) -> list[Any]:
    """The fields of a reply. A string would unpack as well, into numbers."""
    if not isinstance(raw, list):
        raise TypeError(f"not the answer of a script: {reprlib.repr(raw)}")
    return raw


def nonce() -> int:
    """A name for an epoch that nobody has had: 48 bits from the system, as Lua's own are seeded."""
    return randbits(48) | 1
