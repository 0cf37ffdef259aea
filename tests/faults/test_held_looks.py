"""A look into L2 whose answer is on its way while the server, or the way to it, comes to harm.

The answer arrives in the end, or half of it, or none. The call that waits for it had begun before, and may
return what it says; no later one may, once the process has invalidated it, or has met the invalidation.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.proxy import Proxy
from tests.servers import TIMEOUT, RedisServer
from tiercache import TierCache

NUMBER = 11  # that is looked for; those before it make a look likely to find what it looks for


class Scene:
    """A node that reads by way of a proxy, and one that writes; "doubles" is the tag of all."""

    def __init__(self, stack: ExitStack, *, is_async: bool, l1: bool) -> None:
        self.stack = stack
        self.primary = stack.enter_context(closing(RedisServer(servers.newest())))
        self.proxy = stack.enter_context(closing(Proxy(self.primary)))
        self.truth = 0
        self.is_async = is_async
        self.reader, self.writer = (
            TierCache(self.proxy.url, namespace="looks", private=True, max_staleness=60, timeout=TIMEOUT)
            for _ in range(2)
        )
        stack.callback(self.reader.sync.close)
        stack.callback(self.writer.sync.close)
        self._pool = stack.enter_context(ThreadPoolExecutor(1))

        def doubled(number: int) -> tuple[int, int]:
            return 2 * number, self.truth

        async def doubled_later(number: int) -> tuple[int, int]:
            return doubled(number)

        options: dict[str, Any] = {"key": "{number}", "l1": l1, "tags": ["doubles"]}
        here, there = (
            cache.cached(**options)(doubled_later if is_async else doubled)
            for cache in (self.reader, self.writer)
        )
        self._function = here
        for number in range(NUMBER + 1):
            self._call(there, number)
        self.primary.save()  # what comes from now on, a copy of it lacks
        for number in range(NUMBER):
            self._call(here, number)

    def _call(self, function: Any, number: int) -> Any:
        async def awaited() -> Any:
            return await function(number)

        return asyncio.run(awaited()) if self.is_async else function(number)

    def start_empty(self) -> None:
        self.primary.stop()
        self.saved.unlink()
        self.primary.start()

    def lead_to_a_copy(self) -> None:
        copy = self.stack.enter_context(closing(RedisServer(servers.newest())))
        copy.stop()
        shutil.copy(self.saved, copy.directory)
        copy.start()
        self.proxy.lead_to(copy.port)

    @property
    def saved(self) -> Path:
        return Path(self.primary.directory, "dump.rdb")

    def read(self) -> Any:
        return self._pool.submit(self._call, self._function, NUMBER).result(TIMEOUT)

    def look(self, *, first: int) -> Future[Any]:
        """A read whose look is under way, all but the *first* bytes of its answer held."""
        held = self.proxy.hold_answers(b"MGET", first=first)
        call = self._pool.submit(self._call, self._function, NUMBER)
        assert held.wait(TIMEOUT)
        assert self.reader._node.tiers.looking
        return call


HARM: dict[str, Callable[[Scene], object]] = {
    "the server starts anew, empty": Scene.start_empty,
    "the server starts anew, as it was": lambda scene: scene.primary.restart(),
    "an older copy takes over": Scene.lead_to_a_copy,
    "its memory is flushed": lambda scene: scene.primary.cli("FLUSHALL"),
    "its scripts are flushed": lambda scene: scene.primary.cli("SCRIPT", "FLUSH"),
    "its clients are cut off": lambda scene: scene.primary.cli("CLIENT", "KILL", "TYPE", "normal"),
}


@pytest.fixture(params=["def", "async def"])
def scene_with(request: pytest.FixtureRequest) -> Iterator[Callable[[bool], Scene]]:
    with ExitStack() as stack:
        yield lambda l1: Scene(stack, is_async=request.param == "async def", l1=l1)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("l1", [True, False], ids=["l1", "no l1"])
@pytest.mark.parametrize("is_lost", [True, False], ids=["before the harm", "after it"])
def test_what_this_process_invalidates_amid_a_look_is_not_read_again(
    scene_with: Callable[[bool], Scene], harm: str, l1: bool, is_lost: bool
) -> None:
    scene = scene_with(l1)
    call = scene.look(first=0 if is_lost else 40)

    if not is_lost:
        HARM[harm](scene)
    scene.truth = 1
    scene.reader.sync.invalidate_tags("doubles")
    if is_lost:
        HARM[harm](scene)
    scene.proxy.let_go()

    assert call.result(TIMEOUT) in [(22, 0), (22, 1)]
    assert [scene.read() for _ in range(3)] == [(22, 1)] * 3


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("l1", [True, False], ids=["l1", "no l1"])
def test_what_another_process_invalidates_amid_a_look_is_not_read_once_it_is_known(
    scene_with: Callable[[bool], Scene], harm: str, l1: bool
) -> None:
    scene = scene_with(l1)
    call = scene.look(first=0)

    HARM[harm](scene)
    scene.truth = 1
    token = scene.writer.sync.invalidate_tags("doubles").token
    scene.proxy.let_go()
    assert call.result(TIMEOUT) in [(22, 0), (22, 1)]

    assert token is not None
    scene.reader.sync.at_least(token)
    assert [scene.read() for _ in range(3)] == [(22, 1)] * 3
