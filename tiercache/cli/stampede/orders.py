"""What the processes tell each other. Instants are CLOCK_MONOTONIC, which they share; times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

World = Literal["tasks", "threads", "both"]
WORLDS: tuple[World, ...] = ("tasks", "threads", "both")
Outcome = Literal["value", "error", "hang"]
TAG = "stampede"  # every key has it

LOADER, TIMEOUT, GAVE_UP = "the loader's error", "a timeout", "gave up"  # how a call may end without a value


class LoaderFailed(Exception):
    """What a loader raises that is told to fail."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cache under test keeps things, and for how long."""

    url: str
    namespace: str  # of this scenario alone: nothing of another is in its way
    ttl: float
    load_timeout: float
    max_staleness: float
    early_refresh: float


@dataclass(frozen=True, slots=True)
class Order:
    """One round, as one process plays it."""

    world: World
    callers: int
    keys: tuple[str, ...]  # dealt among the callers, who ask for theirs one after another
    instant: float  # of the first call
    load: float  # that the loader takes
    deadline: float  # who has no answer then never gets one
    outcome: Outcome = "value"
    until: float | None = None  # ask over and over until then; None: once for each key
    pause: float = 0.0  # between two of them
    give_up: float | None = None  # the first half of the callers, all tasks, waits no longer
    release: float = 0.0  # when loads end that hang
    changes: tuple[float, ...] = ()  # instants at which the truth of all keys changes
    drop_at: float | None = None  # drop the tag then
    renew_at: float | None = None  # load the keys then, whatever is cached
    tells_loads: bool = False  # at once, for this process may not live to the end of the round

    def version(self, at: float) -> int:
        """Of the truth at that instant."""
        return sum(change <= at for change in self.changes)

    def keys_of(self, number: int) -> tuple[str, ...]:
        """What the caller of that number asks for."""
        return self.keys[number % len(self.keys) :: self.callers]


@dataclass(frozen=True, slots=True)
class Close:
    """Forget the cache, and its connections."""


class Call(NamedTuple):
    key: str
    invoked: float
    returned: float | None  # None: never
    answer: str | None  # None: an error, which `error` tells
    error: str = ""


class Load(NamedTuple):
    """One run of a loader."""

    key: str
    version: int
    began: float
    ended: float | None  # None: it did not end by itself

    def value(self) -> str:
        """What it returns. Text, which every library can store."""
        return f"{self.key}\n{self.version}\n{self.began!r}"


class Write(NamedTuple):
    """The drop of the tag."""

    called: float
    returned: float


class Ready(NamedTuple):
    unfit: str = ""  # why this cache cannot do what is asked


class Begun(NamedTuple):
    """A load has begun in the process that says so."""

    load: Load


@dataclass(slots=True)
class Share:
    """What one process saw of one round."""

    calls: list[Call] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    syncs: int = 0  # round trips that come with time and not with callers
    is_stuck: bool = False  # threads of it are still waiting
    problem: str = ""  # why an errand could not be done
