"""The truth that a cache stands in front of: a database, shared by all processes of a test."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.peers import Flag


class Source:
    """Numbered versions of named things in one SQLite file; each load of one is counted.

    Any process opens it by its folder, in which its flags are, too.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = str(folder)

    @classmethod
    def new(cls, folder: Path) -> Source:
        made = cls(folder)
        with made._database() as database:
            database.execute("CREATE TABLE things (name TEXT PRIMARY KEY, version INT)")
            database.execute("CREATE TABLE loads (name TEXT)")
        return made

    def commit(self, version: int, name: str = "it") -> None:
        with self._database() as database:
            database.execute("REPLACE INTO things VALUES (?, ?)", (name, version))

    def load(self, name: str = "it") -> int:
        """The version as committed; 0 before the first commit."""
        with self._database() as database:
            database.execute("INSERT INTO loads VALUES (?)", (name,))
            row = database.execute("SELECT version FROM things WHERE name = ?", (name,)).fetchone()
        return row[0] if row else 0

    def loads(self, name: str = "it") -> int:
        with self._database() as database:
            (count,) = database.execute("SELECT count(*) FROM loads WHERE name = ?", (name,)).fetchone()
        return int(count)

    def flag(self, name: str) -> Flag:
        return Flag(Path(self.folder) / name)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(Path(self.folder) / "truth.db", timeout=10)) as database, database:
            yield database
