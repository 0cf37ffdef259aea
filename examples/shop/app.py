"""The shop: `uvicorn examples.shop.app:app --workers 4`. Reads are cached; writes know of no cache."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Response
from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from examples.shop import catalogue
from examples.shop.catalogue import ProductPage, UserPage
from examples.shop.database import CACHE_IS_ON, cache, engine, sessions
from examples.shop.models import Order, OrderLine, Product, User
from tiercache.sqlalchemy import cached_dependency

T = TypeVar("T")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await cache.close()
    await engine.dispose()


async def session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


def name_the_worker(response: Response) -> None:
    response.headers["X-Worker"] = str(os.getpid())


# The same session, but that its reads are answered from the cache.
reading = cached_dependency(session, cache, ttl=600) if CACHE_IS_ON else session
Session = Annotated[AsyncSession, Depends(session)]
Reading = Annotated[AsyncSession, Depends(reading)]
app = FastAPI(lifespan=lifespan, dependencies=[Depends(name_the_worker)])


def cached_or_not(page: Callable[[int], Awaitable[T | None]]) -> Callable[[int], Awaitable[T | None]]:
    """*page*, or the function under it where the shop runs without a cache, to compare."""
    if CACHE_IS_ON:
        return page
    under: Callable[[int], Awaitable[T | None]] = inspect.unwrap(page)
    return under


class Committed(BaseModel):
    """Which versions a write made, and an instant by which it was committed, CLOCK_MONOTONIC."""

    versions: dict[str, int]
    at: float


@app.get("/products/{product_id}", response_model=ProductPage)
async def read_product(product_id: int) -> Product:
    return _found(await cached_or_not(catalogue.product)(product_id))


@app.get("/categories/{category}", response_model=list[ProductPage])
async def read_category(category: int, session: Reading) -> Sequence[Product]:
    return await catalogue.products_of(category, session)


@app.get("/users/{user_id}")
async def read_user(user_id: int) -> UserPage:
    user = _found(await cached_or_not(catalogue.user)(user_id))
    return UserPage(id=user.id, name=user.name, orders=len(user.orders), version=user.version)


@app.put("/products/{product_id}/price/{price}")
async def reprice(product_id: int, price: int, session: Session) -> Committed:
    """The unit of work: load, change, commit."""
    product = _found(await session.get(Product, product_id))
    product.price = price
    product.version = Product.version + 1  # in SQL: two at once make two versions
    await session.flush()
    await session.refresh(product, ["version"])
    await session.commit()
    return Committed(versions={f"products/{product_id}": product.version}, at=time.monotonic())


@app.post("/users/{user_id}/orders/{product_id}")
async def order(user_id: int, product_id: int, session: Session) -> Committed:
    """Statements and new objects in one transaction."""
    placed = update(User).where(User.id == user_id).values(version=User.version + 1).returning(User.version)
    user_version = _found(await session.scalar(placed))
    sold = {"sold": Product.sold + 1, "version": Product.version + 1}
    taken = update(Product).where(Product.id == product_id).values(sold).returning(Product.version)
    product_version = _found(await session.scalar(taken))
    session.add(Order(user_id=user_id, lines=[OrderLine(product_id=product_id, quantity=1)]))
    await session.commit()
    versions = {f"users/{user_id}": user_version, f"products/{product_id}": product_version}
    return Committed(versions=versions, at=time.monotonic())


@app.put("/categories/{category}/sale")
async def sale(category: int, session: Session) -> Committed:
    """One statement over many rows. Locked in the order of their keys, so that two sales cannot deadlock."""
    rows = select(Product.id).where(Product.category == category).order_by(Product.id).with_for_update()
    await session.execute(rows)
    cheaper = {"price": Product.price - 1, "version": Product.version + 1}
    query = update(Product).where(Product.category == category).values(cheaper)
    changed = (await session.execute(query.returning(Product.id, Product.version))).all()
    await session.commit()
    return Committed(versions={f"products/{key}": version for key, version in changed}, at=time.monotonic())


def _found(value: T | None) -> T:
    if value is None:
        raise HTTPException(404)
    return value
