"""The reads and the looks that one turn of an event loop makes, joined into a few of each."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, TypeAlias

from tiercache._core.commands import MAX_READ, Answers, Read
from tiercache._core.looks import Look, together
from tiercache._errors import L2Refused
from tiercache._transport.waiters import Waiter, wake

Results = list[Any]
Batch: TypeAlias = tuple[list[Any], list[Waiter]]  # reads or looks of one epoch, and who waits for each


class Turn:
    """What was asked since the last turn ended, by kind and epoch."""

    def __init__(self) -> None:
        self._reads: dict[int, Batch] = {}
        self._looks: dict[int, Batch] = {}
        # Nothing was asked yet, and the turn before gives no reason to think that more than one will be.
        self.is_lonely = True

    def add(self, one: Read | Look, waiter: Waiter) -> bool:
        """Whether it is the first of its turn, so that somebody must see to its end."""
        is_first = not (self._looks or self._reads)
        asked = self._looks if isinstance(one, Look) else self._reads
        batch = asked.get(one.epoch)
        if batch is None:
            asked[one.epoch] = [one], [waiter]
        else:
            batch[0].append(one)
            batch[1].append(waiter)
        self.is_lonely = False
        return is_first

    def end(self, *, beside_others: bool) -> Iterator[Batch]:
        """All of it, and none of it is here any more; no more keys in a batch than one round trip brings.

        *beside_others*: what others asked before was still under way when the turn's first was added.
        """
        batches = (*self._looks.values(), *self._reads.values())
        self._looks, self._reads = {}, {}
        self.is_lonely = not beside_others and sum(len(ones) for ones, _ in batches) <= 1
        for ones, waiters in batches:
            start = keys = 0
            for place, size in enumerate(_sizes(ones)):
                if keys and keys + size > MAX_READ:
                    yield ones[start:place], waiters[start:place]
                    start, keys = place, 0
                keys += size
            yield ones[start:], waiters[start:]


def joined(ones: list[Any]) -> Read | Look:
    """One for all of *ones*; the strictest of their heads holds for all."""
    first: Read | Look = ones[0]
    if len(ones) == 1:
        return first
    if isinstance(first, Look):
        return together(ones)
    asks = tuple(ask for read in ones for ask in read.asks)
    return Read(first.epoch, max(read.seen for read in ones), asks)


def land_together(batch: Batch, outcome: Results | BaseException) -> None:
    """Land what came of `joined`: to each read the answers to its own keys, to each look all of it."""
    ones, waiters = batch
    if isinstance(outcome, BaseException) or isinstance(outcome[0], BaseException):
        for waiter in waiters:
            land(waiter, outcome)
        return
    whole = outcome[0]
    if len(ones) == 1 or not isinstance(whole, Answers):
        wake(waiters, [outcome] * len(waiters))
        return
    answers, start = [], 0
    for size in _sizes(ones):
        answers.append([Answers(whole.head, whole.found[start : start + size])])
        start += size
    wake(waiters, answers)


def land(waiter: Waiter, outcome: Results | BaseException) -> None:
    """Let whoever waits have the results, or the first refusal among them, or the error."""
    if waiter.done():
        return  # its task was cancelled
    if isinstance(outcome, list):
        for result in outcome:
            if isinstance(result, L2Refused):
                waiter.set_exception(result)
                return
        wake([waiter], [outcome])
    elif isinstance(outcome, Exception):
        waiter.set_exception(outcome)
    else:
        waiter.cancel()


def _sizes(ones: list[Any]) -> Iterator[int]:
    return map(len, map(attrgetter("keys" if isinstance(ones[0], Look) else "asks"), ones))
