"""Other processes: real ones, each with a node of its own, that do what they are told.

A peer is told in functions of a test module. It runs each on a thread of its own, or in its
event loop where it is an `async def`, and sends back what came of it. Its default cache is
on the server it was given, so a test module's `@cached` functions and the verbs of `do` meet.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.loops import LOOPS
from tests.servers import TIMEOUT, eventually

P = ParamSpec("P")
R = TypeVar("R")


class Flag:
    """Something that has happened or not, for every process that knows its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set(self) -> None:
        self.path.touch()

    def is_set(self) -> bool:
        return self.path.exists()

    def wait(self) -> None:
        assert eventually(self.is_set), f"{self.path.name} did not happen"


class Peer:
    """A process of its own, from the first line of `with` to the last."""

    def __init__(self, url: str, *, wall_clock: float = 0.0, loop: str = "asyncio", **settings: Any) -> None:
        self._pipe, theirs = Pipe()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        told = {"url": url, "settings": settings, "wall_clock": wall_clock, "loop": loop}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.peers", str(theirs.fileno()), json.dumps(told)],
            pass_fds=[theirs.fileno()],
            stderr=self._errors,
        )
        theirs.close()
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}  # under `_lock`
        self._told = 0  # under `_lock`
        threading.Thread(target=self._receive, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """*function* begun there; the future fails with EOFError when the process dies before its end."""
        future: Future[R] = Future()
        with self._lock:
            self._told += 1
            self._waiting[self._told] = future
            self._pipe.send((self._told, function, args, kwargs))
        return future

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return self.start(function, *args, **kwargs).result(2 * TIMEOUT)

    def do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """What a blocking verb of its default cache gives there."""
        return self.call(do, verb, *args, **kwargs)

    def stop(self) -> None:
        """Stop it in its tracks, as a debugger or an exhausted quota would."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End it in good order: that it then ends without a traceback is part of every test."""
        self.resume()
        killed = self._process.poll() is not None
        if not killed:
            self._pipe.send(None)
        try:
            status = self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            status = None
        self._errors.seek(0)
        with self._errors:
            errors = self._errors.read()
        if kind is None and not killed:
            assert status == 0, f"the peer ended with {status}: {errors}"
            assert "Traceback" not in errors, errors

    def _receive(self) -> None:
        with self._pipe:
            try:
                while True:
                    number, result, error = self._pipe.recv()
                    with self._lock:
                        future = self._waiting.pop(number)
                    if error is None:
                        future.set_result(result)
                    else:
                        future.set_exception(error)
            except (EOFError, OSError) as end:
                with self._lock:
                    for future in self._waiting.values():
                        future.set_exception(EOFError(f"the peer is gone: {end!r}"))


def do(verb: str, *args: Any, **kwargs: Any) -> Any:
    """A blocking verb of this process's default cache."""
    from tiercache import default_cache

    return getattr(default_cache().sync, verb)(*args, **kwargs)


async def do_async(verb: str, *args: Any, **kwargs: Any) -> Any:
    """An awaited verb of this process's default cache."""
    from tiercache import default_cache

    return await getattr(default_cache(), verb)(*args, **kwargs)


def verb_of(function: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
    """What the verb beside a decorated function gives."""
    return getattr(function, verb)(*args, **kwargs)


def shorten_locks(milliseconds: int) -> None:
    """Let the locks that this process takes from now on end so soon."""
    from tiercache._core import commands

    commands.LOCK_MS = milliseconds


_right, _right_ns = time.time, time.time_ns
_off = 0.0


def set_wall_clock(seconds: float) -> None:
    """Let the wall clock of this process be wrong by so much from now on."""
    global _off
    _off = seconds
    time.time = lambda: _right() + _off
    time.time_ns = lambda: _right_ns() + int(_off * 1e9)


def _portable(error: BaseException) -> BaseException:
    """*error*, or its traceback where it would not arrive: whoever waits for it must hear of it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _serve(pipe: Connection, loop: asyncio.AbstractEventLoop) -> None:
    turning = threading.Thread(target=loop.run_forever, daemon=True)  # not longer than its parent
    turning.start()
    sending = threading.Lock()

    def answer(number: int, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        result, error = None, None
        try:
            result = function(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = asyncio.run_coroutine_threadsafe(result, loop).result()
        except BaseException as raised:
            result, error = None, _portable(raised)
        with sending:
            pipe.send((number, result, error))

    while (told := pipe.recv()) is not None:
        threading.Thread(target=answer, args=told, daemon=True).start()
    asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    turning.join()
    loop.close()


def _main() -> None:
    told = json.loads(sys.argv[2])
    if told["wall_clock"]:
        set_wall_clock(told["wall_clock"])  # before anybody has looked at it
    from tiercache import configure

    configure(told["url"], **told["settings"])
    _serve(Connection(int(sys.argv[1])), LOOPS[told["loop"]]())


if __name__ == "__main__":
    from tests import peers  # not this copy of it, which nobody else can import

    peers._main()
