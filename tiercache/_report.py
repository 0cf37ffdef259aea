"""What a cache says of itself: counters, and its health."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tiercache._accelerator import compiled
from tiercache._core.commands import Synced
from tiercache._core.tiers import Counts
from tiercache._node import Node


@dataclass(frozen=True, slots=True)
class Stats:
    """Reads of this process by how they were answered, since the node began; nothing is ever reset."""

    l1_hits: int
    l2_hits: int
    loads: int  # loaders run by this process
    joins: int  # callers that got the result of another's load
    misses: int  # of `get` and its kin, which load nothing
    entries: int  # in L1 now
    evictions: int
    events: Counter[str]  # what else happened, by name: see docs/reference/events.md
    audit: dict[str, Counter[str]] = field(default_factory=dict)  # audits by function and ending

    @property
    def hit_rate(self) -> float:
        """The part of reads that a tier answered, or the load of another; 0.0 before the first read."""
        reads = self.l1_hits + self.l2_hits + self.loads + self.joins + self.misses
        return (reads - self.loads - self.misses) / reads if reads else 0.0


def stats(node: Node) -> Stats:
    l1, counts = node.tiers.core.l1, list(node.counts)
    return Stats(
        l1_hits=sum(c.l1_hits for c in counts),
        l2_hits=sum(c.l2_hits for c in counts),
        loads=sum(c.loads for c in counts),
        joins=sum(c.joins for c in counts),
        misses=sum(c.misses for c in counts),
        entries=len(l1.entries),
        evictions=l1.evictions,
        events=Counter(node.tiers.events),
        audit=node.auditor.report() if node.auditor is not None else {},
    )


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """How the calls of one decorated function were answered in this process."""

    l1_hits: int
    l2_hits: int
    loads: int
    joins: int

    @classmethod
    def of(cls, counts: Counts) -> CacheInfo:
        return cls(counts.l1_hits, counts.l2_hits, counts.loads, counts.joins)


@dataclass(frozen=True, slots=True)
class Health:
    """What this node can do right now, and what keeps it from more.

    `problem` is None where both tiers serve and the channel is heard, or will be: `listening` is False for
    some milliseconds after the first call of a process, and no problem yet. `lease` is for how many seconds
    more L1 may answer without asking Redis; it is renewed three times in `max_staleness` while the process
    reads.
    """

    url: str
    namespace: str
    mode: str  # "two tiers" | "L1 alone" | "without cache"
    problem: str | None
    lease: float
    listening: bool
    pending: int  # invalidations Redis has not been told
    nodes: int  # that synced within the last minute: this one, others, and those that ended since
    tag_history: int  # records back to which a load may have begun, and still be kept, by its tags
    key_history: int  # likewise by its key
    primary: str | None  # through Sentinel: host and port of the server in use
    hit_path: str  # "compiled" | "pure": what answers the hits of cached functions in this process


def health(node: Node) -> Health:
    core = node.tiers.core
    synced: Synced | None = core.synced
    if node.address is None:
        url, mode = "memory://", "L1 alone"
        problem = "no URL was given: nothing is shared with other processes" if node.fallback else None
    else:
        url, problem = str(node.address), _problem(node)
        mode = "two tiers" if node.clock() < core.lease else "without cache"
    return Health(
        url,
        node.settings.namespace,
        mode,
        problem,
        lease=max(0.0, core.lease - node.clock()),
        listening=node.is_listening(),
        pending=len(core.pending),
        nodes=synced.members if synced else 1,
        tag_history=synced.head - synced.tag_floor if synced else 0,
        key_history=synced.head - synced.key_floor if synced else 0,
        primary=node.address.primary if node.address else None,
        hit_path="pure" if compiled is None else "compiled",
    )


def _problem(node: Node) -> str | None:
    core = node.tiers.core
    if node.breaker.reason is not None:
        serves = node.clock() < core.lease
        rest = "L1 serves until its lease ends" if serves else "functions are called, nothing is cached"
        return f"Redis does not answer ({node.breaker.reason}); {rest}"
    if node.tiers.refusal is not None:
        return f"{node.tiers.refusal}; functions are called, nothing is cached"
    if node.tiers.unstored is not None:
        return f"{node.tiers.unstored}; values are not stored"
    if core.pending:
        return "invalidations wait for Redis"
    if node.unheard is not None:
        why = f"no thread can hear the channel ({node.unheard})"
        return f"{why}; what others invalidate is found by the next sync"
    if node.is_deaf():
        return "the channel is not heard; what others invalidate is found by the next sync"
    return None
