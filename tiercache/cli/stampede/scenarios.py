"""What may happen to callers, and how it is arranged in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal

from tiercache._core.commands import LOCK_MS
from tiercache.cli.stampede.orders import WORLDS, Order, World

LOCK = LOCK_MS / 1000  # seconds; how long the lock of a dead holder stands
PATIENCE = 10.0  # seconds beyond what a round should take; who has no answer then is missing
LONG = 600.0
BOUND = 1.0  # the promise of freshness where it is put to the test, in seconds

# From when on callers wait: the common instant; their own call; the change of the truth; the first load.
Event = Literal["instant", "call", "change", "load"]


@dataclass(frozen=True, slots=True)
class Setup:
    """The size of a run."""

    processes: int = 8
    callers: int = 100  # in each process
    keys: int = 1000  # at a restart
    load: float = 0.2  # seconds the loader takes

    @property
    def head_start(self) -> float:
        """Between the order and the first call: all must have it, and have made their callers."""
        return 0.2 + 0.0005 * self.processes * self.callers

    @property
    def pause(self) -> float:
        """Of a caller between two calls: all have asked within half a load, or at 5,000 calls a second."""
        return max(self.load / 2, self.processes * self.callers / 5000)


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where a round is arranged."""

    world: World
    keys: tuple[str, ...]
    now: float
    filled: float  # when the last load of the keys ended, where they are hot


def once(setup: Setup, at: Moment) -> Order:
    """Everybody asks once, at one instant."""
    instant = at.now + setup.head_start
    each = ceil(len(at.keys) / setup.callers)
    deadline = instant + 3 * each * setup.load + PATIENCE
    return Order(at.world, setup.callers, at.keys, instant, setup.load, deadline)


def expiring(setup: Setup, at: Moment) -> Order:
    """Everybody asks over and over, from before the key expires until after it is loaded again."""
    ends = at.filled + short_ttl(setup)
    instant = max(at.now + setup.head_start, ends - 2 * setup.pause)
    order = replace(once(setup, at), instant=instant, pause=setup.pause)
    until = ends + 2 * setup.load + setup.pause
    return replace(order, until=until, deadline=until + PATIENCE)


def renewed(setup: Setup, at: Moment) -> Order:
    ends = at.filled + short_ttl(setup)
    return replace(expiring(setup, at), renew_at=ends - setup.load - RENEW_AHEAD)


def read_all_along(setup: Setup, at: Moment) -> Order:
    """Everybody asks over and over from half of the key's life on, so that somebody finds it is time."""
    order = expiring(setup, at)
    return replace(order, instant=max(at.now + setup.head_start, at.filled + short_ttl(setup) / 2))


def changing(setup: Setup, at: Moment) -> Order:
    """Everybody asks over and over while the truth changes and the tag is invalidated, until D is over."""
    order = once(setup, at)
    change = order.instant + 2 * setup.pause
    until = change + BOUND + 2 * setup.load + setup.pause
    return replace(
        order,
        pause=setup.pause,
        until=until,
        deadline=until + PATIENCE,
        changes=(change,),
        drop_at=change,
    )


def failing(setup: Setup, at: Moment) -> Order:
    """Each process may have to find out by itself."""
    order = once(setup, at)
    deadline = order.deadline + setup.processes * setup.load
    return replace(order, outcome="error", deadline=deadline)


def hanging(setup: Setup, at: Moment) -> Order:
    order = once(setup, at)
    release = order.instant + load_timeout(setup) + 1.0
    return replace(order, outcome="hang", release=release, deadline=release + setup.load + PATIENCE / 2)


def bereft(setup: Setup, at: Moment) -> Order:
    order = once(setup, at)
    return replace(order, tells_loads=True, deadline=order.deadline + LOCK)


def leaving(setup: Setup, at: Moment) -> Order:
    return replace(once(setup, at), give_up=setup.load / 2)


def short_ttl(setup: Setup) -> float:
    """Whole seconds, for there are caches that take no others."""
    return float(ceil(1.0 + setup.head_start + 3 * setup.load))


def load_timeout(setup: Setup) -> float:
    """Beyond the life of a lock, so that both ways out of a load that hangs are seen."""
    return LOCK + setup.load + 2.0


RENEW_AHEAD = 0.3  # seconds


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    what: str
    order: Callable[[Setup, Moment], Order] = once
    event: Event = "instant"
    worlds: tuple[World, ...] = WORLDS
    rounds: int = 3
    is_hot: bool = False  # before it begins, all processes have read the keys
    many_keys: bool = False
    forgets: bool = False  # Redis loses its memory between reading the keys and asking for them
    kills_holder: bool = False
    ttl: Callable[[Setup], float] = field(default=lambda setup: LONG)
    early_refresh: float = 0.0
    load_timeout: Callable[[Setup], float] = field(default=lambda setup: 30.0)
    max_staleness: float = 5.0
    most_loads: int | None = 1  # of one key in a round; None: as many as it takes, for no load is kept
    is_long: bool = False  # by what somebody must wait for; left out of a quick run


SCENARIOS = (
    Scenario("cold", "a key that nobody has"),
    Scenario("expiry", "a hot key expires", expiring, "load", rounds=2, is_hot=True, ttl=short_ttl),
    Scenario(
        "refresh",
        "the same, and one process loads it anew ahead of that",
        renewed,
        "load",
        rounds=2,
        is_hot=True,
        ttl=short_ttl,
        most_loads=2,  # the job's, and that of the callers where it comes too late
    ),
    Scenario(
        "early",
        "a hot key, read all along, with `early_refresh`",
        read_all_along,
        "load",
        rounds=2,
        is_hot=True,
        ttl=short_ttl,
        worlds=("tasks", "threads"),  # what half of the callers learn of a load, the other function does not
        early_refresh=1.0,
        most_loads=2,  # likewise
    ),
    Scenario(
        "tag",
        "a hot key is invalidated by tag",
        changing,
        "change",
        rounds=2,
        is_hot=True,
        max_staleness=BOUND,
    ),
    Scenario(
        "restart",
        "many hot keys, and Redis forgets them all",
        once,
        "call",
        rounds=1,
        is_hot=True,
        many_keys=True,
        forgets=True,
    ),
    Scenario("failure", "a cold key whose loader fails", failing, most_loads=None),
    Scenario("give-up", "a cold key, half of the callers leave", leaving, worlds=("tasks",), most_loads=None),
    Scenario(
        "hang",
        "a cold key whose loader hangs",
        hanging,
        rounds=1,
        load_timeout=load_timeout,
        most_loads=2,
        is_long=True,
    ),
    Scenario(
        "killed",
        "a cold key, the process that loads it is killed",
        bereft,
        rounds=1,
        kills_holder=True,
        most_loads=2,
        is_long=True,
    ),
)
