"""`python -m examples.shop.load`: the shop under load, without and with the cache, every answer checked.

Exit status 1 if an answer was older than promised, showed what was not committed, or if the cache saved
no query; 2 if something that it needs is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import Engine, create_engine, func, select, text

from examples.shop import servers
from examples.shop.clients import Crowd
from examples.shop.counts import total
from examples.shop.history import History, Verdict
from examples.shop.models import Order, Product, User
from tiercache import ServerNotFound

MAX_STALENESS = 1.0  # as in examples.shop.database
POLL = 5.0  # of the bridge: by then a write from outside is known, were its notification lost


@dataclass(frozen=True)
class Phase:
    """What one shop did, with or without a cache."""

    name: str
    seconds: float
    requests: int
    statements: int  # that the workers sent to the database
    transactions: int | None  # as PostgreSQL counts them itself
    workers: int
    verdict: Verdict


@dataclass(frozen=True)
class Load:
    """What to run, and for how many seconds a phase."""

    seconds: float
    seed: int
    workers: int

    def phase(self, database: servers.Database, redis: str, directory: Path, *, cache: bool) -> Phase:
        servers.fill(database)
        name = "with the cache" if cache else "without"
        history = History()
        counts = directory / name.replace(" ", "-")
        engine = create_engine(database.sync_url)
        with servers.shop(database, redis, counts, workers=self.workers, cache=cache) as url:
            statements, committed = total(counts), transactions(engine)
            began = time.monotonic()
            crowd = Crowd(url, history, began + self.seconds, self.seed)
            asyncio.run(crowd.run(database.psycopg))
            took = time.monotonic() - began
            statements, after = total(counts) - statements, transactions(engine)
            in_the_end = differences(url, engine)
        verdict = history.judge(versions(engine), MAX_STALENESS, MAX_STALENESS + POLL)
        verdict.violations += in_the_end
        engine.dispose()
        counted = None if after is None or committed is None else after - committed
        return Phase(name, took, crowd.requests, statements, counted, len(crowd.workers), verdict)


def versions(engine: Engine) -> dict[str, int]:
    """Of every row, what the database has in the end."""
    with engine.connect() as connection:
        return {
            f"{table.__tablename__}/{key}": version
            for table in (User, Product)
            for key, version in connection.execute(select(table.id, table.version))
        }


def differences(url: str, engine: Engine) -> list[str]:
    """Of every page, when all is quiet and the bound is over, what is not as the database says."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            deadline = time.monotonic() + POLL
            waits = text("SELECT EXISTS (SELECT FROM tiercache.outbox)")
            while connection.execute(waits).scalar_one() and time.monotonic() < deadline:
                time.sleep(0.05)
    time.sleep(MAX_STALENESS)
    orders = select(func.count()).where(Order.user_id == User.id).scalar_subquery()
    pages = {
        "products": select(Product.id, Product.name, Product.price, Product.sold, Product.version),
        "users": select(User.id, User.name, orders.label("orders"), User.version),
    }
    found = []
    with engine.connect() as connection, httpx.Client(base_url=url, timeout=30) as client:
        for kind, query in pages.items():
            for row in connection.execute(query).mappings():
                shown = client.get(f"/{kind}/{row['id']}").json()
                if shown != dict(row):
                    found.append(f"in the end a page shows {shown}, and the database has {dict(row)}")
    return found


def transactions(engine: Engine) -> int | None:
    """How many PostgreSQL has committed and rolled back in this database."""
    if engine.dialect.name != "postgresql":
        return None
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def table(phases: list[Phase]) -> str:
    rows = [
        ("", *(phase.name for phase in phases)),
        ("requests a second", *(f"{phase.requests / phase.seconds:,.0f}" for phase in phases)),
        ("queries a second", *(f"{phase.statements / phase.seconds:,.0f}" for phase in phases)),
        ("queries a request", *(f"{phase.statements / phase.requests:.3f}" for phase in phases)),
        ("workers that answered", *(f"{phase.workers}" for phase in phases)),
        ("rows shown and checked", *(f"{phase.verdict.reads:,}" for phase in phases)),
        ("worst staleness", *(f"{phase.verdict.worst * 1e3:,.1f} ms" for phase in phases)),
        ("violations", *(f"{len(phase.verdict.violations)}" for phase in phases)),
    ]
    if phases[0].transactions is not None:
        counted = (f"{(phase.transactions or 0) / phase.seconds:,.0f}" for phase in phases)
        rows.insert(4, ("transactions a second, PostgreSQL's count", *counted))
        outside = (f"{phase.verdict.worst_outside * 1e3:,.1f} ms" for phase in phases)
        rows.insert(-1, ("worst staleness of outside writes", *outside))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    name, *others = widths
    return "\n".join(
        "  ".join(
            (row[0].ljust(name), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True)))
        )
        for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.shop.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load, without and with the cache each")
    parser.add_argument("--driver", choices=("asyncpg", "psycopg", "aiosqlite"), default="asyncpg")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1, help="of what the clients ask for")
    parser.add_argument("--cached-only", action="store_true", help="leave out the shop without a cache")
    options = parser.parse_args()
    load = Load(options.seconds, options.seed, options.workers)
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tiercache-shop-")))
            database = stack.enter_context(servers.database(directory, options.driver))
            redis = stack.enter_context(servers.redis())
            print(f"{options.workers} workers on {database.name} by {options.driver}", flush=True)
            kinds = (True,) if options.cached_only else (False, True)
            phases = [load.phase(database, redis, directory, cache=cache) for cache in kinds]
    except ServerNotFound as error:
        print(error, file=sys.stderr)
        return 2
    print(table(phases))
    wrong = [violation for phase in phases for violation in phase.verdict.violations]
    for violation in wrong[:20]:
        print(violation, file=sys.stderr)
    saved = [phase.statements / phase.requests for phase in phases]
    return 1 if wrong or (len(saved) == 2 and saved[0] <= saved[1]) else 0


if __name__ == "__main__":
    sys.exit(main())
