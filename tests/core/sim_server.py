"""The scripts of one domain as a small server in Python: the same replies to the same commands.

What it holds and publishes stands open, to be looked at and hurt: a test evicts by deleting, and fails over
with `fail_over` to a `copy` taken before. tests/redis/test_sim_server.py holds it against the real scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import count
from math import inf
from typing import Any

from tests.core.sim_state import HEADER, NAMES, UP_TO_ITS_END, Domain, Lock, State, Table, node_of, tags_in
from tiercache._accelerator import compiled
from tiercache._core.barriers import Ack, Barrier, Behind, Forget, Question
from tiercache._core.commands import (
    LOCK_MS,
    REPLAY_LIMIT,
    Answer,
    Answers,
    Clear,
    Command,
    Fill,
    Filled,
    Hit,
    Invalidate,
    KeyAsk,
    Read,
    Recorded,
    Set,
    Sync,
    Synced,
    Touch,
    Unlock,
    Wait,
)
from tiercache._core.fences import Fence, Unfence
from tiercache._core.large import LARGE, Large
from tiercache._core.looks import Look
from tiercache._core.records import EVERYTHING, Hint, key_dep, tag_dep

__all__ = ["HEADER", "Domain", "SimServer", "State", "Table"]


class SimServer:
    """One server; *clock* is its own, in seconds."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._nonces = count(1001, 1000)
        self.tenure = 1  # the name of this server's time as primary
        self.domain = Domain()
        self.hints: list[Hint] = []  # as they were published
        self.wakes: list[tuple[str, str]] = []  # node, dependency
        self.questions: list[Question] = []
        self.is_full = False  # nothing more can be stored
        self.large = LARGE  # bytes of an entry that a read does not give, but says that it is there

    def copy(self) -> Domain:
        """What a replica, or a snapshot file, has at this moment."""
        return deepcopy(self.domain)

    def fail_over(self, to: Domain) -> None:
        """Go on as another primary that has what *to* holds; also a restart from a file."""
        self.domain = deepcopy(to)
        self.tenure += 1

    def flush(self) -> None:
        self.domain = Domain()

    def plain(self, command: tuple[Any, ...]) -> list[Any]:
        """The raw reply to one command as it is sent, at this instant."""
        return self.domain.plain(command, self._now_ms())

    def perform(self, command: Command[Any] | Look, *, blind: bool = False) -> Any:
        """The reply to *command*; of a *blind* user, who may not read the tenure. Of a look, all in one."""
        self.domain.expire(self._now_ms())
        match command:
            case Look():
                raw = [self.plain(part) for part in command.plain(NAMES)]
                quick = None if compiled is None else compiled.looked(command, raw)
                return command.parse(raw) if quick is None else quick
            case Sync():
                return self._sync(command, blind)
            case Read():
                return self._read(command)
            case Fill():
                return self._fill(command)
            case Set():
                return self._set(command, blind)
            case Invalidate():
                return self._invalidate(command, blind)
            case Clear():
                return self._clear(blind)
            case Unlock(key=key, owner=owner):
                return self._release(key, owner)
            case Touch(epoch, key, ttl_ms):
                return self._touch(epoch, key, ttl_ms)
            case Fence():
                return self._fence(command, blind)
            case Unfence(name, deps):
                return self._lift((name, deps)) is not None
            case Barrier():
                return self._barrier(command)
            case Ack():
                return self._ack(command)
            case Forget():
                return self._forget(command)
        raise TypeError(f"there is no script for {command!r}")

    def holds(self, key: str) -> bool:
        """Whether a read of *key* would be answered with the stored entry now."""
        raw = self.domain.entries.get(key)
        return raw is not None and self.domain.state is not None and self._is_valid(raw, self.domain.state)

    def _now_ms(self) -> float:
        return self._clock() * 1000

    def _open(self, blind: bool) -> tuple[State, Table]:
        domain, tenure = self.domain, 0 if blind else self.tenure
        state, keys = domain.state, domain.keys
        lost = state is not None and (
            state.fences != len(domain.fences) or (state.fences > 0 and not domain.fenced)
        )
        if state is None or (tenure and state.tenure != tenure) or (lost and state.fences):
            state, keys = State(next(self._nonces), floor=1, head=1, tenure=tenure), None
            domain.fences, domain.fenced = {}, {}
        if keys is None or keys.epoch != state.epoch:
            keys = Table(state.epoch, floor=state.head)
        domain.state, domain.keys = state, keys
        due = sorted(
            (end, name, deps) for (name, deps), end in domain.fences.items() if end <= self._now_ms()
        )
        for _, name, deps in due[:128]:
            self._lift((name, deps))
            self._record(state, keys, deps)
        return state, keys

    def _record(
        self, state: State, keys: Table, deps: tuple[str, ...], cap: float = inf, key_cap: float = inf
    ) -> Recorded:
        state.head += 1
        state.note(state.head, [dep for dep in deps if dep.startswith("t:")], cap)
        keys.note(state.head, [dep for dep in deps if dep.startswith("k:")], key_cap)
        self.hints.append(Hint(state.epoch, state.head, deps))
        return Recorded(state.epoch, state.head)

    def _lift(self, fence: tuple[str, tuple[str, ...]]) -> tuple[str, ...] | None:
        if self.domain.fences.pop(fence, None) is None:
            return None
        if self.domain.state is not None:
            self.domain.state.fences -= 1
        for dep in fence[1]:
            left = self.domain.fenced[dep] = self.domain.fenced.get(dep, 0) - 1
            if left <= 0:
                del self.domain.fenced[dep]
        return fence[1]

    def _fence(self, command: Fence, blind: bool) -> Recorded:
        state, keys = self._open(blind)
        if not state.fences:
            self.domain.fences, self.domain.fenced = {}, {}
        fence = (command.name, command.deps)
        if fence not in self.domain.fences:
            state.fences += 1
            for dep in command.deps:
                self.domain.fenced[dep] = self.domain.fenced.get(dep, 0) + 1
        self.domain.fences[fence] = self._now_ms() + command.ttl_ms
        for key in command.keys:
            self.domain.unlink(key)
        return self._record(state, keys, command.deps, command.cap, command.key_cap)

    def _barrier(self, command: Barrier) -> Behind | None:
        state = self.domain.state
        if state is None or state.epoch != command.epoch or state.head < command.number:
            return None
        behind = {}
        for member, score in state.behind(command.number, command.node):
            if command.mark and score % 1 == 0:
                score = state.register[member] = float(command.mark)
            behind[member] = f"{score:.17g}"
        if command.mark and behind:
            self.questions.append(Question(command.epoch, command.number, command.node))
        return Behind(state.settled, str(-state.left_out), behind)

    def _ack(self, command: Ack) -> bool:
        state = self.domain.state
        if state is None or state.epoch != command.epoch or command.member not in state.register:
            return False
        register = state.register
        register[command.member] = min(register[command.member], -command.proved)
        if state.behind(command.number, command.waiter):
            return False
        self.wakes.append((command.waiter, "barrier"))
        return True

    def _forget(self, command: Forget) -> int:
        state = self.domain.state
        if state is not None:
            for member, score in command.members:
                if member in state.register and (score == "" or state.register[member] == float(score)):
                    del state.register[member]
            if command.left_out == str(-state.left_out):
                state.left_out = 0
        return 1

    def _sync(self, command: Sync, blind: bool) -> Synced:
        state, keys = self._open(blind)
        now, members = self._now_ms(), self.domain.members
        members[command.node] = now
        for node in [n for n, seen in members.items() if seen <= now - 60_000]:
            del members[node]
        records: tuple[tuple[str, int], ...] | None = None
        if command.epoch == state.epoch and command.proved >= max(state.floor, keys.floor):
            later = state.since(command.proved) + keys.since(command.proved)
            records = tuple(later) if len(later) <= REPLAY_LIMIT else None
        same = command.epoch == state.epoch
        state.register[command.member] = -float(min(command.proved, state.head)) if same else 0.0
        state.settled = state.settled or (same and command.settled)
        fenced = tuple(sorted(self.domain.fenced)) if state.fences else ()
        return Synced(
            state.epoch, state.head, state.floor, keys.floor, not blind, len(members), records, fenced
        )

    def _is_valid(self, raw: bytes, state: State) -> bool:
        header = HEADER.match(raw)
        if header is None or header[1] != b"%d" % state.epoch:
            return False
        token, size = int(header[2]), int(header[3])
        if not state.floor <= token <= state.head:
            return False
        if size == 0:
            return True
        tags = tags_in(raw)
        if size > min(len(raw) - header.end(), 66_176) or not 0 < len(tags) <= 129:
            return False
        return all(state.versions.get(tag_dep(tag), 0) <= token for tag in tags)

    def _read(self, command: Read) -> Answers:
        state = self.domain.state
        if state is None or state.epoch != command.epoch or state.head < command.seen:
            return Answers(None)
        found: list[Answer] = []
        sent = 0
        for ask in command.asks:
            raw = self.domain.entries.get(ask.key) if ask.mode != "renew" else None
            if raw is not None and sent and len(raw) < self.large and sent + len(raw) > 262_144:
                found.append("again")
            elif raw is not None and self._is_valid(raw, state):
                if len(raw) >= self.large:
                    found.append(Large(tags_in(raw), len(raw)))
                else:
                    sent += len(raw)
                    end = self.domain.ends.get(ask.key, inf)
                    found.append(Hit(raw, None if end == inf else (end - self._now_ms()) / 1000))
            else:
                found.append("miss" if ask.mode == "get" else self._lead(ask))
        return Answers(state.head, tuple(found))

    def _lead(self, ask: KeyAsk) -> Answer:
        node, now = node_of(ask.owner), self._now_ms()
        lock = self.domain.locks.get(ask.key)
        if lock is None or lock.ends <= now:
            lock = self.domain.locks[ask.key] = Lock(ask.owner, now + LOCK_MS)
        elif node_of(lock.owner) != node:
            lock.waiters.add(node)
            return Wait((lock.ends - now) / 1000, lock.owner.encode())
        lock.owner, lock.ends = ask.owner, now + LOCK_MS
        return "lead"

    def _judge(self, epoch: int, token: int, key: str, tags: tuple[str, ...]) -> tuple[str, int]:
        state, keys = self.domain.state, self.domain.keys
        if state is None or state.epoch != epoch:
            return "epoch", state.head if state else 0
        known = keys if keys is not None and keys.epoch == epoch else Table(epoch, floor=state.head)
        if token < max(state.floor, known.floor):
            return "floor", state.head
        if known.versions.get(key_dep(key), 0) > token:
            return "stale", state.head
        deps = [key_dep(key), *map(tag_dep, tags)]
        if state.fences and (not self.domain.fenced or any(dep in self.domain.fenced for dep in deps)):
            return "fenced", state.head
        return "stale" if any(state.versions.get(d, 0) > token for d in deps) else "ok", state.head

    def _store(self, epoch: int, token: int, command: Fill | Set, print_: int) -> str:
        if self.is_full:
            return "full"
        tags = "\0".join(command.tags).encode()
        end = self._now_ms() + command.ttl_ms
        header = f"1|{epoch}|{token}|{end:.0f}|{command.check}|{print_:x}|{len(tags)}|"
        self.domain.entries[command.key] = header.encode() + tags + command.payload
        self.domain.ends[command.key] = end
        return "ok"

    def _fill(self, command: Fill) -> Filled:
        status, head = self._judge(command.epoch, command.token, command.key, command.tags)
        if status == "ok":
            old = HEADER.match(self.domain.entries.get(command.key, b"")[:200])
            if old and int(old[1]) == command.epoch and command.token < int(old[2]) <= head:
                status = "older"
            else:
                status = self._store(command.epoch, command.token, command, command.print)
        self._release(command.key, command.owner)
        return Filled(status, head)

    def _set(self, command: Set, blind: bool) -> Recorded:
        state, keys = self._open(blind)
        status, _ = self._judge(command.epoch, command.token, command.key, command.tags)
        if status != "ok":
            return Recorded(state.epoch, state.head, status)
        self._record(state, keys, (key_dep(command.key),), key_cap=command.key_cap)
        status = self._store(state.epoch, state.head, command, 0)
        if status != "ok":
            self.domain.unlink(command.key)
        return Recorded(state.epoch, state.head, status)

    def _invalidate(self, command: Invalidate, blind: bool) -> Recorded:
        state, keys = self._open(blind)
        if command.fence:
            self._lift((command.fence, command.deps))
        for key in command.keys:
            self.domain.unlink(key)
        return self._record(state, keys, command.deps, command.cap, command.key_cap)

    def _clear(self, blind: bool) -> Recorded:
        state, keys = self._open(blind)
        state.head += 1
        for table in (state, keys):
            table.versions.clear()
            table.floor = state.head
        self.hints.append(Hint(state.epoch, state.head, (EVERYTHING,)))
        return Recorded(state.epoch, state.head)

    def _touch(self, epoch: int, key: str, ttl_ms: int) -> bool:
        raw = self.domain.entries.get(key, b"")
        start = UP_TO_ITS_END.match(raw)
        if start is None or start[2] != b"%d" % epoch:
            return False
        end = self._now_ms() + ttl_ms
        self.domain.entries[key] = start[1] + b"%.0f" % end + raw[start.end() :]
        self.domain.ends[key] = end
        return True

    def _release(self, key: str, owner: str) -> int:
        lock = self.domain.locks.get(key)
        if lock is None or lock.ends <= self._now_ms() or lock.owner != owner:
            return 0
        self.wakes += [(node, key_dep(key)) for node in sorted(lock.waiters)]
        del self.domain.locks[key]
        return 1
