"""A connection that hears what is published."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.connection import Connection
from redis.exceptions import ConnectionError as BrokenConnection

from tiercache._transport.address import Address
from tiercache._transport.patience import RAN_OUT, PatientSocket
from tiercache._transport.replies import MISSING, new_reader

RECEIVE_BYTES = 65_536  # at once


class Subscription:
    """Open, and subscribed to *channels* soon: a message says so. For one thread.

    redis-py opens it and says what is to be said; what is heard is read from the socket. Its own way of
    that takes 80 us a message, and gives the interpreter away several times for it.
    """

    _connection: Connection
    _socket: PatientSocket
    _reader: hiredis.Reader
    _buffer: bytearray

    def __init__(self, address: Address, *channels: str) -> None:
        self._address = address
        self._connection = connection = address.open()
        assert connection._sock is not None
        self._socket = PatientSocket(connection._sock, address.timeout)
        self._reader, self._buffer = new_reader(), bytearray(RECEIVE_BYTES)
        connection.send_command("SUBSCRIBE", *channels)

    @property
    def leads_there(self) -> bool:
        """Whether it still leads where the address does."""
        return self._address.leads_to(self._connection)

    def ping(self) -> None:
        self._connection.send_command("PING")

    def hear(self, patience: float) -> Any:
        """The next message as redis-py would parse it; None where none has come within *patience* seconds.

        An error in place of a message is raised, as one of the socket is: it must be closed then.
        """
        message = self._reader.gets()
        if message is MISSING:
            self._socket.wait(patience)
            try:
                size = self._socket.recv_into(self._buffer)
            except RAN_OUT:
                return None
            if not size:
                raise BrokenConnection("Connection closed by server.")
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # it takes any buffer
            message = self._reader.gets()
            if message is MISSING:
                return None
        if isinstance(message, Exception):
            raise message
        return message

    def interrupt(self) -> None:
        """Let the thread that hears, or is about to, meet the end of the connection; by any other thread."""
        self._socket.shut_down()

    def close(self) -> None:
        self._connection.disconnect()
