"""Every verb once, as a plan: arguments checked, defaults of the handle applied.

`TierCache` awaits what stands here and `cache.sync` blocks on it; what a read by key may do without a plan
stands in `_by_key.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

from tiercache._accelerator import compiled
from tiercache._audit import Auditor
from tiercache._core import barriers, batches, reads, syncs, writes
from tiercache._core.follows import Follower, follow
from tiercache._core.keys import check_key
from tiercache._core.l1 import Entry
from tiercache._core.many import LoadMany
from tiercache._core.namers import check_names
from tiercache._core.plan import Call, Plan
from tiercache._core.sources import is_writing
from tiercache._core.tags import check_tags
from tiercache._core.tiers import Counts, Tiers, Want
from tiercache._core.writes import Token, Written
from tiercache._glances import KeyGlances
from tiercache._settings import Settings, lifetime

Ttl = float | str | timedelta | None
Tags = str | Iterable[str]
TagsOfKey = Tags | Callable[[str], Tags]
OnError = Literal["pend", "raise"]


REPEATABLE = (str, list, tuple)  # tags that are still there when they were looked at


class Unset:
    def __repr__(self) -> str:
        return "the handle's own"


UNSET: Final = Unset()


class Loading(NamedTuple):
    """How a read by key comes to what no tier has, as `get_or_load` is told; without a loader not at all."""

    loader: Callable[[], Any] | None = None
    ttl: Ttl | Unset = UNSET
    tags: Tags = ()
    share: bool = False


class Verbs:
    """The verbs of one handle in one world."""

    def __init__(
        self,
        tiers: Tiers,
        settings: Settings,
        counts: Counts,
        *,
        l2: bool,
        blocking: bool,
        auditor: Auditor | None = None,
    ) -> None:
        self.tiers, self.settings, self.counts = tiers, settings, counts
        self.l2, self.blocking, self.auditor = l2, blocking, auditor
        can_glance = compiled is not None and l2 and auditor is None
        self.glances = KeyGlances(tiers, counts, Verbs.want_to_read) if can_glance else None

    def want(
        self,
        key: str,
        *,
        call: Call | None = None,
        ttl: Ttl | Unset = UNSET,
        tags: Tags = (),
        share: bool = False,
    ) -> Want:
        stored, checked = check_names(key, tags)
        return Want(
            stored,
            self.counts,
            call,
            checked,
            jittered(self.settings, self.lifetime(ttl)),
            self.settings.l1_ttl,
            l2=self.l2,
            share=share,
        )

    def lifetime(self, ttl: Ttl | Unset) -> float | None:
        return self.settings.ttl if isinstance(ttl, Unset) else lifetime(ttl, "ttl")

    def hit(self, key: str) -> Entry | None:
        """What L1 answers with at once, by the rule of a function's hit path; None: that is for a plan."""
        core = self.tiers.core
        until = core.open_until
        entry = core.l1.entries.get(key) if type(key) is str else None
        if entry is None:
            return None
        now = self.tiers.clock()
        if now >= until or now >= entry.deadline or is_writing():
            return None
        entry.stamp = now
        self.counts.l1_hits += 1
        return entry

    def hit_or_load(self, key: str, loader: Callable[[], Any], ttl: Ttl | Unset, tags: Tags) -> Entry | None:
        """Likewise; an auditor has to see the call, and a tag new to the entry may be written here now."""
        checked_loader(loader)
        if self.auditor is not None or self.tiers.core.held or not isinstance(tags, REPEATABLE):
            return None
        if tags != ():
            check_names(key, tags)
        if ttl is not UNSET:
            self.lifetime(ttl)
        return self.hit(key)

    def read(self, key: str, how: Loading) -> Plan[Any]:
        """The value under *key*, or MISS where there is no loader."""
        want = self.want_to_read(key, how)
        if self.auditor is not None and how.loader is not None:
            want = replace(want, audit=self.auditor.observer_of(how.loader, blocking=self.blocking))
        return reads.read(self.tiers, want, blocking=self.blocking)

    def want_to_read(self, key: str, how: Loading) -> Want:
        loader, ttl, tags, share = how
        call = None if loader is None else Call(checked_loader(loader))
        return self.want(key, call=call, ttl=ttl, tags=tags, share=share)

    def follow(
        self, key: str, loader: Callable[[], Any], ttl: Ttl | Unset, tags: Tags, share: bool
    ) -> tuple[Follower, Callable[[], Want]] | None:
        """Join the load of *key* that is under way; None where there is none, or a plan must see to it."""
        if self.tiers.board.is_empty or self.auditor is not None or not isinstance(tags, REPEATABLE):
            return None
        checked_loader(loader)
        named = tags if isinstance(tags, str) else tuple(tags)  # the caller's list may change meanwhile
        stored, _ = check_names(key, named)
        if ttl is not UNSET:
            self.lifetime(ttl)
        follower = follow(self.tiers, stored)
        if follower is None:
            return None
        return follower, lambda: self.want_to_read(key, Loading(loader, ttl, named, share))

    def get_many(self, keys: Iterable[str]) -> Plan[dict[str, Any]]:
        named = by_stored(keys)
        wants = [Want(stored, self.counts, l1_ttl=self.settings.l1_ttl, l2=self.l2) for stored in named]
        found = yield from batches.get_many(self.tiers, wants, blocking=self.blocking)
        return {named[stored]: value for stored, value in found.items()}

    def get_or_load_many(
        self, keys: Iterable[str], loader: LoadMany, ttl: Ttl | Unset, tags: TagsOfKey
    ) -> Plan[dict[str, Any]]:
        named, tags_of = by_stored(keys), of_each(tags)
        wants = [self.want(stored, ttl=ttl, tags=tags_of(named[stored])) for stored in named]
        found = yield from batches.get_or_load_many(
            self.tiers, wants, checked_loader(loader), named, blocking=self.blocking
        )
        return {named[stored]: value for stored, value in found.items()}

    def set(
        self, key: str, value: object, ttl: Ttl | Unset, tags: Tags, token: Token | None
    ) -> Plan[Written]:
        if token is not None:
            checked_token(token)
        return (
            yield from writes.put(
                self.tiers, [(self.want(key, ttl=ttl, tags=tags), value)], token, blocking=self.blocking
            )
        )

    def set_many(self, mapping: Mapping[str, object], ttl: Ttl | Unset, tags: TagsOfKey) -> Plan[Written]:
        if not isinstance(mapping, Mapping):
            raise TypeError(f"set_many takes a mapping of key to value, not {type(mapping).__name__}")
        tags_of = of_each(tags)
        items = [(self.want(key, ttl=ttl, tags=tags_of(key)), value) for key, value in mapping.items()]
        return (yield from writes.put(self.tiers, items, blocking=self.blocking))

    def invalidate(self, tags: Tags, keys: Iterable[str], on_error: OnError, wait: bool) -> Plan[Written]:
        if on_error not in ("pend", "raise"):
            raise ValueError(f"on_error must be 'pend' or 'raise', not {on_error!r}")
        checked_wait(wait)
        named = list(by_stored(keys))
        write = writes.invalidate(
            self.tiers, check_tags(tags, most=None), named, raise_if_away=on_error == "raise"
        )
        return (yield from barriers.reached(self.tiers, write) if wait else write)

    def clear(self, on_error: OnError, wait: bool) -> Plan[Written]:
        checked_wait(wait)
        write = writes.clear(self.tiers, raise_if_away=on_error == "raise")
        return (yield from barriers.reached(self.tiers, write) if wait else write)

    def at_least(self, token: Token) -> Plan[None]:
        checked_token(token)
        yield from barriers.at_least(self.tiers, token, blocking=self.blocking)

    def probe(self) -> Plan[None]:
        """One look at whether Redis answers, and what with."""
        yield from syncs.sync(self.tiers, blocking=self.blocking)

    def token(self) -> Plan[Token]:
        return (yield from writes.token(self.tiers, blocking=self.blocking))

    def touch(self, key: str, ttl: Ttl | Unset) -> Plan[bool]:
        return (yield from reads.touch(self.tiers, self.want(key, ttl=ttl), blocking=self.blocking))


def jittered(settings: Settings, ttl: float | None) -> float | None:
    """*ttl* less a random part, so that what was stored together does not end together."""
    return ttl if ttl is None or not settings.jitter else ttl * (1 - settings.jitter * random.random())


def checked_wait(wait: object) -> None:
    if not isinstance(wait, bool):
        raise TypeError(f"wait must be True or False, not {wait!r}; a barrier ends within max_staleness")


def checked_token(token: object) -> None:
    if not isinstance(token, Token) or not all(type(number) is int for number in token):
        raise TypeError(f"token must be the token of a write, or Token.parse(text) of one, not {token!r}")


def checked_loader(loader: Any) -> Callable[..., Any]:
    if not callable(loader):
        raise TypeError(f"loader must be a function, not {loader!r}; pass the function, not its result")
    function: Callable[..., Any] = loader
    return function


def of_each(tags: TagsOfKey) -> Callable[[str], Tags]:
    """The tags of each of several keys. An iterator can be read but once, and is for all of them."""
    if callable(tags):
        return tags
    named = check_tags(tags)
    return lambda key: named


def by_stored(keys: Iterable[str]) -> dict[str, str]:
    """Keys as they are stored, each with the caller's own spelling."""
    if isinstance(keys, (str, bytes)):
        raise TypeError(f"keys must be a list of keys, not one: write [{keys!r}]")
    if not isinstance(keys, Iterable):
        raise TypeError(f"keys must be a list of keys, not {keys!r}")
    return {check_key(key): key for key in keys}
