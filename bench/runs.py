"""What a question is handed: how thorough to be, a server, and the progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import redis

from bench.contenders.facade import Contender, missing_packages
from tiercache import embedded

T = TypeVar("T")


def silent(text: str) -> None:
    """The progress of a run that nobody watches."""


@dataclass
class Run:
    """One run of the suite.

    `redis` is the URL of a server that the user named; None lets each question start its own. `tiny`
    takes one round of a few calls: whether a question works, no figures. Names of keys begin with `prefix`.
    """

    quick: bool = False
    redis: str | None = None
    tiny: bool = False
    seed: int = 1
    progress: Callable[[str], None] = silent
    prefix: str = field(default_factory=lambda: f"bench{os.urandom(4).hex()}")
    absent: dict[str, str] = field(default_factory=dict)

    def rounds(self, whole: int, quick: int = 3) -> int:
        return 1 if self.tiny else quick if self.quick else whole

    def calls(self, whole: int, tiny: int = 3) -> int:
        """How many calls a contender makes in a round."""
        return tiny if self.tiny else whole

    def step(self, text: str) -> None:
        """Say what is done now; moves the progress bar."""
        self.progress(text)

    def turns(self, contenders: Iterable[T], rounds: int, text: str = "") -> Iterator[Sequence[T]]:
        """The contenders for each round, in an order that moves on by one: who comes after whom costs."""
        order = list(contenders)
        for number in range(rounds):
            self.step(f"{text} round {number + 1} of {rounds}".strip())
            first = number % max(1, len(order))
            yield order[first:] + order[:first]

    @contextmanager
    def server(self, **settings: str) -> Iterator[str]:
        """The URL of a real server with nothing in it but what the question writes.

        It is the one that the user named, whose keys with this run's prefix are deleted in the end, unless
        *settings* (`maxmemory="64mb"`) are asked for: those are given to one of its own only.
        """
        if self.redis is not None and not settings:
            try:
                yield self.redis
            finally:
                forget(self.redis, self.prefix)
            return
        extra = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
        with embedded.start(extra=extra) as server:
            yield server.url

    def only(self, contenders: Iterable[type[Contender]]) -> list[type[Contender]]:
        """Those that are installed; `absent` says of the others what they lack."""
        found = []
        for contender in contenders:
            if missing := missing_packages(contender):
                self.absent[contender.name] = f"not installed: {', '.join(missing)}"
            else:
                found.append(contender)
        return found


def forget(url: str, prefix: str) -> None:
    """Delete the keys that hold *prefix*, a thousand at a time."""
    with redis.Redis.from_url(url) as client:
        batch: list[bytes] = []
        for key in client.scan_iter(match=f"*{prefix}*", count=1000):
            batch.append(key)
            if len(batch) == 1000:
                client.unlink(*batch)
                batch = []
        if batch:
            client.unlink(*batch)
