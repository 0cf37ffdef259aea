"""The whole demo, from an empty directory to the verdict; nothing is left behind, however it ends."""

from __future__ import annotations

import queue
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tiercache import embedded
from tiercache.cli.demo import report, shop
from tiercache.cli.demo.check import CLOCK_RATES, Checker
from tiercache.cli.demo.crew import PATIENCE, Crew, DemoFailed, Failed
from tiercache.cli.demo.delays import Delays
from tiercache.cli.demo.faults import Fault, Faults, Plan
from tiercache.cli.demo.messages import Assignment, Batch, Write
from tiercache.cli.demo.tally import Tally
from tiercache.cli.demo.worker import serve_in_tasks, serve_in_threads
from tiercache.cli.demo.writer import write

KINDS = {"threads": serve_in_threads, "tasks": serve_in_tasks}
WRITER = "writer"
CUT_FOR, STOP_FOR = 1.0, 2.0  # seconds, in a run that is long enough


@dataclass(frozen=True, slots=True)
class Options:
    seconds: float
    workers: int
    max_staleness: float

    @property
    def kinds(self) -> dict[str, str]:
        return {f"w{i + 1}": list(KINDS)[i % 2] for i in range(self.workers)}


def run(options: Options, out: TextIO) -> int:
    """The exit status: 0 if every read kept the bound, 1 if one did not. DemoFailed if that is not known."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="tiercache-demo-")))
        database = folder / "shop.db"
        shop.build(database)
        server = ends.enter_context(embedded.start())
        crew = ends.enter_context(closing(Crew()))
        demo = Demo(options, crew, out)
        demo.say(
            report.opening(
                options.kinds,
                version=server.version,
                url=server.url,
                limit=options.max_staleness,
                bound=demo.tally.bound,
            )
        )
        for name, target in [(WRITER, write), *((n, KINDS[kind]) for n, kind in options.kinds.items())]:
            url = f"{server.url}?client_name={name}"
            crew.start(target, Assignment(name, url, database, options.max_staleness))
        crew.await_ready()
        ends.enter_context(closing(demo.begin(server.url)))
        demo.follow()
        demo.say(report.summary(options.kinds, demo.tally, demo.done))
        return 1 if demo.tally.breaches else 0


class Demo:
    """Follows the crew from the beginning to the end, and says what it hears."""

    def __init__(self, options: Options, crew: Crew, out: TextIO) -> None:
        self.options, self.crew, self.out = options, crew, out
        self.checker, self.delays = Checker(), Delays(f"product:{shop.OFFER}")
        self.tally = Tally(options.kinds, options.max_staleness * CLOCK_RATES)
        self.done: dict[str, str] = {}  # what was done to whom
        self._running = {WRITER, *options.kinds}
        self._remarks: set[tuple[str, str]] = set()  # a worker's, each said once
        self._begun = self._until = 0.0

    def say(self, text: str) -> None:
        print(text, file=self.out, flush=True)

    def begin(self, url: str) -> Faults:
        """Let the crew begin; the faults that it will suffer are under way."""
        seconds, names = self.options.seconds, list(self.options.kinds)
        stopped = names[2] if len(names) > 2 else names[0]
        plan = Plan(
            cut=names[1],
            cut_at=seconds / 3,
            cut_for=min(CUT_FOR, seconds / 10),
            stopped=stopped,
            stopped_pid=self.crew.pid(stopped),
            stopped_at=seconds * 0.6,
            stopped_for=min(STOP_FOR, seconds / 5),
        )
        self.done[plan.cut] = f"subscription killed for {plan.cut_for:g} s"
        self.done[plan.stopped] = f"stopped for {plan.stopped_for:g} s"
        self.say(report.heading(self.options.kinds))
        self._begun = time.monotonic()
        self._until = self._begun + seconds
        self.crew.begin(self._until)
        return Faults(plan, url, lambda news: self.crew.heard.put(("", news)))

    def follow(self) -> None:
        """Until the last of the crew has ended; DemoFailed if one fails, or stays."""
        last, due = self._begun, self._begun + 1
        while self._running:
            try:
                self._hear(*self.crew.heard.get(timeout=max(0.0, due - time.monotonic())))
            except queue.Empty:
                pass
            now = time.monotonic()
            if now >= due or not self._running:
                reached = min(now, self._until)
                self.say(report.line(reached - self._begun, self.tally.take_second(), reached - last))
                last, due = reached, due + 1
                if due > self._until - 0.5:  # the last line is for when all have ended
                    due = self._until + PATIENCE
            if now > self._until + PATIENCE:
                raise DemoFailed(f"{', '.join(self._running)} did not end within {PATIENCE:g} s of its time")
        self._distrust()

    def _hear(self, name: str, news: Any) -> None:
        match news:
            case Write():
                self.tally.commits += 1
                self.checker.wrote(news)
                self.delays.wrote(news)
            case Batch():
                self.checker.read(name, news)
                for text in news.remarks:
                    self._remark(name, text)
            case Fault():
                self.delays.hurt(news.begun, news.ended)
                self.say(report.note(time.monotonic() - self._begun, news.text))
            case Failed():
                raise DemoFailed(f"{name} failed:\n{news.traceback}")
            case EOFError():
                self.crew.dismiss(name)
                self._running.discard(name)
                if name == WRITER:
                    self.checker.no_more_writes()
            case Exception():
                raise DemoFailed(f"the fault could not be made: {news}")
        for worker, batch, verdicts in self.checker.verdicts():
            self.tally.add(worker, batch, verdicts, self.delays.read(worker, batch))

    def _remark(self, name: str, text: str) -> None:
        if (name, text) not in self._remarks:
            self._remarks.add((name, text))
            self.say(report.note(time.monotonic() - self._begun, f'{name} logs: "{text}"'))

    def _distrust(self) -> None:
        """A run in which nothing happened must not pass for one in which nothing went wrong."""
        if self.tally.breaches:
            return
        idle = [name for name, served in self.tally.whole.workers.items() if not served.reads]
        if idle or not self.tally.commits or not self.tally.whole.delays:
            raise DemoFailed(f"nothing was proved: no reads by {idle}, {self.tally.commits} commits")
        if not any(self.tally.subscriptions_lost.values()):
            raise DemoFailed("nothing was proved: no subscription was lost")
