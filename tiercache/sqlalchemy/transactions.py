"""What one transaction has changed: gathered while it runs, taken at its COMMIT, dropped at its end.

It is kept in the `info` of the pooled connection, which both who executes and who commits can reach.
Savepoints lie on it as layers: a rollback takes off those above it, a release lays the upper one on the
lower. A commit ends it; so does a rollback, also the one with which the pool takes a connection back. One
thread at a time, as the connection.

Bounded: above 1,000 rows a table counts as changed anywhere, and all together are at most 2,000 tags, which
is what one record of an invalidation takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from tiercache import source
from tiercache.sqlalchemy.names import Schemas, row_tag
from tiercache.sqlalchemy.statements import MAX_ROWS, Named, Rows, Write

KEY = "tiercache"  # in the connection's `info`
MAX_TAGS = 2000  # in one invalidation that is one round trip
MAX_KNOWN = 50  # rows of a table that one's own reads tell apart while the transaction runs


class Touched:
    """Tables, rows and other tags."""

    __slots__ = ("everything", "others", "pending", "rows", "tables")

    def __init__(self) -> None:
        self.everything = False
        self.tables: set[str] = set()
        self.rows: dict[str, set[str] | None] = {}
        """The keys that changed, as texts; None: any."""
        self.others: set[str] = set()
        self.pending: list[Named] = []
        """INSERTs that have not been answered, or failed: what rows there are is not known yet."""

    def __bool__(self) -> bool:
        return self.everything or bool(self.tables or self.rows or self.others)

    def add_rows(self, name: str, keys: Iterable[str] | None) -> None:
        known = self.rows.get(name, ())
        if keys is None or known is None:
            self.rows[name] = None
            return
        if known == ():
            known = self.rows[name] = set()
        known.update(keys)  # type: ignore[union-attr]  # a set by now
        if len(known) > MAX_ROWS:
            self.rows[name] = None

    def add(self, named: Named, rows: Rows | None) -> None:
        """Changed rows; None: any."""
        self.tables.update(named.tables)
        keys = keys_of(rows)
        for name in named.same:
            self.add_rows(name, keys)
        for name in named.any:
            self.add_rows(name, None)
        for name, places in named.points:
            parts = None if rows is None else [[row[place] for place in places] for row in rows]
            if parts is None or any(None in part for part in parts):
                self.add_rows(name, None)
            else:
                self.add_rows(name, [",".join(part) for part in parts])  # type: ignore[arg-type]  # no None

    def resolve(self) -> None:
        """What has not been answered will not be."""
        while self.pending:
            self.add(self.pending.pop(), None)

    def lay_on(self, upper: Touched) -> None:
        upper.resolve()
        self.everything |= upper.everything
        self.tables |= upper.tables
        self.others |= upper.others
        for name, keys in upper.rows.items():
            self.add_rows(name, keys)

    def tags(self) -> list[str]:
        """All of it, as at most MAX_TAGS tags as long as tables alone are not more."""
        tags = [*(f"table:{name}" for name in self.tables), *self.others]
        rows = dict(self.rows)
        many = sorted((name for name, keys in rows.items() if keys), key=lambda name: len(rows[name] or ()))
        while many and sum(len(keys or "*") for keys in rows.values()) + len(tags) > MAX_TAGS:
            rows[many.pop()] = None
        for name, keys in rows.items():
            tags += row_tags(name, keys)
        return list(dict.fromkeys(tags))


def keys_of(rows: Rows | None) -> list[str] | None:
    """The keys of *rows* as texts; None where one of them is not known."""
    if rows is None:
        return None
    if rows and len(rows[0]) == 1:
        keys = [row[0] for row in rows]
        return None if None in keys else keys  # type: ignore[return-value]  # no None
    if any(None in row for row in rows):
        return None
    return [",".join(row) for row in rows]  # type: ignore[arg-type]  # no None


def row_tags(name: str, keys: set[str] | None) -> list[str]:
    if keys is None:
        return [f"row:{name}:*"]
    tags = [row_tag(name, key) for key in keys]
    return [tag for tag in tags if tag is not None] if None not in tags else [f"row:{name}:*"]


class Transaction:
    """The state of one connection, from transaction to transaction."""

    def __init__(self) -> None:
        self._layers: list[tuple[str | None, Touched]] = [(None, Touched())]
        self._writing: source.Writing | None = None
        self._known: set[str] = set()  # tags that `_writing` has
        self.moment: source.Moment | None = None
        """When it began; None in autocommit, where no text began one."""
        self.is_snapshot = False  # whether all of it reads what was committed by then
        self.is_new = True  # what kind of a transaction it is has not been asked
        self.is_autocommit = False
        self.sees_uncommitted = False
        self.wants_snapshots = False  # by a text, until the connection is closed
        self.prepared: Any = None  # the xid, between the phases of a COMMIT in two
        self.is_busy = False  # the dialect itself executes, as a part of a COMMIT in two phases
        self.is_committing = False  # a text that commits was sent, and its answer has not come
        self.fence: AbstractContextManager[None] | None = None
        """Around a statement that commits what it writes, until its answer has come."""

    @property
    def top(self) -> Touched:
        return self._layers[-1][1]

    @property
    def is_dirty(self) -> bool:
        return any(layer for _, layer in self._layers)

    @property
    def may_be_public(self) -> bool:
        """Whether something was committed that has not been told: the answer of a statement was cut off."""
        return self.is_dirty and (self.is_autocommit or self.is_committing)

    def leave_fence(self) -> None:
        fence, self.fence = self.fence, None
        if fence is not None:
            fence.__exit__(None, None, None)

    def begin(self) -> None:
        """BEGIN is about to be sent. What is there stays: where several connections are one, others write."""
        self.moment = source.moment()
        self.is_new = True

    def settle(self, is_snapshot: bool, is_autocommit: bool) -> None:
        """What kind of a transaction it is."""
        self.is_new = False
        self.is_autocommit = is_autocommit
        if is_autocommit:
            self.moment = None
        # One that began before anybody listened, or by a text: nobody knows how.
        self.is_snapshot = is_snapshot or self.wants_snapshots or self.moment is None
        if not is_autocommit and self.moment is None:  # nor when
            self.moment = source.Moment(())

    def go_on(self, *, is_within: bool, may_begin: bool) -> None:
        """In autocommit, a statement is about to be sent: within a transaction, or one that may begin it."""
        if not is_within:
            self.moment = source.moment() if may_begin else None
        elif self.moment is None:
            self.moment = source.Moment(())

    def write(self, write: Write, schemas: Schemas, rows: Rows | None) -> None:
        named = write.named(schemas)
        self.top.add(named, rows)
        self._make_known(named)

    def expect(self, write: Write, schemas: Schemas) -> tuple[Touched, Named]:
        """An INSERT is about to run; what `answer` takes when it has."""
        named = write.named(schemas)
        top = self.top
        top.resolve()
        top.tables.update(named.tables)
        top.pending.append(named)
        self._make_known(named, is_pending=True)
        return top, named

    def answer(self, expected: tuple[Touched, Named], rows: Rows | None) -> None:
        layer, named = expected
        if named in layer.pending:
            layer.pending.remove(named)
        layer.add(named, rows)
        self._make_known(named)

    def write_others(self, said: Touched) -> None:
        """What the option of a statement says that it touches."""
        if not said:
            return
        self.top.lay_on(said)
        told = [f"table:{name}" for name in said.tables]
        told += [tag for name, keys in said.rows.items() for tag in row_tags(name, keys)]
        self._tell([*told, *said.others])
        source.uncommitted()

    def write_everything(self) -> None:
        self.top.everything = True
        self._open().everything()

    def join(self) -> None:
        """Cached functions that this context calls know of what was changed by whomever."""
        if self._writing is not None:
            self._writing.join()

    def touches(self, tags: Iterable[str]) -> bool:
        """Whether what depends on *tags* has been changed by this transaction."""
        layers = [layer for _, layer in self._layers if layer]
        return bool(layers) and any(_touches(layer, tag) for tag in tags for layer in layers)

    def touches_tables(self, names: Iterable[str]) -> bool:
        return any(layer.everything or not layer.tables.isdisjoint(names) for _, layer in self._layers)

    def savepoint(self, name: str) -> None:
        self._layers.append((name, Touched()))

    def rollback_to(self, name: str) -> None:
        place = self._place(name)
        if place is not None:
            del self._layers[place:]

    def release(self, name: str) -> None:
        place = self._place(name)
        if place is not None:
            above = [layer for _, layer in self._layers[place:]]
            del self._layers[place:]
            for layer in above:
                self.top.lay_on(layer)

    def take(self) -> Touched:
        """All of it; it is forgotten here. The caller `end`s this, or gives it `back`."""
        whole = Touched()
        for _, layer in self._layers:
            whole.lay_on(layer)
        self._layers = [(None, Touched())]
        return whole

    def back(self, touched: Touched) -> None:
        self.top.lay_on(touched)

    def end(self) -> None:
        """Committed and told, or rolled back."""
        self._layers = [(None, Touched())]
        self.moment = self.prepared = None
        self.is_new = True
        self.is_committing = False
        if self._writing is not None:
            self._writing.end()
            self._writing = None
            self._known.clear()

    def _place(self, name: str) -> int | None:
        places = [place for place, (known, _) in enumerate(self._layers) if place and known == name]
        return places[-1] if places else None

    def _make_known(self, named: Named, *, is_pending: bool = False) -> None:
        rows = self.top.rows
        told = [f"table:{name}" for name in named.tables]
        for name in (*named.same, *named.any, *(name for name, _ in named.points)):
            keys = None if is_pending else rows.get(name, ())
            few = keys is not None and len(keys) <= MAX_KNOWN
            told += row_tags(name, set(keys)) if few and keys is not None else [f"row:{name}:*"]
        self._tell(told)

    def _tell(self, tags: Sequence[str]) -> None:
        new = [tag for tag in tags if tag not in self._known]
        if new:
            self._known.update(new)
            self._open().add(new)
        else:
            self.join()  # who added them may have been a thread or task with a context of its own

    def _open(self) -> source.Writing:
        if self._writing is None:
            self._writing = source.Writing()
        return self._writing


def _touches(layer: Touched, tag: str) -> bool:
    if layer.everything or tag in layer.others:
        return True
    kind, _, rest = tag.partition(":")
    if kind == "table":
        return rest in layer.tables
    if kind != "row":
        return False
    name, _, key = rest.partition(":")
    keys = layer.rows.get(name, ())
    if keys is None or key in keys or (key == "*" and keys):
        return True
    return any(name in (*named.same, *named.any, *(n for n, _ in named.points)) for named in layer.pending)


def transaction_of(info: dict[Any, Any]) -> Transaction:
    """The state that goes with a connection, by its `info`."""
    known: Transaction | None = info.get(KEY)
    if known is None:
        known = info[KEY] = Transaction()
    return known
