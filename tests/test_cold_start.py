"""The first moments of a node, before it knows the epoch of its domain."""

from __future__ import annotations

import os
import warnings

import pytest

from tiercache import TierCache
from tiercache._core.coherence import Coherence
from tiercache._core.commands import Answers, KeyAsk, Read, Recorded, Sync, Synced
from tiercache._core.l1 import L1
from tiercache._core.plan import Ask
from tiercache._core.syncs import sync
from tiercache._core.tiers import Tiers
from tiercache._core.values import Values


@pytest.fixture
def tiers() -> Tiers:
    core = Coherence(L1(10), max_staleness=5.0, node="a1")
    return Tiers(core, Values(), clock=lambda: 1_000.0, load_timeout=30.0, timeout=0.5)


def synced(epoch: int, head: int) -> Synced:
    return Synced(epoch, head, 1, 1, True, 1, None)


def test_a_sync_made_void_by_a_write_of_this_node_is_sent_again(tiers: Tiers) -> None:
    # 1. The listener's first sync is on its way.  2. A set is answered with an epoch this node does not know:
    # it disowns what it knew.  3. The sync's reply is void (R43). 4. A get that waits for it must not miss.
    plan = sync(tiers, blocking=True)
    assert next(plan) == Ask((Sync(0, 0, "a1", 5_000),))
    tiers.core.own_record(Recorded(7, 2), ("k:name",), 0.0)
    assert plan.send([synced(7, 2)]) == Ask((Sync(0, 0, "a1", 5_000),))
    with pytest.raises(StopIteration) as ended:
        plan.send([synced(7, 2)])
    assert ended.value.value == (True, None)
    assert tiers.core.epoch == 7


def test_a_read_beside_a_sync_that_was_made_void_does_not_count(tiers: Tiers) -> None:
    read = Read(0, 0, (KeyAsk("name", "get", ""),))
    plan = sync(tiers, blocking=True, read=read)
    next(plan)
    tiers.core.own_record(Recorded(7, 2), ("k:name",), 0.0)
    plan.send([synced(7, 1), Answers(1, ("miss",))])
    with pytest.raises(StopIteration) as ended:
        plan.send([synced(7, 2), Answers(2, ("lead",))])
    assert ended.value.value == (True, Answers(2, ("lead",)))


def test_what_is_set_first_of_all_is_kept_without_a_server() -> None:
    with TierCache("memory://", private=True).sync as cache:
        cache.set("name", "Ada")
        assert cache.get("name") == "Ada"


@pytest.mark.anyio
async def test_what_is_set_first_of_all_in_a_coroutine_is_kept_without_a_server() -> None:
    async with TierCache("memory://", private=True) as cache:
        await cache.set("name", "Ada")
        assert await cache.get("name") == "Ada"


def test_what_a_forked_child_sets_first_of_all_is_kept_without_a_server() -> None:
    with TierCache("memory://", private=True).sync as cache:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pytest-timeout's thread is beside us
            child = os.fork()
        if child == 0:
            warnings.simplefilter("ignore")  # that this process has a cache of its own now
            cache.set("name", "Ada")
            os._exit(0 if cache.get("name") == "Ada" else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("host", ["cache..internal", "l" * 64])
def test_a_host_that_no_resolver_takes_is_away(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with TierCache(f"redis://{host}:6379/0", private=True).sync as cache:
        assert cache.get_or_load("a", lambda: "loaded") == "loaded"
        assert cache.invalidate_tags("t").pending
    assert "Traceback" not in caplog.text
