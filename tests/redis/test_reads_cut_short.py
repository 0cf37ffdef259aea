"""A read by key that an exception of a signal's handler cuts short, when a call has returned what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

import tiercache
from tests.core.test_changes_cut_short import comes_amid, cut_short
from tests.servers import RedisServer
from tiercache import L2Unavailable, TierCache
from tiercache._accelerator import compiled
from tiercache._core.tiers import MOST, REFUSED

Get = Callable[[TierCache], object]


def get(cache: TierCache) -> object:
    return cache.sync.get("k")


def get_async(cache: TierCache) -> object:
    return asyncio.run(cache.get("k"))


each_way = pytest.mark.parametrize("get", [get, get_async])
FILES = {str(Path(tiercache.__file__).with_name(name)) for name in ("_by_key.py", "_glances.py")}


@pytest.mark.skipif(compiled is None, reason="not compiled here: each read has a plan")
@pytest.mark.parametrize("by_script", [False, True])
@each_way
def test_nobody_looks_for_its_key_any_more(
    redis_server: RedisServer, new_node: Callable[..., TierCache], get: Get, by_script: bool
) -> None:
    cache = new_node(redis_server.url())
    core, looking = cache._node.tiers.core, cache._node.tiers.looking
    cache.sync.set("k", 1)
    for at in count():
        core.l1.clear()
        cache._verbs.counts.prospect = REFUSED if by_script else MOST
        was_cut_short = cut_short(partial(get, cache), at, FILES, acts=("STORE_FAST",))
        assert not looking, at
        if not was_cut_short:
            break
    assert at > 3
    assert cache.sync.get("k") == 1


@pytest.mark.skipif(compiled is None, reason="not compiled here: each read has a plan")
@each_way
def test_what_a_handler_raises_is_not_taken_for_an_answer(
    redis_server: RedisServer, new_node: Callable[..., TierCache], get: Get
) -> None:
    """The handler reads another cache, one whose Redis is away, before anything was sent or after."""

    def cut() -> None:
        raise L2Unavailable("that of another cache")

    cache = new_node(redis_server.url())
    core, looking = cache._node.tiers.core, cache._node.tiers.looking
    cache.sync.set("k", 1)
    for at in count():
        core.l1.clear()
        cache._verbs.counts.prospect = MOST
        with suppress(L2Unavailable):
            if not comes_amid(partial(get, cache), at, cut, FILES, acts=("STORE_FAST",)):
                break
        assert not looking, at
    assert at > 3
    assert cache.sync.get("k") == 1
