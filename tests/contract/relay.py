"""A way to a server that meddles with the replies to scripts, once for each time it is told to."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable

Meddle = Callable[[bytes], bytes | None]  # what becomes of a reply; None: the connection is closed instead


class Relay:
    """Passes bytes between clients and the server on *port*; connecting and its replies are left alone."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._entrance = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._entrance.getsockname()[1]
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []  # under `_lock`
        self._threads: list[threading.Thread] = []  # under `_lock`
        self._meddling: deque[Meddle] = deque()
        self._open = threading.Event()
        self._open.set()
        self.pace: int | None = None  # bytes a second of replies; None: as they come
        self.connections = 0
        self.ended = 0  # connections that the server closed
        self.scripts = 0  # requests that ran a script; several sent together are one
        self._spawn(self._accept)

    def once(self, meddle: Meddle) -> None:
        """Let *meddle* decide what becomes of the next reply to a script that nobody has decided on yet."""
        self._meddling.append(meddle)

    def answer(self, raw: bytes) -> None:
        """Answer the next script with *raw* in place of what the server says."""
        self.once(lambda _: raw)

    def hang_up(self) -> None:
        """Close the connection when the next reply to a script has come, in place of passing it on."""
        self.once(lambda _: None)

    def hold(self) -> None:
        """Keep back every reply, until `let_go`."""
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.set()
        self._entrance.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for each in self._sockets:
                _shut(each)
        for thread in self._threads:
            thread.join()
        for each in (self._entrance, *self._sockets):
            each.close()

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="relay", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._entrance.accept()
                server = socket.create_connection(self._to)
            except OSError:
                return
            with self._lock:
                self._sockets += (client, server)
            self.connections += 1
            _Way(self, client, server)


class _Way:
    """One connection: a thread in each direction."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay, self._client, self._server = relay, client, server
        self._runs_script = False
        relay._spawn(self._there)
        relay._spawn(self._back)

    def _there(self) -> None:
        try:
            while data := self._client.recv(1 << 20):
                if b"EVAL" in data:
                    self._runs_script = True
                    self._relay.scripts += 1
                self._server.sendall(data)
        except OSError:
            pass  # closed under our hands: the other direction learns of it, too
        _shut(self._server)

    def _back(self) -> None:
        relay = self._relay
        try:
            while data := self._server.recv(1 << 16):
                relay._open.wait()
                if relay.pace is not None:
                    time.sleep(len(data) / relay.pace)
                if self._runs_script and relay._meddling:
                    changed = relay._meddling.popleft()(data)
                    if changed is None:
                        break
                    data = changed
                self._client.sendall(data)
        except OSError:
            pass
        _shut(self._client)
        _shut(self._server)
        relay.ended += 1


def _shut(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster
