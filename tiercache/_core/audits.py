"""The plan of one audit: is what a hit gave still what its source gives?

It is the only thing that finds a dependency that a write forgot to name (A5), and it finds what is wrong in
our own rules besides. One load that brings the same as the hit ends it. A difference alone proves nothing:
the source may have changed a millisecond ago, and a hit may be D' old. What proves something is this, in
one round, at most `ROUNDS` of them:

    load        y, ends at e        the source gave y at some instant before e
    wait D'
    load        y again
    read        x, at r >= e + D'   by the tiers alone, as any caller would get it: no load, no sync
    load        y again
    sync        no record on the dependencies of the value ran after e

x is y, or the tiers have nothing: `stale_within_D`, the ordinary case. Else x may only differ

    1  because x was made before the write that made y. If the invalidation of that write ran before e,
       G1 says that a read at r reflects it: a bug of ours. If it ran later, the sync brings its record,
       and there is no verdict. If there was none by now: D' after the write was visible nobody has said so.
    2  because the source went from y to x and back between two of the loads. Both were writes, and each of
       them made a record that the sync brings: no verdict. Or nobody has said so.
    3  because the loader is not a function of its source. Two loads in a row then differ, sooner or later.

So with the same y three times, no record, and another x, what is left is an invalidation that was missing, or
that came later than D' after its write, or a bug: `stale_beyond_D`. It rests on A6, as all loads do, and on a
loader that gives the same for the same source. A record counts as "after e" if this node had not met its
number by e, so that one whose hint was still under way costs a round and never makes a false alarm.

Loads that differ from each other with no record at all between them are `unstable`: two in a row at once, or
three rounds long. Where records came in every round, or Redis cannot be asked, the audit is `undecided`.

An audit's load is answered by no tier, however deep it reads: by `get_or_load` and decorated functions it
gets to their sources, and a `get` in it, which has none, ends the audit without a verdict (`no_source`).
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, Literal

from tiercache._core.coherence import Stand
from tiercache._core.flights import Flight, Load
from tiercache._core.l1 import Entry, deps_of
from tiercache._core.plan import Call, Join, Plan
from tiercache._core.reads import MISS, read
from tiercache._core.sources import ANY_EPOCH
from tiercache._core.syncs import sync
from tiercache._core.tiers import Counts, Tiers, Want
from tiercache._errors import L2Unavailable, Unstorable

ROUNDS: Final = 3
SHOWN: Final = 80  # characters of each value in a warning, around the first that differs

Outcome = Literal[
    "same", "stale_within_D", "stale_beyond_D", "unstable", "undecided", "load_failed", "no_source"
]


@dataclass(frozen=True, slots=True)
class Served:
    """A hit that is to be looked into."""

    want: Want
    call: Call  # what the source is asked by; not `want.call` where that could come to mean something else
    entry: Entry
    tier: str
    stand: Stand  # of the node at the hit

    @property
    def deps(self) -> tuple[str, ...]:
        return deps_of(self.entry.key, self.entry.deps)


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    why: str = ""


class _End(Exception):
    """The audit is over before its last step."""

    def __init__(self, outcome: Outcome, why: str = "") -> None:
        self.verdict = Verdict(outcome, why)


def audit(tiers: Tiers, served: Served, wait: float, asleep: Future[None]) -> Plan[Verdict]:
    """What became of the value of a hit; *wait* is D', passed in `Join`s on *asleep*, which never lands."""
    try:
        return (yield from _judge(tiers, served, wait, asleep))
    except _End as end:
        return end.verdict


def _judge(tiers: Tiers, served: Served, wait: float, asleep: Future[None]) -> Plan[Verdict]:
    begun = tiers.core.stand(tiers.clock())
    value, restore = served.entry.value, served.entry.restore
    given = value if restore is not None and type(value) is bytes else _kept(tiers, value)
    last = yield from _load(tiers, served)
    if _equal(tiers, given, last):
        return Verdict("same")
    again = yield from _load(tiers, served)
    if not _equal(tiers, last, again) and not (yield from _is_recorded(tiers, served.deps, begun)):
        return Verdict("unstable")
    last = again
    for _ in range(ROUNDS):
        since = tiers.core.stand(tiers.clock())
        yield Join(asleep, wait)
        before, last = last, (yield from _load(tiers, served))
        if not _equal(tiers, before, last):
            continue
        cached = yield from _cached(tiers, served)
        # What is cached now may depend on something else than what was served.
        entry = tiers.core.l1.entries.get(served.want.key)
        deps = served.deps if entry is None else (*served.deps, *entry.deps)
        if cached is MISS or _equal(tiers, cached, last):
            return Verdict("stale_within_D")
        before, last = last, (yield from _load(tiers, served))
        if _equal(tiers, before, last) and not (yield from _is_recorded(tiers, deps, since)):
            return Verdict("stale_beyond_D", _report(tiers, served, cached, last))
    recorded = yield from _is_recorded(tiers, served.deps, begun)
    return Verdict("undecided" if recorded else "unstable")


def _load(tiers: Tiers, served: Served) -> Plan[Any]:
    """What the source gives now, as it would be stored."""
    core = tiers.core
    load = Load(core, ANY_EPOCH, inf, Flight(served.want.key, tiers.clock()), None)
    try:
        core.begin_load(ANY_EPOCH, inf, load)
        value = yield served.call.within(load)
        kept = _kept(tiers, value)
    except Exception as error:
        raise _End("no_source" if load.unsourced else "load_failed", repr(error)) from error
    finally:
        load.is_over = True
        core.end_load(load)
    if load.unsourced:
        raise _End("no_source")
    return kept


def _cached(tiers: Tiers, served: Served) -> Plan[Any]:
    """What the tiers give now to who may not load, as it would be stored, or MISS."""
    want = replace(
        served.want,
        call=None,
        counts=Counts(),
        renew=False,
        audit=None,
        caller=None,
        table=None,
        arguments=None,
    )
    try:
        value = yield from read(tiers, want, blocking=True)
    except L2Unavailable as error:
        raise _End("undecided") from error
    if value is MISS and tiers.core.lease <= tiers.clock():
        raise _End("undecided")
    return value if value is MISS else _kept(tiers, value)


def _is_recorded(tiers: Tiers, deps: tuple[str, ...], since: Stand) -> Plan[bool]:
    """Whether a record on *deps* ran after *since*, or that cannot be told any more."""
    good, _ = yield from sync(tiers, blocking=True)
    if not good:
        raise _End("undecided")
    core = tiers.core
    same_history = (core.epoch, core.generation) == (since.epoch, since.generation)
    return not (same_history and core.reflects(deps, since.seen))


def _kept(tiers: Tiers, value: Any) -> Any:
    """*value* as bytes, which nobody can change any more; itself where only its owner can store it."""
    try:
        return tiers.values.encode(value)
    except Unstorable:
        return value


def _equal(tiers: Tiers, one: Any, other: Any) -> bool:
    try:
        # Equal sets may differ in their bytes.
        return bool(one == other) or bool(_restored(tiers, one) == _restored(tiers, other))
    except Exception:
        return False  # by an __eq__ of the user's: the bytes said so, too


def _restored(tiers: Tiers, kept: Any) -> Any:
    return tiers.values.decode(kept) if isinstance(kept, bytes) else kept


def _report(tiers: Tiers, served: Served, cached: Any, source: Any) -> str:
    """What a developer needs to find the write that named too little."""
    core, stand, entry = tiers.core, served.stand, served.entry
    age = stand.at - (stand.lease - core.max_staleness)
    lease = f"lease {age:.3f} s old" if age == age else "a lease without end"
    old, new = shown(_text(_restored(tiers, cached)), _text(_restored(tiers, source)))
    tags = ", ".join(dep.removeprefix("t:") for dep in entry.deps) or "none"
    return (
        f"key {entry.key!r}, tags {tags}, was served from {served.tier}: "
        f"vouched for at V={entry.vouched} of head={stand.seen}, {lease}; "
        f"the tiers still give {old}, the source gives {new}. No record named what it depends on meanwhile: "
        "a write forgot to invalidate one of them, or came to it late"
    )


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # of the user's
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def shown(old: str, new: str) -> tuple[str, str]:
    """Both texts cut to where they first differ; one that fits is whole."""
    same = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    first = 0 if old == new else same
    begin = max(0, first - SHOWN // 4)
    return _cut(old, begin), _cut(new, begin)


def _cut(text: str, begin: int) -> str:
    begin = min(begin, max(0, len(text) - SHOWN))
    end = begin + SHOWN
    return ("..." if begin else "") + text[begin:end] + ("..." if end < len(text) else "")
