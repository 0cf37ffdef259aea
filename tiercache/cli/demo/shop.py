"""The shop's database: what a page needs, what a customer changes, and who is how popular.

SQLite in WAL mode: readers see the last commit and wait for nobody. Every row that can change
counts its changes in a version, and each change tells the versions it made, by tag:
{"user:7": 5}. So a reader's value can be held against the truth later on.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

USERS = 2_000
PRODUCTS = 200
ORDERS = 60_000
SHOWN = 20  # orders on one page, the latest first
OFFER = 1  # the product that stands on every page

SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, since TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1, orders_version INTEGER NOT NULL DEFAULT 1);
CREATE TABLE products (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, cents INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, placed TEXT NOT NULL);
CREATE TABLE lines (
    order_id INTEGER NOT NULL REFERENCES orders, product_id INTEGER NOT NULL REFERENCES products,
    pieces INTEGER NOT NULL, cents INTEGER NOT NULL, PRIMARY KEY (order_id, product_id)) WITHOUT ROWID;
"""
INDEXES = """
CREATE INDEX orders_of_user ON orders (user_id);
CREATE INDEX lines_of_product ON lines (product_id, pieces);
"""
ORDERS_OF_USER = """
SELECT o.id, o.placed, sum(l.pieces * l.cents), group_concat(p.title, ', ')
FROM orders o JOIN lines l ON l.order_id = o.id JOIN products p ON p.id = l.product_id
WHERE o.user_id = ? GROUP BY o.id ORDER BY o.id DESC LIMIT ?
"""
PRODUCT_PAGE = """
SELECT p.title, p.cents, p.version, coalesce(sum(l.pieces), 0), count(DISTINCT o.user_id)
FROM products p LEFT JOIN lines l ON l.product_id = p.id LEFT JOIN orders o ON o.id = l.order_id
WHERE p.id = ?
"""

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Grace", "Ken", "Leslie", "Margaret", "Tony")
LAST_NAMES = ("Adams", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Horak", "Ito", "Jansen")
CITIES = ("Athens", "Berlin", "Cork", "Dresden", "Evora", "Florence", "Geneva", "Haarlem")
GOODS = ("kettle", "lamp", "rug", "shelf", "clock", "chair", "mug", "basket", "mirror", "blanket")
COLOURS = ("red", "green", "blue", "white", "black", "grey", "yellow", "brown", "striped", "plain")

Changed = dict[str, int]  # tag -> the version that a commit made


class Profile(NamedTuple):
    user_id: int
    name: str
    city: str
    since: date
    version: int


class Order(NamedTuple):
    order_id: int
    placed: date
    total: Decimal
    titles: str


class OrderList(NamedTuple):
    user_id: int
    orders: tuple[Order, ...]
    version: int


class Product(NamedTuple):
    product_id: int
    title: str
    price: Decimal
    sold: int
    buyers: int
    version: int


class Shop:
    """The database at *path*, for any number of threads: each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Close the connections of all threads; none may be in a query."""
        for connection in self._connections:
            connection.close()

    # ---- pages

    def profile(self, user_id: int) -> Profile:
        with self._transaction() as db:
            query = "SELECT name, city, since, version FROM users WHERE id = ?"
            name, city, since, version = db.execute(query, (user_id,)).fetchone()
        return Profile(user_id, name, city, date.fromisoformat(since), version)

    def orders(self, user_id: int) -> OrderList:
        """The latest orders; what they name a product and its price never changes afterwards."""
        with self._transaction() as db:
            (version,) = db.execute("SELECT orders_version FROM users WHERE id = ?", (user_id,)).fetchone()
            rows = db.execute(ORDERS_OF_USER, (user_id, SHOWN)).fetchall()
        orders = tuple(
            Order(id, date.fromisoformat(day), euros(cents), text) for id, day, cents, text in rows
        )
        return OrderList(user_id, orders, version)

    def product(self, product_id: int) -> Product:
        with self._transaction() as db:
            title, cents, version, sold, buyers = db.execute(PRODUCT_PAGE, (product_id,)).fetchone()
        return Product(product_id, title, euros(cents), sold, buyers, version)

    # ---- changes

    def move(self, user_id: int, city: str) -> Changed:
        """The customer has another address."""
        with self._transaction("IMMEDIATE") as db:
            db.execute("UPDATE users SET city = ?, version = version + 1 WHERE id = ?", (city, user_id))
            (version,) = db.execute("SELECT version FROM users WHERE id = ?", (user_id,)).fetchone()
        return {f"user:{user_id}": version}

    def price(self, product_id: int, cents: int) -> Changed:
        """One product has another price."""
        with self._transaction("IMMEDIATE") as db:
            db.execute(
                "UPDATE products SET cents = ?, version = version + 1 WHERE id = ?", (cents, product_id)
            )
            return _versions(db, [product_id])

    def sale(self, percent: int) -> Changed:
        """All products cost so much of what they cost, at least a euro."""
        with self._transaction("IMMEDIATE") as db:
            change = "UPDATE products SET cents = max(100, cents * ? / 100), version = version + 1"
            db.execute(change, (percent,))
            return _versions(db, range(1, PRODUCTS + 1))

    def order(self, user_id: int, pieces: dict[int, int]) -> Changed:
        """The customer orders so many *pieces* of each product; their numbers sold change, too."""
        with self._transaction("IMMEDIATE") as db:
            placed = date.today().isoformat()
            added = db.execute("INSERT INTO orders (user_id, placed) VALUES (?, ?)", (user_id, placed))
            for product_id, count in pieces.items():
                line = "INSERT INTO lines SELECT ?, id, ?, cents FROM products WHERE id = ?"
                db.execute(line, (added.lastrowid, count, product_id))
                db.execute("UPDATE products SET version = version + 1 WHERE id = ?", (product_id,))
            db.execute("UPDATE users SET orders_version = orders_version + 1 WHERE id = ?", (user_id,))
            (version,) = db.execute("SELECT orders_version FROM users WHERE id = ?", (user_id,)).fetchone()
            return {f"orders:{user_id}": version, **_versions(db, pieces)}

    @contextmanager
    def _transaction(self, kind: str = "DEFERRED") -> Iterator[sqlite3.Connection]:
        """One state of the database; committed at the end, or rolled back."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path)
            self._connections.append(connection)
        connection.execute(f"BEGIN {kind}")
        with connection:
            yield connection


def connect(path: Path) -> sqlite3.Connection:
    # Closed by the thread that closes the shop, whoever opened it; used by one thread alone till then.
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def build(path: Path) -> None:
    """Make the database at *path*, with the same rows each time; takes about a second."""
    random = Random(1)
    names = itertools.cycle(itertools.product(LAST_NAMES, FIRST_NAMES))
    goods = itertools.cycle(itertools.product(GOODS, COLOURS))
    first_day = date(2020, 1, 1)

    def day() -> str:
        return (first_day + timedelta(days=random.randrange(1_500))).isoformat()

    users = [
        (f"{first} {last}", random.choice(CITIES), day()) for last, first in itertools.islice(names, USERS)
    ]
    products = [
        (f"{colour} {thing}", random.randrange(500, 20_000))
        for thing, colour in itertools.islice(goods, PRODUCTS)
    ]
    orders = [(random.randrange(USERS) + 1, day()) for _ in range(ORDERS)]
    lines = [
        (order, product, random.randint(1, 3), products[product - 1][1])
        for order in range(1, ORDERS + 1)
        for product in set(random.choices(range(1, PRODUCTS + 1), k=3))
    ]
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA)
        db.execute("BEGIN")
        with db:
            db.executemany("INSERT INTO users (name, city, since) VALUES (?, ?, ?)", users)
            db.executemany("INSERT INTO products (title, cents) VALUES (?, ?)", products)
            db.executemany("INSERT INTO orders (user_id, placed) VALUES (?, ?)", orders)
            db.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", lines)
        db.executescript(INDEXES)


class Popularity:
    """Which of *count* is asked for next: the first most often, the n-th 1/n to the power of 1.2 as often."""

    def __init__(self, count: int, random: Random) -> None:
        self._random = random
        self._ids = range(1, count + 1)
        self._weights = list(itertools.accumulate(rank**-1.2 for rank in self._ids))

    def pick(self) -> int:
        return self._random.choices(self._ids, cum_weights=self._weights)[0]


def euros(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _versions(db: sqlite3.Connection, product_ids: Iterable[int]) -> Changed:
    marks = ", ".join(map(str, product_ids))
    rows = db.execute(f"SELECT id, version FROM products WHERE id IN ({marks})")
    return {f"product:{id}": version for id, version in rows}
