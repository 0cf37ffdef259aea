"""Servers that are spoken to by TLS, and the certificates for it.

No wheel's server is built with TLS. So an end of TLS of our own stands in front of one: a real
handshake, real certificates, and Redis behind it. Where the machine has a server that speaks TLS
itself, the tests run on that as well.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests import servers
from tests.servers import RedisServer, eventually


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """Who signs; its own certificate is the file *root*."""

    def __init__(self, folder: Path) -> None:
        self._ca, self._folder, self._issued = trustme.CA(), folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.root = folder / "root.pem"
        self._ca.cert_pem.write_to_path(self.root)

    def issue(self, name: str, **options: Any) -> Pair:
        """A certificate for *name*."""
        made = self._ca.issue_cert(name, **options)
        self._issued += 1
        pair = Pair(self._folder / f"{self._issued}.pem", self._folder / f"{self._issued}.key")
        for each in made.cert_chain_pems:
            each.write_to_path(pair.certificate, append=True)
        made.private_key_pem.write_to_path(pair.key)
        return pair


class Front:
    """An end of TLS before *server*."""

    def __init__(self, server: RedisServer, pair: Pair, *, clients_of: Authority | None = None) -> None:
        self.server = server
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.certificate, pair.key)
        if clients_of is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(clients_of.root)
        self.accepted = 0  # handshakes that came to their end
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # clients that do not trust us, and the like
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls", daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a task that is cancelled before its first step closes nothing
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # so that the transports they aborted close their sockets

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(self.context)
            self.accepted += 1
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            try:
                await asyncio.gather(_pass_on(reader, back_writer), _pass_on(back_reader, writer))
            finally:
                back_writer.transport.abort()
        except OSError:
            pass  # a client that does not trust us, or whom we do not
        finally:
            writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class Spoken:
    """A server that speaks TLS itself."""

    def __init__(self, pair: Pair, *, port: int, clients_of: Authority, ask_clients: bool) -> None:
        binary = with_tls()
        assert binary is not None
        files = ("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key))
        clients = (
            "--tls-ca-cert-file",
            str(clients_of.root),
            "--tls-auth-clients",
            "yes" if ask_clients else "no",
        )
        self.port = port
        self.server = RedisServer(binary, extra=("--tls-port", str(port), *files, *clients))

    @property
    def accepted(self) -> int:
        said = str(self.server.cli("CLIENT", "LIST"))
        return said.count(f"laddr=127.0.0.1:{self.port}")

    def close(self) -> None:
        self.server.close()


@functools.cache
def with_tls() -> str | None:
    """A server binary of this machine that was built with TLS."""
    for binary in servers.binaries().values():
        # Asked to speak TLS without a certificate, one that can complains of that and the others of the wish.
        asked = [binary, "--port", "0", "--tls-port", "1", "--save", ""]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout
        if "tls-cert-file" in said:
            return binary
    return None


def heard(cache: Any) -> bool:
    """Whether the listener of *cache* has its subscription."""
    return eventually(lambda: cache._node.is_listening())
