"""The scripts against a log that forgets nothing, under any order of acts.

Trimmed or not, no read and no fill is answered as if a record had not been; untrimmed, nothing is
refused that the log would let stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.redis.conftest import client_of
from tests.redis.domain import Domain
from tests.servers import RedisServer
from tiercache._core.commands import Hit
from tiercache._core.records import key_dep, parse_entry, tag_dep

KEYS = st.sampled_from("abc")
TAGS = st.lists(st.sampled_from(["t", "u", "v", "w|\n"]), unique=True, max_size=3)
LARGE, SMALL = 1_000, 3  # caps: one that no run reaches, one that every run does


@dataclass
class Stored:
    token: int
    deps: set[str]
    payload: bytes


@dataclass
class Loading:
    key: str
    token: int


class ScriptsAgainstALog(RuleBasedStateMachine):
    def __init__(self, new_domain: Callable[[], Domain]) -> None:
        super().__init__()
        self.domain = new_domain()
        self.domain.sync()
        self.last: dict[str, int] = {}  # dependency -> the last record that named it
        self.cleared = 0  # number of the last clear
        self.head = 1
        self.stored: dict[str, Stored] = {}
        self.loading: list[Loading] = []
        self.serial = 0
        self.keys_lost = 0  # head when the table of keys was lost

    @initialize(cap=st.sampled_from([LARGE, SMALL]))
    def bound(self, cap: int) -> None:
        self.domain.cap = self.domain.key_cap = cap

    @property
    def is_exact(self) -> bool:
        return self.domain.cap == LARGE

    def overtaken(self, deps: set[str], token: int) -> bool:
        return self.cleared > token or any(self.last.get(dep, 0) > token for dep in deps)

    def record(self, number: int, deps: set[str]) -> None:
        self.head += 1
        assert number == self.head
        self.last.update(dict.fromkeys(deps, number))

    def payload(self) -> bytes:
        self.serial += 1
        return b"value %d" % self.serial

    @rule(tags=TAGS, keys=st.lists(KEYS, unique=True, max_size=2))
    def invalidate(self, tags: list[str], keys: list[str]) -> None:
        record = self.domain.invalidate(*tags, keys=tuple(keys))
        self.record(record.number, {*map(tag_dep, tags), *map(key_dep, keys)})
        for key in keys:
            self.stored.pop(key, None)

    @rule(key=KEYS, tags=TAGS)
    def set(self, key: str, tags: list[str]) -> None:
        payload = self.payload()
        record = self.domain.set(key, *tags, payload=payload)
        assert record.status == "ok"
        self.record(record.number, {key_dep(key)})
        self.stored[key] = Stored(record.number, {*map(tag_dep, tags), key_dep(key)}, payload)

    @rule()
    def clear(self) -> None:
        self.record(self.domain.clear().number, set())
        self.cleared = self.head

    @rule(key=KEYS)
    def begin_load(self, key: str) -> None:
        self.loading.append(Loading(key, self.domain.read(key, mode="renew").head or 0))
        assert self.loading[-1].token == self.head

    @rule(which=st.integers(0, 3), tags=TAGS)
    def fill(self, which: int, tags: list[str]) -> None:
        if which >= len(self.loading):
            return
        load = self.loading.pop(which)
        payload, deps = self.payload(), {*map(tag_dep, tags), key_dep(load.key)}
        filled = self.domain.fill(load.key, load.token, *tags, payload=payload)
        assert filled.head == self.head
        if filled.status == "ok":
            assert not self.overtaken(deps, load.token)
            self.stored[load.key] = Stored(load.token, deps, payload)
        elif filled.status == "older":
            assert self.stored[load.key].token > load.token
        elif self.is_exact and load.token >= self.keys_lost:
            assert self.overtaken(deps, load.token)

    @rule()
    def lose_the_table_of_keys(self) -> None:
        self.domain.client.delete(self.domain.names.domain[1])
        self.domain.sync()
        self.keys_lost = self.head

    @rule(behind=st.integers(0, 6))
    def sync(self, behind: int) -> None:
        proved = max(1, self.head - behind)
        synced = self.domain.sync(proved=proved)
        assert synced.head == self.head
        if synced.records is not None:
            since = {dep: number for dep, number in self.last.items() if number > proved}
            assert self.cleared <= proved
            assert dict(synced.records) == since
        elif self.is_exact:
            assert proved < max(self.cleared, self.keys_lost)

    @invariant()
    def a_read_finds_what_stands_and_nothing_else(self) -> None:
        keys = "abc"
        for key, answer in zip(keys, self.domain.read(*keys).found, strict=True):
            kept = self.stored.get(key)
            if isinstance(answer, Hit):
                entry = parse_entry(answer.raw, key)
                assert kept is not None
                assert entry is not None
                assert entry.payload == kept.payload
                assert not self.overtaken(kept.deps - {key_dep(key)}, kept.token)
            elif kept is not None and self.is_exact:
                assert self.overtaken(kept.deps, kept.token)


@pytest.fixture
def domains(redis_server: RedisServer) -> Iterator[Callable[[], Domain]]:
    with client_of(redis_server) as client:
        serial = iter(range(1_000_000))
        yield lambda: Domain(client, namespace=f"run {next(serial)}")


def test_the_scripts_agree_with_a_log_that_forgets_nothing(domains: Callable[[], Domain]) -> None:
    run_state_machine_as_test(
        lambda: ScriptsAgainstALog(domains),  # type: ignore[arg-type]  # any callable that makes one will do
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
    )
