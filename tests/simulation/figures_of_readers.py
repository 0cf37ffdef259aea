"""Figures of what a process has in L1, on its way, or under way as a load."""

from __future__ import annotations

from tests.simulation.figure import FOREVER, D, Figure, X

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
    """A sync finds P's numbers ahead of the server's: they were lies. A reply from before is on its way."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "drop_l1", f.p, "a")
    f.act(0.31, "get", f.p, "a", wrong=("slow reply", 0, f.some(0.6, 0.93)))
    for at in (0.37, 0.371, 0.372)[: f.draw.randint(2, 3)]:
        f.act(at, "forge", f.p, 1, "t:z")
    f.act(0.38, "write", f.q, *X)
    f.act(f.some(0.45, 0.6), "sync", f.p)
    f.poll(1, f.p, "a", 0.1, 2)


def a_reply_older_than_one_before(f: Figure) -> None:
    """P, which hears nothing, is given the new value by one reply, lets go of it; then an old reply comes."""
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
    f.act(0.4, "refresh", f.p, "a", wrong=("lost", 1), also=("lost", 2))
    if f.draw.random() < 0.5:
        f.silence(f.some(0.5, 1), "data", f.some(5, 9))
    f.poll(1, f.p, "a", 0.1, 5)


def pending_and_asked_for_again(f: Figure) -> None:
    """P's invalidations are refused; one that is sent again is answered when the next has been refused."""
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


def a_join_after_an_own_write_that_waits(f: Figure) -> None:
    """P's read is on its way when P's invalidation is refused; somebody joins it; then what waits is sent."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "drop_l1", f.p, "a")
    f.act(0.25, "read", f.p, "a", False, wrong=("slow reply", 0, f.some(0.6, 0.95)))
    f.act(0.3, "write", f.p, *X, wrong=("refused", 0))
    f.poll(f.some(0.34, 0.4), f.p, "a", 0.03, 0.6)
    f.act(f.some(0.45, 0.6), "sync", f.p)
    f.end += 1


def a_join_inside_a_block(f: Figure) -> None:
    """P loads "b" under a fence of its own, and lands after the end of the block; somebody joins between
    commit and end, who cannot tell that "b" depends on what is written if only its source names the tag."""
    seconds = f.some(1.2, 3)
    f.act(0, "block", f.p, "y", seconds, FOREVER, False, "well")
    commit = seconds / 2
    f.act(commit - f.some(0.02, 0.3), "read", f.p, "b", False, wrong=("slow load", f.some(seconds, 3.5)))
    f.poll(commit + f.some(0.02, 0.2), f.p, "b", 0.05, seconds)
    f.end += 2


def _given_a_newer_whole(f: Figure) -> None:
    """By 1.7: P is given the new "o", and has the old "a" in L1."""
    f.act(0, "read", f.p, "o", False)
    f.act(0.8, "read", f.p, "a", False)
    f.act(1, "sync", f.p)
    f.silence(1.1, "hints", 9)
    f.act(1.15, "write", f.q, *X)
    f.act(1.25, "read", f.q, "o", False)
    f.act(1.45, "drop_l1", f.p, "o")
    f.act(f.some(1.5, 1.7), "get", f.p, "o")


def a_part_from_before_a_block(f: Figure) -> None:
    """P, which hears nothing, is given the new "o" by a reply; in a block of its own it asks for "o" again,
    and has the old "a" in L1. It may be that no sync gets through."""
    _given_a_newer_whole(f)
    f.act(1.75, "block", f.p, "y", f.some(0.5, 2), FOREVER, False, "well")
    cut = {"wrong": ("lost", 0), "also": ("lost", 1)} if f.draw.random() < 0.5 else {}
    f.act(f.some(1.85, 1.95), "read", f.p, "o", False, **cut)
    f.end += 3


def a_join_of_a_load_that_was_overtaken(f: Figure) -> None:
    """P loads, with leave from the server or without it; Q writes, and loads as well; P is given Q's value,
    lets go of it, and joins its own load."""
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


def an_older_part_without_redis(f: Figure) -> None:
    """P, which hears nothing, is given the new "o" by a reply, and lets go of it; then it loads "o" without
    Redis, and has the old "a" in L1."""
    _given_a_newer_whole(f)
    f.act(1.72, "drop_l1", f.p, "o")
    f.act(1.75, "read", f.p, "o", False, wrong=("refused", 0))
    f.end += 2


def a_token_while_redis_is_away(f: Figure) -> None:
    """P loads without Redis; a token is carried to it, which it cannot prove; somebody joins that load."""
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
    back = f.some(1.2, 3)
    f.silence(0.3, "both", back)
    f.silence(0.31, "hints", back + 4)
    f.act(0.35, "touch", f.p, "s")
    f.act(0.4, "slow", f.p, back + 2, f.some(0.2, 0.5))
    at = back
    while at < back + 1.5:
        at += f.some(0.1, 0.3)
        f.act(at, "causal", f.q, "y", f.p, 0.0)
    f.act(back + f.some(0.2, 1.6), "causal", f.q, "x", f.p, 0.0)
    f.poll(1, f.p, "a", 0.05, back + 3)
