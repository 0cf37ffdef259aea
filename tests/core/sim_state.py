"""What a simulated server holds of one domain: its state, its key versions, entries, locks and fences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from tiercache._core.commands import REPLAY_LIMIT
from tiercache._core.scripts import Names

NAMES = Names("sim", 0)  # of the keys of the one domain that there is
HEADER = re.compile(rb"1\|(\d+)\|(\d+)\|\d+\|[0-9a-fA-F]+\|[0-9a-fA-F]+\|(\d+)\|")
UP_TO_ITS_END = re.compile(rb"(1\|(\d+)\|\d+\|)\d+(?=\|)")
NODE = re.compile("[0-9a-fA-F]*")


@dataclass
class Table:
    """Numbers of the last records, a dependency each, in one epoch."""

    epoch: int
    floor: int
    versions: dict[str, int] = field(default_factory=dict)

    def note(self, number: int, deps: Iterable[str], cap: float = inf) -> None:
        named = dict.fromkeys(deps, number)
        self.versions.update(named)
        if cap == inf:
            return
        trimmed = int(min(len(self.versions) - cap, 64 + 2 * len(named)))
        if named and 0 < trimmed <= len(self.versions):
            self.floor = sorted(self.versions.values())[trimmed - 1]
            self.versions = {dep: n for dep, n in self.versions.items() if n > self.floor}

    def since(self, number: int) -> list[tuple[str, int]]:
        later = sorted((n, dep) for dep, n in self.versions.items() if n > number)
        return [(dep, n) for n, dep in later[: REPLAY_LIMIT + 1]]


@dataclass
class State(Table):
    head: int = 1
    tenure: int = 0
    fences: int = 0  # live ones
    register: dict[str, float] = field(default_factory=dict)  # member -> its score
    left_out: int = 0
    settled: bool = False

    def scores(self) -> dict[str, int]:
        """Its members whose scores are whole numbers; below them is the register."""
        specials = {
            "\1e": self.epoch,
            "\1s": self.head,
            "\1f": self.floor,
            "\1r": self.tenure,
            "\1q": self.fences,
        }
        return self.versions | {name: -number for name, number in specials.items()}

    def behind(self, number: int, waiter: str) -> list[tuple[str, float]]:
        """Who on the register has not applied record *number*, as far as they said."""
        return [(m, score) for m, score in self.register.items() if score > -number and waiter not in m]


@dataclass
class Lock:
    owner: str
    ends: float
    waiters: set[str] = field(default_factory=set)


@dataclass
class Domain:
    """All that a server holds of one domain, and so all that a failover or an eviction may lose."""

    state: State | None = None
    keys: Table | None = None
    entries: dict[str, bytes] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)  # of entries, in ms
    locks: dict[str, Lock] = field(default_factory=dict)
    members: dict[str, float] = field(default_factory=dict)
    fences: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)  # when it runs out, in ms
    fenced: dict[str, int] = field(default_factory=dict)  # dependency -> live fences on it

    def plain(self, command: tuple[Any, ...], now_ms: float) -> list[Any]:
        """The raw reply to one of the commands that are no script."""
        self.expire(now_ms)
        match command:
            case "ZMSCORE", NAMES.state, *members:
                scores = {} if self.state is None else self.state.scores()
                return [b"%d" % scores[m] if m in scores else None for m in members]
            case "MGET", *names:
                entries = {NAMES.entry(key): raw for key, raw in self.entries.items()}
                return [entries.get(name) for name in names]
            case ("TIME",):
                seconds, micros = divmod(int(now_ms * 1000), 1_000_000)
                return [b"%d" % seconds, b"%d" % micros]
        raise TypeError(f"there is no answer to {command!r}")

    def expire(self, now_ms: float) -> None:
        for key in [k for k, end in self.ends.items() if end <= now_ms]:
            self.unlink(key)

    def unlink(self, key: str) -> None:
        self.entries.pop(key, None)
        self.ends.pop(key, None)


def node_of(owner: str) -> str:
    """The node that a lock's owner says it is."""
    match = NODE.match(owner)
    assert match is not None
    return match[0]


def tags_in(raw: bytes) -> tuple[str, ...]:
    """The tags in the entry *raw*, whose header is whole."""
    header = HEADER.match(raw)
    assert header is not None
    named = raw[header.end() :][: int(header[3])]
    return tuple(tag.decode() for tag in named.split(b"\0") if tag)
