"""Tokens that carry "I have seen this write" to another process (G8)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.hands import Clock, D, Node, begun, joined, took
from tests.core.sim_server import SimServer
from tiercache._core.writes import Token

numbers = st.integers(0, 2**53 - 1)


# ---- reads that follow


def test_after_at_least_a_process_reads_what_the_write_made_true(a: Node, b: Node) -> None:
    b.load("k", "old", ["t"])
    token = a.finish(a.invalidate("t")).token
    assert b.get("k") == "old", "no message came"

    b.finish(b.at_least(token))

    assert b.load("k", "new", ["t"]) == "new"


def test_what_a_sync_has_brought_already_costs_no_round_trip(a: Node, b: Node) -> None:
    token = a.finish(a.invalidate("t")).token
    b.synced()

    assert b.at_least(token).is_done


def test_what_it_has_not_brought_yet_costs_one(a: Node, b: Node) -> None:
    token = a.finish(a.invalidate("t")).token
    proving = b.at_least(token)
    assert proving.at == ("Sync",)

    assert proving.answer().is_done
    assert b.at_least(token).is_done


def test_a_message_proves_nothing(a: Node, b: Node) -> None:
    """It may be forged: what it says of the numbers costs a reload, and no more."""
    token = a.finish(a.invalidate("t")).token
    assert b.hear(token.number) == ["applied"]

    assert b.at_least(token).at == ("Sync",)


def test_the_writer_itself_asks_once_where_its_own_record_is_not_proved(a: Node) -> None:
    token = a.finish(a.invalidate("t")).token

    a.finish(a.at_least(token))

    assert a.at_least(token).is_done


def test_an_epoch_newer_than_the_tokens_reflects_it(a: Node, b: Node, server: SimServer) -> None:
    """What is cached in it was loaded after it began."""
    b.load("k", "old", ["t"])
    token = a.finish(a.invalidate("t")).token
    server.flush()

    proving = b.at_least(token).answer()

    assert proving.is_done
    assert b.load("k", "new", ["t"]) == "new"


def test_a_process_that_has_not_begun_may_ask_for_a_token(a: Node, server: SimServer, clock: Clock) -> None:
    token = a.finish(a.invalidate("t")).token
    cold = Node(server, clock, "c")

    assert cold.at_least(token).answer().is_done


@pytest.mark.parametrize("number", [10**15, 2**53])
def test_a_forged_token_costs_one_sync(b: Node, number: int) -> None:
    b.load("k", "v", ["t"])

    assert b.at_least(Token(b.core.epoch, number)).answer().is_done
    assert b.in_l1("k")


def test_a_forged_epoch_costs_one_sync(b: Node) -> None:
    b.load("k", "v", ["t"])

    assert b.at_least(Token(4711, 1)).answer().is_done
    assert b.in_l1("k")


def test_a_sync_that_was_under_way_before_is_followed_by_another(a: Node, b: Node, clock: Clock) -> None:
    """1. B's sync runs.  2. The write, and its token comes to B.  3. It waits for the sync of before."""
    with ThreadPoolExecutor(1) as another_thread:
        syncing = another_thread.submit(lambda: b.sync().execute()).result()
    clock.advance(0.001)
    token = a.finish(a.invalidate("t")).token
    proving = b.at_least(token)
    assert proving.at == ("Join",)
    syncing.reply()

    assert proving.wake().at == ("Sync",)
    assert proving.answer().is_done
    assert b.core.proved == token.number


# ---- loads under way


def test_a_load_from_before_is_not_joined_after_it(a: Node, b: Node) -> None:
    leading = begun(b)
    b.finish(b.at_least(a.finish(a.invalidate("t")).token))
    joining = joined(b)
    b.finish(leading, "old")

    assert not took(b, joining)
    assert b.finish(joining, "new") == "new"


# ---- Redis away


def test_where_redis_cannot_be_asked_reads_load(a: Node, b: Node) -> None:
    b.load("k", "old", ["t"])
    token = a.finish(a.invalidate("t")).token

    assert b.at_least(token).lose().is_done

    reading = b.read("k", tags=["t"])
    assert reading.lose().at == ("Call",)
    assert reading.reply("new").result == "new"


def test_where_redis_cannot_be_asked_no_load_from_before_is_joined(a: Node, b: Node, clock: Clock) -> None:
    clock.advance(D)
    leading = b.read("k", tags=["t"]).lose()
    assert leading.at == ("Call",)
    token = a.finish(a.invalidate("t")).token
    b.at_least(token).lose()
    joining = joined(b)
    leading.reply("old")

    assert not took(b, joining)


def test_nor_is_one_that_redis_gave_leave_for(a: Node, b: Node) -> None:
    leading = begun(b)
    token = a.finish(a.invalidate("t")).token
    b.at_least(token).lose()
    joining = joined(b)
    b.finish(leading, "old")

    assert not took(b, joining)


def test_a_load_that_began_after_it_is_joined(b: Node) -> None:
    b.at_least(Token(b.core.epoch, 99)).lose()
    leading = b.read("k", tags=["t"]).lose()
    joining = joined(b)
    leading.reply("new")

    assert took(b, joining)


def test_the_reply_to_a_sync_of_before_gives_no_lease_back(a: Node, b: Node) -> None:
    """1. B's sync runs.  2. The write.  3. at_least finds nobody to ask.  4. That sync's reply: a lease."""
    with ThreadPoolExecutor(1) as another_thread:
        syncing = another_thread.submit(lambda: b.sync().execute()).result()
    b.load("k", "old", ["t"])
    token = a.finish(a.invalidate("t")).token
    proving = b.at_least(token)
    while not proving.is_done:
        if proving.at == ("Join",):
            proving.wake()  # it takes too long
        else:
            proving.lose()
    syncing.reply()

    assert b.read("k", tags=["t"]).at != ()


# ---- the text of a token


@given(numbers, numbers)
def test_a_token_comes_back_from_its_text(epoch: int, number: int) -> None:
    token = Token(epoch, number)

    assert Token.parse(str(token)) == token
    assert len(str(token)) <= 40
    assert str(token).isascii()


def test_a_token_is_its_numbers_in_hex() -> None:
    assert str(Token(0xAB54A98CEB1F, 26)) == "ab54a98ceb1f-1a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "1--2",
        " 1-2",
        "1-2\n",
        "1-2 ",
        "0x1-2",
        "A-1",
        "g-1",
        "1_0-1",
        "٣-1",
        "1" * 15 + "-1",
        "1-" + "1" * 15,
        "1" * 1_000_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a token") as refusal:
        Token.parse(text)
    assert len(str(refusal.value)) < 100


@given(st.text(max_size=50))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        token = Token.parse(text)
    except ValueError:
        return
    assert Token.parse(str(token)) == token
