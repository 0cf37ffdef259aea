"""The embedded server: alone on loopback, without a trace, and gone with its parent.

Each test that ends a parent runs that parent as a process of its own, a script on `-c`
that prints the server's pid and port and then does what the test asks of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.servers import eventually, is_alive, newest
from tiercache import embedded
from tiercache._errors import L2Unavailable, ServerNotFound, SettingError

IMPORTS = """
import atexit, os, sys
from tiercache import embedded
from tests.servers import is_alive
"""
STARTED = """
server = embedded.start()
print(server.pid, server.port, flush=True)
"""
WAIT_FOR_EVER = "sys.stdin.read()"


@contextmanager
def parent(then: str = "", *, first: str = "", tmp: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A process that runs *first*, starts a server and runs *then*; with the server's pid and port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", IMPORTS + first + STARTED + then],
        env={**os.environ, "TMPDIR": str(tmp)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        pid, port = map(int, process.stdout.readline().split())
        try:
            yield process, pid, port
        finally:
            process.kill()


def ping(port: int) -> bool:
    with redis.Redis("127.0.0.1", port, socket_timeout=5) as client:
        return bool(client.ping())


def accepts(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@pytest.fixture
def no_server_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for package, _ in embedded.WHEELS:
        monkeypatch.setitem(sys.modules, package, None)  # how Python marks a module as absent


def test_it_answers_at_its_url_under_its_pid() -> None:
    with embedded.start() as server, redis.Redis.from_url(server.url) as client:
        info = client.info("server")

    assert info["process_id"] == server.pid
    assert info["tcp_port"] == server.port
    assert server.version in (info["redis_version"], info.get("valkey_version"))


def test_close_ends_it_and_may_be_repeated() -> None:
    server = embedded.start()
    server.close()
    server.close()

    assert not is_alive(server.pid)


def test_close_ends_a_server_that_is_stopped() -> None:
    with embedded.start() as server:
        os.kill(server.pid, signal.SIGSTOP)

    assert not is_alive(server.pid)


def test_a_close_that_is_interrupted_leaves_nothing() -> None:
    server = embedded.start()
    os.kill(server._supervisor.pid, signal.SIGSTOP)  # or it is done before anybody could interrupt
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            server.close()
    finally:
        signal.signal(signal.SIGALRM, before)

    assert server._supervisor.returncode is not None
    assert eventually(lambda: not is_alive(server.pid))
    assert not Path(server._directory).exists()


def test_two_started_in_one_process_have_a_port_each() -> None:
    with embedded.start() as one, embedded.start() as other:
        assert one.port != other.port
        assert ping(one.port)
        assert ping(other.port)


def test_extra_arguments_override_the_defaults() -> None:
    with embedded.start(extra=("--maxmemory", "64mb", "--appendonly", "yes")) as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(64 * 2**20)}
            assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_it_saves_nothing_of_its_own_accord() -> None:
    with embedded.start() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}


def test_only_loopback_reaches_it() -> None:
    with embedded.start() as server:
        assert accepts("127.0.0.1", server.port)
        # Linux answers on all of 127/8: a server bound to every address would accept here.
        assert not accepts("127.0.0.2", server.port)


def test_nothing_is_left_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with embedded.start() as server, redis.Redis.from_url(server.url) as client:
        client.save()
        assert list(tmp_path.rglob("*.rdb")), "it works in the directory that is to be removed"

    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_by_itself_leaves_nothing_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with embedded.start() as server:
        assert list(tmp_path.iterdir())
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: not list(tmp_path.iterdir()))


def test_a_bad_option_raises_with_the_servers_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(L2Unavailable, match="no-such-option"):
        embedded.start(extra=("--no-such-option", "1"))

    assert list(tmp_path.iterdir()) == []


def test_a_port_stolen_before_the_bind_is_replaced_by_the_next() -> None:
    with embedded.start() as thief:
        free = embedded._free_port()
        with embedded.start_on_one_of([thief.port, free], newest(), ()) as server:
            assert server.port == free
            assert ping(thief.port)


def test_a_port_asked_for_and_taken_is_an_error() -> None:
    with embedded.start() as thief, pytest.raises(L2Unavailable, match="Address already in use"):
        embedded.start(port=thief.port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_refused_at_once(port: int) -> None:
    with pytest.raises(SettingError, match=rf"between 1 and 65535, not {port}"):
        embedded.start(port=port)


@pytest.mark.usefixtures("no_server_anywhere")
def test_a_missing_binary_names_the_package_for_each_system() -> None:
    with pytest.raises(ServerNotFound) as caught:
        embedded.start()

    message = str(caught.value)
    for remedy in ("apt install redis-server", "dnf install", "brew install redis", "tiercache[embedded]"):
        assert remedy in message


def test_a_binary_that_is_no_file_is_named() -> None:
    with pytest.raises(ServerNotFound, match="/nowhere/redis-server"):
        embedded.start(binary="/nowhere/redis-server")


def test_a_binary_without_its_executable_bit_runs(tmp_path: Path) -> None:
    plain = shutil.copyfile(newest(), tmp_path / "redis-server")
    assert not os.access(plain, os.X_OK)

    with embedded.start(binary=str(plain)) as server:
        assert ping(server.port)


def test_path_is_preferred_to_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path = tmp_path / "redis-server"
    on_path.symlink_to(newest())
    monkeypatch.setenv("PATH", str(tmp_path))

    assert embedded.find_binary() == str(on_path)


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with parent(WAIT_FOR_EVER, tmp=tmp_path) as (process, pid, _):
        assert is_alive(pid)
        process.kill()

        assert eventually(lambda: not is_alive(pid))
        assert eventually(lambda: not list(tmp_path.iterdir())), "nor is its directory left"


def test_it_has_ended_before_a_parent_that_did_not_close_it(tmp_path: Path) -> None:
    # What is registered first runs last, when the lifeline is still open.
    look_at_the_very_end = "atexit.register(lambda: print('alive' if is_alive(server.pid) else 'gone'))"
    with parent(first=look_at_the_very_end, tmp=tmp_path) as (process, _, _):
        output, errors = process.communicate(timeout=10)

    assert (process.returncode, output, errors) == (0, "gone\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_exits_leaves_the_parents_server_running(tmp_path: Path) -> None:
    fork_a_child_that_exits = """
child = os.fork()
if child:
    os.waitpid(child, 0)
    print("child gone", flush=True)
    sys.stdin.read()
else:
    server.close()  # and then the ordinary end of an interpreter, with its atexit
"""
    with parent(fork_a_child_that_exits, tmp=tmp_path) as (process, pid, port):
        assert process.stdout is not None
        assert process.stdout.readline() == "child gone\n"
        assert is_alive(pid)
        assert ping(port)

        _, errors = process.communicate("", timeout=10)
        assert errors == ""


def test_a_child_that_lives_on_does_not_keep_a_dead_parents_server(tmp_path: Path) -> None:
    fork_a_child_that_stays = """
child = os.fork()
if child:
    print(child, flush=True)
sys.stdin.read()
"""
    with parent(fork_a_child_that_stays, tmp=tmp_path) as (process, pid, _):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()

        assert eventually(lambda: not is_alive(pid))
        assert is_alive(child)


def test_it_is_out_of_reach_of_an_interrupt_at_its_parents_terminal() -> None:
    with embedded.start() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
