"""The way of a request to the server and back, and what may become of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.core.sim_state import NAMES
from tests.simulation.checker import Versions
from tests.simulation.network import Host
from tests.simulation.operation import Operation
from tests.simulation.process import TIMEOUT
from tests.simulation.schedule import D, Mishap
from tiercache._core.commands import (
    Answer,
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
    Wait,
)
from tiercache._core.fences import Fence
from tiercache._core.looks import Look, Looked
from tiercache._core.plan import Ask, Tell
from tiercache._errors import L2Refused, L2Unavailable

if TYPE_CHECKING:
    from tests.simulation.engine import Engine

WELL: Mishap = ("well",)
CUT_OFF: Mishap = ("cut off",)
ON_THE_WAY = ("lost", "late", "refused", "unanswered", "slow reply", "split")
Reply = tuple[Any, Versions]  # and what the server held when it gave it


@dataclass(frozen=True, slots=True)
class Plain:
    """A command that is no script: one of those that a look is made of."""

    parts: tuple[Any, ...]


Asked = Command[Any] | Look
Sent = Command[Any] | Plain


def _on_the_wire(command: Asked) -> Sequence[Sent]:
    return [Plain(parts) for parts in command.plain(NAMES)] if isinstance(command, Look) else [command]


class Requests:
    """The paths between all processes of one world and its server."""

    def __init__(self, world: Engine) -> None:
        self.world = world
        self.stalled_until = self.down_until = 0.0

    def ask(self, op: Operation, commands: tuple[Asked, ...]) -> None:
        world, process, stamp = self.world, op.process, op.stamp
        tries = op.is_prober or process.breaker.is_open
        if not process.breaker.admits(process.clock(), prober=op.is_prober):
            world.to(op, world.now, world.throw, op, stamp, L2Unavailable("the circuit is open"))
            return
        op.tries = tries
        fate = self._fate(op)
        if world.trace is not None:
            world.say(op, f"asks {told(commands)}{'' if fate is WELL else f' [{fate[0]}]'}")
        patience = min(TIMEOUT, D / 3) if op.is_prober else TIMEOUT
        world.to(op, world.now + patience, self._fail, op, stamp, "timed out")
        self._send(op, commands, fate, stamp)

    def tell(self, op: Operation, step: Tell) -> None:
        """As `ask`, and nobody waits."""
        breaker, now = op.process.breaker, op.process.clock()
        tries = breaker.is_open
        fate = self._fate(op) if breaker.admits(now, prober=False) else CUT_OFF
        if fate is not CUT_OFF:
            self.world.say(op, f"tells {told(step.commands)}")
            self._send(op, step.commands, fate, None)
            if tries:
                breaker.tried(now)
        if fate[0] in ("lost", "unanswered", "cut off"):
            step.untold(step.commands)

    def ended(self, op: Operation) -> None:
        """The step of *op* is over, of whatever kind it was."""
        if op.tries:
            op.tries = False
            op.process.breaker.tried(op.process.clock())

    def _fate(self, op: Operation) -> Mishap:
        """What is to go wrong with this round trip of *op*."""
        turn, op.rounds = op.rounds, op.rounds + 1
        for mishap in op.mishaps:
            if mishap[0] in ON_THE_WAY and mishap[1] == turn:
                return mishap
        return WELL

    def _latency(self, op: Operation) -> float:
        low, high = self.world.setting.latency
        more = op.process.slowness if self.world.now < op.process.slow_until else 0.0
        return op.dice.uniform(low, high + more)

    def _fail(self, op: Operation, stamp: int, why: str) -> None:
        if op.stamp == stamp and not op.busy:
            op.process.breaker.failed(op.process.clock(), ConnectionError(why))
            self.world.throw(op, stamp, L2Unavailable(why))

    def _send(
        self,
        op: Operation,
        commands: tuple[Asked, ...],
        fate: Mishap,
        stamp: int | None,
    ) -> None:
        world, process = self.world, op.process
        arrives = world.now + self._latency(op)
        if world.now < self.down_until:
            if stamp is not None:
                world.to(op, world.now + 0.001, self._fail, op, stamp, "refused: no server")
            return
        if world.now < process.silent_data or fate[0] == "lost":
            return
        if fate[0] == "refused":
            if stamp is not None:
                world.to(op, arrives, world.throw, op, stamp, L2Refused("refused"))
            return
        if fate[0] == "late":
            arrives += fate[2]
        is_behind = world.demoted is not None and world.now < process.reads_old_until
        host = world.demoted if is_behind and world.demoted is not None else world.primary
        sent = tuple(part for command in commands for part in _on_the_wire(command))
        world.at(arrives, self._execute, op, sent, fate, stamp, host, [])

    def _execute(
        self,
        op: Operation,
        commands: tuple[Sent, ...],
        fate: Mishap,
        stamp: int | None,
        host: Host,
        replies: list[Reply],
    ) -> None:
        """The next of *commands* runs; others' may come between two of them."""
        world = self.world
        if world.now < self.stalled_until:
            world.at(self.stalled_until, self._execute, op, commands, fate, stamp, host, replies)
            return
        if world.now < self.down_until:
            return
        command = commands[len(replies)]
        if host.read_only and not isinstance(command, (Read, Plain)):
            if stamp is not None:
                world.to(op, world.now, world.throw, op, stamp, L2Refused("READONLY"))
            return
        replies.append(host.plain(command.parts) if isinstance(command, Plain) else host.perform(command))
        if world.trace is not None:
            world.say("server", f"{told((command,))} of {op}: {said(replies[-1][0])}")
        world.listeners.publish(op, host)
        if len(replies) < len(commands):
            between = op.dice.choice((0.0, 0.0, 0.01))
            if fate[0] == "split" and fate[3] == len(replies):
                between = fate[2]
            world.at(world.now + between, self._execute, op, commands, fate, stamp, host, replies)
        elif stamp is not None and fate[0] != "unanswered" and world.now >= op.process.silent_data:
            arrives = world.now + self._latency(op) + (fate[2] if fate[0] == "slow reply" else 0.0)
            world.to(op, arrives, self._answered, op, stamp, replies)

    def _answered(self, op: Operation, stamp: int, replies: list[Reply]) -> None:
        if op.stamp != stamp or op.busy:
            return
        world, process, hand = self.world, op.process, op.hand
        process.breaker.answered()
        replies = self._parsed(hand.commands, replies)
        own: list[tuple[int, Versions]] = []
        op.told_of = b""
        for command, (reply, held) in zip(hand.commands, replies, strict=True):
            match command, reply:
                case Read(_, _, asks), Answers(int(), found):
                    for ask, answer in zip(asks, found, strict=True):
                        if isinstance(answer, Hit) or answer == "lead":
                            op.vouch[ask.key] = held
                        elif isinstance(answer, Wait):
                            op.told_of = answer.owner
                            op.met.add(answer.owner)
                case Look(keys=keys), Looked():
                    op.vouch |= {key: held for key in keys if reply.good(key)}
                case Fill(key=key), Filled("ok" | "full"):
                    op.vouch[key] = held
                case ((Invalidate() | Clear() | Set() | Fence()), Recorded(epoch, number, "ok" | "full")):
                    own.append((epoch, world.history.by_epoch[epoch].of(number)))
        hand.replies = [reply for reply, _ in replies]
        world.say(op, "is answered")
        world.move(op, hand.reply)
        for epoch, due in own:
            process.knowledge.add(epoch, due)
            world.check_l1(process)

    def _parsed(self, commands: tuple[Asked, ...], replies: list[Reply]) -> list[Reply]:
        """*replies*, those to a look as one: of the instant at which it asked for versions."""
        look = commands[0]
        if not isinstance(look, Look):
            return replies
        looked = look.parse([raw for raw, _ in replies])
        first = [verb for verb, *_ in look.plain(NAMES)].index("ZMSCORE")
        held = replies[first][1]
        self.world.primary.found(look, looked, held)
        return [(looked, held)]

    def cut(self, ops: list[Operation]) -> None:
        """Their connections break: whether what they asked has run, or will, nobody can tell."""
        for op in ops:
            if not op.busy and isinstance(op.hand.step, Ask):
                self.world.to(op, self.world.now, self._fail, op, op.stamp, "connection reset")


def told(commands: Sequence[Asked | Sent]) -> str:
    """*commands*, as the timeline shows them."""
    return ", ".join(_short(command) for command in commands)


def _short(command: Asked | Sent) -> str:
    name = type(command).__name__.lower()
    match command:
        case Read(epoch, seen, asks):
            return f"read({' '.join(f'{x.mode} {x.key}' for x in asks)}; seen {seen} of {epoch})"
        case Look(epoch, seen, keys, tags):
            return f"look({' '.join(keys)}; tags {' '.join(tags)}; seen {seen} of {epoch})"
        case Plain((verb, *_)):
            return str(verb)
        case Fill(epoch, token, key=key, payload=payload):
            return f"fill({key} = #{payload.decode()}; token {token} of {epoch})"
        case Set(key=key, payload=payload):
            return f"set({key} = #{payload.decode()})"
        case Invalidate(tags, keys):
            return f"invalidate({' '.join((*tags, *keys))})"
    fields = [str(x) for x in vars_of(command)]
    return f"{name}({', '.join(fields)})"


def vars_of(command: Asked | Sent) -> list[Any]:
    names = getattr(type(command), "__slots__", ())
    return [getattr(command, name) for name in names]


def said(reply: Any) -> str:
    """A reply, as the timeline shows it."""
    match reply:
        case Answers(None):
            return "sync first"
        case Answers(head, found):
            return f"{' '.join(map(_found, found))}; head {head}"
        case Filled(status, head):
            return f"{status}; head {head}"
        case Recorded(epoch, number, status):
            return f"{status}; record {number} of {epoch}"
    return str(reply)


def _found(answer: Answer) -> str:
    return f"hit #{answer.raw.rsplit(b'|', 1)[1].decode()}" if isinstance(answer, Hit) else str(answer)
