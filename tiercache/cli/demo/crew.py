"""The processes of the demo, started afresh each, and one queue of all they say.

None outlives the crew, nor the process that made it: that one's end is the end of their pipes.
They do not hear Ctrl-C, which a terminal sends to all at once: the crew ends them.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, TypeVar

from tiercache.cli.demo.messages import Assignment

PATIENCE = 10.0  # seconds a process may take to end
Target = Callable[[Assignment, Connection], None]


class Failed(NamedTuple):
    """The last words of a process that an error ended."""

    traceback: str


class DemoFailed(Exception):
    """The demo could not be run to its end; what it saw proves nothing."""


class Crew:
    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()  # EOFError: nothing follows
        self._processes: dict[str, Any] = {}
        self._connections: dict[str, Connection] = {}
        self._threads: list[threading.Thread] = []

    def start(self, target: Target, assignment: Assignment) -> None:
        self._processes[assignment.name], self._connections[assignment.name] = spawned(target, assignment)

    def await_ready(self) -> None:
        """Return when every process has said that it is ready."""
        for name, connection in self._connections.items():
            try:
                told = connection.recv()
            except (EOFError, ConnectionError):
                raise DemoFailed(f"{name} ended before it began, {self._status(name)}") from None
            if isinstance(told, Failed):
                raise DemoFailed(f"{name} could not begin:\n{told.traceback}")

    def begin(self, until: float) -> None:
        """Let all begin, and end by themselves at the instant *until*."""
        for name, connection in self._connections.items():
            with suppress(BrokenPipeError):  # it has died, as listening will tell
                connection.send(until)
            thread = threading.Thread(target=self._listen, args=(name, connection), daemon=True)
            thread.start()
            self._threads.append(thread)

    def pid(self, name: str) -> int:
        return int(self._processes[name].pid)

    def dismiss(self, name: str) -> None:
        """Await the end of a process that has said its last; DemoFailed if it did not end well."""
        status = self._status(name)
        if self._processes[name].exitcode != 0:
            raise DemoFailed(f"{name} ended before its time, {status}")

    def close(self) -> None:
        """Kill what still runs, stopped or not."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()
        for thread in self._threads:
            thread.join()
        for connection in self._connections.values():
            connection.close()

    def _status(self, name: str) -> str:
        process = self._processes[name]
        process.join(PATIENCE)
        return f"with status {process.exitcode}"

    def _listen(self, name: str, connection: Connection) -> None:
        try:
            while True:
                self.heard.put((name, connection.recv()))
        except (EOFError, OSError) as end:
            self.heard.put((name, EOFError(str(end))))


class Named(Protocol):
    """What a process is told when it is started, its name among it."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def spawned(target: Callable[[N, Connection], None], assignment: N) -> tuple[Any, Connection]:
    """A process that plays *target*, deaf to Ctrl-C, and our end of its connection."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(
        target=_play, args=(target, assignment, theirs), name=assignment.name, daemon=True
    )
    resource_tracker.ensure_running()  # it would let SIGINT through again when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return process, ours


def _play(target: Callable[[N, Connection], None], assignment: N, connection: Connection) -> None:
    """What runs in a process of the crew."""
    try:
        target(assignment, connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the crew is gone: nobody is left to tell, nor to end threads that wait for good
    except Exception:
        with suppress(BrokenPipeError):
            connection.send(Failed(traceback.format_exc()))
