"""What all processes of a run did and saw, put together from their logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple


class Load(NamedTuple):
    """One run of the loader. Its value names it, so each read knows what it goes back to."""

    process: str
    row: int
    asked: float  # the call of the read that runs it: its lock was not taken before
    began: float
    token: tuple[int, int] | None  # epoch and number of its leave; None: without Redis, or past the tiers
    ended: float = inf  # inf: its process did not live to see it


class Run(NamedTuple):
    """All reads of one row by one node that gave the value of one load; enough for exact verdicts:
    what is promised to a read grows with its invocation, and what it promises begins at its return."""

    node: str
    row: int
    version: int
    load: str
    count: int
    first_invoked: float
    first_returned: float
    last_invoked: float
    last_returned: float


@dataclass(slots=True)
class Write:
    """One commit, and the invalidation of what it changed if its process lived to see that return."""

    node: str
    versions: dict[int, int]
    committed: float  # the instant COMMIT had returned
    fenced: bool  # a fence stood before it
    called: float = inf
    returned: float = inf  # to its own process, done or pending
    done: float = inf  # known to have run in Redis
    token: tuple[int, int] | None = None
    waited: bool = False  # it was a barrier


@dataclass(slots=True)
class Causal:
    """A read after at_least(token), where the token stands for a version."""

    node: str
    row: int
    required: int
    version: int


@dataclass(slots=True)
class History:
    runs: list[Run] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    loads: dict[str, Load] = field(default_factory=dict)
    causal: list[Causal] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)  # of the cache, by process, at its end


PAST_L1 = "/l2"  # ends the name of a node with one reader, which goes past L1 and joins nobody


def collect(lines: Iterable[tuple[str, list[Any]]]) -> History:
    """The history of the *lines* of all logs."""
    history, runs, writes = History(), dict[tuple[str, int, str], Run](), dict[str, Write]()
    for process, (kind, *fields) in lines:
        match kind, fields:
            case "reads", [several]:
                for node, row, value, *times in several:
                    _add(runs, process + node, row, value, times)
            case "load", [name, row, asked, began, token]:
                history.loads[name] = Load(process, row, asked, began, token and tuple(token))
            case "loaded", [name, ended]:
                history.loads[name] = history.loads[name]._replace(ended=ended)
            case "commit", [name, versions, committed, fenced]:
                versions = {int(row): version for row, version in versions.items()}
                writes[name] = Write(process, versions, committed, fenced)
            case "invalidated", [name, called, returned, done, token, waited]:
                write = writes[name]
                write.called, write.returned, write.done = called, returned, done
                write.token, write.waited = token and tuple(token), waited
            case "causal", [row, required, version]:
                history.causal.append(Causal(process, row, required, version))
            case "counters", [counters]:
                history.counters[process] = counters
            case _:
                raise ValueError(f"{process} logged what nobody knows: {kind} {fields}")
    history.runs, history.writes = list(runs.values()), list(writes.values())
    return history


def _add(runs: dict[tuple[str, int, str], Run], node: str, row: int, value: str, times: list[float]) -> None:
    """Merge the runs of one load over the whole history of its node."""
    version, load = value.split(" ", 1)
    count, first_invoked, first_returned, last_invoked, last_returned = times
    before = runs.get((node, row, load))
    if before is not None:
        count += before.count
        first_invoked = min(first_invoked, before.first_invoked)
        first_returned = min(first_returned, before.first_returned)
        last_invoked = max(last_invoked, before.last_invoked)
        last_returned = max(last_returned, before.last_returned)
    runs[node, row, load] = Run(
        node,
        row,
        int(version),
        load,
        int(count),
        first_invoked,
        first_returned,
        last_invoked,
        last_returned,
    )
