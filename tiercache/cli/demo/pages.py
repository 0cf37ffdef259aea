"""What the workers serve: three functions over the database, each with its tags.

Whoever changes a row invalidates the tags of the pages that show it, and need not know which
pages there are. A `def` and an `async def` are two functions with entries of their own; the
tags, and so the invalidations, are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from tiercache import TierCache
from tiercache.cli.demo.shop import OrderList, Product, Profile, Shop


class Page(Protocol):
    @property
    def version(self) -> int: ...


Blocking = dict[str, Callable[[int], Page]]
Awaited = dict[str, Callable[[int], Coroutine[Any, Any, Page]]]


def blocking(cache: TierCache, shop: Shop) -> Blocking:
    """The pages for threads, by the tag that each has with its argument: "user:7"."""

    @cache.cached(ttl="10m", tags=["user:{user_id}"])
    def profile(user_id: int) -> Profile:
        return shop.profile(user_id)

    @cache.cached(ttl="10m", tags=["orders:{user_id}"])
    def orders(user_id: int) -> OrderList:
        return shop.orders(user_id)

    @cache.cached(ttl="10m", tags=["products", "product:{product_id}"])
    def product(product_id: int) -> Product:
        return shop.product(product_id)

    return {"user": profile, "orders": orders, "product": product}


def awaited(cache: TierCache, shop: Shop) -> Awaited:
    """The pages for tasks."""

    @cache.cached(ttl="10m", tags=["user:{user_id}"])
    async def profile(user_id: int) -> Profile:
        return await asyncio.to_thread(shop.profile, user_id)

    @cache.cached(ttl="10m", tags=["orders:{user_id}"])
    async def orders(user_id: int) -> OrderList:
        return await asyncio.to_thread(shop.orders, user_id)

    @cache.cached(ttl="10m", tags=["products", "product:{product_id}"])
    async def product(product_id: int) -> Product:
        return await asyncio.to_thread(shop.product, product_id)

    return {"user": profile, "orders": orders, "product": product}
