"""Performs a plan's steps in the calling task.

One `Awaiting` an event loop. The reads that one turn of the loop makes go out together, as
one script call: 200 tasks that miss L1 at once cost a few round trips and not 200.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from tiercache._core.commands import MAX_READ, Answers, Command, Read
from tiercache._core.flights import current_load
from tiercache._core.looks import Look
from tiercache._core.plan import TIMED_OUT, Ask, Call, Join, Step, Tell
from tiercache._core.scripts import Names
from tiercache._errors import L2Unavailable
from tiercache._transport.address import Address
from tiercache._transport.blocking import FAILURES
from tiercache._transport.breaker import Breaker
from tiercache._transport.replies import (
    Request,
    answered,
    circuit_open,
    no_connection,
    unreachable,
)

Waiting = tuple[Read, "asyncio.Future[Answers]"]


class Awaiting:
    """The awaiting transport of one node in one event loop."""

    def __init__(
        self,
        address: Address,
        names: Names,
        breaker: Breaker,
        clock: Callable[[], float],
        *,
        pool_size: int,
    ) -> None:
        self._address, self._names, self._breaker, self._clock = address, names, breaker, clock
        self._size = pool_size
        self._free: list[Connection] = []
        self._places = asyncio.Semaphore(pool_size)
        self._gathered: dict[int, list[Waiting]] = {}  # epoch -> this turn's reads
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reads: set[asyncio.Task[Any]] = set()
        self._guard: AsyncGenerator[None] | None = None

    async def perform(self, step: Step) -> Any:
        match step:
            case Ask((Read() as read,)):
                return [await self._gather(read)]
            case Ask(commands):
                # A task of its own: a caller that is cancelled does not tear the connection.
                return await asyncio.shield(self._start(self._ask(commands)))
            case Call():
                return await call(step)
            case Join():
                return await join(step)
            case Tell(commands):
                self._start(self._tell(commands))

    async def close(self) -> None:
        """Let what is under way come to an end, one timeout at most, and close the connections."""
        # A load that the end of its loop cancels still unlocks: that must not outlive the loop.
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._address.timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        while self._free:
            await self._free.pop().disconnect()

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; nobody may be left to

    def _gather(self, read: Read) -> asyncio.Future[Answers]:
        loop = asyncio.get_running_loop()
        if not self._gathered:
            loop.call_soon(self._flush)
        answer: asyncio.Future[Answers] = loop.create_future()
        self._gathered.setdefault(read.epoch, []).append((read, answer))
        return answer

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for waiting in gathered.values():
            batch: list[Waiting] = []
            size = 0
            for one in waiting:
                if batch and size + len(one[0].asks) > MAX_READ:
                    self._start_read(batch)
                    batch, size = [], 0
                batch.append(one)
                size += len(one[0].asks)
            self._start_read(batch)

    def _start_read(self, batch: list[Waiting]) -> None:
        task = self._start(self._read(batch))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _read(self, batch: list[Waiting]) -> None:
        """Send the reads of *batch* as one; the strictest of their heads holds for all."""
        whole = Read(
            batch[0][0].epoch,
            max(read.seen for read, _ in batch),
            tuple(ask for read, _ in batch for ask in read.asks),
        )
        try:
            (answers,) = await self._ask((whole,))
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error) if isinstance(error, Exception) else answer.cancel()
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for read, answer in batch:
            end = start + len(read.asks)
            if not answer.done():
                answer.set_result(Answers(answers.head, answers.found[start:end]))
            start = end

    async def _tell(self, commands: tuple[Command[Any], ...]) -> None:
        # The unlock of a read that was cancelled must not overtake it on another connection.
        await asyncio.sleep(0)
        if self._reads:
            await asyncio.wait(self._reads)
        try:
            await self._ask(commands)
        except L2Unavailable:
            return

    async def _ask(self, commands: tuple[Command[Any] | Look, ...]) -> list[Any]:
        if not self._breaker.admits(self._clock(), prober=False):
            raise circuit_open(self._breaker.reason)
        request = Request(commands, self._names)
        was_open = self._breaker.is_open
        try:
            async with asyncio.timeout(self._address.timeout):
                await self._places.acquire()
        except TimeoutError:
            raise no_connection(self._size, self._address.timeout) from None
        try:
            if self._breaker.is_open and not was_open:  # while this call waited for its place
                raise circuit_open(self._breaker.reason)
            results = await self._round_trip(request)
        except FAILURES as error:
            self._breaker.failed(self._clock(), error)
            raise unreachable(error) from error
        finally:
            self._places.release()
        self._breaker.answered()
        return answered(results)

    async def _take(self) -> Connection | None:
        """An idle connection, if there is one."""
        while self._free:
            connection = self._free.pop()
            if self._address.leads_to(connection):
                return connection
            await connection.disconnect(nowait=True)
        return None

    async def _round_trip(self, request: Request) -> list[Any]:
        connection = await self._take()
        if connection is not None:
            try:
                return await self._exchange(connection, request)
            except RedisTimeout:
                raise
            except (BrokenConnection, OSError):
                if not request.repeatable:
                    raise
        return await self._exchange(await self._address.open_async(), request)

    async def _exchange(self, connection: Connection, request: Request) -> list[Any]:
        try:
            raw = await _send(connection, request.wire(), request.count)
            unknown = request.unknown(raw)
            if unknown:
                in_full = await _send(connection, request.wire_in_full(unknown), len(unknown))
                for place, reply in zip(unknown, in_full, strict=True):
                    raw[place] = reply
        except BaseException:
            await connection.disconnect(nowait=True)  # a reply may still be on its way
            raise
        results = request.results(raw)
        if not (request.keeps and self._address.leads_to(connection)):
            await connection.disconnect(nowait=True)
            return results
        self._free.append(connection)
        if self._guard is None:
            self._guard = self._until_the_loop_ends()
            await anext(self._guard)
        return results

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        """A generator the loop closes when it shuts down, and the connections with it."""
        try:
            yield
        finally:
            await self.close()


async def _send(connection: Connection, wire: bytes, count: int) -> list[Any]:
    await connection.send_packed_command([wire], check_health=False)
    replies = []
    for _ in range(count):
        try:
            replies.append(await connection.read_response())
        except ResponseError as refusal:
            replies.append(refusal)
    return replies


async def join(step: Join) -> Any:
    """Wait in the calling task for what another thread or task lands."""
    if step.future.done():
        return step.future.result()
    waiter = asyncio.wrap_future(step.future)
    try:
        async with asyncio.timeout(step.timeout) as limit:  # a third of what asyncio.wait costs
            return await waiter
    except TimeoutError:
        if limit.expired():
            return TIMED_OUT
        raise
    finally:
        waiter.cancel()  # or it would be told of the landing in a loop that may be closed by then


async def call(step: Call) -> Any:
    """Run the user's function, awaited where it wants to be; its reads know the load they are part of."""
    token = current_load.set(step.load) if step.load is not None else None
    try:
        result = step.function(*step.args, **step.kwargs)
        return await result if inspect.isawaitable(result) else result
    finally:
        if token is not None:
            current_load.reset(token)
