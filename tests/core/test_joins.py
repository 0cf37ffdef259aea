"""Who may take what another's load brought: the join rule (coherence.md 3.9)."""

from __future__ import annotations

import pytest

from tests.core.hands import Cancelled, Clock, D, Node, begun, bump, joined, took
from tests.core.sim_server import SimServer
from tiercache._core.commands import KeyAsk, Read
from tiercache._core.plan import Call, Join
from tiercache._errors import LoadTimeout


def meet(node: Node) -> None:
    """Have *node* meet the head as it is, in an answer that tells nothing of what came before it."""
    command = Read(node.core.epoch, 0, (KeyAsk("nothing", "get", ""),))
    assert node.core.meet(node.core.stand(node.clock()), node.server.perform(command).head)


# ---- under a good lease


def test_callers_of_one_key_share_one_load(a: Node) -> None:
    leading = a.read("k").answer()
    followers = [a.read("k") for _ in range(3)]
    leading.reply(["v"]).answer()

    values = [leading.result, *(follower.wake().result for follower in followers)]

    assert values == [["v"]] * 4
    assert len({id(value) for value in values}) == 4
    assert (a.counts.loads, a.counts.joins) == (1, 3)


def test_a_hit_of_l2_is_shared_as_well(a: Node, b: Node) -> None:
    b.load("k", "v", ["t"])
    leading = a.read("k", tags=["t"])
    joining = joined(a)
    leading.answer()

    assert took(a, joining)


def test_who_reads_after_an_own_invalidation_does_not_take_the_load_of_before(a: Node) -> None:
    """R5: 1. A's load reads v1.  2. B commits v2, invalidates.  3. B reads, and joins A's flight."""
    leading = a.read("k", tags=["t"]).answer()
    a.finish(a.invalidate("t"))
    joining = joined(a)
    leading.reply("old").answer()

    assert not took(a, joining)
    assert a.finish(joining, "new") == "new"


def test_who_met_a_record_before_it_joined_does_not_take_what_is_older(a: Node, server: SimServer) -> None:
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "t")
    meet(a)
    joining = joined(a)
    leading.reply("old").answer()

    assert not took(a, joining)


def test_a_fill_accepted_at_the_joiners_head_makes_the_value_good(a: Node, server: SimServer) -> None:
    """The server has looked at every record up to there, and none is on its dependencies."""
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "u")
    meet(a)
    joining = joined(a)
    leading.reply("v").answer()

    assert took(a, joining)


def test_a_load_that_began_at_the_joiners_head_is_good_whatever_became_of_its_fill(
    a: Node, server: SimServer
) -> None:
    bump(server, "u")
    a.synced()
    leading = a.read("k", tags=["t"]).answer()
    joining = joined(a)
    leading.reply("v").lose()

    assert took(a, joining)


def test_without_a_word_on_its_fill_an_older_load_is_good_once_a_sync_shows_nothing_on_it(
    a: Node, server: SimServer
) -> None:
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "u")
    meet(a)
    joining = joined(a)
    a.synced()
    leading.reply("v").lose()

    assert took(a, joining)


def test_before_that_sync_it_is_not(a: Node, server: SimServer) -> None:
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "u")
    meet(a)
    joining = joined(a)
    a.hear(2)
    leading.reply("v").lose()

    assert a.core.applied == 2  # a hint may have lied
    assert not took(a, joining)


@pytest.mark.parametrize("what", ["t", None])
def test_nor_when_the_sync_shows_a_record_on_it(
    a: Node, b: Node, server: SimServer, what: str | None
) -> None:
    """On one of its dependencies, or on everything."""
    leading = a.read("k", tags=["t"]).answer()
    b.finish(b.clear() if what is None else b.invalidate(what))
    meet(a)
    joining = joined(a)
    a.synced()
    leading.reply("old").lose()

    assert not took(a, joining)


def test_an_accepted_fill_alone_is_not_enough(a: Node, server: SimServer) -> None:
    """3.9: a failover lost the own invalidation; in the old epoch the new primary takes the older token."""
    leading = a.read("k", tags=["t"]).answer()
    copy = server.copy()
    a.finish(a.invalidate("t"))
    server.fail_over(copy)
    joining = joined(a)
    leading.reply("old").answer()
    assert server.holds("k")

    assert not took(a, joining)
    assert a.finish(joining, "new") == "new"


def test_a_flight_of_an_epoch_that_is_over_is_not_taken(a: Node, server: SimServer) -> None:
    """Its numbers are high, and say nothing."""
    for _ in range(9):
        bump(server, "u")
    a.synced()
    leading = a.read("k", tags=["t"]).answer()
    server.flush()
    a.synced()
    joining = joined(a)
    leading.reply("old").answer()

    assert not took(a, joining)


def test_who_joined_in_an_epoch_that_is_over_does_not_take_what_the_next_one_brings(
    a: Node, server: SimServer
) -> None:
    leading = a.read("k", tags=["t"])
    joining = joined(a)
    server.flush()
    a.synced()
    leading.answer()  # void: it asks again
    leading.answer().reply("v").answer()

    assert leading.result == "v"
    assert not took(a, joining)


def test_who_joined_before_the_epoch_was_disowned_does_not_take(a: Node, server: SimServer) -> None:
    leading = a.read("k", tags=["t"]).answer()
    joining = joined(a)
    a.core.disown()
    a.synced()
    leading.reply("v").answer()

    assert not took(a, joining)


def test_records_forgotten_with_a_disowned_epoch_are_not_taken_for_none(a: Node, server: SimServer) -> None:
    """The epoch comes back; what was applied in it before does not."""
    leading = a.read("k", tags=["t"]).answer()
    a.finish(a.invalidate("t"))
    a.core.disown()
    joining = joined(a)
    a.synced()
    leading.reply("old").lose()

    assert not took(a, joining)


def test_a_value_whose_tags_are_being_written_is_not_taken(a: Node) -> None:
    leading = a.read("k", tags=["t"]).answer()
    joining = joined(a)
    a.core.hold(["t:t"])
    leading.reply("old").answer()

    assert not took(a, joining)


def test_who_joins_inside_a_block_does_not_take_what_was_loaded_before_it_wrote(a: Node) -> None:
    """Only the source knows that the value depends on the tag, so the read did not go past the tiers."""
    leading = a.read("k").answer()
    assert isinstance(leading.step, Call)
    assert leading.step.load is not None
    leading.step.load.found.depend("t")
    a.core.hold(["t:t"])
    joining = joined(a, tags=())
    a.core.release(["t:t"])
    leading.reply("old").answer()

    assert not took(a, joining)


def test_a_value_whose_invalidation_is_pending_is_not_taken(a: Node) -> None:
    leading = a.read("k", tags=["t"]).answer()
    joining = joined(a)
    a.invalidate("t").lose()
    leading.reply("old").answer()

    assert not took(a, joining)


# ---- when the joiner's lease had lapsed


def test_who_joined_with_a_lapsed_lease_takes_what_a_lease_got_since_vouches_for(
    a: Node, clock: Clock
) -> None:
    clock.advance(D)
    leading = a.read("k", tags=["t"])
    joining = joined(a)
    assert leading.at == ("Sync", "Read")
    leading.answer().reply("v").answer()

    assert took(a, joining)


def test_the_lease_at_landing_must_cover_the_instant_of_the_join(
    a: Node, server: SimServer, clock: Clock
) -> None:
    """1. A load.  2. A record on it.  3. The lease lapses.  4. Somebody joins. No proof reaches that far."""
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "t")
    clock.advance(D)
    joining = joined(a)
    leading.reply("old").lose()

    assert not took(a, joining)


def test_what_the_proof_found_by_then_must_be_in_the_value(a: Node, server: SimServer, clock: Clock) -> None:
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "t")
    clock.advance(D)
    joining = joined(a)
    a.synced()
    leading.reply("old").lose()

    assert not took(a, joining)


def test_when_the_proof_found_nothing_on_it_the_value_is_good(
    a: Node, server: SimServer, clock: Clock
) -> None:
    clock.advance(D / 2)
    leading = a.read("k", tags=["t"]).answer()
    bump(server, "u")
    clock.advance(D / 2)
    joining = joined(a)
    a.synced()
    leading.reply("v").lose()

    assert took(a, joining)


# ---- under a fence


def test_what_nobody_vouched_for_is_taken_within_the_bound_only(a: Node, b: Node, clock: Clock) -> None:
    """G7: 1. A fence.  2. A load.  3. The commit; its writer dies.  4. D later somebody reads, and joins."""
    b.finish(b.fence("t"))
    a.synced()
    leading = a.read("k", tags=["t"]).answer()
    clock.advance(D / 2)
    early = joined(a, "k")
    a.synced()
    clock.advance(D / 2)
    late = joined(a, "k")
    leading.reply("from before the commit").answer()

    assert took(a, early)
    assert not took(a, late)


def test_what_redis_vouched_for_is_taken_however_long_it_took(a: Node, clock: Clock) -> None:
    leading = a.read("k", tags=["t"]).answer()
    clock.advance(D / 2)
    a.synced()
    clock.advance(D)
    a.synced()
    late = joined(a, "k")
    leading.reply("v").answer()

    assert took(a, late)


# ---- after a refusal


def test_who_was_refused_twice_loads_on_its_own(a: Node, server: SimServer) -> None:
    first, joining = begun(a), joined(a)
    server.flush()
    a.synced()
    second = begun(a, renew=True)
    a.finish(first, "of the epoch before")
    assert not took(a, joining)
    third = begun(a, renew=True)
    second.reply("v").lose()
    assert not took(a, joining)

    assert joining.at == ("Read",)
    assert third.at == ("Call",)


def test_who_has_waited_for_two_loads_that_were_given_up_replaces_the_third_and_is_followed(a: Node) -> None:
    leading, patient, likewise = begun(a), joined(a), joined(a)
    for _ in range(2):
        leading.throw(Cancelled())
        leading = a.read("k").answer()  # sooner than those who waited
        assert leading.at == ("Call",)
        assert {each.wake().at for each in (patient, likewise)} <= {("Join",), ("Read",)}

    assert (patient.at, likewise.at) == (("Read",), ("Join",))
    assert a.read("k").at == ("Join",)
    a.finish(patient, "new")
    assert a.finish(likewise.wake()) == "new"


def test_who_was_refused_joins_or_leads_one_new_flight(a: Node) -> None:
    leading = a.read("k", tags=["t"]).answer()
    a.finish(a.invalidate("t"))
    refused = [joined(a) for _ in range(3)]
    leading.reply("old").answer()

    steps = sorted(hand.wake().at for hand in refused)

    assert steps == [("Join",), ("Join",), ("Read",)]


def test_who_waits_longer_than_load_timeout_is_told_so(a: Node, clock: Clock) -> None:
    leading = a.read("k").answer()
    joining = a.read("k")
    assert isinstance(joining.step, Join)
    assert joining.step.timeout == a.tiers.load_timeout
    clock.advance(a.tiers.load_timeout)

    with pytest.raises(LoadTimeout, match="load_timeout"):
        _ = joining.wake().result
    assert leading.reply("v").answer().result == "v"


def test_a_load_that_takes_too_long_is_joined_no_more(a: Node, clock: Clock) -> None:
    leading = a.read("k").answer()
    clock.advance(a.tiers.load_timeout)

    assert a.synced().read("k").at == ("Read",)
    assert leading.at == ("Call",)
