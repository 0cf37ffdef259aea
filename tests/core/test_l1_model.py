"""The in-process tier against a plain dict, and under threads."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tiercache._core.coherence import Coherence
from tiercache._core.commands import Recorded, Synced
from tiercache._core.l1 import ENTRY_OVERHEAD, L1, Entry

KEYS = st.sampled_from([f"k{n}" for n in range(8)])
TAGS = st.frozensets(st.sampled_from(["t:a", "t:b", "t:c"]), max_size=3)


@dataclass
class Kept:
    """What the model remembers of an entry."""

    entry: Entry
    deps: frozenset[str]
    vouched: int
    size: int
    stamp: int


class L1AgainstADict(RuleBasedStateMachine):
    """Few enough entries that the order of eviction is exact: below the bound of re-pushes."""

    @initialize(maxsize=st.integers(1, 6), room=st.none() | st.integers(1, 5))
    def begin(self, maxsize: int, room: int | None) -> None:
        self.maxbytes = None if room is None else room * (ENTRY_OVERHEAD + 50)
        self.l1 = L1(maxsize, self.maxbytes)
        self.entries = self.l1.entries
        self.maxsize, self.now = maxsize, 0
        self.model: dict[str, Kept] = {}
        self.table: dict[Any, Entry] = {}
        self.filed: dict[Any, Entry] = {}  # the model of `table`
        self.gone: list[Entry] = []

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _forget(self, key: str) -> None:
        kept = self.model.pop(key)
        self.gone.append(kept.entry)
        self.filed = {call: entry for call, entry in self.filed.items() if entry is not kept.entry}

    def _used(self) -> int:
        return sum(kept.size + ENTRY_OVERHEAD for kept in self.model.values())

    @rule(key=KEYS, deps=TAGS, vouched=st.integers(0, 4), size=st.integers(0, 100))
    def put(self, key: str, deps: frozenset[str], vouched: int, size: int) -> None:
        now = self._tick()
        entry = Entry(key, None, None, deadline=inf, deps=tuple(deps), vouched=vouched, size=size)
        self.l1.put(entry, now)
        if key in self.model:
            self._forget(key)
        if self.maxbytes is not None and size + ENTRY_OVERHEAD > self.maxbytes:
            self.gone.append(entry)  # too large for the whole tier: the others stay
            return
        self.model[key] = Kept(entry, deps, vouched, size, now)
        while self.model and (
            len(self.model) > self.maxsize or (self.maxbytes is not None and self._used() > self.maxbytes)
        ):
            self._forget(min(self.model, key=lambda k: self.model[k].stamp))

    @rule(key=KEYS)
    def hit(self, key: str) -> None:
        found = self.entries.get(key)
        if found is not None:
            found.stamp = self.model[key].stamp = self._tick()

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        assert self.l1.drop(key) == (key in self.model)
        if key in self.model:
            self._forget(key)

    @rule(deps=TAGS, keys=st.frozensets(KEYS, max_size=2), before=st.integers(0, 5) | st.just(inf))
    def drop_dependents(self, deps: frozenset[str], keys: frozenset[str], before: float) -> None:
        named = [
            key
            for key, kept in self.model.items()
            if (kept.deps & deps or key in keys) and kept.vouched < before
        ]
        assert self.l1.drop_dependents([*deps, *("k:" + key for key in keys)], before) == len(named)
        for key in named:
            self._forget(key)

    @rule()
    def clear(self) -> None:
        assert self.l1.clear() == len(self.model)
        for key in list(self.model):
            self._forget(key)

    @rule(key=KEYS, argument=st.sampled_from([0, False, 1, True, 1.0, "x"]))
    def alias(self, key: str, argument: object) -> None:
        if key in self.model:
            entry = self.model[key].entry
            self.l1.alias(entry, self.table, (argument,))
            self.filed = {call: other for call, other in self.filed.items() if other is not entry}
            self.filed[(argument,)] = entry

    @invariant()
    def it_holds_what_the_dict_holds(self) -> None:
        assert self.entries is self.l1.entries
        assert self.entries == {key: kept.entry for key, kept in self.model.items()}

    @invariant()
    def its_bytes_are_those_of_its_entries(self) -> None:
        assert self.l1.used_bytes == (0 if self.maxbytes is None else self._used())

    @invariant()
    def what_it_let_go_of_is_past_its_deadline(self) -> None:
        assert all(entry.deadline == -inf for entry in self.gone)
        assert all(kept.entry.deadline == inf for kept in self.model.values())

    @invariant()
    def its_aliases_are_those_of_its_entries(self) -> None:
        assert self.table == self.filed

    def teardown(self) -> None:
        if hasattr(self, "l1"):
            assert self.l1.drop_dependents(["t:a", "t:b", "t:c"]) == sum(
                bool(kept.deps) for kept in self.model.values()
            )


TestL1AgainstADict = L1AgainstADict.TestCase
TestL1AgainstADict.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Threads change places every few bytecodes, so that what is not locked breaks."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless_threads")
def test_threads_that_share_a_tier_leave_it_whole() -> None:
    l1 = L1(3, maxbytes=9 * ENTRY_OVERHEAD)
    core = Coherence(l1, max_staleness=inf, node="n")
    _, stand = core.sync(0.0)
    core.prove(stand, Synced(7, 1, 1, 1, True, 1, None), 0.0)
    stand = core.stand(0.0)
    failures: list[BaseException] = []
    ready = threading.Barrier(4)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            ready.wait()
            for now in range(10_000):
                key, tag = f"k{chance.randrange(4)}", f"t:{chance.randrange(4)}"
                if chance.random() < 0.7:
                    vouched = now + chance.randrange(20)
                    core.insert(
                        Entry(key, None, None, deadline=inf, deps=(tag,), vouched=vouched), stand, now
                    )
                else:
                    core.own_record(Recorded(7, now), (tag,), 0.0)
                found, _ = core.serve(key)
                if found is not None:
                    found.stamp = now
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(l1.entries) <= 3
    assert l1.used_bytes == len(l1.entries) * ENTRY_OVERHEAD
    l1.drop_dependents([f"t:{n}" for n in range(4)])
    assert (l1.entries, l1.used_bytes) == ({}, 0)
