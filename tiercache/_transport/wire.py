"""The connections of the blocking world, and the exchange on one: bytes out, so many replies in.

redis-py opens them, with TLS, AUTH, SELECT and all; then its socket is used directly. Its own
way of sending a command and reading the reply takes as long as the server and the socket do.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from math import inf
from typing import Any
from weakref import ref

import hiredis
from redis.connection import Connection
from redis.exceptions import ConnectionError as BrokenConnection

from tiercache._transport import patience
from tiercache._transport.address import Address
from tiercache._transport.patience import BYTES_A_SECOND, RAN_OUT, SENT_AT_ONCE_BYTES, PatientSocket
from tiercache._transport.replies import new_reader, no_answer, no_connection, taken

RECEIVE_BYTES = 262_144  # at once; four times 65,536 takes a tenth off a reply of 1 MB


class Wire:
    """A place for one connection, which may be open; for one thread at a time."""

    # Of the open connection.
    _socket: PatientSocket
    _timeout: float
    _reader: hiredis.Reader
    _buffer: bytearray
    _used: float  # when it was last sent something

    def __init__(self) -> None:
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def leads_to(self, address: Address) -> bool:
        """Whether it is open, and still leads where *address* does."""
        return self._connection is not None and address.leads_to(self._connection)

    def open(self, address: Address) -> None:
        self.close()
        connection = address.open()
        assert connection._sock is not None
        self._timeout = address.timeout
        self._socket = PatientSocket(connection._sock, self._timeout)
        self._reader, self._buffer = new_reader(), bytearray(RECEIVE_BYTES)
        self._used = time.monotonic()
        self._connection = connection  # last: who interrupts finds all of it

    def was_idle(self, since: float) -> bool:
        """Whether nothing was sent on its open connection after *since*."""
        return self._used <= since

    def has_ended(self) -> bool:
        """Whether its open connection was closed by the server while it was idle; free if it was not idle."""
        return time.monotonic() - self._used > patience.IDLE and self._socket.has_ended()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()  # which does not shut down a socket of another process

    def hurry(self, timeout: float) -> None:
        """Let an exchange take *timeout* seconds at most from now on."""
        if self._connection is not None:
            self._timeout = timeout
            self._socket.wait(timeout)

    def interrupt(self) -> None:
        """Let the exchange under way fail; by any thread."""
        if self._connection is not None:
            self._socket.shut_down()

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """The *count* replies to *data*, the server's refusals among them.

        The timeout is for all of it, and longer by what has come: see `BYTES_A_SECOND`.
        It must be closed after any error: a reply may still be on its way.
        """
        idle_since, self._used = self._used, time.monotonic()
        give_up = self._used + self._timeout
        replies: list[Any] = []
        receive, buffer, reader = self._socket.recv_into, self._buffer, self._reader
        try:
            self._socket.sendall(data)
            shortened = len(data) > SENT_AT_ONCE_BYTES and self._shorten(give_up)
            while True:
                size = receive(buffer)
                if not size:
                    raise BrokenConnection("Connection closed by server.")
                give_up += size / BYTES_A_SECOND
                reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # it takes any buffer
                if taken(reader, replies, count):
                    break
                shortened = self._shorten(give_up)
            if shortened:
                self._socket.wait(self._timeout)
        except RAN_OUT as error:
            raise no_answer(self._timeout, idle_since, self._used) from error
        if reader.has_data():
            self.close()  # one reply too many: each further request would get that of the one before it
        return replies

    def _shorten(self, give_up: float) -> bool:
        """Let the next wait end at *give_up*."""
        left = give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.wait(left)
        return True


class _Waiter:
    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.served = threading.Lock()  # released once `wire` is there
        self.served.acquire()


class Wires:
    """A fixed number of places, the one used last first; who finds none free waits for its turn."""

    def __init__(self, size: int, timeout: float) -> None:
        self._size, self._timeout = size, timeout
        self._closed = False
        self.forget()

    def take(self) -> Wire:
        """A place of the caller's own, until it is given back; L2Unavailable if none is free in time."""
        if not self._queue:
            try:
                return self._free.pop()
            except IndexError:
                pass
        return self._wait()

    def give(self, wire: Wire) -> None:
        if wire.is_open:
            self._free.append(wire)
            if self._closed:  # looked at after the append, as close() looks for it after it said so
                self.close()
        else:
            self._free.insert(0, wire)
        if self._queue:
            with self._lock:
                self._serve()

    def close(self) -> None:
        """Close the connections that are not in use; those that are close when they come back."""
        self._closed = True
        self.let_go(inf)

    def let_go(self, since: float) -> None:
        """Close those that are not in use, and were not after *since*."""
        found = []
        while True:
            try:
                found.append(self._free.pop())
            except IndexError:
                break
        for wire in reversed(found):
            if wire.is_open and wire.was_idle(since):
                wire.close()
            self.give(wire)

    def hurry(self, timeout: float) -> None:
        """Let nobody wait for longer than *timeout* seconds, for a place or on one that is free now."""
        self._timeout = timeout
        for wire in list(self._free):
            wire.hurry(timeout)

    def interrupt(self) -> None:
        """Let the exchanges under way fail."""
        free = list(self._free)
        for place in list(self._places):
            wire = place()
            if wire is not None and wire not in free:
                wire.interrupt()

    def forget(self) -> None:
        """Have none open, and nobody that waits."""
        self._free = [Wire() for _ in range(self._size)]
        self._places = list(map(ref, self._free))  # under `_lock`
        self._lock = threading.RLock()
        self._queue: deque[_Waiter] = deque()  # changed under `_lock`

    def abandon(self) -> None:
        """After a fork, in the child: the sockets are the parent's, and are closed without a word."""
        free = self._free
        self.forget()
        for wire in free:
            wire.close()

    def _wait(self) -> Wire:
        waiter = _Waiter()
        try:
            with self._lock:
                self._queue.append(waiter)
                # After the append: who gives a place back looks at the queue after it did.
                self._replace_lost()
                self._serve()
            waiter.served.acquire(timeout=self._timeout)
        except BaseException:  # of a signal's handler, on the main thread
            wire = self._leave(waiter)
            if wire is not None:
                self.give(wire)
            raise
        wire = self._leave(waiter)
        if wire is None:
            raise no_connection(self._size, self._timeout)
        return wire

    def _leave(self, waiter: _Waiter) -> Wire | None:
        """The place that *waiter* got; if None, it gets none any more."""
        with self._lock:
            with suppress(ValueError):  # it was served, perhaps by a handler, amid this
                self._queue.remove(waiter)
            return waiter.wire

    def _replace_lost(self) -> None:
        """Make anew what got lost between taking and giving, as by an exception of a signal's handler.

        That may come between any two instructions; but whoever uses a wire has a reference to it. One that a
        traceback refers to is lost once that is gone: where it is in a cycle, with the next collection.
        """
        for at, place in enumerate(self._places):
            if place() is None:
                wire = Wire()
                self._places[at] = ref(wire)
                self._free.insert(0, wire)

    def _serve(self) -> None:
        while self._queue:
            try:
                wire = self._free.pop()
            except IndexError:
                return
            try:
                waiter = self._queue.popleft()
            except IndexError:  # served by a handler, amid this
                self._free.append(wire)
                return
            waiter.wire = wire
            waiter.served.release()
