"""The server as the world sees it: what it held when, what became of it, and what it stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.core.sim_server import Domain, SimServer
from tests.simulation.checker import NOTHING, History, Versions
from tiercache._core.commands import Answers, Command, Fill, Filled, Hit, Read
from tiercache._core.large import LARGE
from tiercache._core.looks import Look, Looked


class Codec:
    """Values are numbers, and anybody may share them."""

    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        return int(data)

    def encode_linked(self, value: int) -> bytes:
        return b""

    def is_shareable(self, value: int) -> bool:
        return True


class Host:
    """A server; what it answers must reflect the records that it holds (G3)."""

    def __init__(self, history: History, clock: Callable[[], float], large: int = LARGE) -> None:
        self.history, self.clock = history, clock
        self.sim = SimServer(clock)
        self.sim.large = large
        self.read_only = False

    def perform(self, command: Command[Any]) -> tuple[Any, Versions]:
        """The reply to *command*, and what the records held then make due."""
        sim = self.sim
        reply = sim.perform(command)
        for hint in sim.hints:
            self.history.ran(hint, command, self.clock())
        match command, reply:
            case Read(_, _, asks), Answers(int(), found):
                for ask, answer in zip(asks, found, strict=True):
                    if isinstance(answer, Hit):
                        self._check(ask.key, answer.raw)
            case Fill(key=key), Filled("ok"):
                if sim.holds(key):
                    self._check(key, sim.domain.entries[key])
        return reply, self.held

    def plain(self, command: tuple[Any, ...]) -> tuple[list[Any], Versions]:
        """The raw reply to *command*, which is no script, and what the records held then make due."""
        return self.sim.plain(command), self.held

    def found(self, look: Look, looked: Looked, held: Versions) -> None:
        """G3, for what *looked* calls good as of the instant at which the server had the versions."""
        for key in look.keys:
            good = looked.good(key)
            if good is not None:
                self.history.demand("G3", "a look", key, int(good[0].payload), held)

    @property
    def held(self) -> Versions:
        state = self.sim.domain.state
        return self.history.by_epoch[state.epoch].up_to(state.head) if state is not None else NOTHING

    def check(self) -> None:
        """G3, for all it holds now."""
        for key, raw in self.sim.domain.entries.items():
            if self.sim.holds(key):
                self._check(key, raw)

    def _check(self, key: str, raw: bytes) -> None:
        _, _, _, _, _, _, size, rest = raw.split(b"|", 7)
        self.history.demand("G3", "the server", key, int(rest[int(size) :]), self.held)

    def fail_over(self, copy: Domain) -> Host:
        """Go on from *copy*; the host that this one was, demoted."""
        old = Host(self.history, self.clock, self.sim.large)
        old.sim.domain, old.sim.tenure, old.read_only = self.sim.domain, self.sim.tenure, True
        self.sim.fail_over(copy)
        return old
