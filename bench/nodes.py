"""Processes with one contender each, which do what the question tells them, several things at once.

An act is a function of a module, `async def act(here, *args)` or `def act(here, *args)`, named to the other
process by reference. The first kind runs on that process's one loop, the second in a thread of its own.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bench.contenders.facade import Contender, Place, Unable
from bench.deaf import deaf
from bench.opened import answered

TIMEOUT = 60.0  # seconds in which an answer comes
GRACE = 1.0  # seconds in which a process ends by itself
# Absent ones are passed over.
LIBRARIES = ("aiocache", "cashews", "coredis", "dogpile.cache", "glide", "py_cachify", "yokedcache")


class Failed(Exception):
    """What an act raised in the other process, as text."""


def context() -> Any:
    """Where nodes come from: a fork of a process that has imported everything and has no thread."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["bench.contenders.on_redis", "bench.nodes", *LIBRARIES])
    return server


class Here:
    """What an act finds in its process."""

    def __init__(self, contender: Contender, truth: Any, pipe: Connection) -> None:
        self.contender = contender
        self.truth = truth
        """The database: numbers that all processes of the question see."""
        self._pipe = pipe
        self._sending = threading.Lock()
        self._gate = threading.Event()
        self._gate_of_loop = asyncio.Event()

    async def verb(self, name: str, *args: Any) -> Any:
        """A verb of the contender, in its own world."""
        method = getattr(self.contender, name)
        if self.contender.is_async:
            return await method(*args)
        return await asyncio.to_thread(method, *args)

    def tell(self, what: Any) -> None:
        """Say something to who began this act, before it is over."""
        self.send(None, True, what)

    async def pass_gate(self) -> None:
        """Wait until the question opens the gate, which closes again behind one."""
        await self._gate_of_loop.wait()
        self._gate_of_loop.clear()

    def pass_gate_blocking(self) -> None:
        self._gate.wait(TIMEOUT)
        self._gate.clear()

    def gate_is_open(self) -> bool:
        """Whether it is; it is closed again by asking."""
        opened = self._gate.is_set()
        self._gate.clear()
        return opened

    def open_gate(self) -> None:
        self._gate.set()
        self._gate_of_loop.set()

    def send(self, ticket: int | None, good: bool, what: Any) -> None:
        with self._sending:
            self._pipe.send((ticket, good, what))


class Node:
    """The other process, from here; it opens its contender while we go on, and opened() waits for that."""

    def __init__(self, server: Any, kind: type[Contender], place: Place, truth: Any = None) -> None:
        self.name = kind.name
        self._pipe, theirs = server.Pipe()
        self._process = server.Process(target=live, args=(kind, place, truth, theirs), daemon=True)
        with deaf():
            self._process.start()
        theirs.close()
        self._tickets = 0
        self._results: dict[int, tuple[bool, Any]] = {}
        self._told: list[Any] = []

    def opened(self) -> None:
        """Wait until it is; Unable where it does not open."""
        self.result(0)

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def begin(self, act: Callable[..., Any], *args: Any) -> int:
        """Begin an act; the ticket is for result()."""
        self._tickets += 1
        self._pipe.send((self._tickets, act, args))
        return self._tickets

    def result(self, ticket: int) -> Any:
        """What the act returned; Unable or Failed where it raised."""
        while ticket not in self._results:
            self._receive()
        good, what = self._results.pop(ticket)
        if good:
            return what
        raise what

    def do(self, act: Callable[..., Any], *args: Any) -> Any:
        return self.result(self.begin(act, *args))

    def heard(self) -> Any:
        """The next thing that an act told; Unable or Failed where one raised before."""
        while not self._told:
            self._receive()
            for ticket, (good, _) in list(self._results.items()):
                if not good:
                    self.result(ticket)
        return self._told.pop(0)

    def open_gate(self) -> None:
        self._pipe.send((0, None, ()))

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        close([self])

    def let_go(self) -> None:
        """Let the process end."""
        self._pipe.close()

    def join(self, until: float) -> None:
        """Wait for that until the instant *until*, then end it by force."""
        self._process.join(max(0.0, until - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> None:
        if not self._pipe.poll(TIMEOUT):
            raise Failed(f"{self.name}: no answer in {TIMEOUT:g} s")
        try:
            ticket, good, what = self._pipe.recv()
        except EOFError:
            raise Failed(f"{self.name}: its process ended") from None
        if ticket is None:
            self._told.append(what)
        else:
            self._results[ticket] = good, what


def close(nodes: Sequence[Node]) -> None:
    """End their processes, all at once; what has not let go within a second, by force."""
    for node in nodes:
        node.let_go()
    until = time.monotonic() + GRACE
    for node in nodes:
        node.join(until)


def live(kind: type[Contender], place: Place, truth: Any, pipe: Connection) -> None:
    logging.disable(
        logging.CRITICAL
    )  # of the faults they are put through, and the table says what came of it
    asyncio.run(_live(kind(place), truth, pipe))


async def _live(contender: Contender, truth: Any, pipe: Connection) -> None:
    here = Here(contender, truth, pipe)
    acts: set[asyncio.Task[None]] = set()
    ended = asyncio.Event()

    def receive() -> None:
        while pipe.poll():
            try:
                ticket, act, args = pipe.recv()
            except (EOFError, OSError):
                asyncio.get_running_loop().remove_reader(pipe.fileno())
                ended.set()
                return
            if act is None:
                here.open_gate()
                continue
            task = asyncio.create_task(perform(here, ticket, act, args))
            acts.add(task)
            task.add_done_callback(acts.discard)

    try:
        await contender.open()
    except Unable as error:
        here.send(0, False, error)
        return
    gc.freeze()  # else each full collection goes through all of the libraries, for 73 ms
    asyncio.get_running_loop().add_reader(pipe.fileno(), receive)
    here.send(0, True, None)
    await ended.wait()
    for task in acts:
        task.cancel()
    await contender.close()


async def perform(here: Here, ticket: int, act: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        if inspect.iscoroutinefunction(act):
            result = await act(here, *args)
        else:
            result = await asyncio.to_thread(act, here, *args)
        here.send(ticket, True, await answered(result))
    except Unable as error:
        here.send(ticket, False, error)
    except Exception as error:
        here.send(ticket, False, Failed(f"{type(error).__name__}: {error}"))
