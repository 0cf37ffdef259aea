"""The processes of a run: two that read, two that also write; of each one in threads and one in tasks.

The writer's tasks are on uvloop.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos import in_tasks, in_threads
from tests.chaos.station import Job, wall_clock
from tests.peers import Flag, Peer
from tests.servers import TIMEOUT, eventually
from tests.source import Source

READERS = ("reader in threads", "reader in tasks")
WRITERS = ("writer in threads", "writer in tasks")
NAMES = (*READERS, *WRITERS)


@dataclass
class Member:
    peer: Peer
    job: Job
    done: Future[int] | None = None
    children: list[Future[int]] = field(default_factory=list)


@dataclass
class Plan:
    """What each process is given."""

    job: Job  # but for its name, its address and whether it writes
    url: Callable[[str], str]  # by name
    settings: dict[str, Any]
    wall_clock: Callable[[str], float]  # by name: seconds it is wrong by
    prepare: Callable[[Peer], None]  # before it begins


class Crew:
    """Each process can be killed and started again; all are gone at the end."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._stack = plan, ExitStack()
        self._seeds = iter(range(plan.job.seed, plan.job.seed + 10_000))
        self.members: dict[str, Member] = {}

    def __enter__(self) -> Crew:
        with self._stack as stack:
            for name in NAMES:
                self._recruit(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def await_ready(self) -> None:
        for member in self.members.values():
            member.peer.call(wall_clock)

    def begin(self) -> None:
        """Let all begin to work; `await_end` returns when they are done."""
        for member in self.members.values():
            self._start(member)

    def await_end(self) -> None:
        for member in self.members.values():
            for future in (member.done, *member.children):
                assert future is not None
                assert future.result(2 * TIMEOUT) is not None

    def again(self, name: str) -> None:
        """Kill the process and start another in its place; returns when that one works."""
        member = self.members[name]
        member.peer.kill()
        for where in ("a load", "the gap"):
            self.let_go(name, where)
        self._recruit(name)
        self._start(self.members[name])

    def fork(self, name: str, child: str) -> None:
        member = self.members[name]
        member.children.append(member.peer.start(in_threads.fork_and_work, replace(member.job, name=child)))

    def hold(self, name: str, where: str, *, within: float) -> bool:
        """Let the process stay at a place of its work; whether it came there *within* so many seconds."""
        self._flag(name, f"hold in {where}").set()
        return eventually(self._flag(name, f"is in {where}").is_set, within=within)

    def let_go(self, name: str, where: str) -> None:
        for flag in (f"hold in {where}", f"is in {where}"):
            self._flag(name, flag).path.unlink(missing_ok=True)

    def _flag(self, name: str, text: str) -> Flag:
        return Source(self._plan.job.folder).flag(f"{text} {name}")

    def _recruit(self, name: str) -> None:
        plan = self._plan
        url = plan.url(name)
        loop = "uvloop" if name == "writer in tasks" else "asyncio"
        peer = self._stack.enter_context(
            Peer(url, wall_clock=plan.wall_clock(name), loop=loop, **plan.settings)
        )
        job = replace(plan.job, name=name, url=url, is_writer=name in WRITERS, seed=next(self._seeds))
        self.members[name] = Member(peer, job)

    def _start(self, member: Member) -> None:
        self._plan.prepare(member.peer)
        work = in_tasks.work if "tasks" in member.job.name else in_threads.work
        member.done = member.peer.start(work, member.job)  # type: ignore[arg-type]  # the peer awaits it
