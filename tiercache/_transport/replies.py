"""What a script call is on the wire, and what its reply means; the same for both worlds."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, ResponseError

from tiercache._core.commands import Command
from tiercache._core.looks import Look
from tiercache._core.scripts import Names, Script
from tiercache._errors import L2Refused, L2Unavailable

WireCommand = tuple[Any, ...]


def packed(wire: Sequence[WireCommand]) -> list[bytes]:
    """The bytes of *wire*, in one piece; redis-py's own packing takes 7 us for what this does in one."""
    return [b"".join(map(hiredis.pack_command, wire))]


class Request:
    """One round trip: commands as they are sent, and as they are sent again where a script is unknown."""

    def __init__(self, commands: Sequence[Command[Any] | Look], names: Names) -> None:
        self.commands = commands
        self._looks = [look.plain(names) for look in commands if isinstance(look, Look)]
        self._parts = [command.parts(names) for command in commands if not isinstance(command, Look)]
        # False: a reply did not fit its command, so the connection's next one is another's; or the server
        # turned a write away, and behind its name may be another by now.
        self.keeps = True

    @property
    def repeatable(self) -> bool:
        return all(script.repeatable for script, _, _ in self._parts)

    def wire(self) -> list[WireCommand]:
        if self._looks:
            return [command for look in self._looks for command in look]
        return [_call("EVALSHA", script.sha, keys, args) for script, keys, args in self._parts]

    def unknown(self, raw: Sequence[Any]) -> list[int]:
        """The places of the commands whose script the server does not know; EVAL teaches it."""
        return [i for i, reply in enumerate(raw) if isinstance(reply, NoScriptError)]

    def wire_in_full(self, places: Sequence[int]) -> list[WireCommand]:
        def call(script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> WireCommand:
            return _call("EVAL", script.source, keys, args)

        return [call(*self._parts[i]) for i in places]

    def results(self, raw: Sequence[Any]) -> list[Any]:
        """The typed replies, an L2Refused in the place of each that is an error or not our script's."""
        results: list[Any] = []
        if self._looks:
            errors = [reply for reply in raw if isinstance(reply, ResponseError)]
            raw = [errors[0] if errors else list(raw)]
        for command, reply in zip(self.commands, raw, strict=True):
            act = type(command).__name__.lower()
            if isinstance(reply, ResponseError):
                if _is_turned_away(reply):
                    self.keeps = False
                advice = _advice(str(reply))
                results.append(_refused(f"Redis refused a {act}: {reply}{advice}", reply))
                continue
            try:
                results.append(command.parse(reply))
            except (ValueError, TypeError, AttributeError, OverflowError) as error:
                self.keeps = False
                results.append(
                    _refused(
                        f"Redis gave a {act} an answer that is not our script's: {reprlib.repr(reply)}", error
                    )
                )
        return results


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


def _is_turned_away(error: ResponseError) -> bool:
    """Whether it is from a replica, or from a primary that has lost its replicas."""
    # redis-py takes the word off where it has a class; Redis 6.2 has it within the error of the script.
    return isinstance(error, (ReadOnlyError, MasterDownError)) or any(
        word in str(error) for word in ("READONLY", "MASTERDOWN", "NOREPLICAS")
    )


def _advice(error: str) -> str:
    """What to do about an error that a user can do something about."""
    if "nknown Redis command" in error or "unknown command" in error:
        return "; it must be Redis 6.2 or later, with EVAL and EVALSHA"
    if "NOPERM" in error or "permission" in error:
        return "; docs/howto/operate.md has the ACL rule"
    return ""


def _call(verb: str, script: str, keys: tuple[str, ...], args: tuple[Any, ...]) -> WireCommand:
    return (verb, script, len(keys), *keys, *args)


def circuit_open(reason: str | None) -> L2Unavailable:
    return L2Unavailable(f"Redis is left alone for a moment, after {reason}")


def unreachable(error: BaseException) -> L2Unavailable:
    return L2Unavailable(f"Redis did not answer: {type(error).__name__}: {error}")


def no_connection(size: int, timeout: float) -> L2Unavailable:
    return L2Unavailable(
        f"all {size} connections were busy for {timeout} s; raise pool_size if so many are needed at once"
    )
