"""What is done to the workers in the middle of the run, by a thread of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import redis

SETTLING = 0.5  # seconds until a worker has subscribed anew
STOP = 'kill -STOP "$1" && sleep "$2" && kill -CONT "$1"'


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is done to *worker* between two instants; told when it begins, and when the end is known."""

    worker: str
    text: str
    begun: float
    ended: float = inf


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is hurt when, in seconds since the beginning, and for how long."""

    cut: str
    cut_at: float
    cut_for: float
    stopped: str
    stopped_pid: int
    stopped_at: float
    stopped_for: float


class Faults:
    """Carries out a plan from its making until `close`; *tell* hears of each fault before it begins and after
    it ended, or of the error that keeps it from happening."""

    def __init__(self, plan: Plan, url: str, tell: Callable[[Fault | Exception], None]) -> None:
        self._plan, self._url, self._tell = plan, url, tell
        self._ended = threading.Event()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No fault begins after this, and none is under way."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        plan = self._plan
        try:
            if self._reached(plan.cut_at):
                self._cut()
            if self._reached(plan.stopped_at):
                self._stop()
        except (redis.RedisError, ProcessLookupError) as error:
            self._tell(error)

    def _reached(self, seconds: float) -> bool:
        return not self._ended.wait(max(0.0, self._begun + seconds - time.monotonic()))

    def _cut(self) -> None:
        worker, lasting, begun = self._plan.cut, self._plan.cut_for, time.monotonic()
        text = f"{worker}: its subscription is killed, and for {lasting:g} s again whenever it is back"
        self._tell(Fault(worker, text, begun))
        kills = 0
        with redis.Redis.from_url(self._url) as client:
            while time.monotonic() < begun + lasting and not self._ended.wait(0.01):
                for connection in client.client_list(_type="pubsub"):
                    if connection["name"] == worker:
                        kills += client.client_kill_filter(_id=connection["id"])
        text = f"{worker}: may hear the others again; its subscription was killed {kills} times"
        self._tell(Fault(worker, text, begun, time.monotonic() + SETTLING))

    def _stop(self) -> None:
        worker, pid, begun = self._plan.stopped, self._plan.stopped_pid, time.monotonic()
        lasting = f"{self._plan.stopped_for:g} s"
        text = f"{worker}: the process is stopped (SIGSTOP) for {lasting}; others wait for what it loads"
        self._tell(Fault(worker, text, begun))
        # By a process of its own, so that the worker goes on even if the demo is killed meanwhile.
        stop = ["/bin/sh", "-c", STOP, "stop", str(pid), str(self._plan.stopped_for)]
        stopper = subprocess.Popen(stop, start_new_session=True)
        while stopper.poll() is None and not self._ended.wait(0.01):
            pass
        if stopper.returncode is None:
            os.killpg(stopper.pid, signal.SIGKILL)
            stopper.wait()
            os.kill(pid, signal.SIGCONT)
        elif stopper.returncode != 0:
            raise ProcessLookupError(f"{worker} (process {pid}) is not there to be stopped")
        self._tell(Fault(worker, f"{worker}: goes on", begun, time.monotonic()))
