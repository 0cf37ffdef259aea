"""The reads and the looks that one turn of an event loop makes, joined into a few of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from tiercache._core.commands import MAX_READ, Answers, Read
from tiercache._core.looks import Look, together
from tiercache._errors import L2Refused

Results = list[Any]
Waiting = tuple[Read | Look, "asyncio.Future[Results]"]
Batch = list[Waiting]  # of one kind and epoch, and no more keys than one round trip brings


class Turn:
    """What was asked since the last turn ended, by kind and epoch."""

    def __init__(self) -> None:
        self._reads: dict[int, Batch] = {}
        self._looks: dict[int, Batch] = {}
        self._was_lonely = True  # the last one had no more than one in it

    @property
    def is_lonely(self) -> bool:
        """Whether nothing was asked yet, and the turn before gives no reason to think that more will be."""
        return self._was_lonely and not (self._looks or self._reads)

    def add(self, one: Read | Look, answer: asyncio.Future[Results]) -> bool:
        """Whether it is the first of its turn, so that somebody must see to its end."""
        is_first = not (self._looks or self._reads)
        asked = self._looks if isinstance(one, Look) else self._reads
        if one.epoch in asked:
            asked[one.epoch].append((one, answer))
        else:
            asked[one.epoch] = [(one, answer)]
        return is_first

    def end(self) -> Iterator[Batch]:
        """All of it, and none of it is here any more."""
        reads, self._reads = self._reads, {}
        looks, self._looks = self._looks, {}
        self._was_lonely = sum(map(len, (*looks.values(), *reads.values()))) <= 1
        for waiting in (*looks.values(), *reads.values()):
            if len(waiting) == 1:
                yield waiting
                continue
            batch: Batch = []
            size = 0
            for one in waiting:
                keys = _size(one[0])
                if batch and size + keys > MAX_READ:
                    yield batch
                    batch, size = [], 0
                batch.append(one)
                size += keys
            yield batch


def joined(batch: Batch) -> Read | Look:
    """One for all of *batch*; the strictest of their heads holds for all."""
    if len(batch) == 1:
        return batch[0][0]
    ones: Sequence[Any] = [one for one, _ in batch]
    if isinstance(ones[0], Look):
        return together(ones)
    asks = tuple(ask for read in ones for ask in read.asks)
    return Read(ones[0].epoch, max(read.seen for read in ones), asks)


def land_together(batch: Batch, outcome: Results | BaseException) -> None:
    """Land what came of `joined`: to each read the answers to its own keys, to each look all of it."""
    whole = outcome[0] if isinstance(outcome, list) else outcome
    if isinstance(whole, BaseException):
        for _, answer in batch:
            land(answer, whole)
    elif len(batch) > 1 and isinstance(whole, Answers):
        start = 0
        for read, answer in batch:
            end = start + _size(read)
            if not answer.done():
                answer.set_result([Answers(whole.head, whole.found[start:end])])
            start = end
    else:
        for _, answer in batch:
            if not answer.done():
                answer.set_result([whole])


def land(answer: asyncio.Future[Results], outcome: Results | BaseException) -> None:
    """Let whoever awaits *answer* have the results, or the first refusal among them, or the error."""
    if answer.done():
        return  # its caller was cancelled
    if isinstance(outcome, list):
        for result in outcome:
            if isinstance(result, L2Refused):
                answer.set_exception(result)
                return
        answer.set_result(outcome)
    elif isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.cancel()


def _size(one: Read | Look) -> int:
    return len(one.asks if isinstance(one, Read) else one.keys)
