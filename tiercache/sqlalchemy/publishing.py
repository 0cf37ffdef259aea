"""COMMIT, and telling the caches what it made public: one round trip after it, two with a fence.

A COMMIT that raises is told as well: whether it took place is not known. After a COMMIT nothing of ours
reaches the caller but a cancellation: what a cache raises is logged, and what Redis is not there to take is
pending in the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.util import await_only

from tiercache import TierCache
from tiercache.sqlalchemy.transactions import Touched, Transaction

log = logging.getLogger("tiercache.sqlalchemy")

WriteSafety = Literal["commit", "fence"]
OnOutage = Literal["commit", "abort"]


@dataclass(frozen=True, slots=True)
class Told:
    """A cache that is told of commits, and how."""

    cache: TierCache
    write_safety: WriteSafety
    on_outage: OnOutage
    fence_ttl: float


class Publisher:
    """Tells the caches of one engine."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async
        self.told: tuple[Told, ...] = ()
        self.is_tuned = False
        """Whether a connection was told by text what its questions mean: then no key tells them apart."""

    @property
    def fences(self) -> bool:
        return any(each.write_safety == "fence" for each in self.told)

    @contextmanager
    def around(self, transaction: Transaction, *, keeps: bool = False) -> Iterator[None]:
        """What commits *transaction* runs inside; an error of a fence that has to stand comes before it.

        *keeps*: it may not have committed all of it, so it is told, and not forgotten.
        """
        touched = transaction.take()
        if not touched:
            yield
            transaction.end()
            return
        tags = touched.tags()
        try:
            blocks = self._fence(touched, tags)
        except BaseException:
            transaction.back(touched)  # not committed: it goes with the rollback
            raise
        try:
            yield
        finally:
            try:
                self._tell(touched, tags, blocks)
            finally:
                transaction.back(touched) if keeps else transaction.end()

    def publish(self, transaction: Transaction, *, keeps: bool = False) -> None:
        """What has been committed already."""
        with self.around(transaction, keeps=keeps):
            pass

    def everything(self) -> None:
        """What was committed is known to nobody here."""
        touched = Touched()
        touched.everything = True
        self._tell(touched, [], {})

    def _fence(self, touched: Touched, tags: list[str]) -> dict[Told, Any]:
        blocks: dict[Told, Any] = {}
        if touched.everything or not self.fences:
            return blocks
        for told in self.told:
            if told.write_safety != "fence":
                continue
            try:
                blocks[told] = self._enter(told, tags)
            except Exception:
                if told.on_outage == "commit":
                    continue  # said when it cannot be told after the COMMIT, either
                for block in blocks.values():
                    block.discard()
                    self._quietly(told, self._leave, block)
                raise
        return blocks

    def _enter(self, told: Told, tags: list[str]) -> Any:
        settings: Any = {"tags": tags, "on_outage": told.on_outage, "fence_ttl": told.fence_ttl}
        if self.is_async:
            waiting = told.cache.invalidating(**settings)
            return await_only(waiting.__aenter__())
        return told.cache.sync.invalidating(**settings).__enter__()

    def _leave(self, block: Any) -> None:
        if self.is_async:
            await_only(block.__aexit__(None, None, None))
        else:
            block.__exit__(None, None, None)

    def _tell(self, touched: Touched, tags: list[str], blocks: dict[Told, Any]) -> None:
        stopped: BaseException | None = None
        for told in self.told:
            try:
                if told in blocks:
                    self._quietly(told, self._leave, blocks[told])
                else:
                    self._quietly(told, self._invalidate, told.cache, None if touched.everything else tags)
            except (
                BaseException
            ) as error:  # a cancellation: the cache has noted it as pending, the next has not
                stopped = error
        if stopped is not None:
            raise stopped

    def _invalidate(self, cache: TierCache, tags: list[str] | None) -> None:
        """None: everything."""
        if tags is not None:
            try:
                if self.is_async:
                    await_only(cache.invalidate_tags(tags))
                else:
                    cache.sync.invalidate_tags(tags)
                return
            except (TypeError, ValueError) as error:  # one that is no tag must not keep back the others
                log.warning("a COMMIT changed what has no tag, so everything is invalidated: %s", str(error))
        if self.is_async:
            await_only(cache.clear())
        else:
            cache.sync.clear()

    def _quietly(self, told: Told, act: Callable[..., None], *args: Any) -> None:
        try:
            act(*args)
        except Exception as error:  # whatever it is, the COMMIT took place, and its caller must hear so
            log.error(  # noqa: TRY400  # one line; the error says it
                "%r was not told what a COMMIT changed, and may serve it as it was: %s",
                told.cache,
                repr(error),
            )
