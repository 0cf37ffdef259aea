"""How each act of a schedule is played, and what comes after the last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any

from tests.core.hands import loader, loader_of_many
from tests.core.truth import ALL_ROWS, SET_ROW, TAGS
from tests.simulation.checker import NOTHING, Versions, Violation, lifted
from tests.simulation.faults import Faults
from tests.simulation.operation import Operation, Pause
from tests.simulation.process import Process
from tests.simulation.schedule import BOUND, LOADED, Act, D, Schedule
from tiercache._core import barriers, batches, early, fences, flights, reads, syncs, writes
from tiercache._core.l1 import Entry
from tiercache._core.plan import Call, Plan
from tiercache._core.tiers import Early, Want
from tiercache._invalidating import _Block

MANY = ("a", "b")
PATIENCE = 6 * D  # how long what was begun may take once nothing goes wrong any more


class World(Faults):
    """One schedule, played from its first act until everything has come to its end."""

    def __init__(self, schedule: Schedule, trace: list[str] | None = None) -> None:
        super().__init__(schedule, trace)
        self._calls = {key: Call(loader, (key,)) for key in TAGS}

    def play(self) -> None:
        """Raises `Violation` where a promise is broken."""
        with _alone():
            self._play()

    def _play(self) -> None:
        acts = self.schedule.acts
        for act in acts:
            self.at(act.at, self._act, act)
        self.run_until(acts[-1].at if acts else 0.0)
        self._heal()
        end = self.now + PATIENCE
        while self.now < end and any(p.running for p in self.processes):
            self.run_until(self.now + 1.0)
        for process in self.processes:
            for op in process.running.values():
                raise Violation("progress", f"{op} does not end: it is at {op.hand.step}")
        self._read_all(self.now + 1.1 * BOUND)
        self.primary.check()

    def _heal(self) -> None:
        """From here on nothing goes wrong."""
        self.healed = True
        self.say("world", "all is well from now on")
        requests = self.requests
        requests.stalled_until = min(requests.stalled_until, self.now)
        requests.down_until = min(requests.down_until, self.now)
        self.primary.sim.is_full = False
        for process in self.processes:
            process.resumes = min(process.resumes, self.now)
            process.silent_hints = process.silent_data = process.slow_until = 0.0
            process.reads_old_until = 0.0

    def _read_all(self, when: float) -> None:
        """Later than any bound, each process reads each key: whatever is still old is old for good."""
        self.run_until(when)
        for process in self.processes:
            for key in (*LOADED, "s"):
                op = self._operation(process, f"reads {key} at last", Random(len(process.running)))
                call = self._calls[key] if key != "s" else None
                self._read(op, self._want(process, key, call=call))
        self.run_until(self.now + 4 * D)
        for process in self.processes:
            for op in process.running.values():
                if not op.is_probe:
                    raise Violation("progress", f"{op} does not end: it is at {op.hand.step}")

    def _act(self, act: Act) -> None:
        process = self.processes[act.who]
        operation = getattr(self, "do_" + act.kind, None)
        if operation is None:
            self.say("world", f"{act.kind} {process.node} {' '.join(map(str, act.args))}")
            getattr(self, "suffer_" + act.kind)(process, *act.args)
        else:
            self.to(process, self.now, self._operate, process, act, operation)

    def _operate(self, process: Process, act: Act, operation: Callable[..., None]) -> None:
        what = " ".join(map(str, (act.kind, *(x for x in act.args if x != ()))))
        op = self._operation(process, what, Random(act.dice))
        op.mishaps = act.mishaps
        for mishap in act.mishaps:
            if mishap[0] == "preempted":
                op.stops[mishap[1]] = mishap[2]
            elif mishap[0] == "cancelled":
                self.to(op, self.now + mishap[1], self.cancel, op)
        operation(op, *act.args)

    def _operation(self, process: Process, what: str, dice: Random) -> Operation:
        return Operation(process, self.number(), what, dice)

    # ---- reads

    def do_read(self, op: Operation, key: str, by_hand: bool) -> None:
        """*by_hand*: first as the hit path of a decorated function does it."""
        self._read(op, self._want_loaded(op, key), by_hand=by_hand)

    def do_poll(self, op: Operation, key: str, by_hand: bool, every: float, times: int) -> None:
        """The same read again and again, as a busy process does it; each begins whether or not others end."""
        process, stops = op.process, dict(op.stops)
        self.do_read(op, key, by_hand)
        for turn in range(1, times):
            dice = Random(op.dice.getrandbits(32))
            self.to(process, self.now + turn * every, self._poll, op, key, by_hand, dict(stops), dice)

    def _poll(self, first: Operation, key: str, by_hand: bool, stops: dict[int, float], dice: Random) -> None:
        op = self._operation(first.process, first.what, dice)
        op.stops = stops
        self._read(op, self._want_loaded(op, key), by_hand=by_hand)

    def do_get(self, op: Operation, key: str) -> None:
        self._read(op, self._want(op.process, key, call=None))

    def do_refresh(self, op: Operation, key: str) -> None:
        op.is_renewal = True
        self._read(op, self._want_loaded(op, key, renew=True))

    def do_get_many(self, op: Operation) -> None:
        tiers, wants = op.process.tiers, self._want_many(op)
        self._begin_read(op, batches.get_many(tiers, wants, blocking=False), MANY)

    def do_load_many(self, op: Operation) -> None:
        tiers, wants = op.process.tiers, self._want_many(op)
        spelled = dict(zip(MANY, MANY, strict=True))
        plan = batches.get_or_load_many(tiers, wants, loader_of_many, spelled, blocking=False)
        self._begin_read(op, plan, MANY)

    def do_touch(self, op: Operation, key: str) -> None:
        self.begin(op, reads.touch(op.process.tiers, self._want(op.process, key), blocking=False))

    def do_sync(self, op: Operation) -> None:
        """One out of turn, as a gap or another's lapsed lease brings about."""
        self.begin(op, syncs.sync(op.process.tiers, blocking=False))

    def nest(self, outer: Operation, stamp: int) -> None:
        """The loader of "o" reads "a" through the cache, also where nobody can tell, in another thread."""
        if outer.stamp == stamp and not outer.busy:
            op = outer.nested = self._operation(outer.process, f"reads a for #{outer.number}", outer.dice)
            op.inside = outer
            op.is_known_inside = outer.dice.random() < 0.7
            self._read(op, self._want_loaded(op, "a"), by_hand=outer.dice.random() < 0.5)

    def _want(self, process: Process, key: str, **options: Any) -> Want:
        call = options.pop("call", self._calls[key])
        return Want(key, process.counts, call=call, tags=TAGS[key], l2=key != "p", **options)

    def _want_many(self, op: Operation) -> list[Want]:
        return [self._want_answered(op, key, call=None) for key in MANY]

    def _want_answered(self, op: Operation, key: str, **options: Any) -> Want:
        """As one asks whose calls L2 has answered before."""
        want = self._want(op.process, key, **options)
        if self.setting.looks is not None:
            want.counts.prospect = int(op.dice.random() < self.setting.looks)
        return want

    def _want_loaded(self, op: Operation, key: str, **options: Any) -> Want:
        """The same of a function, whose source may name tags."""
        ttl = self.setting.early
        if ttl is not None:
            options.update(ttl=ttl, early=Early(1.0, partial(self.loads.begin_early, op)))
        want = self._want_answered(op, key, **options)
        return replace(want, tags=("x",)) if key == "b" and self.setting.names_tags else want

    def _read(self, op: Operation, want: Want, *, by_hand: bool = False) -> None:
        plan = reads.read(op.process.tiers, want, blocking=False)
        self._begin_read(op, _quick(op.process, want.key, plan) if by_hand else plan, (want.key,))

    def _begin_read(self, op: Operation, plan: Plan[Any], keys: tuple[str, ...]) -> None:
        process, history = op.process, self.history
        op.keys = frozenset(keys)
        op.displaces = op.is_renewal or op.inside is not None
        op.begun = self.now
        op.due = (
            ("G1", history.old(self.now)),
            ("G2", process.own),
            ("G4", history.barred),
            ("G7", history.old_commits(self.now)),
            ("G8", process.told),
        )
        op.vouched_due = process.vouched
        if not op.stops:
            core = process.core
            for key, entry in core.l1.entries.items():
                if key in keys:
                    op.vouch[key] = history.by_epoch[core.epoch].up_to(entry.vouched)
        self.begin(op, plan)

    # ---- writes

    def do_write(self, op: Operation, tags: tuple[str, ...], keys: tuple[str, ...], gap: float) -> None:
        """Commit, and invalidate *gap* seconds later."""
        op.returns = self.history.commit(_rows(tags, keys))
        self.say(op, f"commits {op.returns}")
        self.begin(op, _after(gap, writes.invalidate(op.process.tiers, tags, keys)))

    def do_barrier(self, op: Operation, tags: tuple[str, ...], keys: tuple[str, ...], gap: float) -> None:
        """Commit, invalidate, and wait until nobody can be given what was before (G4)."""
        tiers = op.process.tiers
        due = op.returns = self.history.commit(_rows(tags, keys))
        op.then = lambda _: self._bar(due)
        self.say(op, f"commits {due}")
        self.begin(op, _after(gap, barriers.reached(tiers, writes.invalidate(tiers, tags, keys))))

    def _bar(self, due: Versions) -> None:
        self.history.barred = lifted(self.history.barred, due)

    def do_causal(self, op: Operation, tag: str, other: int, delay: float) -> None:
        """Commit, invalidate, and carry the token to another process (G8)."""
        due = op.returns = self.history.commit(_rows((tag,), ()))
        self.say(op, f"commits {due}")
        dice = Random(op.dice.getrandbits(32))
        op.then = lambda written: self.at(self.now + delay, self._carry, other, written.token, due, dice)
        self.begin(op, writes.invalidate(op.process.tiers, (tag,), ()))

    def _carry(self, slot: int, token: writes.Token | None, due: Versions, dice: Random) -> None:
        process = self.processes[slot]
        if token is not None:
            self.to(process, self.now, self._at_least, process, token, due, dice)

    def _at_least(self, process: Process, token: writes.Token, due: Versions, dice: Random) -> None:
        op = self._operation(process, f"at least {token.number} of {token.epoch}", dice)
        op.then = lambda _: setattr(process, "told", lifted(process.told, due))
        self.begin(op, barriers.at_least(process.tiers, token, blocking=False))

    def do_clear(self, op: Operation) -> None:
        op.returns = self.history.commit(ALL_ROWS)
        self.begin(op, writes.clear(op.process.tiers))

    def do_set(self, op: Operation) -> None:
        op.returns = {SET_ROW: self.history.versions[SET_ROW] + 1}
        item = self._want(op.process, "s", call=None), self.history.value(NOTHING)
        self.begin(op, writes.put(op.process.tiers, [item], blocking=False))

    def do_derive(self, op: Operation) -> None:
        """Take a token, read the source, set what came of it."""
        self.begin(op, self._derive(op.process))

    def _derive(self, process: Process) -> Plan[writes.Written]:
        tiers = process.tiers
        token = yield from writes.token(tiers, blocking=False)
        value = yield self._calls["a"]
        item = self._want(process, "a", call=None), value
        return (yield from writes.put(tiers, [item], token, blocking=False))

    def do_block(self, op: Operation, tag: str, seconds: float, ttl: float, wait: bool, end: str) -> None:
        """An `invalidating` block; before its *end* the writer may die."""
        node: Any = SimpleNamespace(tiers=op.process.tiers)
        block = _Block(node, (tag,), (), "commit", ttl, wait)
        block._name = f"{op.number:x}"
        self.begin(op, self._block(op, block, seconds, end))

    def _block(self, op: Operation, block: _Block, seconds: float, end: str) -> Plan[Any]:
        rows, due = block._deps, NOTHING
        yield from block._begin()
        try:
            yield Pause(seconds / 2)  # type: ignore[misc]  # a step that only this world knows
            if end == "discards":
                block.discard()
            else:
                due = self._commit_in(op, block, rows)
            if end == "dies":
                self.at(self.now, self.suffer_crash, op.process, 1.0)
            yield Pause(seconds / 2)  # type: ignore[misc]
        except GeneratorExit:
            raise
        except BaseException:
            yield from block._end()
            raise
        yield from block._end()
        yield from block._reach()
        if block._wait and due:
            self._bar(due)

    def _commit_in(self, op: Operation, block: _Block, rows: tuple[str, ...]) -> Versions:
        due = self.history.commit(rows)
        op.process.own = lifted(op.process.own, due)
        ends = self.primary.sim.domain.fences.get((block._name, rows), 0.0)
        stands = self.primary.sim.domain.state is not None and ends > self.now * 1000
        self.say(op, f"commits {due}, {'fenced' if stands else 'without a fence'}")
        if stands:
            self.history.commit_fenced(due, self.now)
        return due


@contextmanager
def _alone() -> Iterator[None]:
    """No name and no hash is random; and as all run on one thread, no wait is one for the caller's own."""
    numbers = count(1)
    own = SimpleNamespace(get_ident=lambda: next(numbers), RLock=threading.RLock)
    replaced: tuple[tuple[Any, str, Any], ...] = (
        (barriers, "nonce", lambda: next(numbers)),
        (fences, "nonce", lambda: next(numbers)),
        (flights, "threading", own),
        (early, "hash", lambda named: Random(repr(named)).getrandbits(53)),
    )
    before = [getattr(module, name, hash) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(replaced, before, strict=True):
            setattr(module, name, value)


def _rows(tags: tuple[str, ...], keys: tuple[str, ...]) -> tuple[str, ...]:
    return (*("t:" + tag for tag in tags), *("k:" + key for key in keys))


def _after(seconds: float, plan: Plan[Any]) -> Plan[Any]:
    if seconds:
        yield Pause(seconds)  # type: ignore[misc]
    return (yield from plan)


def _quick(process: Process, key: str, plan: Plan[Any]) -> Plan[Any]:
    """The hit path of a decorated function: the lease, the entry, the clock; else all of *plan*."""
    until = process.core.open_until
    entry: Entry | None = process.core.l1.entries.get(key)
    now = process.clock()
    if entry is not None and now < until and now < entry.deadline:
        process.counts.l1_hits += 1
        return entry.take()
    return (yield from plan)
