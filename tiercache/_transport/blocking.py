"""Performs a plan's steps on the calling thread.

One pool a process, in the order last in, first out. A connection that breaks is replaced and
the commands are sent once more where that does no harm; a server that does not answer in
time is not asked again by this call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from tiercache._core.commands import Command
from tiercache._core.flights import current_load
from tiercache._core.looks import Look, Looked
from tiercache._core.plan import Ask, Call, Join, Step, Tell
from tiercache._core.scripts import Names
from tiercache._errors import L2Unavailable
from tiercache._transport.address import Address
from tiercache._transport.breaker import Breaker
from tiercache._transport.joins import join
from tiercache._transport.lanes import Lanes
from tiercache._transport.replies import (
    Request,
    SilentlyLost,
    answered,
    circuit_open,
    request_of,
    unreachable,
)
from tiercache._transport.wire import Wire, Wires

FAILURES = (RedisError, OSError)  # nothing else comes of making a connection: `tls.told`


class Blocking:
    """The blocking transport of one node; any number of threads may use it at once."""

    def __init__(
        self,
        address: Address,
        names: Names,
        breaker: Breaker,
        clock: Callable[[], float],
        *,
        pool_size: int,
        prober: bool = False,
    ) -> None:
        self._address, self._names, self._breaker, self._clock = address, names, breaker, clock
        self._prober, self._timeout = prober, address.timeout
        self._is_interrupted = False  # what is under way is to end, and not to be sent once more
        self._wires = Wires(pool_size, address.timeout)
        self._lanes = Lanes(self._look)
        self.look = self._lanes.ask  # as `perform` of one

    def perform(self, step: Step) -> Any:
        match step:
            case Ask(commands):
                if len(commands) == 1 and isinstance(commands[0], Look):
                    return self._lanes.ask(commands[0])
                return self._ask(commands)
            case Call():
                return call(step)
            case Join():
                return join(step)
            case Tell(commands, untold):
                try:
                    self._ask(commands)
                except L2Unavailable:
                    untold(commands)

    def close(self) -> None:
        """Close the connections that are not in use; those that are close when they come back."""
        self._wires.close()

    def interrupt(self) -> None:
        """Let the round trips under way fail, and send nothing of them once more; until `hurry`."""
        self._is_interrupted = True
        self._wires.interrupt()

    def hurry(self, patience: float) -> None:
        """Let those to come take *patience* seconds at most, if that is less than before."""
        timeout = min(patience, self._timeout)
        self._address = self._address.with_timeout(timeout)
        self._wires.hurry(timeout)
        self._is_interrupted = False

    def forget(self, breaker: Breaker) -> None:
        """After a fork, in the child: the sockets are the parent's, and are closed without a word."""
        self._breaker = breaker
        self._wires.abandon()
        self._lanes.forget()

    def _look(self, look: Look) -> list[Looked]:
        return self._ask((look,))

    def _ask(self, commands: Sequence[Command[Any] | Look]) -> list[Any]:
        request, breaker = request_of(commands, self._names), self._breaker
        tries = self._prober or breaker.is_open
        if tries and not breaker.admits(self._clock(), prober=self._prober):
            raise circuit_open(breaker.reason)
        try:
            results = self._sent(request, tries)
        finally:
            if tries:
                breaker.tried(self._clock())
        return answered(results)

    def _sent(self, request: Request, tries: bool) -> list[Any]:
        """What *request* comes to, on a connection whose turn may not be yet; *tries*: as a probe."""
        breaker, wire = self._breaker, self._wires.take()
        try:
            if breaker.is_open and not tries:  # while this call waited for its place
                raise circuit_open(breaker.reason)
            results = self._round_trip(wire, request)
        except FAILURES as error:
            if isinstance(error, SilentlyLost):
                self._wires.let_go(error.since)
            breaker.failed(self._clock(), error)
            raise unreachable(error) from error
        finally:
            self._wires.give(wire)
        breaker.heard = self._clock()
        if breaker.is_open:
            breaker.answered()
        return results

    def _round_trip(self, wire: Wire, request: Request) -> list[Any]:
        # One that is sent once at most must not be the one that finds out that the server has closed it.
        if wire.leads_to(self._address) and (request.repeatable or not wire.has_ended()):
            try:
                return self._exchange(wire, request)
            except RedisTimeout:
                raise
            except (BrokenConnection, OSError):
                if not request.repeatable or self._is_interrupted:
                    raise
        wire.open(self._address)
        return self._exchange(wire, request)

    def _exchange(self, wire: Wire, request: Request) -> list[Any]:
        try:
            raw = wire.exchange(request.wire(), request.count)
            unknown = request.unknown(raw)
            if unknown:
                in_full = wire.exchange(request.wire_in_full(unknown), len(unknown))
                for place, reply in zip(unknown, in_full, strict=True):
                    raw[place] = reply
        except BaseException:
            wire.close()  # a reply may still be on its way
            raise
        results = request.results(raw)
        if not (request.keeps and wire.leads_to(self._address)):
            wire.close()
        return results


def call(step: Call) -> Any:
    """Run the user's function; the reads it makes know the load they are part of."""
    token = current_load.set(step.load) if step.load is not None else None
    try:
        result = step.function(*step.args, **step.kwargs)
    finally:
        if token is not None:
            current_load.reset(token)
    if inspect.iscoroutine(result):
        result.close()
        name = getattr(step.function, "__qualname__", repr(step.function))
        raise TypeError(
            f"{name} returned a coroutine to a blocking call; decorate an `async def`, or await "
            "the verb of the cache, not that of cache.sync"
        )
    return result
