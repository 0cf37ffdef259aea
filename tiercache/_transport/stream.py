"""The connections of one event loop, and the exchange on one: bytes out, so many replies in.

redis-py opens them, with TLS, AUTH, SELECT and all; then its transport is taken over. No task
and no timer belongs to an exchange: who sends says what is to be called with the replies, from
within the loop, and one timer looks at all that are under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import RedisError

from tiercache._transport import patience
from tiercache._transport.address import Address
from tiercache._transport.patience import BYTES_A_SECOND, has_ended
from tiercache._transport.replies import LoopEnds, SilentlyLost, new_reader, no_answer, no_connection, taken
from tiercache._transport.wire import RECEIVE_BYTES

Replies = list[Any]
Heard = Callable[[Replies | Exception], None]


class Stream(asyncio.BufferedProtocol):
    """One open connection; one exchange at a time, so what is buffered is what one caller handed over."""

    def __init__(self, connection: Connection) -> None:
        assert connection._writer is not None
        self.connection, self._writer = connection, connection._writer
        # Ours to close from now on. The writer stays: one that goes closes the transport, with a warning.
        connection._reader = connection._writer = None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)
        self._reader, self._buffer = new_reader(), bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._replies: Replies = []
        self._count = 0
        self._heard: Heard | None = None
        self.is_open = True
        self.used = asyncio.get_running_loop().time()  # when it was last sent something
        self.idle_since = self.used  # and the time before that
        self.give_up = 0.0  # when the exchange under way has taken too long
        self.lost = asyncio.get_running_loop().create_future()  # done when the socket is closed
        if self._transport.is_closing():  # before it was taken over: then another protocol is told
            self.connection_lost(None)

    @property
    def is_busy(self) -> bool:
        return self._heard is not None

    def has_ended(self) -> bool:
        """Whether the server closed it while it was idle, and the loop does not know; free if it was not."""
        if asyncio.get_running_loop().time() - self.used <= patience.IDLE:
            return False
        return has_ended(self._transport.get_extra_info("socket").fileno())

    def send(self, data: bytes, count: int, heard: Heard) -> None:
        """Have *heard* called once: with the *count* replies to *data*, or the error that closed this."""
        self._replies, self._count, self._heard = [], count, heard
        if self._transport.is_closing():  # the loop knows, and tells later; uvloop raises RuntimeError here
            self.fail(BrokenConnection("Connection closed by server."))
            return
        self._transport.write(data)

    def fail(self, error: Exception) -> None:
        """Close, since a reply may still be on its way; whoever waits for one gets *error*."""
        self.close()
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(error)

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        # A view, of whose slices TLS fills one after the other; those of the buffer are copies.
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        heard = self._heard
        if heard is None:
            self.close()  # a reply that nobody asked for
            return
        self.give_up += nbytes / BYTES_A_SECOND
        try:
            self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # it takes any buffer
            if not taken(self._reader, self._replies, self._count):
                return
        except RedisError as error:
            self.fail(error)
            return
        if self._reader.has_data():
            self.close()  # one too many: each further request would get that of the one before it
        self._heard = None
        heard(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if not self.lost.done():
            self.lost.set_result(None)
        if self._heard is not None:
            self.fail(BrokenConnection(f"Connection lost: {exc}" if exc else "Connection closed by server."))


class Streams:
    """A fixed number of places for streams, the one used last first; who finds none free waits in turn."""

    def __init__(self, size: int, address: Address, *, keeps: bool) -> None:
        self._size, self._address = size, address
        self._keeps = keeps  # False: each is closed when it comes back
        self._free: list[Stream | None] = [None] * size  # those that are open at the end
        self._queue: deque[asyncio.Future[Stream | None]] = deque()
        self._open: set[Stream] = set()
        self._timer: asyncio.Handle | None = None

    def at_once(self, *, repeatable: bool) -> Stream | None:
        """An open stream, the caller's own until it is given back; None where that takes a while.

        What is sent once at most must not be what finds out that the server has closed it.
        """
        free = self._free
        stream = free[-1] if free and not self._queue else None
        if stream is None or not self.leads_there(stream):
            return None
        if not repeatable and stream.has_ended():
            stream.close()
            return None
        free.pop()
        return stream

    async def take(self) -> Stream | None:
        """A place of the caller's own, None if it has no stream; L2Unavailable if none is free in time."""
        if self._free and not self._queue:
            return self._free.pop()
        turn: asyncio.Future[Stream | None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._address.timeout):
                return await turn
        except BaseException as error:
            if turn in self._queue:
                self._queue.remove(turn)
            elif not turn.cancelled():
                self.give(turn.result())  # its turn came when it was about to leave
            if isinstance(error, TimeoutError):
                raise no_connection(self._size, self._address.timeout) from None
            raise

    def give(self, stream: Stream | None) -> None:
        if stream is not None and not stream.is_open:
            stream = None
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(stream)
                return
        if stream is not None and not self._keeps:
            stream.close()
            stream = None
        if stream is None:
            self._free.insert(0, None)
        else:
            self._free.append(stream)

    async def open(self) -> Stream:
        """A stream for a place of the caller's own."""
        stream = Stream(await self._address.open_async())
        self._open = {stream, *(each for each in self._open if each.is_open)}
        return stream

    def send(self, stream: Stream, data: bytes, count: int, heard: Heard) -> None:
        """`Stream.send`, with a timeout for the whole of it, longer by what has come (`BYTES_A_SECOND`)."""
        loop = asyncio.get_running_loop()
        stream.idle_since, stream.used = stream.used, loop.time()
        stream.give_up = stream.used + self._address.timeout
        if self._timer is None:
            self._timer = loop.call_at(stream.give_up, self._ring)
        stream.send(data, count, heard)

    async def exchange(self, stream: Stream, data: bytes, count: int) -> Replies:
        """The *count* replies to *data*; the stream is closed if there is an error instead."""
        answer: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()

        def heard(outcome: Replies | Exception) -> None:
            if answer.done():
                return
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        self.send(stream, data, count, heard)
        try:
            return await answer
        except asyncio.CancelledError:
            stream.close()
            raise

    def leads_there(self, stream: Stream) -> bool:
        """Whether it is open, and still leads where the address does."""
        return stream.is_open and self._address.leads_to(stream.connection)

    async def close(self) -> None:
        """Close all streams, and from now on each as it comes back; an exchange under way fails."""
        self._keeps = False
        streams, self._open = self._open, set()
        self._free = [None] * len(self._free)
        for stream in streams:
            stream.fail(LoopEnds("the event loop ends"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for stream in streams:
            await stream.lost

    def _ring(self) -> None:
        # Where a task kept the loop for long, a reply may have come meanwhile. Asyncio's own loop reads it
        # before it comes to its timers, uvloop in its next turn, after what is called soon: so in that after.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_soon(loop.call_soon, self._watch)

    def _watch(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        now, busy = loop.time(), [stream for stream in self._open if stream.is_busy]
        in_time = [stream.give_up for stream in busy if stream.give_up > now]
        if in_time:
            self._timer = loop.call_at(min(in_time), self._ring)
        for stream in busy:
            if stream.give_up <= now:
                error = no_answer(self._address.timeout, stream.idle_since, stream.used)
                if isinstance(error, SilentlyLost):
                    self._let_go(error.since)
                stream.fail(error)

    def _let_go(self, since: float) -> None:
        """Close those that are not in use, and were not after *since*."""
        left = [stream for stream in self._free if stream is not None and stream.used > since]
        for stream in self._free:
            if stream is not None and stream.used <= since:
                stream.close()
        self._free = [None] * (len(self._free) - len(left)) + left
