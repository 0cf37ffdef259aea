"""The ACL rule of docs/howto/operate.md: enough for all a cache does, and no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisServer, eventually
from tiercache import TierCache
from tiercache._core.large import LARGE

PAGE = Path(__file__).parents[2] / "docs/howto/operate.md"
SAID_BY_REDIS_PY = {"client", "client|setinfo"}  # and refused without harm


def printed_rule() -> list[str]:
    """The words of the rule as it is printed, after the user's name."""
    printed = re.search(r"^ACL SETUSER shop (.*)$", PAGE.read_text(), re.MULTILINE)
    assert printed is not None, f"{PAGE} has no rule any more"
    return printed[1].split()


@pytest.fixture
def rule() -> list[str]:
    return printed_rule()


@pytest.fixture
def as_shop(any_redis: RedisServer, rule: list[str]) -> Iterator[str]:
    """The URL of a server for a user with that rule and nothing else."""
    any_redis.cli("ACL", "SETUSER", "shop", "reset", *rule)
    any_redis.cli("ACL", "LOG", "RESET")
    any_redis.cli("CONFIG", "RESETSTAT")
    yield any_redis.url().replace("//", "//shop:secret@")
    any_redis.cli("ACL", "DELUSER", "shop")


def use_everything(url: str) -> None:
    """Each act of a cache once, as two processes would."""
    first = TierCache(url, namespace="shop", private=True, max_staleness=2)
    second = TierCache(url, namespace="shop", private=True, max_staleness=2)

    @first.cached(tags=["user:{user_id}"])
    def get_user(user_id: int) -> int:
        return user_id

    @second.cached(l1=False)
    def get_team(team_id: int) -> int:
        return team_id

    with first.sync, second.sync:
        assert [get_team(1) for _ in range(10)] == [1] * 10
        assert get_user(7) == 7
        assert first.sync.get_or_load("large", lambda: "x" * LARGE) == "x" * LARGE
        assert second.sync.get(get_user.key(7)) == 7
        first.sync.set_many({"a": 1, "b": 2})
        assert second.sync.get_many(["a", "b"]) == {"a": 1, "b": 2}
        assert second.sync.touch("a", ttl=5)
        first.sync.invalidate_tags("user:7")
        get_user.refresh(7)
        get_user.invalidate(7)
        with pytest.raises(ZeroDivisionError):
            first.sync.get_or_load("bad", lambda: 1 // 0)
        with first.sync.invalidating(tags=["t"]) as block:
            assert second.sync.get_or_load("fenced", lambda: 1, tags=["t"]) == 1
            assert second.stats().events["fill_fenced"] == 1
            block.discard()
        first.sync.at_least(second.sync.delete("b", wait=True).token)
        assert eventually(lambda: "hints" in first.stats().events and "hints" in second.stats().events)
        assert first.sync.health().problem is None
        first.sync.clear()
        assert eventually(lambda: second.sync.health().tag_history == 0)


async def await_everything(url: str) -> None:
    """The same by the awaited verbs."""
    settings = {"namespace": "shop", "private": True, "max_staleness": 0.2}
    async with TierCache(url, **settings) as first, TierCache(url, **settings) as second:
        assert await first.get_or_load("k", lambda: 7, tags=["t"]) == 7
        assert await second.get("k") == 7
        await first.set_many({"a": 1, "b": 2})
        assert await second.get_many(["a", "b"]) == {"a": 1, "b": 2}
        assert await second.touch("a", ttl=5)
        async with first.invalidating(tags=["t"], keys=["k"]):
            assert await second.get_or_load("inside", lambda: 1, tags=["t"]) == 1
        with pytest.raises(ZeroDivisionError):
            await first.get_or_load("bad", lambda: 1 // 0)
        await first.at_least((await second.delete("b", wait=True)).token)
        assert (await first.health()).problem is None
        await first.clear()


def test_a_user_with_the_documented_rule_can_do_everything(any_redis: RedisServer, as_shop: str) -> None:
    use_everything(as_shop)

    assert refused(any_redis) <= SAID_BY_REDIS_PY


def test_a_user_with_the_documented_rule_can_await_everything(any_redis: RedisServer, as_shop: str) -> None:
    asyncio.run(await_everything(as_shop))

    assert refused(any_redis) <= SAID_BY_REDIS_PY


def test_the_documented_rule_allows_no_command_that_is_not_called(
    any_redis: RedisServer, as_shop: str, rule: list[str]
) -> None:
    use_everything(as_shop)

    allowed = {word.removeprefix("+") for word in rule if word.startswith("+")}
    assert eventually(lambda: allowed <= called(any_redis)), f"never called: {allowed - called(any_redis)}"


def refused(server: RedisServer) -> set[str]:
    """The commands that somebody called without the right to."""
    return {entry[b"object"].decode() for entry in server.cli("ACL", "LOG")}


def called(server: RedisServer) -> set[str]:
    """The commands called since the statistics were reset, in scripts too."""
    return {name.removeprefix("cmdstat_") for name in server.cli("INFO", "commandstats")}
