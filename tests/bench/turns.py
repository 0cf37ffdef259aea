"""A way to a server that counts round trips: how often a client speaks after it has been answered."""

from __future__ import annotations

import contextlib
import socket
import threading


class Turns:
    """Passes bytes between clients and the server on *port*; what is sent together is one turn."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._entrance = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._entrance.getsockname()[1]}/0"
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []  # under `_lock`
        self.count = 0  # under `_lock`
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._entrance.close()
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._entrance.accept()
                server = socket.create_connection(self._to)
                answered = threading.Event()
                answered.set()
                with self._lock:
                    self._sockets += (client, server)
                for source, sink, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass_on, args=(source, sink, answered, is_client), daemon=True
                    ).start()

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, answered: threading.Event, is_client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                with self._lock:
                    if is_client and answered.is_set():
                        self.count += 1
                        answered.clear()
                    elif not is_client:
                        answered.set()
                sink.sendall(chunk)
