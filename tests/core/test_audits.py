"""The plan of an audit: what it takes for a proof, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from tests.core.hands import D, Hand, LoaderFailed, Node, begun, bump
from tests.core.sim_server import SimServer
from tiercache._core.audits import SHOWN, Served, Verdict, audit, shown
from tiercache._core.plan import TIMED_OUT, Join

WAIT = D * 1.002


def start(node: Node, key: str = "k", tier: str = "L1") -> Hand:
    """The audit of a hit that L1 has just answered."""
    entry = node.core.l1.entries[key]
    want = node.want(key, tags=[dep.removeprefix("t:") for dep in entry.deps])
    assert want.call is not None
    served = Served(want, want.call, entry, tier, node.core.stand(node.clock()))
    return node.start(audit(node.tiers, served, WAIT, Future()))


def drive(
    node: Node, under_way: Hand, *loads: object, at_wait: Callable[[], object] = lambda: None
) -> Verdict:
    """What the audit comes to whose loads bring *loads*; *at_wait* happens at the end of each wait."""
    brought = iter(loads)
    while not under_way.is_done:
        if isinstance(under_way.step, Join):
            node.clock.advance(under_way.step.timeout)
            node.synced()
            at_wait()
            under_way.reply(TIMED_OUT)
        elif under_way.at == ("Call",):
            under_way.reply(next(brought))
        else:
            under_way.answer()
    assert next(brought, None) is None, "not as many loads as the test was ready for"
    verdict: Verdict = under_way.result
    return verdict


def test_one_load_that_brings_the_same_ends_it(a: Node) -> None:
    a.load("k", {"n": 1}, ["t"])

    assert drive(a, start(a), {"n": 1}).outcome == "same"


def test_values_that_are_equal_in_other_bytes_are_the_same(a: Node) -> None:
    a.load("k", {"n": 1, "m": 2}, ["t"])

    assert drive(a, start(a), {"m": 2, "n": 1}).outcome == "same"


def test_a_value_that_nobody_invalidated_is_stale_beyond_d(a: Node) -> None:
    a.load("k", "old", ["t"])

    verdict = drive(a, start(a), "new", "new", "new", "new")

    assert verdict.outcome == "stale_beyond_D"


def test_a_warning_says_what_to_look_for(a: Node, server: SimServer) -> None:
    bump(server, "u")
    a.synced().load("k", "old", ["t"])
    a.clock.advance(1.5)

    why = drive(a, start(a), "new", "new", "new", "new").why

    vouched, head = a.core.l1.entries["k"].vouched, a.core.seen
    for part in ("'k'", "tags t", "from L1", f"V={vouched}", f"head={head}", "1.500 s", "'old'", "'new'"):
        assert part in why


@dataclass
class Shy:
    number: int

    def __repr__(self) -> str:
        raise AttributeError("not fetched")


def test_a_value_that_cannot_be_shown_is_a_finding_all_the_same(a: Node) -> None:
    a.load("k", Shy(1), ["t"])

    verdict = drive(a, start(a), *[Shy(2)] * 4)

    assert verdict.outcome == "stale_beyond_D"
    assert "Shy" in verdict.why


def test_a_value_that_l2_still_gives_after_l1_let_it_go_is_stale_beyond_d(a: Node) -> None:
    a.load("k", "old", ["t"])

    verdict = drive(a, start(a), "new", "new", "new", "new", at_wait=lambda: a.core.l1.drop("k"))

    assert verdict.outcome == "stale_beyond_D"


def test_a_value_that_is_invalidated_within_d_is_the_ordinary_case(a: Node, server: SimServer) -> None:
    a.load("k", "old", ["t"])

    def invalidated() -> None:
        bump(server, "t")
        a.synced()

    assert drive(a, start(a), "new", "new", "new", at_wait=invalidated).outcome == "stale_within_D"


def test_tiers_that_have_caught_up_are_the_ordinary_case(a: Node, b: Node, server: SimServer) -> None:
    a.load("k", "old", ["t"])

    def caught_up() -> None:
        bump(server, "t")
        b.synced().load("k", "new", ["t"])
        a.synced()

    assert drive(a, start(a), "new", "new", "new", at_wait=caught_up).outcome == "stale_within_D"


def test_an_invalidation_that_this_node_has_not_heard_yet_makes_no_false_alarm(
    a: Node, server: SimServer
) -> None:
    """Another write, within D of the second look: L1 may well answer with what was before it."""
    a.load("k", "old", ["t"])
    records = iter([lambda: bump(server, "t"), lambda: None])

    verdict = drive(a, start(a), "new", "new", "new", "new", "new", at_wait=lambda: next(records)())

    assert verdict.outcome == "stale_within_D"


def test_a_source_that_went_away_and_came_back_makes_no_false_alarm(
    a: Node, b: Node, server: SimServer
) -> None:
    """1. The source gives `new`.  2. W1: `mid`, which L1 gets.  3. W2: `new` again, and a has not heard of
    it: it serves `mid`, which is younger than D, between two loads that both bring `new`."""
    a.load("k", "old", ["t"])

    def there_and_back() -> None:
        bump(server, "t")
        b.synced().load("k", "mid", ["t"])
        assert a.synced().get("k") == "mid"
        bump(server, "t")

    turns = iter([there_and_back, lambda: None])
    verdict = drive(a, start(a), "new", "new", "new", "new", "new", at_wait=lambda: next(turns)())

    assert verdict.outcome == "stale_within_D"


def test_numbers_of_another_epoch_prove_nothing(a: Node, server: SimServer) -> None:
    """L1 goes on answering under its lease; the records of the epoch that ended are lost with it."""
    a.load("k", "old", ["t"])
    turns = iter([server.flush, lambda: None])

    verdict = drive(a, start(a), *["new"] * 5, at_wait=lambda: next(turns)())

    assert verdict.outcome == "stale_within_D"


def test_two_loads_in_a_row_that_differ_with_nothing_written_are_unstable(a: Node) -> None:
    a.load("k", 1, ["t"])

    assert drive(a, start(a), 2, 3).outcome == "unstable"


def test_two_loads_in_a_row_may_differ_where_something_was_written(a: Node, server: SimServer) -> None:
    a.load("k", "old", ["t"])
    under_way = start(a).reply("new")
    bump(server, "t")

    assert drive(a, under_way, "newer", "newer").outcome == "stale_within_D"


def test_a_value_that_changes_by_itself_from_round_to_round_is_unstable(a: Node) -> None:
    a.load("k", "now", ["t"])

    verdict = drive(a, start(a), "1 s ago", "1 s ago", "11 s ago", "21 s ago", "31 s ago")

    assert verdict.outcome == "unstable"


def test_a_value_that_is_written_again_and_again_is_undecided(a: Node, server: SimServer) -> None:
    a.load("k", 0, ["t"])

    verdict = drive(a, start(a), 1, 1, 2, 3, 4, at_wait=lambda: bump(server, "t"))

    assert verdict.outcome == "undecided"


def test_a_load_that_fails_ends_it(a: Node) -> None:
    a.load("k", "old", ["t"])
    under_way = start(a)

    under_way.throw(LoaderFailed("gone"))

    assert under_way.result.outcome == "load_failed"
    assert "gone" in under_way.result.why


def test_without_redis_there_is_no_verdict(a: Node) -> None:
    a.load("k", "old", ["t"])
    under_way = start(a).reply("new").reply("new")
    a.clock.advance(WAIT)
    under_way.reply(TIMED_OUT).reply("new")

    while not under_way.is_done:
        under_way.lose()

    assert under_way.result.outcome == "undecided"


def test_no_tier_answers_within_the_load_of_an_audit(a: Node) -> None:
    a.load("inner", "old")
    a.load("k", "old", ["t"])
    under_way = start(a)

    inner = a.read("inner", inside=under_way)

    assert inner.at == ("Call",)
    deeper = a.read("inner", inside=under_way)
    assert a.finish(deeper, "from the source") == "from the source"
    assert a.get("inner") == "old", "what an audit loads is not kept"


def test_no_tier_answers_within_the_load_of_an_audit_in_a_new_epoch_either(
    a: Node, server: SimServer
) -> None:
    a.load("k", "old", ["t"])
    under_way = start(a)
    server.flush()
    a.synced().load("inner", "old")

    assert a.read("inner", inside=under_way).at == ("Call",)


def test_many_keys_within_the_load_of_an_audit_are_all_loaded(a: Node) -> None:
    a.load("inner", "old")
    a.load("k", "old", ["t"])

    inner = a.read_many("inner", "other", inside=start(a))

    assert inner.at == ("Call",)
    assert a.finish(inner, {"inner": "new", "other": "new"}) == {"inner": "new", "other": "new"}


@pytest.mark.parametrize("then", ["goes on", "fails"])
def test_a_load_that_reads_what_has_no_loader_gives_no_verdict(a: Node, then: str) -> None:
    a.load("flag", "on")
    a.load("k", "old", ["t"])
    under_way = start(a)

    flag = a.read("flag", call=None, inside=under_way)

    assert repr(flag.result) == "MISS"
    under_way.reply("new") if then == "goes on" else under_way.throw(AttributeError())
    assert under_way.result.outcome == "no_source"


def test_hits_take_the_longer_way_while_an_audit_loads_and_no_longer(a: Node, server: SimServer) -> None:
    """Only there can a read made inside the load be told from the others."""
    a.load("k", "old", ["t"])
    under_way = start(a)
    assert a.core.open_until < a.clock()
    server.flush()
    a.synced()
    assert a.core.open_until < a.clock()

    under_way.reply("old")

    assert under_way.result.outcome == "same"
    assert a.core.open_until == a.core.lease


def test_what_an_audit_reads_again_is_counted_nowhere(a: Node) -> None:
    a.load("k", "old", ["t"])
    before = a.counts.reads()

    drive(a, start(a), "new", "new", "new", "new")

    assert a.counts.reads() == before


def test_a_forked_child_has_nothing_of_the_loads_of_its_parent(a: Node) -> None:
    begun(a)
    a.core.begin_load(a.core.epoch, float("inf"), "a load")

    a.core.forget_loads()

    assert a.core.open_until == a.core.lease


def test_texts_are_cut_around_where_they_differ() -> None:
    old, new = shown("x" * 1000 + "old" + "y" * 1000, "x" * 1000 + "new" + "y" * 1000)

    assert "old" in old
    assert "new" in new
    assert max(len(old), len(new)) <= SHOWN + 6
    assert shown("'old'", "'new'") == ("'old'", "'new'")


def test_a_value_that_is_cached_under_another_tag_by_now_is_looked_up_by_that(
    a: Node, b: Node, server: SimServer
) -> None:
    """1. A hit under t.  2. The entry goes; one of the same key is stored under u.  3. A write that is told
    on u, while the audit looks: nobody forgot it."""
    a.load("k", "old", ["t"])
    under_way, calls = start(a), 0
    while not under_way.is_done:
        if isinstance(under_way.step, Join):
            a.clock.advance(under_way.step.timeout)
            if calls == 2:
                a.core.l1.drop("k")
                server.domain.entries.clear()
                b.synced().load("k", "between", ["u"])
            a.synced()
            under_way.reply(TIMED_OUT)
        elif under_way.at == ("Call",):
            calls += 1
            if calls == 4:
                bump(server, "u")
            under_way.reply("new")
        else:
            under_way.answer()

    assert calls > 4
    assert under_way.result.outcome == "stale_within_D"
