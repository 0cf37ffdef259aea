"""The process that changes the shop: commit first, then invalidate what the commit changed."""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from multiprocessing.connection import Connection
from random import Random

from tiercache import TierCache
from tiercache.cli.demo.messages import Assignment, Write
from tiercache.cli.demo.shop import CITIES, OFFER, PRODUCTS, USERS, Changed, Popularity, Shop

WRITES_PER_SECOND = 40  # every other one changes the price of the offer
WRITES_PER_SALE = 160


def write(assignment: Assignment, checker: Connection) -> None:
    """The life of the process: tell that it is ready, hear when to end, write until then."""
    cache = TierCache(assignment.url, namespace="shop", max_staleness=assignment.max_staleness)
    with closing(Shop(assignment.database)) as shop, cache.sync:
        customers = Customers(shop)
        checker.send(None)
        until: float = checker.recv()
        begun = time.monotonic()
        for number in itertools.count(1):
            time.sleep(max(0.0, begun + number / WRITES_PER_SECOND - time.monotonic()))
            if time.monotonic() >= until:
                break
            changed, tags = customers.act(number)
            called = time.monotonic()
            cache.sync.invalidate_tags(tags, on_error="raise")
            checker.send(Write(changed, called, time.monotonic()))


class Customers:
    """Who does what next: the n-th act commits it, and names the tags to invalidate."""

    def __init__(self, shop: Shop) -> None:
        self._shop, self._random = shop, Random(2)
        self._users = Popularity(USERS, self._random)
        self._products = Popularity(PRODUCTS, self._random)

    def act(self, number: int) -> tuple[Changed, list[str]]:
        if number % WRITES_PER_SALE == 0:
            changed = self._shop.sale(self._random.randint(80, 120))
            return changed, ["products"]  # one tag for all their pages
        if number % 2:
            changed = self._shop.price(OFFER, self._random.randrange(500, 20_000))
        elif number % 4:
            changed = self._shop.move(self._users.pick(), self._random.choice(CITIES))
        else:
            pieces = dict.fromkeys((self._products.pick(), self._products.pick()), 1)
            changed = self._shop.order(self._users.pick(), pieces)
        return changed, list(changed)
