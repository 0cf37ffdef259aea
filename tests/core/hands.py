"""Nodes without I/O: their plans go one step at a time, when the test says so.

    hand = node.read("a", tags=["x"])      up to its first step: here a Read for L2
    hand.answer()                          the server runs what is asked, and the plan gets the reply
    hand.execute(); ...; hand.reply()      the same in two: between them anything may happen
    hand.lose()                            nobody answered
    hand.reply("v1")                       what the loader returns, at a Call
    node.finish(hand, loaded="v1")         every step that is left, in one

Each hand has a context of its own, as each thread and task has.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, Protocol

from tests.core.sim_server import SimServer
from tiercache._accelerator import compiled
from tiercache._core import barriers, batches, fences, reads, syncs, writes
from tiercache._core.barriers import Question
from tiercache._core.coherence import Coherence
from tiercache._core.commands import Command, Invalidate
from tiercache._core.flights import current_load
from tiercache._core.follows import follow
from tiercache._core.l1 import L1
from tiercache._core.l2_hits import tags_to_look_for, unlooked
from tiercache._core.plan import TIMED_OUT, Ask, Call, Join, Plan, Step, Tell
from tiercache._core.reads import MISS, read
from tiercache._core.tiers import Counts, Tiers, Want
from tiercache._core.values import Values
from tiercache._core.writes import Token
from tiercache._errors import L2Unavailable
from tiercache._follows import followed
from tiercache._glances import Glances, KeyGlances
from tiercache._invalidating import BlockingInvalidating

D = 10.0  # `max_staleness` of every node here, seconds
ROOM = 100_000  # of the tables in Redis: nothing is trimmed
MAX_STEPS = 500


class Cancelled(BaseException):
    """As a task's cancellation: no Exception."""


class LoaderFailed(Exception):
    pass


class Server(Protocol):
    def perform(self, command: Command[Any]) -> Any: ...


class Clock:
    """Seconds, as the test tells them."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def loader() -> None:
    """Stands in a Call; whoever moves the hand says what it returns."""


def loader_of_many(keys: list[str]) -> dict[str, Any]:
    """Likewise, in the Call of a batch."""
    raise NotImplementedError


class Hand:
    """A plan, at its next step or at its end."""

    def __init__(self, plan: Plan[Any], server: Server, inside: Hand | Call | None = None) -> None:
        self.server = server
        self.step: Step | None = None
        self.replies: list[Any] | None = None  # of commands that ran, not yet handed over
        self.is_done = False
        self._plan, self._result = plan, None
        self._error: BaseException | None = None
        self._context: Context = copy_context()
        call = inside.step if isinstance(inside, Hand) else inside
        if call is not None:
            assert isinstance(call, Call)
            self._context.run(current_load.set, call.load)
        self._go(lambda: next(plan))

    @property
    def result(self) -> Any:
        """What the plan returned, or raises what it raised."""
        assert self.is_done, f"the plan is still at {self.step}"
        if self._error is not None:
            raise self._error
        return self._result

    @property
    def commands(self) -> tuple[Command[Any], ...]:
        assert isinstance(self.step, (Ask, Tell)), f"the plan is at {self.step}"
        return self.step.commands

    @property
    def at(self) -> tuple[str, ...]:
        """Where the plan stands, in a word or the names of its commands; () at its end."""
        match self.step:
            case None:
                return ()
            case Ask(commands) | Tell(commands, _):
                return tuple(type(command).__name__ for command in commands)
            case step:
                return (type(step).__name__,)

    def execute(self) -> Hand:
        """Let the server run the commands; the replies are on their way."""
        assert self.replies is None
        self.replies = [self.server.perform(command) for command in self.commands]
        return self

    def reply(self, value: Any = None) -> Hand:
        """Hand the plan its replies, or *value* at a step that is no round trip."""
        if isinstance(self.step, Ask):
            assert self.replies is not None, f"nothing has run {self.step}"
            value = self.replies
        self._go(lambda: self._plan.send(value))
        return self

    def answer(self) -> Hand:
        return self.execute().reply()

    def lose(self) -> Hand:
        """No reply comes, whether the commands ran or not."""
        return self.throw(L2Unavailable("lost"))

    def throw(self, error: BaseException) -> Hand:
        self._go(lambda: self._plan.throw(error))
        return self

    def wake(self) -> Hand:
        """Go on with what was waited for, which must have come; or say that it took too long."""
        assert isinstance(self.step, Join)
        future = self.step.future
        if not future.done():
            return self.reply(TIMED_OUT)
        error = future.exception()
        return self.reply(future.result()) if error is None else self.throw(error)

    def _go(self, move: Callable[[], Step]) -> None:
        assert not self.is_done, "the plan has ended"
        self.replies = None
        try:
            self.step = self._context.run(move)
        except StopIteration as end:
            self.step, self.is_done, self._result = None, True, end.value
        except BaseException as error:
            self.step, self.is_done, self._error = None, True, error


def glances_of(node: Node, want: Want, make: Callable[[], Want]) -> Glances:
    """Those of a function whose one call is *want*; *make* is asked for it where a glance needs it whole."""
    assert compiled is not None
    pieces = tuple(piece for tag in want.tags for piece in ((tag, -1), ("", -1)))
    namer = compiled.Namer({}, 0, ((want.key, -1),), pieces)
    return Glances(node.tiers, node.counts, namer, want.print or 0, make, l1=want.l1)


def glance_at(node: Node, want: Want) -> tuple[Any, Any]:
    """What reads *want* by key where it has no print, else as a function's call, and its glance."""
    if want.print is not None:
        glances = glances_of(node, want, lambda: want)
        return glances, glances.begin((), {})
    by_key = KeyGlances(node.tiers, node.counts, lambda: want)
    expected = by_key.expected(want.key, want.tags)
    return by_key, None if expected is None else by_key._begin(want.key, expected)


def by_glance(node: Node, want: Want) -> Plan[Any]:
    """The read of *want* as that of a decorated function's call, where there is a compiled half."""
    if compiled is None:
        return (yield from read(node.tiers, want, blocking=False))
    if by_script_alone(node, want):
        return (yield from by_script(node, want))
    glances, glance = glance_at(node, want)
    if glance is None:
        return (yield from read(node.tiers, want, blocking=False))
    looked = None
    try:
        (looked,) = yield Ask((glance[0],))
    except L2Unavailable as error:
        unlooked(node.tiers, node.counts, error)
    finally:
        glances.over(glance)
    value = glances.found(glance, looked)
    if value is not MISS:
        return value
    return (yield from glances._rest(glance, looked, (), blocking=False))


def by_script_alone(node: Node, want: Want) -> bool:
    """Whether nothing but the script can answer *want*, which is read by key."""
    if want.print is not None or want.call is not None:
        return False
    return tags_to_look_for(node.tiers, node.counts, want.key, want.tags) is None


def by_script(node: Node, want: Want) -> Plan[Any]:
    """The read of *want*, which has no loader, by the script at once."""
    by_key = KeyGlances(node.tiers, node.counts, lambda: want)
    plan = reads.by_script if by_key._is_free(want.key) else read
    return (yield from plan(node.tiers, want, blocking=False))


class ByHand:
    """What `followed` asks of a node, whose steps are the hand's to make."""

    def __init__(self, node: Node) -> None:
        self.tiers = node.tiers

    @coroutine
    def joined(self, future: Future[Any], timeout: float) -> Generator[Step, Any, Any]:
        return (yield Join(future, timeout))

    @coroutine
    def perform_async(self, step: Step) -> Generator[Step, Any, Any]:
        return (yield step)


def by_follow(node: Node, want: Want) -> Plan[Any]:
    """The read of *want* in a task that may follow a load without a plan."""
    follower = follow(node.tiers, want.key)
    if follower is None:
        return (yield from read(node.tiers, want, blocking=False))
    by_hand: Any = ByHand(node)
    return (yield from followed(by_hand, node.counts, follower, lambda: want).__await__())


class Node:
    """One process' tiers before *server*."""

    def __init__(self, server: Any, clock: Clock, name: str = "a", **options: Any) -> None:
        self.server, self.clock, self.name = server, clock, name
        core = {k: options.pop(k) for k in ("trust_tenure", "max_staleness") if k in options}
        self.core = Coherence(L1(options.pop("l1_maxsize", 100)), node=name, **{"max_staleness": D, **core})
        self.tiers = Tiers(self.core, Values(), clock, **{"load_timeout": 30.0, "timeout": 1.0, **options})
        self.counts = Counts()

    def want(self, key: str, *, tags: Sequence[str] = (), **options: Any) -> Want:
        return Want(key, self.counts, **{"tags": tuple(tags), "call": Call(loader, (key,)), **options})

    def start(self, plan: Plan[Any], inside: Hand | Call | None = None) -> Hand:
        """*plan* at its first step; *inside* is a hand at a Call, whose loader starts it."""
        return Hand(plan, self.server, inside)

    def read(self, key: str, *, inside: Hand | Call | None = None, **want: Any) -> Hand:
        return self.start(read(self.tiers, self.want(key, **want), blocking=False), inside)

    def glance(self, key: str, *, inside: Hand | Call | None = None, **want: Any) -> Hand:
        return self.start(by_glance(self, self.want(key, **want)), inside)

    def follow(self, key: str, *, inside: Hand | Call | None = None, **want: Any) -> Hand:
        return self.start(by_follow(self, self.want(key, **want)), inside)

    def read_many(self, *keys: str, tags: Sequence[str] = (), inside: Hand | Call | None = None) -> Hand:
        wants = [self.want(key, call=None, tags=tags) for key in keys]
        spelled = {key: key for key in keys}
        plan = batches.get_or_load_many(self.tiers, wants, loader_of_many, spelled, blocking=False)
        return self.start(plan, inside)

    def get_many(self, *keys: str, **want: Any) -> Hand:
        wants = [self.want(key, call=None, **want) for key in keys]
        return self.start(batches.get_many(self.tiers, wants, blocking=False))

    def invalidate(self, *tags: str, keys: Sequence[str] = (), fence: str = "") -> Hand:
        return self.start(writes.invalidate(self.tiers, tags, keys, fence=fence))

    def fence(self, *tags: str, keys: Sequence[str] = (), name: str = "f", ttl: float = 10.0) -> Hand:
        deps = list(writes.deps_named(tags, keys))
        return self.start(fences.put_up(self.tiers, deps, name, ttl))

    def block(self, *tags: str, keys: Sequence[str] = (), **options: Any) -> Block:
        return Block(self, *tags, keys=keys, **options)

    def barrier(self, token: Token) -> Hand:
        return self.start(barriers.barrier(self.tiers, token))

    def reached(self, *tags: str) -> Hand:
        """`invalidate_tags(*tags, wait=True)`, asking who is behind."""
        hand = self.start(barriers.reached(self.tiers, writes.invalidate(self.tiers, tags, ())))
        return hand.answer()

    def acknowledge(self, question: Question) -> Hand:
        return self.start(barriers.acknowledge(self.tiers, question))

    def at_least(self, token: Token) -> Hand:
        return self.start(barriers.at_least(self.tiers, token, blocking=False))

    def clear(self) -> Hand:
        return self.start(writes.clear(self.tiers))

    def put(
        self, key: str, value: Any, *, tags: Sequence[str] = (), token: writes.Token | None = None
    ) -> Hand:
        return self.start(
            writes.put(self.tiers, [(self.want(key, tags=tags, call=None), value)], token, blocking=False)
        )

    def sync(self) -> Hand:
        return self.start(syncs.sync(self.tiers, blocking=False))

    def finish(self, hand: Hand, loaded: Any = "unasked for") -> Any:
        """What *hand* comes to when all goes well; *loaded* is what the loader returns, or a function."""
        for _ in range(MAX_STEPS):
            match hand.step:
                case None:
                    return hand.result
                case Ask():
                    hand.answer()
                case Tell():
                    hand.execute().reply()
                case Join():
                    hand.wake()
                case Call():
                    hand.reply(loaded)
        raise AssertionError(f"the plan does not end: it is at {hand.step}")

    def synced(self) -> Node:
        """This node, with a lease that begins now."""
        assert self.finish(self.sync())[0]
        return self

    def get(self, key: str) -> Any:
        """What `cache.get` would find, or MISS."""
        return self.finish(self.read(key, call=None))

    def load(self, key: str, value: Any, tags: Sequence[str] = (), **want: Any) -> Any:
        """What a whole read comes to whose loader would return *value*."""
        return self.finish(self.read(key, tags=tags, **want), value)

    def in_l1(self, key: str) -> bool:
        return key in self.core.l1.entries

    def hear(self, *numbers: int) -> list[str]:
        """Deliver the hints with these numbers, in this order; what the core made of each."""
        published = {(hint.epoch, hint.number): hint for hint in self.server.hints}
        return [self.core.hear(published[self.core.epoch, number]) for number in numbers]


class Block:
    """An `invalidating` block of *node*, whose beginning and end are plans to be stepped."""

    def __init__(self, node: Node, *tags: str, keys: Sequence[str] = (), **options: Any) -> None:
        told = {"on_outage": "commit", "fence_ttl": 3 * D, "wait": False, **options}
        known: Any = node  # all that a block asks of a node is its tiers
        self.node = node
        self.itself = BlockingInvalidating(known, tags, tuple(keys), **told)

    def begin(self) -> Hand:
        return self.node.start(self.itself._begin())

    def end(self) -> Hand:
        return self.node.start(self.itself._end())

    def open(self) -> Block:
        self.node.finish(self.begin())
        return self

    def close(self) -> None:
        self.node.finish(self.end())


def nodes(server: SimServer, clock: Clock, names: Iterable[str] = "ab", **options: Any) -> list[Node]:
    """Nodes that have all just synced."""
    return [Node(server, clock, name, **options).synced() for name in names]


def bump(server: SimServer, *tags: str) -> int:
    """A record that some other process makes; its number."""
    number: int = server.perform(Invalidate(tags, (), ROOM, ROOM)).number
    return number


def begun(node: Node, key: str = "k", tags: Sequence[str] = ("t",), **want: Any) -> Hand:
    """A load in its loader."""
    loading = node.read(key, tags=tags, **want)
    while loading.at != ("Call",):
        loading.answer()
    return loading


def joined(node: Node, key: str = "k", tags: Sequence[str] = ("t",)) -> Hand:
    """A read that waits for the load of another caller."""
    joining = node.read(key, tags=tags)
    assert joining.at == ("Join",)
    return joining


def took(node: Node, joining: Hand) -> bool:
    """Whether a follower took what its flight landed with; else it goes on, on its own."""
    before = node.counts.joins
    joining.wake()
    return node.counts.joins > before
