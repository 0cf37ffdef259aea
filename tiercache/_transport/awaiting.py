"""Performs a plan's steps in the calling task.

One `Awaiting` an event loop. The reads that one turn of the loop makes go out together, as one
script call, and so do its looks: 200 tasks that miss L1 at once cost a few round trips and not
200. The first after a turn of one is taken to be alone, and leaves at once. Where a stream is
idle they go out from a plain callback, and the replies' callback lands the callers; only what is
out of the ordinary takes a task.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from redis.exceptions import ConnectionError as BrokenConnection
from redis.exceptions import TimeoutError as RedisTimeout

from tiercache._core.commands import Command, Read
from tiercache._core.fences import Fence
from tiercache._core.flights import current_load
from tiercache._core.looks import Look
from tiercache._core.plan import Ask, Call, Join, Step, Tell
from tiercache._core.scripts import Names
from tiercache._errors import L2Unavailable
from tiercache._transport.address import Address
from tiercache._transport.blocking import FAILURES
from tiercache._transport.breaker import Breaker
from tiercache._transport.joins import join_async
from tiercache._transport.replies import Request, circuit_open, request_of, unreachable
from tiercache._transport.stream import Replies, Stream, Streams
from tiercache._transport.turns import Results, Turn, joined, land, land_together
from tiercache._transport.waiters import Waiter, new_waiter

Land = Callable[[Results | BaseException], None]


class _Trip:
    """A round trip under way: whom to tell what came of it, and whether to tell that it is over.

    *leaves_marks*: locks or fences, which who asked may take back when cancelled. `tries`: the circuit is
    open, and this is to show whether Redis is back.
    """

    __slots__ = ("_over", "land", "leaves_marks", "request", "stream", "tries")

    request: Request
    stream: Stream

    def __init__(self, land: Land, leaves_marks: bool) -> None:
        self.land, self.leaves_marks, self.tries = land, leaves_marks, False
        self._over: asyncio.Future[None] | None = None

    def over(self) -> asyncio.Future[None]:
        """Done when this is; none is made where nobody asks."""
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        return self._over

    def end(self, outcome: Results | BaseException) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self.land(outcome)


class Awaiting:
    """The awaiting transport of one node in one event loop; *keeps*: connections are used again."""

    def __init__(
        self,
        address: Address,
        names: Names,
        breaker: Breaker,
        clock: Callable[[], float],
        *,
        pool_size: int,
        keeps: bool = True,
    ) -> None:
        self._address, self._names, self._breaker, self._clock = address, names, breaker, clock
        self._streams = Streams(pool_size, address, keeps=keeps)
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._turn = Turn()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trips: set[_Trip] = set()
        self._guard: AsyncGenerator[None] | None = None

    def perform(self, step: Step) -> Awaitable[Any]:
        """What to await for the reply to *step*, at once: a round trip is under way by then."""
        match step:
            case Ask(commands):
                if len(commands) == 1 and isinstance(commands[0], (Look, Read)):
                    return self.gather(commands[0])
                return self._ask(commands)
            case Call():
                return call(step)
            case Join():
                return join_async(step)
            case Tell():
                return self._begin(self._tell(step))

    async def close(self) -> None:
        """Let what is under way come to an end, one timeout at most, and close the connections.

        Plans that go on may open others; each of those closes when it comes back.
        """
        # A load that the end of its loop cancels still unlocks: that must not outlive the loop.
        under_way = {*self._tasks, *(trip.over() for trip in self._trips)}
        try:
            if under_way:
                _, late = await asyncio.wait(under_way, timeout=self._address.timeout)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
        finally:
            await self._streams.close()

    async def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._start(work)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- one round trip for the reads of a turn

    def gather(self, one: Read | Look) -> Waiter:
        """What *one* comes to, asked together with others of this turn of the loop."""
        # One that nobody is likely to join does not wait for the turn to end: where a hundred tasks want its
        # key, their first steps would stand before it, and 5 us of the loop's own do in any case.
        if self._turn.is_lonely and not self._trips:
            return self._ask((one,))
        loop = self._loop()
        assert loop is not None
        waiter = new_waiter(loop)
        if self._turn.add(one, waiter):
            # As of now: uvloop reads what replies there are before it makes the call, asyncio after it.
            loop.call_soon(self._flush, bool(self._trips))
        return waiter

    def _flush(self, beside_others: bool) -> None:
        for batch in self._turn.end(beside_others=beside_others):
            self._send((joined(batch[0]),), _Trip(partial(land_together, batch), leaves_marks=True))

    # ---- any round trip

    def _ask(self, commands: Sequence[Command[Any] | Look]) -> Waiter:
        """What the commands come to; they run to their end if nobody waits any more, too."""
        waiter = new_waiter(asyncio.get_running_loop())
        leaves_marks = any(isinstance(command, (Read, Fence)) for command in commands)
        self._send(commands, _Trip(partial(land, waiter), leaves_marks))
        return waiter

    async def _tell(self, step: Tell) -> None:
        # The unlock of a read that was cancelled must not overtake it on another connection; nor may the end
        # of a fence.
        await asyncio.sleep(0)
        marking = [trip.over() for trip in self._trips if trip.leaves_marks]
        if marking:
            await asyncio.wait(marking)
        try:
            await self._ask(step.commands)
        except L2Unavailable:
            step.untold(step.commands)

    def _send(self, commands: Sequence[Command[Any] | Look], trip: _Trip) -> None:
        self._trips.add(trip)
        breaker = self._breaker
        try:
            if breaker.is_open:
                if not breaker.admits(self._clock(), prober=False):
                    raise circuit_open(breaker.reason)
                trip.tries = True
            trip.request = request = request_of(commands, self._names)
            data = request.wire()
        except Exception as error:
            self._end(trip, error)
            return
        stream = self._streams.at_once(repeatable=request.repeatable)
        if stream is None:
            self._start(self._slowly(trip, partial(self._queued, trip)))
            return
        trip.stream = stream
        self._streams.send(stream, data, request.count, partial(self._heard, trip))

    def _heard(self, trip: _Trip, outcome: Replies | Exception) -> None:
        stream, request = trip.stream, trip.request
        if isinstance(outcome, Exception):
            if request.repeatable and _is_broken(outcome):
                self._start(self._slowly(trip, partial(self._held, None, request, None)))
                return
            self._streams.give(stream)
            self._breaker.failed(self._clock(), outcome)
            self._end(trip, _caused(unreachable(outcome), outcome))
        elif request.unknown(outcome):
            self._start(self._slowly(trip, partial(self._held, stream, request, outcome)))
        else:
            try:
                results: Results | Exception = self._results(stream, request, outcome)
            except Exception as error:
                results = error
            self._streams.give(stream)
            self._end(trip, results)

    def _end(self, trip: _Trip, outcome: Results | BaseException) -> None:
        self._trips.discard(trip)
        if trip.tries:
            self._breaker.tried(self._clock())
        trip.end(outcome)

    # ---- what is out of the ordinary

    async def _slowly(self, trip: _Trip, work: Callable[[], Coroutine[Any, Any, Results]]) -> None:
        # Called here: a task that is cancelled before it runs would leave a coroutine that nobody awaits.
        try:
            outcome: Results | BaseException = await work()
        except BaseException as error:
            outcome = error
            if not isinstance(error, Exception):
                raise
        finally:
            loop = self._loop()
            # Where it was closed over this task, which is collected, nobody goes on.
            if loop is not None and not loop.is_closed():
                self._end(trip, outcome)

    async def _queued(self, trip: _Trip) -> Results:
        stream = await self._streams.take()
        if self._breaker.is_open and not trip.tries:  # while this call waited for its place
            self._streams.give(stream)
            raise circuit_open(self._breaker.reason)
        return await self._held(stream, trip.request, None)

    async def _held(self, stream: Stream | None, request: Request, replies: Replies | None) -> Results:
        """The results, from a place that is given back; *replies*: what the stream has brought already."""
        try:
            stream, replies = await self._round_trip(stream, request, replies)
            return self._results(stream, request, replies)
        except FAILURES as error:
            self._breaker.failed(self._clock(), error)
            raise unreachable(error) from error
        finally:
            self._streams.give(stream)

    async def _round_trip(
        self, stream: Stream | None, request: Request, replies: Replies | None
    ) -> tuple[Stream, Replies]:
        if stream is not None and self._streams.leads_there(stream):
            try:
                return stream, await self._in_full(stream, request, replies)
            except RedisTimeout:
                raise
            except (BrokenConnection, OSError):
                if not request.repeatable:
                    raise
        elif stream is not None:
            stream.close()
        if self._guard is None:
            self._guard = self._until_the_loop_ends()
            await anext(self._guard)
        stream = await self._streams.open()
        return stream, await self._in_full(stream, request, None)

    async def _in_full(self, stream: Stream, request: Request, replies: Replies | None) -> Replies:
        exchange = self._streams.exchange
        if replies is None:
            replies = await exchange(stream, request.wire(), request.count)
        unknown = request.unknown(replies)
        if unknown:
            in_full = await exchange(stream, request.wire_in_full(unknown), len(unknown))
            for place, reply in zip(unknown, in_full, strict=True):
                replies[place] = reply
        return replies

    def _results(self, stream: Stream, request: Request, replies: Replies) -> Results:
        results = request.results(replies)
        if not (request.keeps and self._streams.leads_there(stream)):
            stream.close()
        breaker = self._breaker
        breaker.heard = self._clock()
        if breaker.is_open:
            breaker.answered()
        return results

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        """A generator the loop closes when it shuts down, and the connections with it."""
        try:
            yield
        finally:
            await self.close()


def _is_broken(error: Exception) -> bool:
    return isinstance(error, (BrokenConnection, OSError)) and not isinstance(error, RedisTimeout)


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


async def call(step: Call) -> Any:
    """Run the user's function, awaited where it wants to be; its reads know the load they are part of."""
    token = current_load.set(step.load) if step.load is not None else None
    try:
        result = step.function(*step.args, **step.kwargs)
        return await result if inspect.isawaitable(result) else result
    finally:
        if token is not None:
            try:
                current_load.reset(token)
            except ValueError:
                pass  # this is collected with its loop, in whatever context that happens
