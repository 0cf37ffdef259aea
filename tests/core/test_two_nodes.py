"""Whatever is lost, late, cancelled, evicted or flushed between two nodes: no read breaks a promise.

tests/core/playing.py says which promises, and checks them after each act.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.core.two_nodes import BY_KEY, LOADED, TwoNodes

who = st.integers(0, 1)
which = st.integers(0, 5)
steps = st.integers(1, 8)
loaded, by_key = st.sampled_from(LOADED), st.sampled_from(BY_KEY)
tags = st.sampled_from([("x",), ("x",), ("y",), ("x", "y"), ()])
keys = st.sampled_from([(), (), (), ("a",), ("o",), ("s",)])


def act(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


# A rule is as likely as another, so what is to happen seldom shares one.
OTHER_READS = st.one_of(
    act("refresh", who, loaded),
    act("get", who, by_key),
    act("get_many", who),
    act("load_many", who),
    act("touch", who, by_key),
)
OTHER_WRITES = st.one_of(
    act("set", who),
    act("set_with_token", who),
    act("clear", who),
    act("begin_block", who, st.sampled_from("xy")),
    act("end_block", who),
)
MISHAPS = st.one_of(
    act("arrive", which),
    act("ring", which),
    act("refuse", which),
    act("fail", which),
    act("cancel", which),
    act("lapse", who),
    act("forge", who, st.sampled_from([1, 2, 50]), st.sampled_from(["t:x", "t:z", "*"])),
)
LOSSES = st.one_of(
    act("evict", st.sampled_from(["state", "key versions", "locks", *LOADED, "s"])),
    act("flush"),
    act("replicate"),
    act("fail_over"),
)


class TwoNodesAgainstOneHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = TwoNodes()

    @invariant()
    def nobody_holds_what_a_record_they_know_of_made_invalid(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.drain()
        self.world.check()

    @rule(who=who, key=loaded, by_hand=st.booleans())
    def read(self, who: int, key: str, by_hand: bool) -> None:
        self.world.read(who, key, by_hand=by_hand)

    @rule(who=who, key=loaded, steps=steps)
    def read_and_go_on(self, who: int, key: str, steps: int) -> None:
        self.world.read(who, key)
        self.world.go(-1, steps)

    @rule(who=who, tags=tags, keys=keys, steps=st.integers(0, 1))
    def invalidate(self, who: int, tags: tuple[str, ...], keys: tuple[str, ...], steps: int) -> None:
        self.world.invalidate(who, tags, keys)
        self.world.go(-1, steps)

    @rule(which=which, steps=steps)
    def go(self, which: int, steps: int) -> None:
        self.world.go(which, steps)

    @rule(which=which)
    def step(self, which: int) -> None:
        self.world.go(which, 1)

    @rule(which=which)
    def execute(self, which: int) -> None:
        self.world.execute(which)

    @rule(which=which, arrives=st.booleans())
    def lose(self, which: int, arrives: bool) -> None:
        self.world.lose(which, arrives=arrives)

    @rule(who=who, steps=st.integers(0, 1))
    def sync(self, who: int, steps: int) -> None:
        self.world.sync(who)
        self.world.go(-1, steps)

    @rule(who=who, which=st.just(-1) | which)
    def hear(self, who: int, which: int) -> None:
        self.world.hear(who, which)

    @rule(seconds=st.sampled_from([1.0, 3.0, 5.0, 9.5, 11.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule(who=who, key=loaded)
    def evict_from_l1(self, who: int, key: str) -> None:
        self.world.evict_from_l1(who, key)

    @rule(act=OTHER_READS | OTHER_WRITES)
    def something_else(self, act: tuple[Any, ...]) -> None:
        self.world.act(*act)

    @rule(act=MISHAPS)
    def mishap(self, act: tuple[Any, ...]) -> None:
        self.world.act(*act)

    @rule(act=LOSSES)
    def loss(self, act: tuple[Any, ...]) -> None:
        self.world.act(*act)


TestTwoNodesAgainstOneHistory = TwoNodesAgainstOneHistory.TestCase
TestTwoNodesAgainstOneHistory.settings = settings(
    max_examples=400, stateful_step_count=80, deadline=None, print_blob=True
)
