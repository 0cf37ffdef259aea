"""Races that need several things to happen close together, in an order that chance rarely makes.

A figure is a handful of acts that stand where they race; who plays which part and how far apart they
are is drawn anew each time, so most of what comes out is a near miss. Times are seconds from the
beginning of the figure, unless another name is given to them. P is the process that may be given
something old, Q writes, R is the third. A lease is D = 10 seconds.

Each is told by the races of docs/explanation/coherence.md, by a counterexample of tests/model, or by a
script of tests/core.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Mishap = tuple[Any, ...]
Line = tuple[float, str, int, tuple[Any, ...], tuple[Mishap, ...]]
X = (
    ("x",),
    (),
    0.0,
)  # what a write and a barrier are told: its tags, its keys, seconds from commit to record
KEY_A, KEY_B = ((), ("a",), 0.0), ((), ("b",), 0.0)
D = 10.0
FOREVER = 200.0  # seconds that a fence stands


class Figure:
    """The acts of one figure, as they are written down."""

    def __init__(self, draw: Random, start: float) -> None:
        self.draw, self.start, self.end = draw, start, start
        self.p, self.q, self.r = draw.sample(range(3), 3)
        self.lines: list[Line] = []

    def act(self, at: float, kind: str, who: int, *args: Any, wrong: Mishap = (), also: Mishap = ()) -> None:
        when = round(self.start + at, 6)
        self.lines.append((when, kind, who, args, tuple(x for x in (wrong, also) if x)))
        self.end = max(self.end, when)

    def some(self, low: float, high: float) -> float:
        return round(self.draw.uniform(low, high), 4)

    def poll(self, at: float, who: int, key: str, every: float, until: float, wrong: Mishap = ()) -> None:
        """Reads of *key* from *at* to *until*; as the hit path of a decorated function does it, or not."""
        times = max(1, int((until - at) / every))
        self.act(at, "poll", who, key, self.draw.random() < 0.6, every, times, wrong=wrong)
        self.end = max(self.end, self.start + until)

    def silence(self, at: float, what: str, until: float) -> None:
        """Nothing comes through between P and the server."""
        self.act(at, "silence", self.p, round(until - at, 4), what)


# ---- replies that come late, and hints that lie


def a_thread_stopped_between_lease_and_entry(f: Figure) -> None:
    """P is cut off until its lease is over. A read looks at one half of L1's answer, and is stopped; a sync
    takes the old value away and brings a new lease; the read looks at the other half."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "sync", f.p)
    back = f.some(10.2, 12)
    f.silence(0.4, "both", back)
    f.act(0.45, "write", f.q, *X)
    f.poll(1, f.p, "a", 1, 9)
    stop = ("preempted", f.draw.randint(1, 6), f.some(0.3, 1.5))
    f.poll(back - f.some(0, 1), f.p, "a", 0.1, back + 1.5, stop)


def a_sync_that_is_answered_late(f: Figure) -> None:
    """A record runs just after P's sync did, whose reply takes its time; then P hears nothing for a lease."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "sync", f.p, wrong=("slow reply", 0, f.some(0.5, 0.95)))
    f.silence(0.3, "both", 12.5)
    f.act(0.32, "write", f.q, *X)
    f.poll(1.5, f.p, "a", 1, 9)
    f.poll(0.1 + D, f.p, "a", 0.05, 1.5 + D)


def a_hint_that_is_forged(f: Figure) -> None:
    """P takes the number of a forged hint for heard, and then the record of that number comes."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "sync", f.p)
    for at in (0.3, 0.31)[: f.draw.randint(1, 2)]:
        f.act(at, "forge", f.p, 1, "t:z")
    f.act(f.some(0.32, 0.5), f.draw.choice(["write", "barrier"]), f.q, *X)
    f.poll(0.4, f.p, "a", 0.05, 3)
    f.act(f.some(0.8, 2), "sync", f.p)


def a_lie_forgotten_before_a_late_reply(f: Figure) -> None:
    """A sync finds P's numbers ahead of the server's: they were lies. A reply from before it is on its way."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "drop_l1", f.p, "a")
    f.act(0.31, "get", f.p, "a", wrong=("slow reply", 0, f.some(0.6, 0.93)))
    for at in (0.37, 0.371, 0.372)[: f.draw.randint(2, 3)]:
        f.act(at, "forge", f.p, 1, "t:z")
    f.act(0.38, "write", f.q, *X)
    f.act(f.some(0.45, 0.6), "sync", f.p)
    f.poll(1, f.p, "a", 0.1, 2)


def a_reply_older_than_one_before(f: Figure) -> None:
    """P, which hears nothing, is given the new value by one reply, lets go of it, and then an old reply comes."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.1, "sync", f.p)
    f.silence(0.2, "hints", 5)
    f.act(0.3, "drop_l1", f.p, "a")
    f.act(0.31, "get", f.p, "a", wrong=("slow reply", 0, f.some(0.8, 0.95)))
    f.act(0.37, "write", f.q, *X)
    f.act(0.42, "read", f.q, "a", False)
    f.act(f.some(0.6, 0.9), "get", f.p, "a")
    f.act(f.some(0.9, 1.2), "drop_l1", f.p, "a")
    f.poll(1.1, f.p, "a", 0.05, 2.5)


def a_value_that_was_not_kept(f: Figure) -> None:
    """A refresh brings P a new value, which cannot be kept as the path breaks; the old one is in L1 still."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "sync", f.p)
    f.silence(0.25, "hints", 9)
    f.act(0.3, "write", f.q, *X)
    f.act(0.4, "refresh", f.p, "a")
    f.silence(f.some(0.41, 0.55), "data", f.some(5, 9))
    f.poll(1, f.p, "a", 0.2, 9)


def pending_and_asked_for_again(f: Figure) -> None:
    """P's invalidations are refused; one that is sent again is answered late, when the next has been refused."""
    f.act(0, "read", f.q, "a", False)
    f.act(0.1, "write", f.p, *X, wrong=("refused", 0))
    f.act(0.15, "slow", f.p, 3.0, f.some(0.2, 0.7))
    f.poll(0.1, f.q, "a", 0.05, 3)
    at = 0.2
    for _ in range(f.draw.randint(2, 8)):
        at += f.some(0.05, 0.4)
        f.act(at, "write", f.p, *X, wrong=("refused", 0))
    f.poll(0.2, f.p, "a", 0.1, 4)


# ---- who joins what


def a_join_of_a_load_that_was_overtaken(f: Figure) -> None:
    """P loads; Q writes, and loads as well; P is given Q's value and lets go of it, and then joins its own load,
    which has leave from the server, or began without it."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.1, "sync", f.p)
    f.silence(0.15, "hints", 6)
    f.act(0.2, "drop_l1", f.p, "a")
    load = ("slow load", f.some(2, 3.5))
    if f.draw.random() < 0.5:
        f.act(0.2, "evict", f.p, "a")
        f.act(0.25, "read", f.p, "a", False, wrong=load)
        f.act(0.4, "evict", f.p, "locks")
    else:
        f.act(0.25, "read", f.p, "a", False, wrong=load, also=("refused", 0))
    f.act(0.35, "write", f.q, *X)
    f.act(0.45, "read", f.q, "a", False)
    f.act(f.some(0.9, 1.2), "get", f.p, "a")
    for at in (1.25, 1.3, 1.5, 1.8, 2.0):
        f.act(at, "drop_l1", f.p, "a")
        f.act(at + 0.01, "read", f.p, "a", False)
    f.end += 3


def a_long_load_without_redis(f: Figure) -> None:
    """P, cut off, begins a load; a record runs; more than a lease later somebody joins that load."""
    f.act(0, "read", f.p, "a", False)
    f.silence(0.3, "both", 16)
    f.act(0.31, "drop_l1", f.p, "a")
    f.act(0.4, "read", f.p, "a", False, wrong=("slow load", f.some(10.5, 14)))
    f.act(f.some(1.5, 2), "write", f.q, *X)
    f.poll(D + 1.3, f.p, "a", 0.2, 15)


def a_part_from_the_end_of_a_lease(f: Figure) -> None:
    """P, cut off, loads "o" just before its lease ends, of an old part; somebody joins after the lease."""
    f.act(0, "read", f.p, "o", False)
    f.act(1, "sync", f.p)
    f.silence(1.1, "both", 17)
    f.act(1.15, "write", f.q, *X)
    f.poll(1.5, f.p, "b", 1, 9)
    begins = f.some(6, 8.5)
    f.act(begins, "drop_l1", f.p, "o")
    f.act(begins + 0.1, "read", f.p, "o", False, wrong=("slow load", f.some(4, 6)))
    f.poll(D + 1.2, f.p, "o", 0.2, 14)


def a_token_while_redis_is_away(f: Figure) -> None:
    """P loads without Redis; a token is carried to it, which it cannot prove; then somebody joins that load."""
    f.act(0, "read", f.p, "a", False)
    f.silence(0.3, "both", f.some(5, 8))
    f.act(0.31, "drop_l1", f.p, "a")
    f.act(0.4, "read", f.p, "a", False, wrong=("slow load", f.some(4, 6)))
    f.act(f.some(1.5, 2), "causal", f.q, "x", f.p, 0.0)
    f.poll(2, f.p, "a", 0.1, 6)


def a_token_beside_a_probe(f: Figure) -> None:
    """P's circuit is open, and a probe is answered late: meanwhile tokens come that P cannot prove."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "sync", f.p)
    f.silence(0.3, "both", f.some(1.2, 3))
    f.act(0.35, "touch", f.p, "s")
    f.act(0.4, "slow", f.p, 5.0, f.some(0.2, 0.6))
    at = 1.2
    for _ in range(f.draw.randint(5, 15)):
        at += f.some(0.05, 0.3)
        f.act(at, "causal", f.q, "x", f.p, 0.0)
    f.poll(1, f.p, "a", 0.05, 5)


# ---- servers that lost records, or have not heard of them


def nobody_syncs(f: Figure) -> None:
    """All lie still, so that nobody syncs; a record is lost in a failover; P comes back a lease later."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.8, "replicate", f.p, False)
    late = f.some(16.8, 18)
    f.act(late, "write", f.q, *X)
    f.act(late + 0.15, "fail_over", f.p, 0.0, (), f.draw.random() < 0.5)
    f.act(late + f.some(D + 0.1, D + 1.5), "read", f.p, "a", False)
    f.end += 1


def an_own_record_is_lost(f: Figure) -> None:
    """P invalidates, and a failover loses that before anybody syncs."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.4, "replicate", f.p, False)
    if f.draw.random() < 0.7:
        f.silence(0.45, "hints", 3)
    f.act(0.5, "write", f.p, *X)
    f.act(f.some(0.55, 0.8), "fail_over", f.p, 0.0, (), False)
    f.poll(0.85, f.p, "a", 0.05, 1.3)


def a_reader_left_behind(f: Figure) -> None:
    """After a failover P stays with the old server, until its lease is over; then it joins a read from before."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "replicate", f.p, False)
    f.act(0.4, "sync", f.p)
    f.act(0.5, "fail_over", f.p, 0.0, (f.p,), f.draw.random() < 0.5)
    f.act(0.55, "write", f.q, *X)
    f.poll(1, f.p, "b", 1, 9)
    over = 0.4 + D
    begins = over - f.some(0.05, 0.4)
    f.act(begins - 0.01, "drop_l1", f.p, "a")
    f.act(begins, "read", f.p, "a", False, wrong=("slow reply", 0, f.some(0.7, 0.95)))
    f.poll(over, f.p, "a", 0.04, over + 1)


def a_read_that_runs_after_the_failover(f: Figure) -> None:
    """P wakes just before its lease ends, and reads: slowly, so that its read runs at the new server, and its
    sync at the old one."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "replicate", f.p, False)
    f.act(0.3, "sync", f.p)
    f.silence(0.35, "hints", 14)
    f.act(0.38, "write", f.q, *X)
    over = 0.3 + D
    wakes = over - f.some(0.1, 0.4)
    f.act(0.5, "pause", f.p, round(wakes - 0.5, 4))
    f.act(wakes - 0.2, "drop_l1", f.p, "a")
    f.act(wakes - 0.1, "read", f.p, "a", False, wrong=("late", 0, f.some(0.4, 0.7)))
    f.act(wakes - 0.1, "slow", f.p, 2.0, f.some(0.1, 0.6))
    f.act(over + f.some(0.05, 0.35), "fail_over", f.p, 0.0, (), False)
    f.poll(over + 0.02, f.p, "a", 0.03, over + 0.9)


# ---- fences whose writer died


def _dies(f: Figure, at: float, seconds: float, stands: float) -> float:
    """R's block, which dies after its commit; when that is."""
    f.act(at, "block", f.r, "x", seconds, stands, False, "dies")
    return at + seconds / 2


def a_load_across_the_end_of_a_fence(f: Figure) -> None:
    """P's load began under a fence, before the commit, and ends after the fence ran out."""
    stands = f.draw.choice([1.0, 2.0])
    _dies(f, 0, f.some(0.8, 1.6), stands)
    f.act(f.some(0.1, 0.35), "read", f.p, "a", False, wrong=("slow load", stands + f.some(0.8, 3)))
    f.act(stands + 0.4, "sync", f.q)
    f.poll(D + 6, f.p, "a", 0.5, D + 8)


def one_fence_of_several_is_gone(f: Figure) -> None:
    """R's fence stands; another one on the same tag is lifted, or what is known of fences is evicted; there is a
    third on another tag, so that something is known of fences still."""
    commit = _dies(f, 0, f.some(6, 8), FOREVER)
    third = "y", 18.0, FOREVER, False, "discards"
    if f.draw.random() < 0.5:
        f.act(0.2, "block", f.q, *third)
        f.act(0.3, "block", f.p, "x", f.some(0.4, 1.0), 25.0, False, "well")
    else:
        f.act(0.3, "evict", f.p, f.draw.choice(["fenced", "fenced", "fences"]))
        f.act(0.5, "block", f.q, *third)
    f.act(f.some(1.6, 2.8), "read", f.p, "a", False)
    f.poll(commit + D + 0.2, f.p, "a", 0.4, commit + D + 2)


def what_l1_alone_has_of_a_fenced_tag(f: Figure) -> None:
    """P has synced under the fence, and loads before the commit what is in no Redis."""
    commit = _dies(f, 0, f.some(6, 9), FOREVER)
    f.act(f.some(0.5, 1.5), "sync", f.p)
    f.act(f.some(1.7, 2.8), "read", f.p, "p", False)
    f.poll(commit + D + 0.2, f.p, "p", 0.4, commit + D + 2)


def a_join_of_what_a_fence_refused(f: Figure) -> None:
    """P's load began under the fence before the commit; somebody joins it more than a lease after that."""
    commit = _dies(f, 0, f.some(1.5, 3), FOREVER)
    f.act(f.some(0.2, 0.6), "read", f.p, "a", False, wrong=("slow load", f.some(12.5, 15)))
    f.poll(commit + D + 0.05, f.p, "a", 0.3, commit + D + 4)


# ---- barriers


def a_barrier_and_a_silent_reader(f: Figure) -> None:
    """P got its lease just before the record, and hears nothing until that is over."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "sync", f.p)
    f.silence(0.4, "both", 13)
    f.act(f.some(0.41, 0.6), "barrier", f.q, *X)
    f.poll(1, f.p, "a", 1, 9)
    f.poll(0.3 + D * f.some(0.88, 0.95), f.p, "a", 0.05, 0.8 + D)


def a_barrier_forgets_who_came_back(f: Figure) -> None:
    """P comes back at the end of what a barrier waits for it; the next barrier must wait for it again."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "sync", f.p)
    back = f.some(8.5, 9.9)
    f.silence(0.3, "both", back)
    f.act(0.35, "barrier", f.q, *X)
    f.poll(1, f.p, "a", 0.5, D + 6)
    again = D + f.some(0.3, 0.5)
    f.silence(again, "both", again + 11)
    f.act(again + f.some(0.02, 0.4), "barrier", f.q, *X)


def an_acknowledgement_between_two_records(f: Figure) -> None:
    """P acknowledges one record while another, of which it has not heard, runs."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.15, "sync", f.p)
    f.act(0.18, "slow", f.p, 4.0, f.some(0.05, 0.4))
    f.act(0.2, "barrier", f.q, ("y",), (), 0.0)
    f.act(f.some(0.22, 0.9), "barrier", f.r, *X)
    f.poll(0.3, f.p, "a", 0.05, 4)


# ---- versions that are no longer known


def a_key_whose_version_is_gone(f: Figure) -> None:
    """P loads; its key is invalidated; then the record of that is trimmed, or evicted."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "evict", f.p, "a")
    f.act(0.3, "drop_l1", f.p, "a")
    f.act(0.35, "read", f.p, "a", False, wrong=("slow load", f.some(1.2, 2)))
    f.act(0.5, "write", f.q, *KEY_A)
    if f.draw.random() < 0.5:
        f.act(0.7, "evict", f.q, "key versions")
        f.act(0.8, "sync", f.r)
    else:
        for at in (0.7, 0.8, 0.9)[: f.draw.randint(1, 3)]:
            f.act(at, *f.draw.choice([("set", f.r), ("write", f.q, *KEY_B)]))
    f.poll(2.5, f.p, "a", 0.3, 3.5)


FIGURES: dict[str, tuple[Callable[[Figure], None], ...]] = {
    "late": (
        a_thread_stopped_between_lease_and_entry,
        a_sync_that_is_answered_late,
        a_hint_that_is_forged,
        a_lie_forgotten_before_a_late_reply,
        a_reply_older_than_one_before,
        a_value_that_was_not_kept,
        pending_and_asked_for_again,
    ),
    "cut off": (
        a_join_of_a_load_that_was_overtaken,
        a_long_load_without_redis,
        a_part_from_the_end_of_a_lease,
        a_token_while_redis_is_away,
        a_token_beside_a_probe,
    ),
    "replaced": (
        nobody_syncs,
        an_own_record_is_lost,
        a_reader_left_behind,
        a_read_that_runs_after_the_failover,
    ),
    "orphans": (
        a_load_across_the_end_of_a_fence,
        one_fence_of_several_is_gone,
        what_l1_alone_has_of_a_fenced_tag,
        a_join_of_what_a_fence_refused,
    ),
    "waiting": (
        a_barrier_and_a_silent_reader,
        a_barrier_forgets_who_came_back,
        an_acknowledgement_between_two_records,
        a_hint_that_is_forged,
    ),
    "trimmed": (a_key_whose_version_is_gone,),
}
