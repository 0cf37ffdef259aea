"""What a nemesis has its hands on, and what it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from tests import servers
from tests.chaos.crew import Crew
from tests.chaos.station import Job
from tests.proxy import Proxy
from tests.servers import RedisServer


class Site(Protocol):
    """Where Redis is, as the processes and the nemesis see it."""

    @property
    def server(self) -> RedisServer:
        """The server; the primary of the moment where there are several."""

    def url(self, name: str) -> str:
        """The address that the process *name* is given."""

    def close(self) -> None: ...


@dataclass
class World:
    d: float  # max_staleness, in seconds
    site: Site
    crew: Crew
    folder: Path
    random: Random
    until: float = 0.0  # the instant by which all is well again
    strikes: int = 0

    @property
    def server(self) -> RedisServer:
        return self.site.server

    def over(self, what: str) -> None:
        """Let no process begin with *what* again: "the writing", or "the reading"."""
        Job("", str(self.folder), "", 0.0, 0).over(what).set()

    def goes_on(self, seconds: float = 0.0) -> bool:
        """Let so many seconds pass, or what is left; whether there is time for more."""
        time.sleep(max(0.0, min(seconds, self.until - time.monotonic())))
        return time.monotonic() < self.until

    def struck(self, times: int = 1) -> None:
        """The nemesis has done its work so often: it did not merely try."""
        self.strikes += times

    def hold(self, name: str, where: str) -> bool:
        """Let the process stay at a place of its work; whether it came there while there was time."""
        return self.crew.hold(name, where, within=max(0.0, self.until - time.monotonic()))

    def let_go(self, name: str, where: str) -> None:
        self.crew.let_go(name, where)

    def epoch(self) -> float | None:
        """The name of the state's history, negative; None where there is no state."""
        score = self.server.cli("ZSCORE", "{default}1:v", "\x01e")
        return None if score is None else float(score)


@dataclass(frozen=True)
class Nemesis:
    name: str
    does: str  # for the table
    hurt: Callable[[World], None]  # until `world.until`; then all is well again
    site: Callable[[str], Site]  # of a server binary
    settings: dict[str, Any] = field(default_factory=dict)  # of the cache
    terms: dict[str, Any] = field(default_factory=dict)
    lock: float = 10.0  # seconds that locks live
    clocks: tuple[float, ...] = (0.0,)  # seconds that the wall clocks are wrong by, in turn
    longest: float = 0.0  # seconds a strike may take beyond what D tells; a run is made longer by it


class OneServer:
    """A server, and a path to it that can fall silent, for those whose names say so."""

    def __init__(self, binary: str, *, user: str = "", through_proxy: tuple[str, ...] = ()) -> None:
        may_debug = ("--enable-debug-command", "yes") if servers.version_of(binary) >= (7,) else ()
        self.server = RedisServer(binary, extra=may_debug)
        self.user, self.through_proxy = user, through_proxy
        if user:
            self.server.cli("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")
        self.proxy = Proxy(self.server)

    def url(self, name: str) -> str:
        url = self.proxy.url if name in self.through_proxy else self.server.url()
        return url.replace("redis://", f"redis://{self.user}:secret@") if self.user else url

    def close(self) -> None:
        self.proxy.close()
        self.server.close()
