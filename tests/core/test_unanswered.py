"""Reads that L2 cannot answer, and loaders that bring no value."""

from __future__ import annotations

import pytest

from tests.core.hands import Clock, D, LoaderFailed, Node, bump
from tests.core.sim_server import SimServer
from tiercache._core.reads import MISS
from tiercache._errors import L2Unavailable, Unstorable

# ---- L2


def test_redis_away_costs_a_load_and_keeps_nothing(a: Node, clock: Clock) -> None:
    clock.advance(D)

    reading = a.read("k").lose()

    assert reading.at == ("Call",)
    assert reading.reply("v").result == "v"
    assert not a.in_l1("k")


def test_on_lapse_raise_no_read_goes_to_the_source(server: SimServer, clock: Clock) -> None:
    a = Node(server, clock, "a", raise_on_lapse=True).synced()
    a.load("k", "v")
    clock.advance(D)

    with pytest.raises(L2Unavailable, match="on_lapse"):
        a.finish(a.read("k").lose())


def test_a_read_that_is_told_to_sync_again_and_again_is_loaded_without_caching(
    a: Node, server: SimServer
) -> None:
    """3.3: a server whose head stays below what this node has met answers nothing."""
    for _ in range(3):
        bump(server, "t")
    copy = server.copy()
    a.synced()
    reading = a.read("k")
    for _ in range(10):
        if reading.at == ("Call",):
            break
        reading.execute()
        copy.state = server.domain.state
        server.flush()
        reading.reply()

    assert reading.at == ("Call",)
    reading.reply("v")
    assert not a.in_l1("k")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"1|2|3",
        b"1|%d|1|9|00000000|0|0|torn",
        b"1|%d|1|9|zz|0|0|",
        b"1|%d|1|9|00000000|0|40|t",
        b"1|%d|1|9|00000000|0|2000|" + b"t\0" * 1000,
    ],
)
def test_bytes_of_others_are_a_miss_and_the_next_fill_overwrites_them(
    a: Node, b: Node, server: SimServer, raw: bytes
) -> None:
    """3.12"""
    server.domain.entries["k"] = raw.replace(b"%d", b"%d" % a.core.epoch)

    assert a.get("k") is MISS
    assert a.load("k", "v") == "v"
    assert b.get("k") == "v"


def test_an_entry_moved_under_another_key_is_a_miss(a: Node, b: Node, server: SimServer) -> None:
    a.load("k", "v")
    server.domain.entries["l"] = server.domain.entries["k"]

    assert b.get("l") is MISS
    assert b.tiers.events["unreadable"] == 1


def test_an_entry_of_a_release_with_other_tags_is_a_miss(a: Node, b: Node) -> None:
    """3.10: it would escape the tag that the new release has added."""
    a.load("k", "old release", ["t"], print=1)

    assert b.load("k", "new release", ["t", "u"], print=2) == "new release"
    assert b.tiers.events["retagged"] == 1
    b.finish(b.invalidate("u"))
    assert b.get("k") is MISS


def test_nor_is_it_served_when_a_read_by_its_key_has_put_it_into_l1(a: Node, b: Node) -> None:
    a.load("k", "old release", ["t"], print=1)
    assert b.get("k") == "old release"

    assert b.load("k", "new release", ["t", "u"], print=2) == "new release"


# ---- the loader


def test_what_the_loader_raises_reaches_its_caller_and_nothing_is_kept(a: Node, b: Node) -> None:
    loading = a.read("k").answer()

    assert loading.throw(LoaderFailed()).at == ("Unlock",)
    with pytest.raises(LoaderFailed):
        a.finish(loading)
    assert b.read("k").answer().at == ("Call",)


def test_a_value_that_cannot_be_stored_is_the_callers_error_and_frees_the_lock(a: Node, b: Node) -> None:
    loading = a.read("k").answer()

    assert loading.reply(object()).at == ("Unlock",)
    with pytest.raises(Unstorable):
        a.finish(loading)
    assert b.read("k").answer().at == ("Call",)


def test_an_error_of_the_transport_after_the_load_is_the_one_that_is_raised(a: Node) -> None:
    """The value was there by then, and those who waited have it."""
    loading = a.read("k").answer()
    joining = a.read("k")
    loading.reply("v").throw(RuntimeError("the loop is closed"))

    with pytest.raises(RuntimeError, match="the loop is closed"):
        a.finish(loading)
    assert joining.wake().result == "v"
