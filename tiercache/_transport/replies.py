"""What a script call is on the wire, and what its reply means; the same for both worlds."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    InvalidResponse,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import TimeoutError as RedisTimeout

from tiercache._accelerator import compiled
from tiercache._core.commands import Command
from tiercache._core.looks import REPLIES, Look, end_of
from tiercache._core.scripts import Names, Parts
from tiercache._errors import L2Refused, L2Unavailable
from tiercache._transport import patience

WireCommand = tuple[Any, ...]
MISSING = object()


def packed(wire: Sequence[WireCommand]) -> bytes:
    """The bytes of *wire*, in one piece; redis-py's own packing takes 7 us for what this does in two."""
    # No int goes to hiredis: it does not look whether str() of one raised, as the handler of a signal may
    # amid it (Ctrl-C), and goes on with what is not there. Here it takes 0.6 us a command.
    pieces = []
    for call in wire:
        in_text: WireCommand = tuple([str(part) if type(part) is int else part for part in call])
        pieces.append(hiredis.pack_command(in_text))
    return b"".join(pieces)


def new_reader() -> hiredis.Reader:
    """What makes replies of the bytes that came on one connection; an error among them is redis-py's own."""
    return hiredis.Reader(
        protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=MISSING
    )


def taken(reader: hiredis.Reader, replies: list[Any], count: int) -> bool:
    """Add what *reader* has to *replies*; whether there are *count* of them now."""
    while len(replies) < count:
        reply = reader.gets()
        if reply is MISSING:
            return False
        if isinstance(reply, BrokenConnection):  # such as: it still loads its data, or has too many clients
            raise reply
        replies.append(reply)
    return True


def request_of(commands: Sequence[Command[Any] | Look], names: Names) -> Request:
    """One round trip for *commands*; a look goes alone."""
    if isinstance(commands[0], Look):
        (look,) = commands
        return _LookRequest(look, names)  # type: ignore[arg-type]  # it is the look that was looked at
    return Request(commands, names)  # type: ignore[arg-type]


class Request:
    """Script calls as they are sent, and as they are sent again where a script is unknown."""

    def __init__(self, commands: Sequence[Command[Any]], names: Names) -> None:
        self.commands = commands
        self.repeatable = True
        # False: a reply did not fit its command, so the connection's next one is another's; or the server
        # turned a write away, and behind its name may be another by now.
        self.keeps = True
        self._parts: list[Parts | None] = []  # one a reply; None: of what went ahead of the next
        self._wire: list[WireCommand] = []
        for command in commands:
            parts = command.parts(names)
            script, keys, args, ahead = parts
            if ahead is not None:
                self._wire.append(ahead)
                self._parts.append(None)
            self.repeatable = self.repeatable and script.repeatable
            self._wire.append(("EVALSHA", script.sha, len(keys), *keys, *args))
            self._parts.append(parts)
        self.count = len(self._parts)  # of the replies

    def wire(self) -> bytes:
        return packed(self._wire)

    def unknown(self, raw: Sequence[Any]) -> list[int]:
        """The places of the replies that say that a script is not known."""
        return [i for i, reply in enumerate(raw) if isinstance(reply, NoScriptError) and self._parts[i]]

    def wire_in_full(self, places: Sequence[int]) -> bytes:
        """The calls at *places* again; the first of each script brings its source, the others need not."""
        taught: set[str] = set()
        calls: list[WireCommand] = []
        for place in places:
            parts = self._parts[place]
            assert parts is not None
            script, keys, args, _ = parts
            by = ("EVALSHA", script.sha) if script.sha in taught else ("EVAL", script.source)
            taught.add(script.sha)
            calls.append((*by, len(keys), *keys, *args))
        return packed(calls)

    def results(self, raw: Sequence[Any]) -> list[Any]:
        """The typed replies, an L2Refused in the place of each that is an error or not our script's."""
        replies = [reply for reply, parts in zip(raw, self._parts, strict=True) if parts is not None]
        return [self._result(*each) for each in zip(self.commands, replies, strict=True)]

    def _result(self, command: Command[Any] | Look, reply: Any) -> Any:
        if isinstance(reply, ResponseError):
            if _is_read_only(reply):
                self.keeps = False
            act = type(command).__name__.lower()
            return _refused(f"Redis refused a {act}: {reply}{_advice(reply)}", reply)
        try:
            return command.parse(reply)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            self.keeps = False
            act = type(command).__name__.lower()
            return _refused(
                f"Redis gave a {act} an answer that is not our script's: {reprlib.repr(reply)}", error
            )


@lru_cache(64)
def _in_every_look(names: Names) -> tuple[str, str, bytes]:
    """The name of the state, what the names of entries begin with, and the last commands, packed."""
    return names.state, names.entry(""), packed(end_of(names))


class _LookRequest(Request):
    """The commands of one look, which are the server's own."""

    def __init__(self, look: Look, names: Names) -> None:
        self.repeatable = self.keeps = True
        self.count = REPLIES
        self._look, self._names = look, names

    def wire(self) -> bytes:
        shared = _in_every_look(self._names)
        quick: bytes | None = None if compiled is None else compiled.pack_look(self._look, *shared)
        if quick is not None:
            return quick
        versions, entries, *_ = self._look.plain(self._names)
        return packed((versions, entries)) + shared[-1]

    def unknown(self, raw: Sequence[Any]) -> list[int]:
        return []

    def results(self, raw: Sequence[Any]) -> list[Any]:
        quick = None if compiled is None else compiled.looked(self._look, raw)
        if quick is not None:
            return [quick]
        for reply in raw:
            if isinstance(reply, ResponseError):
                return [self._result(self._look, reply)]
        return [self._result(self._look, raw)]


def answered(results: list[Any]) -> list[Any]:
    """*results*, unless one of them is a refusal: the first is raised."""
    for result in results:
        if isinstance(result, L2Refused):
            raise result
    return results


def _refused(message: str, cause: Exception) -> L2Refused:
    refusal = L2Refused(message)
    refusal.__cause__ = cause
    return refusal


class ClosedAtOnce(BrokenConnection):
    """What connecting comes to where the server takes a connection and ends it; it may have said why."""


def is_closed_at_once(error: BrokenConnection) -> bool:
    """Whether that is what redis-py raised *error* for while it connected."""
    return type(error) is BrokenConnection and "connecting to" not in str(error)


class LoopEnds(RedisTimeout):
    """The loop ends over a request: nothing is known of the server."""


class SilentlyLost(RedisTimeout):
    """No answer came within *timeout* on a connection that was idle since the instant *since* or before.

    Whatever lies in between may have forgotten it, and others that are idle as long, without a word.
    """

    def __init__(self, timeout: float, since: float) -> None:
        super().__init__(f"Timeout: no answer within {timeout} s on a connection that had been idle")
        self.timeout, self.since = timeout, since


def is_turned_away(error: BaseException) -> bool:
    """Whether it is the answer to a new connection: those to requests are not raised."""
    told = (AuthenticationError, AuthorizationError, ClosedAtOnce, ResponseError)
    return isinstance(error, told) or "max number of clients" in str(error)  # that has no class of its own


def _is_read_only(error: ResponseError) -> bool:
    """Whether it is from a replica, or from a primary that has lost its replicas."""
    # redis-py takes the word off where it has a class; Redis 6.2 has it within the error of the script.
    return isinstance(error, (ReadOnlyError, MasterDownError)) or any(
        word in str(error) for word in ("READONLY", "MASTERDOWN", "NOREPLICAS")
    )


def _advice(reply: ResponseError) -> str:
    """What to do about an error that a user can do something about."""
    error = str(reply)
    if isinstance(reply, AskError):  # MOVED is one, too: redis-py leaves the slot and the server
        return (
            "; this is one node of a cluster, and the slot of the namespace is on the one named here: "
            "put that one into the URL, or a server that is no cluster (docs/explanation/limits.md)"
        )
    if isinstance(reply, ReadOnlyError) or "READONLY" in error:
        return (
            "; this is a replica, and a cache writes: name its primary in the URL, or the sentinels that "
            "know it, as in redis+sentinel://"
        )
    if "nknown Redis command" in error or "unknown command" in error:
        return "; it must be Redis 6.2 or later, with EVAL and EVALSHA"
    if any(word in error for word in ("NOPERM", "permission", "can't run this command")):
        return "; docs/howto/operate.md has the ACL rule"
    return ""


def circuit_open(reason: str | None) -> L2Unavailable:
    return L2Unavailable(f"Redis is left alone for a moment, after {reason}")


def unreachable(error: BaseException) -> L2Unavailable:
    return L2Unavailable(f"Redis did not answer: {type(error).__name__}: {error}")


def no_answer(timeout: float, idle_since: float, sent: float) -> RedisTimeout:
    """What a request met that was *sent* on a connection that was used last at *idle_since*."""
    if sent - idle_since > patience.IDLE:
        return SilentlyLost(timeout, idle_since + patience.TOGETHER)
    return RedisTimeout(f"Timeout: no answer within {timeout} s")


def no_connection(size: int, timeout: float) -> L2Unavailable:
    return L2Unavailable(
        f"all {size} connections were busy for {timeout} s; raise pool_size if so many are needed at once"
    )
