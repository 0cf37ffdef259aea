"""`cache.sync`: every verb of `TierCache`, blocking, on the same tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tiercache import _by_key, _registry, _report
from tiercache._bound import unbind_all
from tiercache._core.tags import check_tags
from tiercache._core.writes import Token, Written
from tiercache._invalidating import FENCE_TTL, BlockingInvalidating, OnOutage
from tiercache._settings import Duration
from tiercache._verbs import UNSET, Loading, OnError, Tags, TagsOfKey, Ttl, Unset, Verbs, by_stored
from tiercache._warm import Progress, WarmCall, Warmed, warm_blocking

if TYPE_CHECKING:
    from types import TracebackType

    from tiercache._cache import TierCache


class SyncCache:
    """The blocking view of a cache; what each verb does stands with the awaited one of `TierCache`.

    Not for use in a coroutine: it blocks the loop. There it is safe all the same: it never waits for a
    load that only this loop could finish.
    """

    def __init__(self, cache: TierCache, verbs: Verbs) -> None:
        self._cache, self._node, self._verbs = cache, cache._node, verbs

    def get(self, key: str, default: Any = None) -> Any:
        entry = self._verbs.hit(key)
        return _by_key.get(self, key, default) if entry is None else entry.take()

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl: Ttl | Unset = UNSET,
        tags: Tags = (),
        share: bool = False,
    ) -> Any:
        entry = self._verbs.hit_or_load(key, loader, ttl, tags)
        if entry is not None:
            return entry.take()
        return _by_key.read(self, key, Loading(loader, ttl, tags, share))

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return self._node.run(self._verbs.get_many(keys))

    def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Mapping[str, Any]],
        *,
        ttl: Ttl | Unset = UNSET,
        tags: TagsOfKey = (),
    ) -> dict[str, Any]:
        return self._node.run(self._verbs.get_or_load_many(keys, loader, ttl, tags))

    def exists(self, key: str) -> bool:
        return self._verbs.hit(key) is not None or _by_key.exists(self, key)

    def set(
        self,
        key: str,
        value: object,
        *,
        ttl: Ttl | Unset = UNSET,
        tags: Tags = (),
        token: Token | None = None,
    ) -> Written:
        return self._node.run(self._verbs.set(key, value, ttl, tags, token))

    def set_many(
        self, mapping: Mapping[str, object], *, ttl: Ttl | Unset = UNSET, tags: TagsOfKey = ()
    ) -> Written:
        return self._node.run(self._verbs.set_many(mapping, ttl, tags))

    def touch(self, key: str, *, ttl: Ttl | Unset = UNSET) -> bool:
        return self._node.run(self._verbs.touch(key, ttl))

    def delete(self, key: str, *, on_error: OnError = "pend", wait: bool = False) -> Written:
        return self._node.run(self._verbs.invalidate((), (key,), on_error, wait))

    def delete_many(self, keys: Iterable[str], *, on_error: OnError = "pend", wait: bool = False) -> Written:
        return self._node.run(self._verbs.invalidate((), keys, on_error, wait))

    def invalidate_tags(self, tags: Tags, *, on_error: OnError = "pend", wait: bool = False) -> Written:
        return self._node.run(self._verbs.invalidate(tags, (), on_error, wait))

    def clear(self, *, on_error: OnError = "pend", wait: bool = False) -> Written:
        return self._node.run(self._verbs.clear(on_error, wait))

    def token(self) -> Token:
        return self._node.run(self._verbs.token())

    def at_least(self, token: Token) -> None:
        self._node.run(self._verbs.at_least(token))

    def invalidating(
        self,
        *,
        tags: Tags = (),
        keys: Iterable[str] = (),
        on_outage: OnOutage = "commit",
        fence_ttl: Duration = FENCE_TTL,
        wait: bool = False,
    ) -> BlockingInvalidating:
        return BlockingInvalidating(
            self._node, check_tags(tags, most=None), tuple(by_stored(keys)), on_outage, fence_ttl, wait
        )

    def warm(
        self, calls: Iterable[WarmCall], *, concurrency: int = 10, progress: Progress | None = None
    ) -> Warmed:
        """As `TierCache.warm`, in threads; *progress* is called in this one."""
        return warm_blocking(calls, concurrency, progress)

    def stats(self) -> _report.Stats:
        return self._cache.stats()

    def health(self) -> _report.Health:
        self._node.run(self._verbs.probe())
        return _report.health(self._node)

    def close(self) -> None:
        if self.give_back():
            self._node.close()

    def give_back(self) -> bool:
        """Part this handle from its functions and its node; whether the node is to be closed."""
        cache = self._cache
        if cache._released:
            return False
        cache._released = True
        unbind_all(cache)
        self._node.retire(cache._counts)
        return _registry.release(self._node)

    def __enter__(self) -> SyncCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{self._cache!r}.sync"
