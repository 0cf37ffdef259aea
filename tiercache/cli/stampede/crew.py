"""The processes of callers: told one thing at a time, heard until all have answered, none left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from tiercache.cli.demo.crew import Failed, spawned
from tiercache.cli.stampede.orders import Begun
from tiercache.cli.stampede.worker import Assignment, serve

PATIENCE = 30.0  # seconds a process may take for what has no deadline


class StampedeFailed(Exception):
    """The run could not be carried to its end; what it saw proves nothing."""


class Callers:
    """*count* processes."""

    def __init__(self, count: int) -> None:
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        self._killed: set[int] = set()
        for number in range(count):
            self._processes.append(None)
            self._connections.append(self._started(number))

    def __len__(self) -> int:
        return len(self._processes)

    def _started(self, number: int) -> Connection:
        process, connection = spawned(serve, Assignment(f"p{number}"))
        self._processes[number] = process
        return connection

    def ask(
        self,
        message: object,
        among: Iterable[int] | None = None,
        *,
        first: object = None,
        until: float | None = None,
        begun: Callable[[int, Begun], None] = lambda number, news: None,
    ) -> dict[int, Any]:
        """What each of *among*, all by default, answers to *message*; nothing of one that is killed.

        The first process is told *first* instead, if that is given. *begun* hears of loads that begin.
        StampedeFailed where one fails, or has not answered at the instant *until*.
        """
        numbers = range(len(self)) if among is None else among
        waiting = {self._connections[number]: number for number in numbers}
        until = time.monotonic() + PATIENCE if until is None else until
        for connection, number in waiting.items():
            with suppress(BrokenPipeError):
                connection.send(first if number == 0 and first is not None else message)
        answers: dict[int, Any] = {}
        while waiting:
            ready = wait(list(waiting), max(0.0, until - time.monotonic()))
            if not ready:
                raise StampedeFailed(f"{len(waiting)} processes did not answer in time")
            for end in ready:
                assert isinstance(end, Connection)
                number = waiting[end]
                try:
                    news = end.recv()
                except (EOFError, ConnectionError):
                    if number not in self._killed:
                        raise StampedeFailed("a process ended before its time") from None
                    del waiting[end]
                    continue
                if isinstance(news, Failed):
                    raise StampedeFailed(f"a process failed:\n{news.traceback}")
                if isinstance(news, Begun):
                    begun(number, news)
                    continue
                del waiting[end]
                answers[number] = news
        return answers

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self._killed.add(number)
        self._processes[number].kill()

    def replace(self, number: int) -> None:
        """Another process in the place of one that died, or is to."""
        self.kill(number)
        self._processes[number].join()
        self._connections[number].close()
        self._connections[number] = self._started(number)
        self._killed.discard(number)

    def close(self) -> None:
        """Kill them all."""
        for process in self._processes:
            if process is not None:
                process.kill()
        for process in self._processes:
            if process is not None:
                process.join()
        for connection in self._connections:
            connection.close()
