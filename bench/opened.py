"""Contenders opened side by side, each with keys of its own in one server."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from bench.contenders.facade import Contender, Place, Unable
from bench.runs import Run


def placed(
    run: Run, url: str, contender: type[Contender], *, maxsize: int = 10_000, ttl: float = 600
) -> Place:
    """Where *contender* keeps things in this run; *maxsize* 0 is no tier in the process."""
    return Place(url, maxsize=maxsize, ttl=ttl, prefix=f"{run.prefix}-{contender.__name__.lower()}")


@asynccontextmanager
async def opened(
    run: Run, url: str, contenders: Iterable[type[Contender]], *, maxsize: int = 10_000
) -> AsyncIterator[tuple[list[Contender], dict[str, str]]]:
    """Those that open, and why the others do not; closed in this task, the last one first."""
    some = list(contenders)
    able: list[Contender] = []
    unable: dict[str, str] = {}
    try:
        for kind in run.only(some):
            contender = kind(placed(run, url, kind, maxsize=maxsize))
            try:
                await contender.open()
            except Unable as error:
                unable[kind.name] = str(error)
            else:
                able.append(contender)
        unable.update({kind.name: run.absent[kind.name] for kind in some if kind.name in run.absent})
        yield able, unable
    finally:
        for contender in reversed(able):
            await contender.close()


async def answered(result: Any) -> Any:
    """What a verb gives, in both worlds."""
    return await result if inspect.isawaitable(result) else result
