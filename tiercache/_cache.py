"""`TierCache`: the awaited verbs, and the ways to make one."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from tiercache import _by_key, _decorator, _registry, _report, _transports
from tiercache._bound import Binding
from tiercache._closing import close_node
from tiercache._core.collect import Collected
from tiercache._core.tags import check_tags
from tiercache._core.writes import Token, Written
from tiercache._errors import SettingError
from tiercache._follows import followed
from tiercache._invalidating import FENCE_TTL, Invalidating, OnOutage
from tiercache._settings import Duration, SettingArguments, Settings
from tiercache._sync import SyncCache
from tiercache._typing import AsyncCached, Decorator, SyncCached
from tiercache._verbs import UNSET, Loading, OnError, Tags, TagsOfKey, Ttl, Unset, Verbs, by_stored
from tiercache._warm import Progress, WarmCall, Warmed, warm
from tiercache._winding_up import wind_up_all

P = ParamSpec("P")
R = TypeVar("R")


class TierCache:
    """A two-tier cache: an LRU in this process in front of a Redis that all processes share.

    `TierCache("redis://127.0.0.1:6379/0", namespace="shop")` makes a handle; nothing is connected before
    the first read. Handles of one process with the same server and namespace share one node, tiers and
    all; *private* asks for one of its own. Without a URL it is the default cache: see `default_cache`.
    "memory://" is L1 alone, one process, no server. *client* is a redis.Redis, a redis.asyncio.Redis or a
    pool of one, for what a URL cannot say; how to reach the server is taken from it, not its sockets.

    The verbs are awaited here and block in `cache.sync`, on the same tiers. Any thread and any event loop
    may use them, at once and in turn, also after a fork. Durations are seconds, a timedelta, or text such
    as "10m". SettingError for a setting that is unknown, out of range, or not what another handle has.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        private: bool = False,
        clock: Callable[[], float] = time.monotonic,
        **settings: Unpack[SettingArguments],
    ) -> None:
        _transports.load()
        given: dict[str, object] = dict(settings)
        nobody_said = False
        if client is not None:
            if url is not None:
                raise SettingError("give a url or client=, not both")
            address = _transports.address_of_client(client, Settings.of(given).timeout)
        elif url is not None:
            address = _transports.address_of(url, Settings.of(given).timeout)
        else:
            from tiercache import _default

            address, given, nobody_said = _default.whereabouts(given)
        self._node, self._settings = _registry.acquire(address, given, private=private, clock=clock)
        self._node.fallback = self._node.fallback or nobody_said
        self._released = False
        self._bindings: weakref.WeakSet[Binding] = weakref.WeakSet()  # under the lock of `_bound`
        self._counts = self._node.counted()
        self._verbs = self._made_verbs(blocking=False)
        self.sync = SyncCache(self, self._made_verbs(blocking=True))

    @classmethod
    def from_env(
        cls, environment: Mapping[str, str] | None = None, **settings: Unpack[SettingArguments]
    ) -> TierCache:
        """A cache set by TIERCACHE_URL and TIERCACHE_<SETTING>; *settings* given here win."""
        url, given = Settings.from_environment(os.environ if environment is None else environment)
        given.update(settings)
        Settings.of(given)  # what is wrong comes before the warning
        if url is None:
            from tiercache import _default

            _default.warn_of_memory()
        else:
            _transports.address_in_the_environment(url, 1.0)
        cache = cls(url or "memory://", **given)  # type: ignore[arg-type]  # checked by name
        cache._node.fallback = cache._node.fallback or url is None
        return cache

    @classmethod
    def embedded(cls, **settings: Unpack[SettingArguments]) -> TierCache:
        """A cache on a Redis of its own, for development: loopback, nothing on disk, ends with this process.

        Raises ServerNotFound, naming the package to install, where there is no server binary.
        """
        from tiercache import embedded

        Settings.of(settings)
        server = embedded.start()
        atexit.register(wind_up_all)  # last in, first out: no node is to see its server end
        cache = cls(server.url, **settings)
        cache._node.on_close = server.close
        return cache

    # ---- reads

    async def get(self, key: str, default: Any = None) -> Any:
        """The value under *key*, or *default*; one round trip where L1 does not have it."""
        entry = self._verbs.hit(key)
        return await _by_key.get_async(self, key, default) if entry is None else entry.take()

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl: Ttl | Unset = UNSET,
        tags: Tags = (),
        share: bool = False,
    ) -> Any:
        """The value under *key*, loaded by *loader* and kept for *ttl* where no tier has it.

        *loader* is a `def` or an `async def` without parameters; it runs once for all who ask at the same
        time, here and in other processes. What it raises reaches them all and is not kept. LoadTimeout when
        another's load takes longer than `load_timeout`; Unstorable when its value would not come back as
        it is. With *share* every caller gets one object: nobody may change it.
        """
        node, verbs = self._node, self._verbs
        if (entry := verbs.hit_or_load(key, loader, ttl, tags)) is not None:
            return entry.take()
        if not node.closed and (following := verbs.follow(key, loader, ttl, tags, share)) is not None:
            return await followed(node, verbs.counts, *following)
        return await _by_key.read_async(self, key, Loading(loader, ttl, tags, share))

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values that are cached, by key; one round trip a thousand keys that L1 does not have."""
        return await self._node.run_async(self._verbs.get_many(keys))

    async def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]],
        *,
        ttl: Ttl | Unset = UNSET,
        tags: TagsOfKey = (),
    ) -> dict[str, Any]:
        """The values of all *keys*; *loader* is called once, with the list of those no tier has.

        It returns a mapping; keys it leaves out are left out of the result and not kept. *tags* are those
        of every key, or a function of the key. A key that is being written in this process is asked for by
        itself, and so is one that somebody else was loading in vain. Unstorable, naming its key, where a
        value cannot be stored; those of other keys are kept.
        """
        return await self._node.run_async(self._verbs.get_or_load_many(keys, loader, ttl, tags))

    async def exists(self, key: str) -> bool:
        """Whether a value is cached under *key*; costs what `get` does."""
        return self._verbs.hit(key) is not None or await _by_key.exists_async(self, key)

    # ---- writes

    async def set(
        self,
        key: str,
        value: object,
        *,
        ttl: Ttl | Unset = UNSET,
        tags: Tags = (),
        token: Token | None = None,
    ) -> Written:
        """Store *value* as what is current now; other processes let go of the old one. One round trip.

        A value that was derived from an earlier read needs the *token* taken before that read: it is then
        refused (`stored` is False) where anything it depends on changed since. `get_or_load` does that by
        itself. While Redis is away nothing is stored and the old value counts as invalidated (`pending`).
        """
        return await self._node.run_async(self._verbs.set(key, value, ttl, tags, token))

    async def set_many(
        self, mapping: Mapping[str, object], *, ttl: Ttl | Unset = UNSET, tags: TagsOfKey = ()
    ) -> Written:
        """`set` for each item, in order; one round trip a thousand of them."""
        return await self._node.run_async(self._verbs.set_many(mapping, ttl, tags))

    async def touch(self, key: str, *, ttl: Ttl | Unset = UNSET) -> bool:
        """Let the value under *key* live *ttl* from now on; whether there was one. Two round trips."""
        return await self._node.run_async(self._verbs.touch(key, ttl))

    async def delete(self, key: str, *, on_error: OnError = "pend", wait: bool = False) -> Written:
        """Make the value under *key* invalid everywhere. One round trip."""
        return await self._node.run_async(self._verbs.invalidate((), (key,), on_error, wait))

    async def delete_many(
        self, keys: Iterable[str], *, on_error: OnError = "pend", wait: bool = False
    ) -> Written:
        """`delete` for all *keys* in one round trip, 2,000 at a time."""
        return await self._node.run_async(self._verbs.invalidate((), keys, on_error, wait))

    async def invalidate_tags(self, tags: Tags, *, on_error: OnError = "pend", wait: bool = False) -> Written:
        """Make every entry under any of *tags* invalid everywhere; a str is one tag. One round trip.

        When it returns, no read of this process gives what was valid before; other processes hear of it
        within milliseconds, and within `max_staleness` whatever happens to messages. A load under way does
        not put the old value back. While Redis is away it returns at once, `pending`, and is retried; with
        on_error="raise" it raises L2Unavailable as well, and is still retried.

        With *wait* it returns when no process can serve the old value any more (G4): as soon as all that
        hold a lease have said so, typically after milliseconds, and after `max_staleness` at the latest.
        L2Unavailable then where the invalidation is pending, since nobody else knows of it yet.
        """
        return await self._node.run_async(self._verbs.invalidate(tags, (), on_error, wait))

    async def clear(self, *, on_error: OnError = "pend", wait: bool = False) -> Written:
        """Make every entry of the namespace invalid everywhere, in one round trip whatever its size."""
        return await self._node.run_async(self._verbs.clear(on_error, wait))

    async def token(self) -> Token:
        """A token for a later `set`: take it before reading the source. One round trip."""
        return await self._node.run_async(self._verbs.token())

    async def at_least(self, token: Token) -> None:
        """From now on this process reads nothing older than the write that *token* came from (G8).

        Nothing to wait for where that write was heard of, else one round trip. It never fails: while Redis
        is away it ends the lease, and reads go to their source, or raise under `on_lapse="raise"`.
        """
        await self._node.run_async(self._verbs.at_least(token))

    def invalidating(
        self,
        *,
        tags: Tags = (),
        keys: Iterable[str] = (),
        on_outage: OnOutage = "commit",
        fence_ttl: Duration = FENCE_TTL,
        wait: bool = False,
    ) -> Invalidating:
        """`async with` around a write of the truth, which must end within *fence_ttl*. Two round trips.

        Before the write, what it names is marked in Redis: it is not cached anywhere until the end, and if
        this process dies in between, the mark runs out and becomes an invalidation (G7). Where Redis cannot
        be told, "commit" goes on without the mark and counts `guarantee_suspended`; "abort" raises
        L2Unavailable before the block begins. *wait* as in `invalidate_tags`.
        """
        return Invalidating(
            self._node, check_tags(tags, most=None), tuple(by_stored(keys)), on_outage, fence_ttl, wait
        )

    async def warm(
        self, calls: Iterable[WarmCall], *, concurrency: int = 10, progress: Progress | None = None
    ) -> Warmed:
        """Make *calls* ahead of the traffic, at most *concurrency* at once; what failed is in the result.

        A call is `(get_user, 7)`, a function without parameters, or a coroutine; a `def` runs in a thread.
        One that raises stops no other, and is not raised. *progress* is called with the number of calls
        that are over and of all, after each; what it raises ends the warming. A cancellation ends it, too.
        """
        return await warm(calls, concurrency, progress)

    def collect_token(self) -> Collected:
        """`with` around code that may write: `token` is then the newest record it made, for `at_least`.

        Of this context, and the tasks and threads that have a copy of it; None where nothing was written, or
        what was is pending. Asks nobody.
        """
        return Collected(self._node.tiers.core)

    # ---- functions

    @overload
    def cached(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCached[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def cached(self, function: Callable[P, R], /) -> SyncCached[P, R]: ...
    @overload
    def cached(
        self,
        *,
        ttl: Ttl | Unset = UNSET,
        l1_ttl: Ttl | Unset = UNSET,
        tags: Tags | Callable[..., Tags] = (),
        key: Callable[..., object] | str | None = None,
        version: int | str | None = None,
        ignore: Iterable[str] = (),
        l1: bool = True,
        l2: bool = True,
        share: bool = False,
        early_refresh: float = 0.0,
        session: str | None = None,
    ) -> Decorator: ...
    def cached(self, function: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]  # typed above
        """`tiercache.cached` on this cache; its options and errors stand there."""
        decorator: Any = _decorator.cached(cache=self, **options)
        return decorator if function is None else decorator(function)

    # ---- itself

    @property
    def max_staleness(self) -> float:
        """D, in seconds: a read reflects every invalidation that ran longer ago."""
        return self._node.settings.max_staleness

    def register(
        self,
        cls: type,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        """Make instances of exactly *cls* storable; decode(encode(x)) must equal x.

        An Enum, dataclass or NamedTuple needs no functions: naming it lets this process read what another
        one stored. *encode* gives a value that is storable itself. Where another class, or another way, was
        known by the name, L1 is emptied.
        """
        if self._node.values.register(cls, encode, decode):
            self._node.tiers.core.disown()  # what is there is of the way that was, and what is under way

    def stats(self) -> _report.Stats:
        """Counters of this process since its node began; asks nobody."""
        return _report.stats(self._node)

    async def health(self) -> _report.Health:
        """What this node can do now, after one sync with Redis."""
        await self._node.run_async(self._verbs.probe())
        return _report.health(self._node)

    async def close(self) -> None:
        """Give this handle back; the last one of a node stops its thread and closes its connections.

        What Redis has not been told of is tried for two seconds more, then logged as lost. Cut short, by a
        cancellation, it waits for less, and closes all the same.
        """
        if self.sync.give_back():
            await close_node(self._node)

    async def __aenter__(self) -> TierCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<TierCache {self._node.address or 'memory://'} namespace={self._settings.namespace!r}>"

    def _made_verbs(self, *, blocking: bool) -> Verbs:
        node, l2 = self._node, self._node.address is not None
        return Verbs(node.tiers, self._settings, self._counts, l2=l2, blocking=blocking, auditor=node.auditor)
