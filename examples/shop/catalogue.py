"""What the shop's pages show: cached functions that return entities, and a query of whatever session asks."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from examples.shop.database import cache, sessions
from examples.shop.models import Product, User


class ProductPage(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    price: int
    sold: int
    version: int


class UserPage(BaseModel):
    id: int
    name: str
    orders: int
    version: int


@cache.cached(tags=["row:products:{product_id}"])
async def product(product_id: int) -> Product | None:
    """An entity, from either tier as from the database. The tag is what a write of this row raises."""
    async with sessions() as session:
        return await session.get(Product, product_id)


@cache.cached(tags=["row:users:{user_id}"])
async def user(user_id: int) -> User | None:
    """With their orders: whoever adds one changes the user's row, too, so that its tag is enough."""
    async with sessions() as session:
        return await session.get(User, user_id, options=[selectinload(User.orders)])


async def products_of(category: int, session: AsyncSession) -> Sequence[Product]:
    """Asks *session*; one of `app.Reading` has the answer from the cache."""
    query = select(Product).where(Product.category == category).order_by(Product.id)
    return (await session.scalars(query)).all()
