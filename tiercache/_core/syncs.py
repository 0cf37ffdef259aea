"""Plans that renew the proof: one sync at a time, and what Redis has not been told goes first."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from tiercache._core.coherence import Stand
from tiercache._core.commands import MAX_SENT, Answers, Clear, Command, Invalidate, Read, Synced
from tiercache._core.flights import ABANDONED, Flight, running_load
from tiercache._core.plan import TIMED_OUT, Ask, Join, Plan, ask
from tiercache._core.records import EVERYTHING, MAX_DEPS
from tiercache._core.tiers import Tiers
from tiercache._errors import L2Refused, L2Unavailable

MAX_VOID = 10  # replies in a row that this node's own first writes may make void
REFUSED_PAUSE = 0.5  # seconds before a server that gave no lease is asked for one again
UNKNOWN_TENURE = (
    "INFO replication cannot be read, so a failover that lost invalidations would go unnoticed; allow +info "
    "to this user, or accept that with assume_no_failover_loss=True"
)


def sync(tiers: Tiers, *, blocking: bool, read: Read | None = None) -> Plan[tuple[bool, Answers | None]]:
    """Whether the lease is good again; with *read* in the same round trip, its answers, too.

    At most one sync is under way; whoever comes meanwhile waits for its end. The answers are None
    where the caller waited, or nothing came back.
    """
    load = running_load()
    while True:
        now = tiers.clock()
        if now < tiers.refused_until:
            return False, None
        flight, role = tiers.syncs.claim("sync", now, load, blocking=blocking)
        try:
            if role == "lead":
                return (yield from _lead(tiers, flight, read))
            if tiers.is_cut_off():  # what is under way is a probe, and may take its whole timeout
                return False, None
            landed = yield Join(flight.future, tiers.sync_patience)
        finally:
            tiers.syncs.leave(flight, load, role)
        if landed is not ABANDONED:  # else its leader was cancelled, and one of those who waited takes over
            return landed is not TIMED_OUT and bool(landed), None


def _lead(tiers: Tiers, flight: Flight, read: Read | None) -> Plan[tuple[bool, Answers | None]]:
    """Sync for everybody who joins *flight*, and end it whatever happens."""
    try:
        good, answers = yield from _renew(tiers, read)
    except BaseException:
        tiers.syncs.abandon(flight)
        raise
    tiers.syncs.land(flight, good)
    return good, answers


def _renew(tiers: Tiers, read: Read | None) -> Plan[tuple[bool, Answers | None]]:
    core = tiers.core
    try:
        # A lease got before Redis heard of our own invalidations would vouch for what they name.
        if core.pending and not (yield from send_pending(tiers)):
            return False, None
        for _ in range(MAX_VOID):
            if core.has_left:  # it would be put on the register again, for a lease that it does not get
                return False, None
            command, stand = core.sync(tiers.clock())
            tiers.events["syncs"] += 1
            replies: list[Any] = yield Ask((command,) if read is None else (command, read))
            good = _take(tiers, stand, replies[0])
            if core.generation != stand.generation:
                continue  # a write of our own met another epoch meanwhile, and the reply is void (R43)
            if core.pending:  # what is owed to a new epoch; answers in it are from before
                yield from send_pending(tiers)
                return good, None
            break
        if good and tiers.owed:
            yield from _let_go(tiers)
    except L2Refused as error:
        _pause(tiers, str(error))
        return False, None
    except L2Unavailable:
        return False, None
    return good, replies[1] if read is not None else None


def _let_go(tiers: Tiers) -> Plan[None]:
    """Send what is owed; a fence goes after the invalidation of what it is on: not while any is pending."""
    owed: list[Command[Any]] = []
    with suppress(IndexError):
        while len(owed) < MAX_SENT:
            owed.append(tiers.owed.popleft())
    if tiers.core.pending:  # whoever owes a fence has noted that before
        tiers.owe(owed)
        return
    try:
        yield Ask(tuple(owed))
    except L2Refused:
        return  # by a server that has just taken a sync: for want of rights, and it would be each time
    except BaseException as error:
        tiers.owe(owed)
        if not isinstance(error, L2Unavailable):
            raise


def _take(tiers: Tiers, stand: Stand, synced: Synced) -> bool:
    """Take in a sync's reply; whether there is a lease now."""
    core = tiers.core
    if not core.prove(stand, synced, tiers.clock()):
        return False  # it is void, and says nothing of the tenure either
    if synced.epoch != stand.epoch:
        tiers.events["epochs"] += 1
    elif synced.records is None:
        tiers.events["flushes"] += 1
    if not (core.tenure_known or core.trust_tenure):
        _pause(tiers, UNKNOWN_TENURE)
        return False
    tiers.refusal = None
    return tiers.clock() < core.lease


def _pause(tiers: Tiers, refusal: str) -> None:
    """Let a server that gave no lease be for a while: nothing is cached, and no caller pays for asking."""
    tiers.refusal = refusal
    tiers.refused_until = tiers.clock() + REFUSED_PAUSE
    tiers.events["refused"] += 1
    tiers.complaints.warn("tiercache caches nothing: %s", refusal)


def send_pending(tiers: Tiers) -> Plan[bool]:
    """Send what Redis has not been told; whether all of it was taken. May raise L2Unavailable."""
    core = tiers.core
    with core.lock:
        pending = dict(core.pending)
    if EVERYTHING in pending:
        record = yield from ask(Clear())
        core.own_record(record, (EVERYTHING,), tiers.clock())
        core.settle(pending)
        return True
    deps = sorted(pending, reverse=True)  # tags first, as the script wants them
    for start in range(0, len(deps), MAX_DEPS):
        part = deps[start : start + MAX_DEPS]
        command = invalidation_of(tiers, part)
        record = yield from ask(command)
        core.own_record(record, part, tiers.clock())
        core.settle({dep: pending[dep] for dep in part})
    return True


def invalidation_of(tiers: Tiers, deps: list[str], fence: str = "") -> Invalidate:
    tags = tuple(dep.removeprefix("t:") for dep in deps if dep.startswith("t:"))
    keys = tuple(dep.removeprefix("k:") for dep in deps if dep.startswith("k:"))
    return Invalidate(tags, keys, tiers.cap, tiers.key_cap, fence)
