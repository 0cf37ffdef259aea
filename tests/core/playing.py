"""Plans of two nodes on one server, stepped one by one, and what must hold whenever one returns.

At each return of a read, and after each act, what section 5 of coherence.md promises is checked
against the one history (tests/core/truth.py):

    G1  a read reflects every record older than `max_staleness` when it was invoked
    G2  ... and every invalidation that its own process had been given back by then
    G3  neither the server nor L1 holds as valid what a record they know of made invalid
    G6  ... and every record that an earlier answer under the same key was vouched for at
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.core.hands import (
    Cancelled,
    Clock,
    D,
    Hand,
    LoaderFailed,
    Node,
    by_follow,
    by_glance,
    loader_of_many,
)
from tests.core.sim_server import SimServer
from tests.core.truth import TAGS, Truth, Versions, lift
from tiercache._core import reads
from tiercache._core.commands import (
    Answers,
    Clear,
    Command,
    Fill,
    Filled,
    Hit,
    Invalidate,
    Read,
    Recorded,
    Set,
)
from tiercache._core.flights import Landing
from tiercache._core.l1 import Entry
from tiercache._core.plan import Ask, Call, Join, Plan, Tell
from tiercache._core.reads import MISS
from tiercache._core.records import parse_entry
from tiercache._core.values import Values
from tiercache._errors import TierCacheError

MAX_ROUNDS = 2_000


@dataclass
class Process:
    """One node, and what it may no longer go behind."""

    node: Node
    own: Versions = field(default_factory=dict)  # of its invalidations that returned
    vouched: dict[str, Versions] = field(default_factory=dict)  # by key, of the answers it was given
    answered: set[tuple[int, int]] = field(default_factory=set)  # its own records, as they were answered
    block: tuple[str, ...] | None = None  # rows of an `invalidating` block that is open


@dataclass
class Running:
    """A plan under way, and what must hold when it returns."""

    process: Process
    hand: Hand
    keys: tuple[str, ...] = ()  # of a read
    due: dict[str, dict[str, Versions]] = field(default_factory=dict)  # promise -> key -> versions
    returns: Versions = field(default_factory=dict)  # of an invalidation: what it promises to later reads
    vouch: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> epoch, head of its answer
    since: float = 0.0  # when its step began
    found: dict[str, Versions] = field(default_factory=dict)  # what its loader has read of the truth
    inside: Running | None = None
    nested: Running | None = None
    part: Versions | None = None  # what its nested read brought


class Playing:
    """The nodes, the server, and the plans under way."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.server = SimServer(self.clock)
        self.truth = Truth(self.clock, Values().decode)
        self.running: list[Running] = []
        options = {"timeout": 1.0, "load_timeout": 8.0}
        self.processes = [
            Process(Node(self, self.clock, "a", wakes_arrive=lambda: True, **options)),
            Process(Node(self, self.clock, "b", **options)),
        ]

    def perform(self, command: Command[Any]) -> Any:
        """The server, as the nodes see it."""
        reply = self.server.perform(command)
        self.truth.ran(command, reply)
        return reply

    def check(self) -> None:
        """G3, at this moment."""
        records, state = self.truth, self.server.domain.state
        for key, raw in self.server.domain.entries.items():
            if state is not None and self.server.holds(key):
                stored = parse_entry(raw, key)
                assert stored is not None
                value = self.processes[0].node.tiers.values.decode(stored.payload)
                held = records.due(lambda r: r.epoch == state.epoch and r.number <= state.head)
                records.demand("G3 on the server", key, value, held)
        for process in self.processes:
            core, own = process.node.core, process.answered
            known = records.due(
                lambda r, core=core, own=own: (
                    r.epoch == core.epoch  # type: ignore[misc]  # bound in the loop
                    and (r.number <= core.proved or (r.epoch, r.number) in own)
                )
            )
            for key, entry in core.l1.entries.items():
                records.demand(f"G3 in L1 of {process.node.name}", key, entry.take(), known)

    def drain(self) -> None:
        """Every plan comes to its end when nothing goes wrong any more."""
        for _ in range(MAX_ROUNDS):
            if not self.running:
                return
            moved = [self.step(one) for one in list(self.running) if not one.hand.is_done]
            if not any(moved):
                self.clock.advance(1.0)
        raise AssertionError(f"these never end: {[one.hand.step for one in self.running]}")

    def want(self, process: Process, key: str, **options: Any) -> Any:
        return process.node.want(key, tags=TAGS[key], l2=key != "p", **options)

    def begin_read(
        self,
        process: Process,
        key: str,
        *,
        by_hand: bool,
        renew: bool = False,
        inside: Running | None = None,
    ) -> Running:
        core = process.node.core
        until, entry = core.open_until, core.l1.entries.get(key)
        want = self.want(process, key, renew=renew)
        plan = reads.read(process.node.tiers, want, blocking=False)
        if by_hand and not renew:
            if entry is not None and self.clock() < min(until, entry.deadline):
                plan = _at_once(entry)
            elif process.node.tiers.board.has(key):
                plan = by_follow(process.node, want)
            elif want.l2:
                plan = by_glance(process.node, want)
        return self.start(process, plan, keys=(key,), inside=inside)

    def start(
        self,
        process: Process,
        plan: Plan[Any],
        *,
        keys: tuple[str, ...] = (),
        returns: Versions | None = None,
        inside: Running | None = None,
    ) -> Running:
        old = self.clock() - D
        due = {
            "G1": {key: self.truth.due(lambda r: r.at <= old) for key in keys},
            "G2": {key: dict(process.own) for key in keys},
            "G6": {key: dict(process.vouched.get(key, {})) for key in keys},
        }
        in_l1 = _vouched_in_l1(process, keys)
        hand = Hand(plan, self, inside.hand if inside else None)
        one = Running(process, hand, keys, due, returns or {}, inside=inside)
        if hand.is_done:
            one.vouch = in_l1
        self.running.append(one)
        self._arrived(one)
        return one

    def step(self, one: Running) -> bool:
        """One step, if it can be made now."""
        hand, step = one.hand, one.hand.step
        match step:
            case Ask():
                if hand.replies is None:
                    hand.execute()
                self._note(one)
                hand.reply()
            case Tell():
                hand.execute().reply()
            case Join(future, timeout):
                if not future.done() and self.clock() < one.since + timeout:
                    return False
                one.vouch = _vouched_by(future.result() if future.done() and not future.exception() else None)
                hand.wake()
            case Call(function, args):
                value = self._load(one, function, args)
                if value is None:
                    return one.nested is None
                hand.reply(value)
        self._arrived(one)
        return True

    def throw(self, one: Running, error: BaseException) -> None:
        one.vouch = {}
        one.hand.throw(error)
        self._arrived(one)

    def _arrived(self, one: Running) -> None:
        """A plan has come to a step: the source is read as soon as a load begins; or it has ended."""
        one.since = self.clock()
        if isinstance(one.hand.step, Call):
            one.found, one.part = {key: self.truth.read(key) for key in TAGS}, None
        if one.hand.is_done:
            self.running.remove(one)
            self._returned(one)

    def _load(self, one: Running, function: Any, args: tuple[Any, ...]) -> Any:
        """What the loader returns, or None while it reads through the cache itself."""
        if function is loader_of_many:
            return {key: one.found[key] for key in args[0]}
        key = args[-1]
        if key != "o":
            return one.found[key]
        if one.part is not None:
            return {**one.found["o"], "t:x": one.part["t:x"]}
        if one.nested is None:
            nested = self.begin_read(one.process, "a", by_hand=True, inside=one)
            if not nested.hand.is_done:
                one.nested = nested
        return None

    def _returned(self, one: Running) -> None:
        outer = one.inside
        if outer is not None:
            outer.nested = None
        try:
            result = one.hand.result
        except (Cancelled, LoaderFailed, TierCacheError) as error:
            if outer is not None:
                self.throw(outer, error)
            return
        lift(one.process.own, one.returns)
        answers = result if len(one.keys) > 1 else dict.fromkeys(one.keys, result)
        for key, value in answers.items():
            if value is not MISS:
                self._given(one, key, value)
                if outer is not None:
                    outer.part = value

    def _given(self, one: Running, key: str, value: Any) -> None:
        """A read has been given *value*: it must be as new as was promised, and later ones no older."""
        name = one.process.node.name
        for promise, due in one.due.items():
            self.truth.demand(f"{promise} of {name}", key, value, due[key])
        if key in one.vouch:
            epoch, head = one.vouch[key]
            reached = self.truth.due(lambda r: r.epoch == epoch and r.number <= head)
            lift(one.process.vouched.setdefault(key, {}), reached)

    def _note(self, one: Running) -> None:
        """What the replies about to be handed over say of the answer's age, and of own records."""
        assert one.hand.replies is not None
        for command, reply in zip(one.hand.commands, one.hand.replies, strict=True):
            match command, reply:
                case Read(epoch, _, asks), Answers(int(head), found):
                    for ask, answer in zip(asks, found, strict=True):
                        if isinstance(answer, Hit) or answer == "lead":
                            one.vouch[ask.key] = epoch, head
                case Fill(epoch, key=key), Filled("ok" | "full", head):
                    one.vouch[key] = epoch, head
                case ((Invalidate() | Clear() | Set()), Recorded(epoch, number, "ok" | "full")):
                    one.process.answered.add((epoch, number))


def _at_once(entry: Entry) -> Plan[Any]:
    return entry.take()
    yield


def _vouched_in_l1(process: Process, keys: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    core = process.node.core
    return {k: (core.epoch, entry.vouched) for k, entry in core.l1.entries.items() if k in keys}


def _vouched_by(landed: object) -> dict[str, tuple[int, int]]:
    if not isinstance(landed, Landing):
        return {}
    head = max(landed.head or 0, landed.token or 0)
    return {landed.entry.key: (landed.stand.epoch, head)} if head else {}
