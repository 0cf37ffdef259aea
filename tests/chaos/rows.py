"""The truth: numbered rows in one SQLite file in WAL mode; every write raises the version of some by one."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY = 12  # rows that are written all the time
QUIET = 4  # rows that are written only by who is about to be hurt: what it leaves stays as it is
ROWS = BUSY + QUIET
GROUPS = 3  # of the busy ones
Versions = dict[int, int]  # row -> version


def tags_of(number: int) -> list[str]:
    return [f"row:{number}", f"group:{number % GROUPS}"] if number < BUSY else [f"row:{number}"]


def rows_of(group: int) -> list[int]:
    return list(range(group, BUSY, GROUPS))


class Rows:
    """One connection a thread; after a fork the child opens its own."""

    def __init__(self, folder: Path | str) -> None:
        self._path = Path(folder) / "truth.db"
        self._local = threading.local()

    @classmethod
    def new(cls, folder: Path | str) -> Rows:
        made = cls(folder)
        with made._transaction("EXCLUSIVE") as db:
            db.execute(
                "CREATE TABLE rows (row INTEGER PRIMARY KEY, version INT, token TEXT, token_version INT)"
            )
            db.executemany("INSERT INTO rows VALUES (?, 1, '', 0)", ((row,) for row in range(ROWS)))
        return made

    def write(self, rows: Iterable[int]) -> Versions:
        """A new version of each of *rows*, committed when this returns."""
        marks = ", ".join(map(str, rows))
        with self._transaction("IMMEDIATE") as db:
            db.execute(f"UPDATE rows SET version = version + 1 WHERE row IN ({marks})")
            return dict(db.execute(f"SELECT row, version FROM rows WHERE row IN ({marks})"))

    def version(self, row: int) -> int:
        with self._transaction("DEFERRED") as db:
            (version,) = db.execute("SELECT version FROM rows WHERE row = ?", (row,)).fetchone()
            return int(version)

    def hand_over(self, versions: Versions, token: str) -> None:
        """Let the readers of other processes find the *token* of the write that made *versions*."""
        with self._transaction("IMMEDIATE") as db:
            for row, version in versions.items():
                db.execute(
                    "UPDATE rows SET token = ?, token_version = ? WHERE row = ? AND token_version < ?",
                    (token, version, row, version),
                )

    def token(self, row: int) -> tuple[str, int]:
        """The last token handed over for *row*, and the version it stands for; "" before the first."""
        with self._transaction("DEFERRED") as db:
            token, version = db.execute(
                "SELECT token, token_version FROM rows WHERE row = ?", (row,)
            ).fetchone()
            return str(token), int(version)

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.db = _connect(self._path)
            self._local.pid = os.getpid()
        db: sqlite3.Connection = self._local.db
        db.execute(f"BEGIN {kind}")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    # Longer than any process is stopped: one that is, may be so inside of its transaction.
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")  # processes die here, the machine does not
    return db
