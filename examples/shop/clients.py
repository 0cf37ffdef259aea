"""Customers, staff, and a service that knows nothing of the shop; a history of what they saw and did."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import httpx
import psycopg

from examples.shop.history import History
from examples.shop.servers import CATEGORIES, PRODUCTS, TLS, USERS

CLIENTS = 16
WRITES = 0.03  # of all requests
RENAMES_PER_SECOND = 4
PER_CONNECTION = 20  # requests; then another connection, so that every worker is asked


class Crowd:
    """All clients of one shop until an instant; counts what was answered."""

    def __init__(self, url: str, history: History, until: float, seed: int) -> None:
        self.url, self.history, self.until = url, history, until
        self.requests = 0
        self.workers: set[str] = set()
        self._random = random.Random(seed)

    async def run(self, psycopg_url: str | None) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(self._visit())
            if psycopg_url is not None:
                tasks.create_task(self._rename(psycopg_url))

    async def _visit(self) -> None:
        while time.monotonic() < self.until:
            async with httpx.AsyncClient(base_url=self.url, timeout=30, verify=TLS) as client:
                for _ in range(PER_CONNECTION):
                    if time.monotonic() < self.until:
                        await (self._write if self._random.random() < WRITES else self._read)(client)

    async def _read(self, client: httpx.AsyncClient) -> None:
        kind = self._random.choices(("products", "users", "categories"), (70, 20, 10))[0]
        most = {"products": PRODUCTS, "users": USERS, "categories": CATEGORIES}[kind]
        sent = time.monotonic()
        shown = await self._ask(client, "GET", f"/{kind}/{self._popular(most)}")
        received = time.monotonic()
        for row in shown if kind == "categories" else (shown,):
            name = "users" if kind == "users" else "products"
            self.history.read(f"{name}/{row['id']}", row["version"], sent, received)

    async def _write(self, client: httpx.AsyncClient) -> None:
        product, user, category = map(self._popular, (PRODUCTS, USERS, CATEGORIES))
        requests = [
            ("POST", f"/users/{user}/orders/{product}"),
            ("PUT", f"/products/{product}/price/{self._random.randint(1, 9_999)}"),
            ("PUT", f"/categories/{category}/sale"),
        ]
        begun = time.monotonic()
        committed = await self._ask(client, *self._random.choices(requests, (60, 35, 5))[0])
        for row, version in committed["versions"].items():
            self.history.wrote(row, version, begun, committed["at"])

    async def _rename(self, url: str) -> None:
        """Rename products by plain SQL, as psql or another service would."""
        rename = "UPDATE products SET name = %s, version = version + 1 WHERE id = %s RETURNING version"
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while time.monotonic() < self.until:
                await asyncio.sleep(self._random.expovariate(RENAMES_PER_SECOND))
                product = self._popular(PRODUCTS)
                begun = time.monotonic()
                cursor = await connection.execute(rename, (f"renamed at {begun:.3f}", product))
                row = await cursor.fetchone()
                assert row is not None
                self.history.wrote(f"products/{product}", row[0], begun, time.monotonic(), outside=True)

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str) -> Any:
        response = await client.request(method, path)
        response.raise_for_status()
        self.requests += 1
        self.workers.add(response.headers["X-Worker"])
        return response.json()

    def _popular(self, most: int) -> int:
        """From 1 to *most*, the first ones often."""
        return min(most, int(self._random.paretovariate(0.8)))
