"""Performs a plan's steps on the calling thread.

One pool a process, in the order last in, first out. A connection that breaks is replaced and
the commands are sent once more where that does no harm; a server that does not answer in
time is not asked again by this call.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

from redis.connection import Connection
from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from tiercache._core.flights import current_load
from tiercache._core.plan import TIMED_OUT, Ask, Call, Join, Step, Tell
from tiercache._core.scripts import Names
from tiercache._errors import L2Unavailable
from tiercache._transport.address import Address
from tiercache._transport.breaker import Breaker
from tiercache._transport.replies import (
    Request,
    WireCommand,
    answered,
    circuit_open,
    no_connection,
    packed,
    unreachable,
)

FAILURES = (RedisError, OSError)


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
        self._size, self._prober = pool_size, prober
        self._free: list[Connection] = []
        self._places = threading.BoundedSemaphore(pool_size)
        self._closed = False

    def perform(self, step: Step) -> Any:
        match step:
            case Ask(commands):
                return self._ask(Request(commands, self._names))
            case Call():
                return call(step)
            case Join():
                return join(step)
            case Tell(commands):
                try:
                    self._ask(Request(commands, self._names))
                except L2Unavailable:
                    return None

    def close(self) -> None:
        """Close the connections that are not in use; those that are close when they come back."""
        self._closed = True
        while (connection := self._take()) is not None:
            connection.disconnect()

    def forget(self, breaker: Breaker) -> None:
        """After a fork, in the child: the sockets are the parent's, and are closed without a word."""
        self._breaker = breaker
        free, self._free = self._free, []
        self._places = threading.BoundedSemaphore(self._size)
        for connection in free:
            connection.disconnect()  # redis-py does not shut down a socket of another process

    def _ask(self, request: Request) -> list[Any]:
        if not self._breaker.admits(self._clock(), prober=self._prober):
            raise circuit_open(self._breaker.reason)
        was_open = self._breaker.is_open
        if not self._places.acquire(timeout=self._address.timeout):
            raise no_connection(self._size, self._address.timeout)
        try:
            if self._breaker.is_open and not was_open:  # while this call waited for its place
                raise circuit_open(self._breaker.reason)
            results = self._round_trip(request)
        except FAILURES as error:
            self._breaker.failed(self._clock(), error)
            raise unreachable(error) from error
        finally:
            self._places.release()
        self._breaker.answered()
        return answered(results)

    def _take(self) -> Connection | None:
        """An idle connection; None where there is none, or another thread was faster."""
        while True:
            try:
                connection = self._free.pop()
            except IndexError:
                return None
            if self._address.leads_to(connection):
                return connection
            connection.disconnect()

    def _round_trip(self, request: Request) -> list[Any]:
        connection = self._take()
        if connection is not None:
            try:
                return self._exchange(connection, request)
            except RedisTimeout:
                raise
            except (BrokenConnection, OSError):
                if not request.repeatable:
                    raise
        return self._exchange(self._address.open(), request)

    def _exchange(self, connection: Connection, request: Request) -> list[Any]:
        try:
            raw = _send(connection, request.wire())
            unknown = request.unknown(raw)
            if unknown:
                for place, reply in zip(
                    unknown, _send(connection, request.wire_in_full(unknown)), strict=True
                ):
                    raw[place] = reply
        except BaseException:
            connection.disconnect()  # a reply may still be on its way
            raise
        results = request.results(raw)
        if request.keeps and self._address.leads_to(connection):
            self._free.append(connection)
            if self._closed:  # looked at after the append, as close() looks for it after it said so
                self.close()
        else:
            connection.disconnect()
        return results


def _send(connection: Connection, wire: list[WireCommand]) -> list[Any]:
    connection.send_packed_command(packed(wire), check_health=False)
    replies = []
    for _ in wire:
        try:
            replies.append(connection.read_response())
        except ResponseError as refusal:
            replies.append(refusal)
    return replies


def join(step: Join) -> Any:
    """Wait on the calling thread for what another thread or task lands."""
    done, _ = wait((step.future,), step.timeout)
    return step.future.result() if done else TIMED_OUT


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
            f"{name} returned a coroutine to a blocking call; make it an `async def`, or await "
            "the cache's own verb"
        )
    return result
