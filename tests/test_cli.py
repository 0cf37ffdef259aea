"""The command line: what it prints, how it ends, and what it says to a wrong call."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.servers import is_alive
from tiercache import __version__, embedded
from tiercache.cli import main, server

TIMEOUT = 20.0


@contextmanager
def command(*arguments: str, tmp: Path) -> Iterator[subprocess.Popen[str]]:
    """`tiercache` with *arguments*, in a process group of its own; nothing of it is left afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tiercache", *arguments],
        env={**os.environ, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def refusal(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """What a wrong call is told; it ends with status 2."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda end: end.name)
def test_server_serves_at_the_url_it_prints_until_a_signal_ends_both_tidily(
    end: signal.Signals, tmp_path: Path
) -> None:
    with command("server", tmp=tmp_path) as process:
        with redis.Redis.from_url(first_line(process)) as client:
            pid = client.info("server")["process_id"]
        os.killpg(process.pid, end)
        _, errors = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 0
    assert "Traceback" not in errors
    assert not is_alive(pid)
    assert not list(tmp_path.iterdir())


def test_server_listens_on_the_port_it_is_given(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with command("server", "--port", str(port), tmp=tmp_path) as process:
        url = first_line(process)

        assert url == f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            assert client.ping()


def test_server_on_a_taken_port_says_so_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["server", "--port", str(port)]) == 2

    assert str(port) in capsys.readouterr().err


def test_server_fails_when_its_redis_is_killed(tmp_path: Path) -> None:
    with command("server", tmp=tmp_path) as process:
        with redis.Redis.from_url(first_line(process)) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        _, errors = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 2
    assert "ended by itself, or was killed" in errors


def test_a_reader_that_has_enough_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    with command("server", tmp=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 2
    assert errors == ""


def test_under_nohup_a_command_outlives_its_terminal(tmp_path: Path) -> None:
    text = (
        "import signal; from tiercache.cli import main\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nmain()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text, "server"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        with redis.Redis.from_url(first_line(process)) as client:
            process.send_signal(signal.SIGHUP)
            assert client.ping()
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that Linux has")
@pytest.mark.parametrize(
    "arguments", [["demo", "--seconds", "3", "--workers", "2"], ["server"]], ids=" ".join
)
def test_output_for_which_there_is_no_room_is_a_plain_message(arguments: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "tiercache", *arguments],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=3 * TIMEOUT,
            check=False,
        )

    assert ended.returncode == 2
    assert ended.stderr == "tiercache: cannot write: No space left on device\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["demo"], ["server"]], ids=" ".join)
def test_without_a_server_on_the_machine_it_says_what_to_install(
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for package, _ in embedded.WHEELS:
        monkeypatch.setitem(sys.modules, package, None)  # how Python marks a module as absent

    assert main(arguments) == 2
    assert "pip install 'tiercache[embedded]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["demo", "--seconds", "1"], "from 3 to 3600, not '1'"),
        (["demo", "--seconds", "nan"], "from 3 to 3600, not 'nan'"),
        (["demo", "--workers", "1"], "from 2 to 32, not '1'"),
        (["demo", "--workers", "2.5"], "a whole number from 2 to 32, not '2.5'"),
        (["demo", "--max-staleness", "soon"], "from 0.2 to 60, not 'soon'"),
        (["server", "--port", "redis"], "invalid int value: 'redis'"),
        (["serve"], "invalid choice: 'serve'"),
        ([], "COMMAND"),
    ],
    ids=str,
)
def test_a_wrong_call_is_told_what_to_write_instead(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(capsys, arguments)


def test_a_command_without_an_output_ends_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `tiercache server >&-`."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(server, "run", lambda args: 0)

    assert main(["server"]) == 0


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])

    assert exit.value.code == 0
    assert capsys.readouterr().out == f"tiercache {__version__}\n"


def test_a_command_leaves_the_signal_handling_of_its_caller_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["server", "--port", "-1"])

    assert signal.getsignal(signal.SIGTERM) is before
