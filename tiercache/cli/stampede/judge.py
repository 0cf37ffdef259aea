"""What to think of what was seen: every answer against the truth, and how long it took.

A value is right if a loader gave it for this very key, and if it is no older than it may be:
a call that begins more than `max_staleness` after an invalidation returned must see what was
true when it was called, in the process that invalidated at once; and none sees what expired.
An error is right where the loader failed, a timeout where it hung. All else is wrong or missing.
Loads of a key beyond what its scenario allows are in excess, right as their values may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tiercache.cli.stampede.conductor import Observed
from tiercache.cli.stampede.orders import GAVE_UP, LOADER, TIMEOUT, Call, Load, Write
from tiercache.cli.stampede.stage import Counted, requests

CLOCK_RATES = 1.002  # two clocks that each run 0.1 % wrong at most
LATE_FILL = 1.0  # seconds that may pass on a busy machine between the end of a load and its storing
ALLOWED = {"value": (), "error": (LOADER,), "hang": (TIMEOUT,)}


@dataclass(slots=True)
class Verdict:
    """On one round. Times in seconds."""

    loads: int = 0
    wall: float = 0.0  # from the event until the last of those who waited had an answer
    over: list[float] = field(default_factory=list)  # what each of them waited beyond the time of a load
    errors: int = 0  # right ones
    left: int = 0  # callers that gave up
    old_for: float = 0.0  # so long after the invalidation an old value was still given
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    excess: list[str] = field(default_factory=list)  # of loads
    requests: int | None = None  # None: nobody knows
    syncs: int = 0

    @property
    def is_right(self) -> bool:
        return not (self.wrong or self.missing or self.excess)


def judge(observed: Observed, *, counted: Counted = "round trips") -> Verdict:
    """The verdict on one round of a cache whose requests are *counted* so."""
    loads = [load for share in observed.shares.values() for load in share.loads] + observed.lost
    given = {load.value(): load for load in [*observed.warm, *loads]}
    verdict = Verdict(len(loads), syncs=sum(share.syncs for share in observed.shares.values()))
    if (most := observed.scenario.most_loads) is not None:
        counts = Counter(load.key for load in loads)
        verdict.excess = [f"{key}: {n} loads, not {most} at most" for key, n in counts.items() if n > most]
    event = _event(observed, loads)
    last = event
    for call, writes in _calls(observed):
        load = given.get(call.answer) if call.answer is not None else None
        if not _is_right(verdict, observed, call, load, writes) or call.error == GAVE_UP:
            continue
        assert call.returned is not None
        if load is None or (load.ended is not None and load.ended > call.invoked):
            begun = call.invoked if observed.scenario.event == "call" else event
            verdict.over.append(call.returned - max(call.invoked, begun + observed.order.load))
            last = max(last, call.returned)
    verdict.wall = last - event
    if observed.ran is not None:
        verdict.requests = requests(*observed.ran, counted=counted) - verdict.syncs
    return verdict


def _event(observed: Observed, loads: list[Load]) -> float:
    """From when on callers wait."""
    order, event = observed.order, observed.scenario.event
    if event == "change":
        return order.changes[0]
    if event == "load":
        return min((load.began for load in loads), default=order.instant)
    return order.instant


def _calls(observed: Observed) -> Iterator[tuple[Call, list[tuple[Write, float]]]]:
    """Each call, with the writes and how long after each it may still see what was before."""
    written = [write for share in observed.shares.values() for write in share.writes]
    bound = observed.place.max_staleness * CLOCK_RATES
    for number, share in observed.shares.items():
        writes = [(write, 0.0 if number == 0 else bound) for write in written]
        for call in share.calls:
            yield call, writes


def _is_right(
    verdict: Verdict,
    observed: Observed,
    call: Call,
    load: Load | None,
    writes: list[tuple[Write, float]],
) -> bool:
    """Whether the call was answered as it should be; else it is noted why not."""
    order = observed.order
    if call.returned is None:
        verdict.missing.append(f"{call.key}: no answer within {order.deadline - call.invoked:.1f} s")
    elif call.error:
        if call.error == GAVE_UP and order.give_up is not None:
            verdict.left += 1
            return True
        if call.error in ALLOWED[order.outcome]:
            verdict.errors += 1
            return True
        verdict.missing.append(f"{call.key}: {call.error}")
    elif load is None:
        verdict.wrong.append(f"{call.key}: {call.answer!r}, which no loader returned")
    elif load.key != call.key:
        verdict.wrong.append(f"{call.key}: the value of {load.key}")
    elif order.outcome == "error":
        verdict.wrong.append(f"{call.key}: a value, though its loader fails")
    else:
        return _is_young(verdict, observed, call, load, writes)
    return False


def _is_young(
    verdict: Verdict,
    observed: Observed,
    call: Call,
    load: Load,
    writes: list[tuple[Write, float]],
) -> bool:
    ended = load.began if load.ended is None else load.ended
    over = call.invoked - (ended + observed.place.ttl + LATE_FILL)
    if over > 0:
        verdict.wrong.append(f"{call.key}: a value that had expired {over:.3f} s before, and more")
        return False
    for write, bound in writes:
        age = call.invoked - write.returned
        if age <= 0 or load.version >= observed.order.version(write.called):
            continue
        verdict.old_for = max(verdict.old_for, age)
        if age > bound:
            verdict.wrong.append(
                f"{call.key}: version {load.version} {age:.3f} s after it was invalidated, "
                f"and not {bound:.3f} s at most"
            )
            return False
    return True
