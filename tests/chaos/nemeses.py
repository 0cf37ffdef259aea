"""All nemeses by name."""

from __future__ import annotations

from tests.chaos import on_processes, on_the_path, on_the_server, sentinels, split
from tests.chaos.crew import READERS, WRITERS
from tests.chaos.world import Nemesis, OneServer, Site

LOCK = 0.8  # seconds, where processes die: what they were about to load waits for the end of their lock


def _alone(binary: str) -> Site:
    return OneServer(binary)


def _half_behind_a_proxy(binary: str) -> Site:
    return OneServer(binary, through_proxy=(READERS[0], WRITERS[1]))


def _as_a_user(binary: str) -> Site:
    return OneServer(binary, user="app")


NEMESES = (
    Nemesis("none", "nothing", on_processes.let_be, _alone),
    Nemesis(
        "kill-pubsub",
        "CLIENT KILL TYPE pubsub, three to twenty times in D",
        on_the_path.kill_subscriptions,
        _alone,
    ),
    Nemesis(
        "no-listener",
        "no subscription at all (listen=False)",
        on_the_path.see_no_subscription,
        _alone,
        settings={"listen": False},
    ),
    Nemesis("stop-reader", "SIGSTOP of readers for 0.3 D or 1.5 D", on_processes.stop_readers, _alone),
    Nemesis("kill-reader", "SIGKILL of readers", on_processes.kill_readers, _alone, lock=LOCK, longest=1.0),
    Nemesis(
        "kill-writer",
        "SIGKILL of writers between COMMIT and invalidation",
        on_processes.kill_writers_in_the_gap,
        _alone,
        lock=LOCK,
        longest=1.0,
    ),
    Nemesis(
        "stop-writer",
        "SIGSTOP of writers between COMMIT and invalidation, longer than their fence lives",
        on_processes.stop_writers_in_the_gap,
        _alone,
    ),
    Nemesis(
        "kill-loader",
        "SIGKILL of the lock holder in its loader",
        on_processes.kill_lock_holders,
        _alone,
        lock=LOCK,
        longest=1.0,
    ),
    Nemesis(
        "stop-loader",
        "SIGSTOP of the lock holder in its loader, longer than its lock lives",
        on_processes.stop_lock_holders,
        _alone,
        lock=LOCK,
    ),
    Nemesis(
        "half-open",
        "the path of one reader and one writer silent for 0.4 D or 2.5 D, nothing closed",
        on_the_path.silence_the_path,
        _half_behind_a_proxy,
        terms={"answers": False},
    ),
    Nemesis(
        "client-pause",
        "CLIENT PAUSE for 0.2 D or 1.3 D",
        on_the_path.pause_clients,
        _alone,
        terms={"answers": False},
    ),
    Nemesis(
        "debug-sleep",
        "DEBUG SLEEP for 0.2 D or 1.3 D",
        on_the_path.let_the_server_sleep,
        _alone,
        terms={"answers": False},
    ),
    Nemesis(
        "output-buffer",
        "the server cuts a stopped subscriber that a flood of invalidations overflows",
        on_the_path.overflow_a_slow_subscriber,
        _alone,
        longest=2.0,
    ),
    Nemesis("flushall", "FLUSHALL", on_the_server.flush, _alone, terms={"locks": False}),
    Nemesis(
        "evict-any",
        "maxmemory with allkeys-random: the state itself is evicted",
        on_the_server.evict,
        _alone,
        terms={"locks": False},
    ),
    Nemesis(
        "no-memory",
        "maxmemory with noeviction: every write refused for 0.5 D or 1.5 D",
        on_the_server.fill_up,
        _alone,
        terms={"locks": False},
    ),
    Nemesis(
        "old-snapshot",
        "SAVE, go on, kill -9, restart from the old RDB",
        on_the_server.restore_an_old_snapshot,
        _alone,
        terms={"keeps_history": False, "answers": False, "locks": False},
    ),
    Nemesis(
        "acl",
        "ACL SETUSER takes rights away for 0.3 D or 1.3 D",
        on_the_server.refuse,
        _as_a_user,
        terms={"answers": False, "locks": False},
    ),
    Nemesis(
        "sentinel-kill",
        "Sentinel: kill -9 of the primary",
        sentinels.kill_primaries,
        sentinels.WithSentinel,
        terms={"keeps_history": False, "answers": False, "locks": False},
        longest=6.0,
    ),
    Nemesis(
        "sentinel-failover",
        "Sentinel: SENTINEL FAILOVER, the old primary lives on",
        sentinels.fail_over_by_hand,
        sentinels.WithSentinel,
        terms={"keeps_history": False, "answers": False, "locks": False, "split": sentinels.SPLIT},
        longest=6.0,
    ),
    Nemesis(
        "split",
        "a primary is cut off and replaced, half of the processes stay with it",
        split.split,
        split.TwoSides,
        terms={
            "keeps_history": False,
            "answers": False,
            "locks": False,
            "split": float(split.MAX_LAG),
            "one_side": False,
        },
        longest=2.0,
    ),
    Nemesis("fork", "a warm, busy reader forks, both go on", on_processes.fork_readers, _alone),
    Nemesis("blocked-loop", "event loops blocked for 0.3 D or 1.5 D", on_processes.block_loops, _alone),
    Nemesis(
        "wall-clocks",
        "wall clocks 15 minutes apart",
        on_processes.compare_clocks,
        _alone,
        clocks=(900.0, 0.0, -900.0),
    ),
)
