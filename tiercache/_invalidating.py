"""`cache.invalidating(...)`: around a write of the truth."""

from __future__ import annotations

from math import inf
from types import TracebackType
from typing import Literal, NoReturn

from tiercache._core import barriers, fences
from tiercache._core.plan import Plan, Step, run, run_async
from tiercache._core.writes import Written, deps_named, invalidate
from tiercache._errors import L2Unavailable
from tiercache._node import Node
from tiercache._settings import Duration, seconds

OnOutage = Literal["commit", "abort"]
MAX_FENCE_TTL = 86_400.0  # seconds; nothing it names is cached for as long, if its writer dies
FENCE_TTL = 10.0  # seconds a write may take, and how long nothing is cached after its writer died


class _Block:
    """Fences what is being written, and invalidates it at the end, also after an exception."""

    def __init__(
        self,
        node: Node,
        tags: tuple[str, ...],
        keys: tuple[str, ...],
        on_outage: OnOutage,
        fence_ttl: Duration,
        wait: bool,
    ) -> None:
        if not tags and not keys:
            raise ValueError("invalidating() needs the tags= or keys= that the write touches")
        if on_outage not in ("commit", "abort"):
            raise ValueError(f"on_outage must be 'commit' or 'abort', not {on_outage!r}")
        self._node, self._tags, self._keys = node, tags, keys
        self._on_outage, self._wait = on_outage, wait
        if not isinstance(wait, bool):
            raise TypeError(f"wait must be True or False, not {wait!r}")
        self._fence_ttl = seconds(fence_ttl, "fence_ttl")
        if self._fence_ttl > MAX_FENCE_TTL:
            raise ValueError(f"fence_ttl must be at most a day, not {fence_ttl!r}")
        self._deps = deps_named(tags, keys)
        self._name = fences.new_name()
        self._runs_out, self._epoch, self._writer = inf, 0, ""
        self._discarded = self._entered = False
        self.written: Written | None = None
        self.fenced = False

    def discard(self) -> None:
        """Say that the write did not happen (a rollback): the fence goes, and nothing is invalidated."""
        self._discarded = True

    def _begin(self) -> Plan[None]:
        """Hold back reads of this process, and put up the fence that the others keep to."""
        if self._entered:
            raise RuntimeError("a block of invalidating() is for one write; make another one for the next")
        self._entered = True
        tiers = self._node.tiers
        self._writer = tiers.core.node
        tiers.core.hold(self._deps)
        try:
            self._runs_out = tiers.clock() + self._fence_ttl
            self._epoch = yield from fences.put_up(tiers, list(self._deps), self._name, self._fence_ttl)
            self.fenced = True
        except BaseException as error:
            if isinstance(error, L2Unavailable) and self._on_outage == "commit":
                tiers.events["guarantee_suspended"] += 1
                return
            tiers.core.release(self._deps)
            if not isinstance(error, GeneratorExit):
                yield fences.unsure(tiers, list(self._deps), self._name)  # the body never runs
            raise

    # What follows is not driven by `Node.run`: a block that is open goes on over a `close`, as its write
    # does.

    def _end(self) -> Plan[None]:
        tiers = self._node.tiers
        # In a child that was forked inside the block, the fence is the parent's, which still writes.
        fence = self._name if tiers.core.node == self._writer else ""
        try:
            if self._discarded:
                if fence:
                    yield from fences.take_down(tiers, list(self._deps), fence)
                return
            self._check(tiers.clock() < self._runs_out)
            self.written = yield from invalidate(tiers, self._tags, self._keys, fence=fence)
            token = self.written.token
            self._check(token is None or token.epoch == self._epoch)
        finally:
            tiers.core.release(self._deps)

    def _check(self, stood: bool) -> None:
        """Note that the fence did not stand to the end: it ran out, or Redis lost it with its epoch."""
        if self.fenced and not stood:
            self.fenced = False
            self._node.tiers.events["guarantee_suspended"] += 1

    def _reach(self) -> Plan[None]:
        if self._wait and self.written is not None:
            yield from barriers.reach(self._node.tiers, self.written)


class Invalidating(_Block):
    """Inside `async with`, what it names is neither cached nor read from the cache; then it is invalid.

    Entering marks it in Redis, in one round trip, before the write: if this process dies before the end,
    the mark runs out after `fence_ttl`, and others have had misses, never an old value. `fenced` tells
    whether the mark held all the way, `written` has the result of the invalidation. One that a cancellation
    cuts short is pending: it is sent again until it is done, and until then this process reads what it
    names from its source.
    """

    async def __aenter__(self) -> Invalidating:
        await self._node.run_async(self._begin())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from asyncio import _get_running_loop

        from anyio import CancelScope

        if isinstance(error, GeneratorExit) and _get_running_loop() is None:
            # The loop was closed over the block, and its task is collected.
            run(self._end(), _without_a_loop)
            return
        with CancelScope(shield=True):
            await run_async(self._end(), self._node.perform_async)
        if error is None:
            await run_async(self._reach(), self._node.perform_async)


def _without_a_loop(step: Step) -> NoReturn:
    raise L2Unavailable("the event loop was closed over an open block")


class BlockingInvalidating(_Block):
    """As `Invalidating`, under `with`."""

    def __enter__(self) -> BlockingInvalidating:
        self._node.run(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run(self._end(), self._node._perform)
        if error is None:
            run(self._reach(), self._node._perform)
