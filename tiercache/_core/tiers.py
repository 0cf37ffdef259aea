"""What the plans of one node share: its tiers, its board, its names, its counters."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tiercache._accelerator import Tally
from tiercache._core.coherence import Coherence
from tiercache._core.complaints import Complaints
from tiercache._core.compression import Format, compress
from tiercache._core.flights import Board
from tiercache._core.l1 import Entry
from tiercache._core.plan import Call

if TYPE_CHECKING:
    from tiercache._core.commands import Command


class ValueCodec(Protocol):
    """What the tiers ask of the codec; see `tiercache._core.values`."""

    def encode(self, value: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...

    def encode_linked(self, value: Any) -> bytes: ...

    def is_shareable(self, value: Any) -> bool: ...


# What the last answers of L2 say of a look at the next read. One that finds nothing costs a round trip, and
# one that finds the entry saves a quarter: it pays where four of five reads are hits.
FOUND, NOT_FOUND, IN_VAIN = 1, -3, -2
MOST = 8  # that all of them count for
REFUSED = -1_000  # by an ACL, say, that is seldom changed
MAX_DUE, MAX_DUE_OF_ONE = 1_000, 10  # keys whose wake-ups nobody waits for any more, and those of one key

# What a look in vain counts where the tags of its one key are known, and the most that those before count: it
# costs what four that find the entry save. After two in a row the script must find the same tags four times.
LOST, MOST_OF_ONE = -4, 5
MAX_KNOWN, MAX_KNOWN_TAGS = 4_000, 40_000  # keys whose tags are remembered, and those tags, about
MAX_OWED = 10_000  # locks and fences that are still to be let go of; those of before end by themselves


class Counts(Tally):
    """How the reads of one function, or of one view, were answered. Plain integers, each exact."""

    NAMES = ("joins", "l1_hits", "l2_hits", "loads", "misses")
    __slots__ = ("joins", "l2_hits", "loads", "misses", "prospect", "size", "took")

    def __init__(self) -> None:
        self.l1_hits = self.l2_hits = self.loads = self.joins = self.misses = 0
        self.prospect = 0  # of a look; above 0 it comes before the script
        self.size = 40_000  # bytes of an entry of L2, about: as batches found them, a hundred a look before
        self.took = 0.0  # seconds of the last load

    def learn(self, sign: int) -> None:
        """Let *sign*, of an answer of L2, count for the prospect."""
        if sign < 0 or self.prospect < MOST:  # as it is after a few hits
            self.prospect = max(min(self.prospect, -MOST), min(MOST, self.prospect + sign))

    def add(self, other: Counts) -> None:
        for name in self.NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def reads(self) -> int:
        return self.l1_hits + self.l2_hits + self.loads + self.joins + self.misses


class Known:
    """The tags last found on the entry of one key, and what a look that asks for them has been worth."""

    __slots__ = ("is_sure", "prospect", "tags")

    def __init__(self, tags: tuple[str, ...]) -> None:
        self.tags, self.prospect = tags, MOST_OF_ONE
        self.is_sure = True  # no look has been in vain since they were found

    def learn(self, sign: int) -> None:
        self.prospect = min(MOST_OF_ONE, self.prospect + sign)


class KnownTags:
    """What the entries of keys were last found to be tagged with beyond what their readers declare.

    A guess, by which a look knows what to ask for; some thousands, those that were learned last. A key whose
    entry has others each time, or is seldom good, is left to the script. Without a lock: each step leaves it
    whole, and a count that two threads change at once is off by one.
    """

    __slots__ = ("_older", "_recent", "_tags")

    def __init__(self) -> None:
        self._recent: dict[str, Known] = {}
        self._older: dict[str, Known] = {}
        self._tags = 0  # of the recent ones

    def _of(self, key: str) -> Known | None:
        return self._recent.get(key) or self._older.get(key)

    def get(self, key: str) -> tuple[str, ...] | None:
        known = self._of(key)
        return known.tags if known is not None and known.is_sure and known.prospect > 0 else None

    def learn(self, key: str, tags: tuple[str, ...]) -> None:
        """The script has found *tags* on the entry of *key*."""
        known = self._of(key)
        if known is None:
            known = Known(tags)
        elif set(tags) <= set(known.tags):
            known.learn(FOUND)  # a look for those would have found it
        before = len(known.tags) if key in self._recent else 0
        if not before and (len(self._recent) >= MAX_KNOWN // 2 or self._tags >= MAX_KNOWN_TAGS // 2):
            self._older, self._recent, self._tags = self._recent, {}, 0
        known.tags, known.is_sure = tags, True
        self._tags += len(tags) - before
        self._recent[key] = known

    def found(self, key: str) -> None:
        """A look found the entry of *key* by what was known of it."""
        known = self._of(key)
        if known is not None:
            known.learn(FOUND)

    def failed(self, key: str, asked: Container[str] | None) -> bool:
        """Whether a look in vain, for *asked*, was for what was known of *key*; the next asks the script."""
        known = self._of(key)
        if known is None or not known.is_sure or known.prospect <= 0:
            return False
        if asked is not None and not all(tag in asked for tag in known.tags):
            return False
        known.is_sure = False
        known.learn(LOST)
        return True


class Bells:
    """Who waits in this process for the end of another process's load; rung by the listener."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant for the garbage collector's sake, as that of the boards
        self._bells: dict[str, list[Future[None]]] = {}  # under `_lock`
        self._due: dict[str, int] = {}  # wake-ups that nobody waits for any more; under `_lock`
        self.rung = 0  # wake-ups so far, whether anybody waited for them; written under `_lock`

    def hang(self, dep: str) -> Future[None]:
        """A bell for *dep*, to be taken down in the end.

        Hung before the read that answers "wait", it misses no wake-up. One hung after it may have, unless
        `rung` is by then what it was before the read.
        """
        bell: Future[None] = Future()
        bell.set_running_or_notify_cancel()
        with self._lock:
            self._bells.setdefault(dep, []).append(bell)
        return bell

    def ring(self, dep: str) -> bool:
        """Let those who wait for *dep* look; whether there was one, or one had asked for it and left."""
        with self._lock:
            self.rung += 1
            bells = self._bells.pop(dep, [])
            due = 0 if bells else self._due.pop(dep, 0)
            if due > 1:
                self._due[dep] = due - 1
        for bell in bells:
            bell.set_result(None)
        return bool(bells or due)

    def ring_all(self) -> None:
        """Let all who wait look again: wake-ups were lost, or cannot arrive."""
        with self._lock:
            self.rung += 1
            deps = list(self._bells)
        for dep in deps:
            self.ring(dep)

    def take_down(self, dep: str, bell: Future[None], *, is_due: bool = False) -> None:
        """*is_due*: the server was told to wake this node, and if it has not yet it will."""
        with self._lock:
            if is_due and bell in self._bells.get(dep, ()):
                self._due[dep] = min(self._due.pop(dep, 0) + 1, MAX_DUE_OF_ONE)
                if len(self._due) > MAX_DUE:
                    del self._due[next(iter(self._due))]  # of a load that was killed, perhaps
            left = [other for other in self._bells.pop(dep, []) if other is not bell]
            if left:
                self._bells[dep] = left


@dataclass(slots=True)
class Tiers:
    """One node, as its plans see it."""

    core: Coherence
    values: ValueCodec
    clock: Callable[[], float]
    load_timeout: float  # seconds a caller waits for another's load
    timeout: float  # seconds in which Redis answers, or is left alone
    cap: int = 100_000  # tags whose last invalidation Redis remembers, 135 bytes each
    key_cap: int = 10_000  # keys likewise; only loads under way and replays need them
    raise_on_lapse: bool = False
    compression: Format | None = None  # of what L2 stores
    compression_above: int = 0  # bytes of a payload from which it is compressed
    is_cut_off: Callable[[], bool] = lambda: False  # Redis lately did not answer, and is left alone
    wakes_arrive: Callable[[], bool] = lambda: False
    board: Board = field(init=False)
    syncs: Board = field(init=False)
    bells: Bells = field(default_factory=Bells)
    known_tags: KnownTags = field(default_factory=KnownTags)
    looking: set[str] = field(default_factory=set)  # keys that somebody looks for in L2, outside of a flight
    refreshed: dict[str, int] = field(default_factory=dict)  # ends of the entries loaded anew before those
    complaints: Complaints = field(init=False)
    events: Counter[str] = field(default_factory=Counter)
    refusal: str | None = None  # why the last sync that was answered brought no lease
    unstored: str | None = None  # why the last value did not get into L2, though Redis answered
    refused_until: float = 0.0  # none is asked for before this instant
    # Locks and fences of this node that may stand, though nobody needs them: let go of after the next sync.
    owed: deque[Command[Any]] = field(default_factory=lambda: deque(maxlen=MAX_OWED))
    _owners: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.board = Board(self.load_timeout)
        self.syncs = Board(self.sync_patience)
        self.complaints = Complaints(self.clock)

    @property
    def sync_patience(self) -> float:
        """Seconds that a caller waits for another's sync: until that one has found that Redis is silent.

        1. The listener syncs, and is not answered.  2. A reader waits for it, no longer than it waits itself,
        and is the first to give up: the circuit is not open.  3. Its next read is late by a timeout, too.
        """
        return 1.5 * self.timeout

    def for_l2(self, payload: bytes) -> bytes:
        """*payload* as L2 stores it."""
        if self.compression is None or len(payload) < self.compression_above:
            return payload
        return compress(payload, self.compression)

    def owe(self, commands: Iterable[Command[Any]]) -> None:
        """Remember *commands* that let go of something, and perhaps did not reach Redis.

        1. Redis stands still, and a caller who asks for leave to load gives up.  2. It goes on, and gives the
        lock to nobody: the others would wait for its whole life.
        """
        self.owed.extend(commands)

    def forget(self) -> None:
        """After a fork, in the child: whoever flew or waited is gone with the parent's threads."""
        self.owed.clear()
        self.board.forget()
        self.syncs.forget()
        self.bells = Bells()
        self.looking.clear()  # in place, as the board: who begins reads holds on to both
        self.refreshed = {}
        self.refused_until = 0.0

    def owner(self) -> str:
        """A name for one load of this node: a lock knows the node by it, a late fill is told apart."""
        return f"{self.core.node}:{next(self._owners)}"


class Early(NamedTuple):
    """That an entry is loaded anew before its end, while it is still served."""

    beta: float  # how much sooner than its load takes: 1 for the usual, more for sooner
    # Begins that beside the caller, for an entry with this end in Redis; False where too many are under way.
    start: Callable[[Want, int], bool]


class Filed(Protocol):
    """A function that finds entries by the arguments of its calls, in its table of the moment."""

    @property
    def table(self) -> dict[Any, Entry] | None: ...


@dataclass(slots=True, eq=False)
class Want:
    """What a reader asks for: a key, and what to do when no tier has it. Changed by nobody, see `replace`.

    Not frozen all the same: one is made for each read that L1 does not answer, and it has many fields.
    """

    key: str
    counts: Counts
    call: Call | None = None  # None: a miss is the answer
    tags: tuple[str, ...] = ()
    ttl: float | None = None  # seconds; None: no expiry
    l1_ttl: float | None = None  # seconds; None: as in L2
    print: int | None = None  # of the declared tags; None: any entry will do
    l1: bool = True
    l2: bool = True
    share: bool = False  # hand out the one object to everybody
    audit: Callable[[Want, Entry, str], None] | None = None  # told what a hit gave, and of which tier
    renew: bool = False  # load, whatever is stored
    in_batch: bool = False  # of `get_or_load_many`, which leaves out what is absent
    early: Early | None = None
    table: dict[Any, Entry] | None = (
        None  # of `caller` at the call, if it may file it; it may have got another since
    )
    caller: Filed | None = None  # the function whose call this is
    arguments: Any = None  # the key in `table`
