"""The one history that two nodes are held against: rows that are written, and records that ran.

The truth is a table of rows, each with a version that only grows. A key's value is the versions
of its rows at one instant, so how old it is can be read off it. A record is reflected by what
was loaded after it ran: by versions at least those of its rows at that moment.

"s" is the odd one: it is nowhere but in the cache. Its one row counts what is done to it, and
its value names the set that it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tiercache._core.commands import Clear, Command, Invalidate, Set

Versions = dict[str, int]

# "o" reads "a" in its loader, "p" lives in L1 alone.
TAGS = {"a": ("x",), "b": ("x", "y"), "o": ("x", "y"), "p": ("x",), "s": ()}
ROWS = {key: (*(f"t:{tag}" for tag in tags), f"k:{key}") for key, tags in TAGS.items()}
ALL_ROWS = tuple(dict.fromkeys(row for rows in ROWS.values() for row in rows))
SET_ROW = "k:s"


@dataclass(frozen=True)
class Record:
    """One invalidation that ran."""

    epoch: int
    number: int
    at: float
    due: Mapping[str, int]  # the versions that reflect it


class Truth:
    """What was committed, and which records there were; *decode* turns a payload into its value."""

    def __init__(self, clock: Callable[[], float], decode: Callable[[bytes], Any]) -> None:
        self._clock, self._decode = clock, decode
        self.versions: Versions = dict.fromkeys(ALL_ROWS, 1)
        self.records: list[Record] = []
        self._sets: Versions = {}  # number of a set of "s" -> the version its row had from it
        self._set_count = 0

    def read(self, key: str) -> Versions:
        """What a loader of *key* would find now."""
        return {row: self.versions[row] for row in ROWS[key]}

    def commit(self, rows: Iterable[str]) -> Versions:
        """Write *rows*; what an invalidation that begins now promises to who reads after it returned."""
        for row in rows:
            if row != SET_ROW:
                self.versions[row] += 1
        return {row: self.versions[row] + (row == SET_ROW) for row in rows}

    def new_set(self) -> tuple[dict[str, int], Versions]:
        """A value for "s", and what setting it promises: as its own truth it is current by being the last."""
        self._set_count += 1
        return {"set": self._set_count}, {SET_ROW: self.versions[SET_ROW] + 1}

    def ran(self, command: Command[Any], reply: Any) -> None:
        """Note what *command*, which the server has just run, did to the history."""
        match command:
            case Invalidate(tags, keys):
                rows = [*(f"t:{tag}" for tag in tags), *(f"k:{key}" for key in keys)]
                self._record(reply.epoch, reply.number, rows)
            case Clear():
                self._record(reply.epoch, reply.number, ALL_ROWS)
            case Set(key="s", payload=payload) if reply.status in ("ok", "full"):
                self._record(reply.epoch, reply.number, [SET_ROW])
                self._sets[str(self._decode(payload)["set"])] = self.versions[SET_ROW]

    def due(self, chosen: Callable[[Record], bool]) -> Versions:
        """The versions that reflect every record that is *chosen*."""
        due: Versions = {}
        for record in filter(chosen, self.records):
            lift(due, record.due)
        return due

    def demand(self, promise: str, key: str, value: Any, due: Mapping[str, int]) -> None:
        """Fail unless *value* of *key* has the versions that are due."""
        versions = {SET_ROW: self._sets[str(value["set"])]} if "set" in value else value
        for row in ROWS[key]:
            assert versions[row] >= due.get(row, 0), (
                f"{promise}: {key!r} is {versions}, due is {row} = {due[row]}"
            )

    def _record(self, epoch: int, number: int, rows: Iterable[str]) -> None:
        if SET_ROW in rows:
            self.versions[SET_ROW] += 1
        due = {row: self.versions[row] for row in rows}
        self.records.append(Record(epoch, number, self._clock(), due))


def lift(floor: Versions, to: Mapping[str, int]) -> None:
    """Raise each row of *floor* to at least what *to* says."""
    for row, version in to.items():
        floor[row] = max(floor.get(row, 0), version)
