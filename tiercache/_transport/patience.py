"""A socket whose reads and writes end in time, by the kernel's clock where that is possible.

With a timeout of Python's own a socket polls before each call, and gives the interpreter away
twice for one read: where other threads keep it busy, each time costs 5 ms until it is had back.
With SO_RCVTIMEO a read is one call. TLS reads on until it has a whole record, whatever the kernel
says of a part of it, so there Python's way stays.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from math import ceil
from typing import Final

# Come at the least where much is asked for: what has come gains its reply so much time.
BYTES_A_SECOND = 10_000_000
SENT_AT_ONCE_BYTES = 16_384  # what any socket takes without waiting for its reader
RAN_OUT: Final = (TimeoutError, BlockingIOError)  # what a read raises, by Python's clock and by the kernel's
IDLE = 0.5  # seconds without use, after which a connection may have ended with nobody there to see it
TOGETHER = 1.0  # seconds within which connections were used as good as at once, as by a burst


def has_ended(descriptor: int) -> bool:
    """Whether something is there to be read from a socket on which no reply is due: its end, as a rule."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class PatientSocket:
    """*sock*, open and blocking, whose calls take *seconds* at most; more than 0."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket, self._seconds = sock, seconds
        self.recv_into = sock.recv_into
        self._by_kernel = not isinstance(sock, ssl.SSLSocket)
        sock.settimeout(None if self._by_kernel else seconds)
        if self._by_kernel:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))

    def has_ended(self) -> bool:
        return has_ended(self._socket.fileno())

    def wait(self, seconds: float) -> None:
        """Let each read take *seconds* at most from now on, by the kernel's ticks of some milliseconds."""
        if seconds == self._seconds:
            return
        self._seconds = seconds
        if self._by_kernel:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        else:
            self._socket.settimeout(max(seconds, 0.001))  # with 0 it would not wait, and raise another error

    def sendall(self, data: bytes) -> None:
        if len(data) <= SENT_AT_ONCE_BYTES or not self._by_kernel:
            self._socket.sendall(data)
            return
        # The kernel's timeout is for each part of it that a slow reader takes, Python's for the whole.
        self._socket.settimeout(self._seconds)
        self._socket.sendall(data)
        self._socket.settimeout(None)

    def shut_down(self) -> None:
        """Let whoever reads or writes meet the end of the connection; by any thread, closed or not."""
        try:
            socket.socket.shutdown(
                self._socket, socket.SHUT_RDWR
            )  # that of TLS takes its state from the reader
        except OSError:
            pass  # it has ended by itself


def _timeval(seconds: float) -> bytes:
    micros = max(1, ceil(seconds * 1_000_000))  # none at all would be without end
    return struct.pack("ll", micros // 1_000_000, micros % 1_000_000)
