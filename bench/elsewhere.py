"""One process apart, for what a process has once and for all, such as an environment variable."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from bench.contenders.facade import Contender, Place
from bench.deaf import deaf
from bench.opened import answered


class Here:
    """What an act finds there: the contender, and the function that it wrapped."""

    contender: Contender
    function: Callable[..., Any]


class Elsewhere:
    """The process, from here. An act is a function of a module, `act(here, *args)`, awaited or not."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=live, args=(theirs,), daemon=True)
        before = os.environ.copy()
        os.environ.update(environment)
        try:
            with deaf():
                self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def ask(self, act: Callable[..., Any], *args: Any) -> Any:
        """What the act returns there; we do nothing else meanwhile."""
        self._pipe.send((act, args))
        good, what = self._pipe.recv()
        if good:
            return what
        raise what

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


@contextmanager
def elsewhere(**environment: str) -> Iterator[Elsewhere]:
    process = Elsewhere(environment)
    try:
        yield process
    finally:
        process.close()


async def open_contender(
    here: Here, kind: type[Contender], place: Place, function: Callable[..., Any]
) -> None:
    here.contender = kind(place)
    await here.contender.open()
    here.function = here.contender.wrap(function)


async def close_contender(here: Here) -> None:
    await here.contender.close()


def live(pipe: Connection) -> None:
    gc.disable()  # as it is here while somebody is timed
    asyncio.run(_live(pipe))


async def _live(pipe: Connection) -> None:
    here = Here()
    with suppress(EOFError, OSError):  # nobody asks any more, nor waits for an answer
        while True:
            act, args = await asyncio.to_thread(pipe.recv)
            answer: tuple[bool, Any]
            try:
                answer = True, await answered(act(here, *args))
            except Exception as error:
                answer = False, error
            pipe.send(answer)
