"""One process' part in one round: its callers, its loader, and what they saw."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from typing import Any

from tiercache.cli.stampede.orders import (
    GAVE_UP,
    LOADER,
    TIMEOUT,
    Begun,
    Call,
    Load,
    LoaderFailed,
    Order,
    Share,
    Write,
)
from tiercache.cli.stampede.subjects import Subject

TIDY = 2.0  # seconds for tasks to end that have been cancelled


class Part:
    """Played once. What is appended to the lists of `share` is whole, whichever thread appends it.

    Its threads are those of *pool*, as a server's are. One that has all its answers rests until `over`: what
    it would do then, above all to end, takes the processor from those who still wait, for several times as
    long as they need to wake.
    """

    def __init__(
        self, order: Order, subject: Subject, tell: Callable[[object], None], pool: Executor
    ) -> None:
        self._order, self._subject, self._tell, self._pool = order, subject, tell, pool
        self._awaited, self._blocking = subject.verbs("tasks"), subject.verbs("threads")
        self._under_way: dict[int, tuple[str, float]] = {}  # by caller
        self._rest, self._all_at_rest = threading.Lock(), threading.Event()
        self._at_rest: list[int] = []  # numbers of callers
        self.share = Share()

    async def play(self) -> Share:
        order, before = self._order, self._subject.syncs()
        numbers = range(order.callers)
        in_tasks = {"tasks": numbers, "threads": range(0), "both": numbers[::2]}[order.world]
        tasks = [asyncio.create_task(self._call_in_task(number)) for number in in_tasks]
        targets: list[tuple[Callable[[int], None], int]] = [
            (self._call_in_thread, number) for number in numbers if number not in in_tasks
        ]
        if order.drop_at is not None or order.renew_at is not None:
            if in_tasks:
                tasks.append(asyncio.create_task(self._errand_in_task()))
            else:
                targets.append((self._errand_in_thread, -1))
        self._rest.acquire()
        await asyncio.to_thread(self._send_for, targets)
        if targets:
            await asyncio.to_thread(self._all_at_rest.wait, max(0.0, order.deadline - time.monotonic()))
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, order.deadline - time.monotonic()))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=TIDY)
        self.share.calls += [Call(*asked, None, None) for asked in list(self._under_way.values())]
        self.share.syncs = self._subject.syncs() - before
        self.share.is_stuck = len(self._at_rest) < len(targets)
        return self.share

    def over(self) -> None:
        """Let the threads go."""
        self._rest.release()

    def _send_for(self, targets: list[tuple[Callable[[int], None], int]]) -> None:
        def play(run: Callable[[int], None], number: int) -> None:
            try:
                run(number)
            finally:
                self._at_rest.append(number)
                if len(self._at_rest) == len(targets):
                    self._all_at_rest.set()
            with self._rest:
                pass

        for target in targets:
            self._pool.submit(play, *target)

    # ---- callers

    async def _call_in_task(self, number: int) -> None:
        order = self._order
        limit = order.give_up if self._leaves(number) else None
        await asyncio.sleep(self._start_of(number) - time.monotonic())
        for key in self._asks(number):
            loader = self.awaited_loader(key)
            try:
                async with asyncio.timeout(limit) as patience:
                    answer = await self._awaited.load(key, loader)
            except Exception as error:
                self._ended(number, None, GAVE_UP if patience.expired() else _kind(error))
            else:
                self._ended(number, answer)
            if order.until is not None:
                await asyncio.sleep(order.pause)

    def _call_in_thread(self, number: int) -> None:
        order = self._order
        time.sleep(max(0.0, self._start_of(number) - time.monotonic()))
        for key in self._asks(number):
            loader = self.blocking_loader(key)
            try:
                answer = self._blocking.load(key, loader)
            except Exception as error:
                self._ended(number, None, _kind(error))
            else:
                self._ended(number, answer)
            if order.until is not None:
                time.sleep(order.pause)

    def _start_of(self, number: int) -> float:
        """All at once; but those who ask over and over are spread over their pause, and those who give up
        come first, so that one of them leads."""
        order = self._order
        if order.until is not None:
            return order.instant + order.pause * number / order.callers
        return order.instant + (order.load / 4 if order.give_up and not self._leaves(number) else 0.0)

    def _leaves(self, number: int) -> bool:
        return self._order.give_up is not None and number < self._order.callers // 2

    def _asks(self, number: int) -> Iterator[str]:
        """Each key to ask for; the first since the instant it was to start at, however late it is by now."""
        order, now = self._order, self._start_of(number)
        if order.until is None:
            for key in order.keys_of(number):
                self._under_way[number] = key, now
                yield key
                now = time.monotonic()
            return
        while (now := time.monotonic()) < order.until:
            self._under_way[number] = order.keys[0], now
            yield order.keys[0]

    def _ended(self, number: int, answer: Any, error: str = "") -> None:
        now = time.monotonic()
        if answer is not None and not isinstance(answer, str):
            answer, error = None, f"{answer!r} was returned"
        self.share.calls.append(Call(*self._under_way.pop(number), now, answer, error))

    # ---- the loader

    def awaited_loader(self, key: str) -> Callable[[], Awaitable[str]]:
        async def load() -> str:
            begun = self._begin(key)
            try:
                await asyncio.sleep(self._takes(begun))
            except BaseException:
                self.share.loads.append(begun)
                raise
            return self._end(begun)

        return load

    def blocking_loader(self, key: str) -> Callable[[], str]:
        def load() -> str:
            begun = self._begin(key)
            time.sleep(self._takes(begun))
            return self._end(begun)

        return load

    def _begin(self, key: str) -> Load:
        now = time.monotonic()
        begun = Load(key, self._order.version(now), now, None)
        if self._order.tells_loads:
            self._tell(Begun(begun))
        return begun

    def _takes(self, begun: Load) -> float:
        """Seconds; if loads hang, the first ones until they are released, and those after them as usual."""
        order = self._order
        if order.outcome == "hang" and begun.began < order.instant + order.load:
            return max(0.0, order.release - begun.began)
        return order.load

    def _end(self, begun: Load) -> str:
        self.share.loads.append(begun._replace(ended=time.monotonic()))
        if self._order.outcome == "error":
            raise LoaderFailed(begun.key)
        return begun.value()

    # ---- errands

    async def _errand_in_task(self) -> None:
        order, verbs = self._order, self._awaited
        await asyncio.sleep((order.drop_at or order.renew_at or 0.0) - time.monotonic())
        called = time.monotonic()
        try:
            if order.drop_at is not None:
                await verbs.drop_tag()
                self.share.writes.append(Write(called, time.monotonic()))
            else:
                await verbs.renew(order.keys[0], self.awaited_loader(order.keys[0]))
        except Exception as error:
            self.share.problem = f"{type(error).__name__}: {error}"

    def _errand_in_thread(self, _: int) -> None:
        order, verbs = self._order, self._blocking
        time.sleep(max(0.0, (order.drop_at or order.renew_at or 0.0) - time.monotonic()))
        called = time.monotonic()
        try:
            if order.drop_at is not None:
                verbs.drop_tag()
                self.share.writes.append(Write(called, time.monotonic()))
            else:
                verbs.renew(order.keys[0], self.blocking_loader(order.keys[0]))
        except Exception as error:
            self.share.problem = f"{type(error).__name__}: {error}"


def _kind(error: Exception) -> str:
    """The loader's error, however a library wraps it; a timeout; or what else it is."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, LoaderFailed):
            return LOADER
        seen = seen.__cause__ or seen.__context__
    return TIMEOUT if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
