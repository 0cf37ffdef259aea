"""What a script call is on the wire, and what its reply means; the same for both worlds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from tiercache._core.commands import Command, Names, Script
from tiercache._errors import L2Refused, L2Unavailable

WireCommand = tuple[Any, ...]


class Request:
    """One round trip: commands, as they are sent, and as they are sent again to a server that lacks a script."""

    def __init__(self, commands: Sequence[Command[Any]], names: Names) -> None:
        self.commands = commands
        self._parts = [command.parts(names) for command in commands]

    @property
    def repeatable(self) -> bool:
        return all(script.repeatable for script, _, _ in self._parts)

    def wire(self) -> list[WireCommand]:
        return [_call("EVALSHA", script.sha, keys, args) for script, keys, args in self._parts]

    def unknown(self, raw: Sequence[Any]) -> list[int]:
        """The places of the commands whose script the server does not know; EVAL teaches it."""
        return [i for i, reply in enumerate(raw) if isinstance(reply, NoScriptError)]

    def wire_in_full(self, places: Sequence[int]) -> list[WireCommand]:
        def call(script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> WireCommand:
            return _call("EVAL", script.source, keys, args)

        return [call(*self._parts[i]) for i in places]

    def results(self, raw: Sequence[Any]) -> list[Any]:
        """The typed replies; raises L2Refused for the first that is an error."""
        results = []
        for command, reply in zip(self.commands, raw, strict=True):
            act = type(command).__name__.lower()
            if isinstance(reply, ResponseError):
                raise L2Refused(f"Redis refused a {act}: {reply}") from reply
            try:
                results.append(command.parse(reply))
            except (ValueError, TypeError, AttributeError) as error:
                raise L2Refused(
                    f"Redis gave a {act} an answer that is not our script's: {reply!r:.200}"
                ) from error
        return results


def _call(verb: str, script: str, keys: tuple[str, ...], args: tuple[Any, ...]) -> WireCommand:
    return (verb, script, len(keys), *keys, *args)


def circuit_open(reason: str | None) -> L2Unavailable:
    return L2Unavailable(f"Redis is left alone for a moment, after {reason}")


def unreachable(error: BaseException) -> L2Unavailable:
    return L2Unavailable(f"Redis did not answer: {type(error).__name__}: {error}")


def no_connection(size: int, timeout: float) -> L2Unavailable:
    return L2Unavailable(
        f"all {size} connections were busy for {timeout} s; raise pool_size if the application needs more at once"
    )
