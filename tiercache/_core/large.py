"""Large values go past the scripts: Lua would copy them twice, while everybody else waits.

A fill or a set of one sends the entry ahead of its script, by a plain SET under a name of its own,
whole but for the token and the end, which have a fixed width there; the script puts these two in,
and gives it its name. A read whose script meets one says only which tags it has and how long it is,
and it is asked for by a look, some megabytes in one. At 1 MB a script took 0.59 ms of the server
to store one, and 0.20 ms to read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiercache._core.scripts import Names

STAGED_MS = 10_000  # then it goes, if its script never came
LARGE = 262_144  # bytes of a payload; read.lua has it, too


@dataclass(frozen=True, slots=True)
class Large:
    """There is a good entry, with these tags, of so many bytes."""

    tags: tuple[str, ...]
    size: int


def staging(
    names: Names, name: str, epoch: int, check: str, print: int, tags: tuple[str, ...], payload: bytes
) -> tuple[Any, ...] | None:
    """The command that sends a large *payload* ahead, under *name*; None where it is not large."""
    if len(payload) < LARGE:
        return None
    named = "\0".join(tags).encode()
    header = f"1|{epoch}|{0:016}|{0:013}|{check}|{print:x}|{len(named)}|"
    return ("SET", names.staged(name), header.encode() + named + payload, "PX", STAGED_MS)
