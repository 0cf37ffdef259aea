"""Whatever is lost, late, cancelled, evicted or flushed between two nodes: no read breaks a promise.

tests/core/playing.py says which promises, and checks them after each act.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.core.two_nodes import BY_KEY, LOADED, TwoNodes

who = st.integers(0, 1)
which = st.integers(0, 7)
tags = st.sampled_from([("x",), ("y",), ("x", "y"), ()])
keys = st.sampled_from([(), (), ("a",), ("o",), ("s",)])


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

    # ---- what nodes do

    @rule(who=who, key=st.sampled_from(LOADED), by_hand=st.booleans())
    def read(self, who: int, key: str, by_hand: bool) -> None:
        self.world.read(who, key, by_hand=by_hand)

    @rule(who=who, key=st.sampled_from(LOADED), steps=st.integers(1, 8))
    def read_and_go_on(self, who: int, key: str, steps: int) -> None:
        self.world.read(who, key)
        self.world.go(-1, steps)

    @rule(who=who, key=st.sampled_from(LOADED))
    def refresh(self, who: int, key: str) -> None:
        self.world.read(who, key, renew=True)

    @rule(who=who, key=st.sampled_from(BY_KEY))
    def get(self, who: int, key: str) -> None:
        self.world.get(who, key)

    @rule(who=who)
    def get_many(self, who: int) -> None:
        self.world.get_many(who)

    @rule(who=who)
    def load_many(self, who: int) -> None:
        self.world.load_many(who)

    @rule(who=who, key=st.sampled_from([*BY_KEY, "p"]))
    def touch(self, who: int, key: str) -> None:
        self.world.touch(who, key)

    @rule(who=who, tags=tags, keys=keys)
    def invalidate(self, who: int, tags: tuple[str, ...], keys: tuple[str, ...]) -> None:
        self.world.invalidate(who, tags, keys)

    @rule(who=who, tags=tags, keys=keys)
    def invalidate_at_once(self, who: int, tags: tuple[str, ...], keys: tuple[str, ...]) -> None:
        self.world.invalidate(who, tags, keys)
        self.world.go(-1, 1)

    @rule(who=who)
    def clear(self, who: int) -> None:
        self.world.clear(who)

    @rule(who=who)
    def set(self, who: int) -> None:
        self.world.set(who)

    @rule(who=who)
    def set_with_token(self, who: int) -> None:
        self.world.set_with_token(who)

    @rule(who=who, tag=st.sampled_from("xy"))
    def begin_block(self, who: int, tag: str) -> None:
        self.world.begin_block(who, tag)

    @rule(who=who)
    def end_block(self, who: int) -> None:
        self.world.end_block(who)

    @rule(who=who)
    def sync(self, who: int) -> None:
        self.world.sync(who)

    # ---- how it goes on

    @rule(which=which)
    def step(self, which: int) -> None:
        self.world.go(which, 1)

    @rule(which=which, steps=st.integers(1, 8))
    def go(self, which: int, steps: int) -> None:
        self.world.go(which, steps)

    @rule(which=which)
    def execute(self, which: int) -> None:
        self.world.execute(which)

    @rule(which=which, arrives=st.booleans())
    def lose(self, which: int, arrives: bool) -> None:
        self.world.lose(which, arrives=arrives)

    @rule(which=which)
    def arrive(self, which: int) -> None:
        self.world.arrive(which)

    @rule(which=which)
    def refuse(self, which: int) -> None:
        self.world.refuse(which)

    @rule(which=which)
    def fail(self, which: int) -> None:
        self.world.fail(which)

    @rule(which=which)
    def cancel(self, which: int) -> None:
        self.world.cancel(which)

    # ---- what happens to them

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 5.0, 9.5, 11.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule(who=who, which=which | st.just(-1))
    def hear(self, who: int, which: int) -> None:
        self.world.hear(who, which)

    @rule(who=who, ahead=st.sampled_from([1, 2, 50]), dep=st.sampled_from(["t:x", "t:z", "*"]))
    def forge(self, who: int, ahead: int, dep: str) -> None:
        self.world.forge(who, ahead, dep)

    @rule(which=which)
    def ring(self, which: int) -> None:
        self.world.ring(which)

    @rule(who=who)
    def sleep(self, who: int) -> None:
        self.world.lapse(who)

    @rule(who=who, key=st.sampled_from(LOADED))
    def evict_from_l1(self, who: int, key: str) -> None:
        self.world.evict_from_l1(who, key)

    @rule(what=st.sampled_from(["state", "key versions", "locks", *LOADED, "s"]))
    def evict(self, what: str) -> None:
        self.world.evict(what)

    @rule()
    def flush(self) -> None:
        self.world.flush()

    @rule()
    def replicate(self) -> None:
        self.world.replicate()

    @rule()
    def fail_over(self) -> None:
        self.world.fail_over()


TestTwoNodesAgainstOneHistory = TwoNodesAgainstOneHistory.TestCase
TestTwoNodesAgainstOneHistory.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, print_blob=True
)
