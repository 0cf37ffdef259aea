"""Fences: marks that stand from before a write of the truth until it is told, or its writer is given up.

While a dependency is fenced nothing about it is stored: what a load finds may be from before the
commit or from after it. A fence that nobody lifts runs out and becomes a record; so the death of a
writer between its commit and its invalidation leaves misses, never an old value (G7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiercache._core.commands import Invalidate, Recorded
from tiercache._core.plan import Ask, Plan, Tell
from tiercache._core.records import MAX_DEPS, pack_deps
from tiercache._core.scripts import FENCE, UNFENCE, Names, Parts, fields_of, nonce
from tiercache._core.syncs import invalidation_of
from tiercache._core.tiers import Tiers
from tiercache._errors import L2Unavailable


@dataclass(frozen=True, slots=True)
class Fence:
    """One record on tags and keys, and a fence on them, known by its name and what it is on."""

    tags: tuple[str, ...]
    keys: tuple[str, ...]
    cap: int
    key_cap: int
    name: str
    ttl_ms: int

    @property
    def deps(self) -> tuple[str, ...]:
        return Invalidate(self.tags, self.keys, self.cap, self.key_cap).deps

    def parts(self, names: Names) -> Parts:
        deps = self.deps
        return Parts(
            FENCE,
            (*names.domain, *map(names.entry, self.keys)),
            (nonce(), names.channel, pack_deps(deps), self.cap, self.key_cap, self.name, self.ttl_ms, *deps),
        )

    def parse(self, raw: Any) -> Recorded:
        epoch, number = fields_of(raw)
        return Recorded(int(epoch), int(number))


@dataclass(frozen=True, slots=True)
class Unfence:
    name: str
    deps: tuple[str, ...]

    def parts(self, names: Names) -> Parts:
        return Parts(UNFENCE, names.domain, (self.name, pack_deps(self.deps)))

    def parse(self, raw: Any) -> bool:
        return int(raw) == 1


def new_name() -> str:
    return f"{nonce():x}"


def put_up(tiers: Tiers, deps: list[str], name: str, ttl: float) -> Plan[int]:
    """Fence *deps* for *ttl* seconds of the server's clock; the epoch whose end is the end of the fence, too.

    Raises L2Unavailable where it is not certain that all is fenced. One round trip a slice of 2,000. Cut
    short, it may leave some, which `unsure` lifts; else they run out by themselves.
    """
    epoch = 0
    for part in slices(deps):
        plain = invalidation_of(tiers, part)
        command = Fence(plain.tags, plain.keys, plain.cap, plain.key_cap, name, max(1, round(ttl * 1000)))
        replies = yield Ask((command,))
        tiers.core.own_record(replies[0], part, tiers.clock())
        epoch = epoch or replies[0].epoch
    return epoch


def take_down(tiers: Tiers, deps: list[str], name: str) -> Plan[None]:
    """Lift the fence of that *name* without a record; where Redis is away, when it is back."""
    lifts = lifting(deps, name)
    try:
        yield Ask(lifts)
    except L2Unavailable:
        tiers.owe(lifts)
        tiers.events["fences_left"] += 1


def unsure(tiers: Tiers, deps: list[str], name: str) -> Tell:
    """To lift a fence of which nobody knows whether it is there; nobody waits for that either."""
    return Tell(lifting(deps, name), tiers.owe)


def lifting(deps: list[str], name: str) -> tuple[Unfence, ...]:
    """What lifts the fence of that *name* on *deps*, or does nothing where it is gone."""
    return tuple(Unfence(name, tuple(part)) for part in slices(deps))


def slices(deps: list[str]) -> list[list[str]]:
    """*deps* as many at a time as one record may name."""
    return [deps[start : start + MAX_DEPS] for start in range(0, len(deps), MAX_DEPS)]
