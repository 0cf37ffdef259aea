"""Figures of what a server lost, and of what it is asked to keep: fences, barriers, versions."""

from __future__ import annotations

from tests.simulation.figure import FOREVER, KEY_A, KEY_B, D, Figure, X

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
    """After a failover P stays with the old server, until its lease is over; it joins a read from before."""
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
    """R's fence stands; another one on its tag is lifted, or what is known of fences is evicted; there is a
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


def a_part_that_a_fence_refused(f: Figure) -> None:
    """P's load of a part began under the fence before the commit; a load that joins it is joined in turn."""
    commit = _dies(f, 0, f.some(1.5, 3), FOREVER)
    f.act(f.some(0.2, 0.6), "read", f.p, "a", False, wrong=("slow load", f.some(12.5, 15)))
    f.act(f.some(8, 10), "read", f.p, "o", False)
    f.poll(commit + D + 0.05, f.p, "o", 0.3, commit + D + 4)


def an_own_record_of_a_new_epoch(f: Figure) -> None:
    """A read of P is on its way when a server takes over, which P's own invalidation is the first to tell."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.2, "sync", f.p)
    f.act(0.25, "replicate", f.p, False)
    f.act(0.3, "drop_l1", f.p, "a")
    f.act(0.31, "get", f.p, "a", wrong=("slow reply", 0, f.some(0.5, 0.93)))
    f.act(0.37, "fail_over", f.p, 0.0, (), False)
    f.act(0.38, "write", f.p, *X)
    f.poll(f.some(0.8, 1.3), f.p, "a", 0.05, 2)


# ---- barriers


def a_barrier_and_a_silent_reader(f: Figure) -> None:
    """P got its lease just before the record, and hears nothing until that is over."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "sync", f.p)
    f.silence(0.4, "both", 13)
    f.act(f.some(0.41, 0.6), "barrier", f.q, *X)
    f.poll(1, f.p, "a", 1, 9)
    f.poll(0.3 + D * f.some(0.88, 0.95), f.p, "a", 0.05, 0.8 + D)


def a_barrier_in_a_new_epoch(f: Figure) -> None:
    """P has a lease of an epoch that is lost; the record is the first thing that another one knows."""
    f.act(0, "read", f.p, "a", False)
    f.act(0.3, "sync", f.p)
    f.silence(0.4, "both", 13)
    f.act(0.5, *f.draw.choice([("evict", f.q, "state"), ("flush", f.q)]))
    f.act(f.some(0.51, 0.9), "barrier", f.q, *X)
    f.poll(1, f.p, "a", 0.5, 9)


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
    f.silence(f.some(0.22, 0.3), "hints", 5)
    f.act(f.some(0.25, 0.9), "barrier", f.r, *X)
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
