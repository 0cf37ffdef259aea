"""A way to a server that can fall silent, as a cable does: nothing is closed, nothing arrives."""

from __future__ import annotations

import socket
import threading

from tests.servers import RedisServer


class Proxy:
    """Passes bytes on to *server* until it is told to swallow those of some connections."""

    def __init__(self, server: RedisServer) -> None:
        self._to = ("127.0.0.1", server.port)
        self._entrance = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []  # changed by the accepting thread alone
        self._silent: set[socket.socket] = set()
        self._open = threading.Event()
        self._open.set()
        self._asked, self._first = b"", 0
        self._asking: set[socket.socket] = set()  # the client's end of each connection it was asked on
        self._held, self._let_go = threading.Event(), threading.Event()
        self.subscriptions: list[socket.socket] = []  # the client's end of each connection that subscribed
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._entrance.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def silence_subscriptions(self) -> None:
        """Let the subscriptions there are fall silent in both directions; new ones are heard."""
        self._silent.update(self.subscriptions)

    def fall_silent(self) -> None:
        """Let nothing through any more, on connections there are and on new ones, until `speak`."""
        self._open.clear()

    def speak(self, *, late: bool) -> None:
        """Let through what comes; *late* also what was held back, else those connections stay silent."""
        if not late:
            self._silent.update(self._sockets)
        self._open.set()

    def hold_answers(self, asked: bytes, *, first: int) -> threading.Event:
        """Keep what the server says where *asked* is sent from now on, but for the *first* bytes of it.

        Set once there is something, which is kept until `let_go`.
        """
        self._first, self._asked = first, asked
        return self._held

    def let_go(self) -> None:
        """Pass on what was held, and hold nothing more."""
        self._asked = b""
        self._let_go.set()

    def leads_to(self, port: int) -> bool:
        return self._to[1] == port

    def lead_to(self, port: int) -> None:
        """Cut all connections; new ones go to *port*."""
        self._to = ("127.0.0.1", port)
        for each in list(self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended before

    def close(self) -> None:
        self._open.set()
        self._let_go.set()
        for each in (self._entrance, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._entrance.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._to)
            except OSError:
                client.close()  # nobody is there to be led to
                continue
            self._sockets += (client, server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink, client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, client: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if source is client and b"SUBSCRIBE" in data:
                    self.subscriptions.append(client)
                if source is client and self._asked and self._asked in data:
                    self._asking.add(client)
                elif source is not client and client in self._asking and not self._let_go.is_set():
                    sink.sendall(data[: self._first])
                    data = data[self._first :]
                    self._held.set()
                    self._let_go.wait()
                self._open.wait()
                if client not in self._silent:
                    sink.sendall(data)
        except OSError:
            pass  # one of the two has been closed, or reset
        self._open.wait()  # the end is a message, too
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
