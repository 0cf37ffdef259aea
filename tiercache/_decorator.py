"""`cached`: a function's calls kept in both tiers.

A hit in L1 is answered by the path of `_hits`, a usual one in L2 by `_glances`; everything else is a plan.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from math import inf
from types import MethodType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from tiercache._attached import in_session
from tiercache._bound import Binding, Bound
from tiercache._core import reads, writes
from tiercache._core.flights import running_call
from tiercache._core.keys import CallKeys
from tiercache._core.l1 import Entry, kind_of
from tiercache._core.namers import namer_of
from tiercache._core.plan import Call, Plan
from tiercache._core.sources import is_writing
from tiercache._core.tags import TagTemplates
from tiercache._core.tiers import Counts, Early, Want
from tiercache._core.writes import Written
from tiercache._errors import SettingError
from tiercache._follows import follow_call, followed
from tiercache._glances import Glances
from tiercache._hits import UNFILED, HitPath, Spelling
from tiercache._nearest import nearest
from tiercache._report import CacheInfo
from tiercache._settings import lifetime
from tiercache._signatures import check_function
from tiercache._typing import AsyncCached, Decorator, SyncCached
from tiercache._verbs import UNSET, Tags, Ttl, Unset, jittered

if TYPE_CHECKING:
    from tiercache._cache import TierCache
    from tiercache._node import Node

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Function:
    """One decorated function: what its calls are called, what they depend on, and where they go."""

    def __init__(
        self,
        function: Callable[..., Any],
        owner: Callable[[], TierCache],
        *,
        ttl: Ttl | Unset,
        l1_ttl: Ttl | Unset,
        tags: Tags | Callable[..., Tags],
        key: Callable[..., object] | str | None,
        version: int | str | None,
        ignore: Iterable[str],
        l1: bool,
        l2: bool,
        share: bool,
        early_refresh: float,
    ) -> None:
        for name, flag in (("l1", l1), ("l2", l2), ("share", share)):
            if not isinstance(flag, bool):
                raise SettingError(f"{name} must be True or False, not {flag!r}")
        if not (l1 or l2):
            raise SettingError("l1=False and l2=False leave no tier; take the decorator away instead")
        self.function, self.blocking = function, not inspect.iscoroutinefunction(function)
        self.keys = CallKeys(function, version=version, ignore=ignore, key=key)
        parameters = list(inspect.signature(function).parameters)
        self.templates = TagTemplates(tags, parameters)
        self.of_class = parameters[0] if parameters[:1] in (["self"], ["cls"]) else None
        self.print = self.templates.print or 1  # 0 is for what was stored by key, without the own tag
        self.own_tag = self.keys.prefix + "()"  # every entry of the function has it: invalidate_all
        self.namer = namer_of(self.keys, self.templates, self.own_tag)
        self.ttl = ttl if isinstance(ttl, Unset) else lifetime(ttl, "ttl")
        self.l1_ttl = l1_ttl if isinstance(l1_ttl, Unset) else lifetime(l1_ttl, "l1_ttl")
        self.l1, self.l2, self.share = l1, l2, share
        self.beta = _checked_beta(early_refresh, l2=l2)
        # What a callable makes of a call may change from one call to the next, with a context variable say.
        self.by_arguments = l1 and not callable(key)
        self.spelling = Spelling(function, self.keys.ignored)
        self.path: HitPath
        self.binding = Binding(function, owner, self.keys.prefix, self._lead_path)

    def read(
        self, bound: Bound, args: Args, kwargs: Kwargs, *, renew: bool = False, now: float | None = None
    ) -> Plan[Any]:
        """The plan of one call that the hit path, at *now* if it came to ask, could not answer."""
        want = self.want(bound, args, kwargs, renew=renew, now=now)
        return reads.read(bound.node.tiers, want, blocking=self.blocking)

    def want(
        self, bound: Bound, args: Args, kwargs: Kwargs, *, renew: bool = False, now: float | None = None
    ) -> Want:
        node, settings = bound.node, bound.cache._settings
        named = None if self.namer is None else self.namer.name(args, kwargs)
        if named is None:
            arguments = self.keys.bind(args, kwargs)
            named = self.keys.key(arguments), (*self.templates.render(arguments), self.own_tag)
        key, tags = named
        ttl = settings.ttl if isinstance(self.ttl, Unset) else self.ttl
        at = self.path.filed(*args, **kwargs) if self.by_arguments else UNFILED
        return Want(
            key,
            bound.counts,
            call=Call(self.function, args, kwargs),
            tags=tags,
            ttl=jittered(settings, ttl),
            l1_ttl=settings.l1_ttl if isinstance(self.l1_ttl, Unset) else self.l1_ttl,
            print=self.print,
            l1=self.l1,
            l2=self.l2 and node.address is not None,
            share=self.share,
            audit=None if node.auditor is None else node.auditor.observer_of_call(self, args, kwargs, now),
            renew=renew,
            early=self._early(node) if self.beta else None,
            caller=self.binding,
            table=None if at is UNFILED else bound.table,
            arguments=at,
        )

    def _early(self, node: Node) -> Early:
        return Early(self.beta, functools.partial(node.refreshes.begin, blocking=self.blocking))

    def behind_a_load(self, bound: Bound, args: Args, kwargs: Kwargs) -> Entry | None:
        """The entry the hit path would have found, were it not closed; None within a load or transaction."""
        if running_call() is not None or is_writing():
            return None
        core = bound.node.tiers.core
        until = core.lease
        at = self.path.filed(*args, **kwargs)
        entry = bound.table.get(at)
        if entry is None or core.l1.condemned:
            return None
        now = bound.node.clock()
        if now < until and now < entry.deadline and entry.kind == kind_of(at):
            entry.stamp = now
            bound.counts.l1_hits += 1
            return entry
        return None

    def _lead_path(self, node: Node, counts: Counts, table: dict[Any, Entry]) -> Glances | None:
        sampled = node.auditor is not None
        self.path.bind(node.tiers.core, node.hit_clock, counts, table, sampled=sampled)
        if self.namer is None or sampled or self.beta or not self.l2 or node.address is None:
            return None
        return Glances(node.tiers, counts, self.namer, self.print, self.want, l1=self.l1)

    def key(self, args: Args, kwargs: Kwargs) -> str:
        if self.of_class is not None and self.of_class not in kwargs:
            self._check_object(args)
        return self.keys.key(self.keys.bind(args, kwargs))

    def _check_object(self, args: tuple[Any, ...]) -> None:
        """The verbs of a method take its object first: repo.find.invalidate(7) would mean the object 7."""
        *outer, name = getattr(self.function, "__qualname__", "").split(".")
        if not outer or outer[-1] == "<locals>":
            return  # written outside of a class, which may have it under any name, or none has
        first = args[0] if args else None
        is_private = name.startswith("__") and not name.endswith("__")
        found = f"_{outer[-1].lstrip('_')}{name}" if is_private else name
        if not hasattr(first if isinstance(first, type) else type(first), found):
            raise TypeError(
                f"{name} is a method, so its verbs take the object first, as in "
                f"Class.{name}.invalidate(object, ...), not {first!r}"
            )

    def invalidate(self, node: Node, args: Args, kwargs: Kwargs) -> Plan[Written]:
        return writes.invalidate(node.tiers, (), (self.key(args, kwargs),))

    def invalidate_all(self, node: Node) -> Plan[Written]:
        return writes.invalidate(node.tiers, (self.own_tag,), ())

    def info(self) -> CacheInfo:
        return CacheInfo.of(self.binding.bind().counts)


def _checked_beta(early_refresh: object, *, l2: bool) -> float:
    if isinstance(early_refresh, bool) or not isinstance(early_refresh, int | float):
        raise SettingError(f"early_refresh is a number, 1.0 for the usual, not {early_refresh!r}")
    if not 0 <= early_refresh < inf:
        raise SettingError(f"early_refresh must be 0 or more, and finite, not {early_refresh!r}")
    if early_refresh and not l2:
        raise SettingError("early_refresh needs L2, where one process sees that another was sooner")
    return float(early_refresh)


def decorated(
    function: Any, owner: Callable[[], TierCache], session: str | None = None, **options: Any
) -> Any:
    """*function*, or the function in a staticmethod or classmethod, with its calls cached."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(decorated(function.__func__, owner, session, **options))
    if isinstance(function, MethodType):  # its object counts, as that of any method
        return MethodType(decorated(function.__func__, owner, session, **options), function.__self__)
    check_function(function)
    if session is not None and options["early_refresh"]:
        raise SettingError("early_refresh loads when the caller may be gone, and session= uses the caller's")
    made = Function(function, owner, **options)
    wrapper = _blocking(made) if made.blocking else _awaited(made)
    wrapper.key = lambda *args, **kwargs: made.key(args, kwargs)
    wrapper.cache_info = made.info
    return wrapper if session is None else in_session(function, wrapper, session)


def _blocking(made: Function) -> Any:
    def past_l1(args: Args, kwargs: Kwargs, now: float | None = None, **how: bool) -> Any:
        bound = made.binding.bind()
        entry = None if how or now is None or now == inf else made.behind_a_load(bound, args, kwargs)
        if entry is not None:
            return entry.take()
        glances = None if how else bound.glances
        glance = None if glances is None else glances.begin(args, kwargs)
        if glances is not None and glance is not None:
            return glances.read(bound.node, glance, (args, kwargs), bound, args, kwargs)
        return bound.node.run(made.read(bound, args, kwargs, now=now, **how))

    def invalidate(*args: Any, **kwargs: Any) -> Written:
        node = made.binding.bind().node
        return node.run(made.invalidate(node, args, kwargs))

    def invalidate_all() -> Written:
        node = made.binding.bind().node
        return node.run(made.invalidate_all(node))

    path = made.path = HitPath(made.spelling, past_l1, blocking=True, kept=made.l1)
    made_wrapper: Any = functools.update_wrapper(path.call, made.function)
    made_wrapper.invalidate, made_wrapper.invalidate_all = invalidate, invalidate_all
    made_wrapper.refresh = lambda *args, **kwargs: past_l1(args, kwargs, renew=True)
    return made_wrapper


def _awaited(made: Function) -> Any:
    def past_l1(
        args: Args, kwargs: Kwargs, now: float | None = None, **how: bool
    ) -> Coroutine[Any, Any, Any]:
        bound = made.binding.bind()
        entry = None if how or now is None or now == inf else made.behind_a_load(bound, args, kwargs)
        if entry is not None:
            return _given(entry.take())
        glances = None if how else bound.glances
        glance = None if glances is None else glances.begin(args, kwargs)
        if glances is not None and glance is not None:
            return glances.read_async(bound.node, glance, (args, kwargs), bound, args, kwargs)
        follower = None if how else follow_call(made, bound, args, kwargs)
        if follower is not None:
            return followed(
                bound.node, bound.counts, follower, lambda: made.want(bound, args, kwargs, now=now)
            )
        return bound.node.run_async(made.read(bound, args, kwargs, now=now, **how))

    async def refresh(*args: Any, **kwargs: Any) -> Any:
        return await past_l1(args, kwargs, renew=True)

    async def invalidate(*args: Any, **kwargs: Any) -> Written:
        node = made.binding.bind().node
        return await node.run_async(made.invalidate(node, args, kwargs))

    async def invalidate_all() -> Written:
        node = made.binding.bind().node
        return await node.run_async(made.invalidate_all(node))

    path = made.path = HitPath(made.spelling, past_l1, blocking=False, kept=made.l1)
    made_wrapper: Any = functools.update_wrapper(path.call, made.function)
    made_wrapper.invalidate, made_wrapper.invalidate_all = invalidate, invalidate_all
    made_wrapper.refresh = refresh
    return made_wrapper


async def _given(value: T) -> T:
    return value


@overload
def cached(function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCached[P, R]: ...  # type: ignore[overload-overlap]
@overload
def cached(function: Callable[P, R], /) -> SyncCached[P, R]: ...
@overload
def cached(
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
    cache: TierCache | None = None,
) -> Decorator: ...
def cached(function: Any = None, /, *, cache: TierCache | None = None, **options: Any) -> Any:
    """Keep what a function returns in both tiers; with or without options, over a `def` or an `async def`.

    A call is found again by the values of its arguments: in every process, by type and value, never by an
    address. *ignore* names parameters that do not count; *key* is a template ("{user_id}") or a function of
    the arguments instead of them.

    ttl      seconds, a timedelta or "10m"; None: no expiry; not given: the cache's own
    l1_ttl   likewise, for L1 alone; never longer than the entry's life in L2
    tags     templates over the arguments ("user:{user.id}"), or a function of them, for `invalidate_tags`
    version  entries of another version are other entries: change it with the meaning of the value
    l1, l2   False leaves a tier out; without L2 each process loads for itself
    share    every caller gets the one object in L1, which nobody may change; else mutable values are copies
    early_refresh
             how much sooner than its end, in loads, a value is loaded anew beside its readers; 1.0 is usual
    session  where SQLAlchemy's session is among the arguments: "db", "self.session"; entities join it
    cache    where to; None: the default cache, made at the first call

    Errors of the declaration (a template that names no parameter, a generator, an unknown option) are raised
    at once. A call raises what the function raises; UnstableKey for an argument without a stable key,
    Unstorable for a value that would not come back as it is, LoadTimeout as `get_or_load` does.
    """
    from tiercache._cache import TierCache
    from tiercache._default import default_cache

    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise SettingError(f"@cached has no option {unknown[0]!r}{nearest(unknown[0], OPTIONS)}")
    if cache is not None and not isinstance(cache, TierCache):
        raise SettingError(f"cache= takes what TierCache() or configure() made, not {cache!r}")
    whole = {**OPTIONS, **options}
    owner = default_cache if cache is None else lambda: cache
    if function is not None:
        return decorated(function, owner, **whole)
    return lambda function: decorated(function, owner, **whole)


OPTIONS: dict[str, Any] = {
    "ttl": UNSET,
    "l1_ttl": UNSET,
    "tags": (),
    "key": None,
    "version": None,
    "ignore": (),
    "l1": True,
    "l2": True,
    "share": False,
    "early_refresh": 0.0,
    "session": None,
}
