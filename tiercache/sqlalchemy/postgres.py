"""Writes to PostgreSQL that no application of ours makes (psql, another service) invalidate, too.

Two parts. Triggers write down, in the transaction that changes a watched table, which tags it touched:
`table:<name>`, and `row:<name>:<key>` of each row before and after, as `install` raises them; they are in
`create_triggers`, for a migration in `tiercache.sqlalchemy.alembic`. A `Bridge` takes what was committed,
invalidates it, and is told by LISTEN when there is more.

**Promised**: every change that was committed to a watched table is invalidated at least once, after its
commit, as soon as a bridge runs that reaches PostgreSQL and Redis: some milliseconds after the commit where
the notification arrives, at most *poll* seconds where it does not. A bridge, PostgreSQL or Redis may fail at
any point. What is rolled back is never raised. Several bridges share the work.

**Not promised**: that nobody reads the old value between the commit and then: for a write of your own, use
`install`. Nor are changes seen by which PostgreSQL fires no statement trigger: DDL (dropping, attaching and
detaching partitions included), logical replication into the table, `session_replication_role = replica`,
disabled triggers; nor a statement that names a partition made after `create_triggers`. Call that again then,
and after a table or its key was renamed or changed its type.

**Row tags** are of at most 1,000 rows a statement before and after each; beyond that, and where the primary
key is of another type than integers, text, varchar and uuid, all rows of the table count as touched:
`row:<name>:*`. (Of numeric, timestamp, bytea, char(n), boolean, float and enum keys the text in PostgreSQL is
not, or not under every setting, what Python writes.) Of a Table or mapped class whose key has a
TypeDecorator likewise. A Python process should write a uuid as `str(UUID)` does.

Settings of a session, say by `options=-c tiercache.skip=on` in its connection's URL:

    tiercache.skip = on     its changes are not written down: it tells the cache itself, by `install`. Without
                            it they are invalidated twice, which is harmless. Then a process that dies between
                            COMMIT and invalidation is not caught up with: `write_safety="fence"` is for that
    tiercache.notify = off  written down, and found by the next poll: PREPARE TRANSACTION refuses NOTIFY

While no bridge runs the outbox grows by a row a statement. To look at it:
`SELECT count(*), min(made) FROM tiercache.outbox`.

A bridge whose role does not own the outbox needs USAGE on schema tiercache, and SELECT, UPDATE and DELETE on
tiercache.outbox. PostgreSQL 12 or later. A bridge needs psycopg 3.2 or psycopg2, whatever else there is.
"""

from __future__ import annotations

from tiercache.sqlalchemy.bridge import Bridge, BridgeHealth
from tiercache.sqlalchemy.triggers import SCHEMA, Watched, create_triggers, drop_triggers

__all__ = ["SCHEMA", "Bridge", "BridgeHealth", "Watched", "create_triggers", "drop_triggers"]
