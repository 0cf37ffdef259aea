"""Configurations of Barrier.tla: what holds with every rule on, and what each rule is there for."""

from __future__ import annotations

from tests.model.configuration import Configuration

SMALL = {
    "D": "1",
    "Nodes": '{"p"}',
    "Waiters": '{"a"}',
    "Home": '"none"',
    "MaxWrites": "1",
    "MaxFlushes": "0",
    "MaxFailovers": "0",
    "MaxLate": "0",
    "Room": "9",
    "Acts": "{}",
}
PAIR = {"Nodes": '{"p", "q"}'}
FULL = {**PAIR, "Room": "1"}
OVERLAP = {"Waiters": '{"a", "b"}', "MaxWrites": "2"}
FLUSH = {"MaxFlushes": "1"}
FAILOVER = {"MaxFailovers": "1"}
LATE = {"MaxLate": "1"}
LEAVE = {"Acts": '{"leave"}'}
ACK = {"Acts": '{"ack"}'}
ANY = {"Acts": '{"ack", "leave", "lose"}'}


def make(
    name: str, off: str, breaks: str | None, *bounds: dict[str, str], long: bool = False
) -> Configuration:
    constants = {**SMALL, "Off": f'{{"{off}"}}' if off else "{}"}
    for some in bounds:
        constants |= some
    return Configuration(f"barrier: {name}", "Barrier", constants, ("G4",), breaks, long)


def holds(name: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    return make(name, "", None, *bounds, long=long)


def needed(rule: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    """*rule* switched off, a barrier returns too early."""
    return make(f"without {rule}", rule, "G4", *bounds, long=long)


def spare(rule: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    """*rule* switched off breaks nothing: another one stands behind it."""
    return make(f"without {rule}", rule, None, *bounds, long=long)


CONFIGURATIONS = [
    holds("one waits", ANY),
    holds("two wait", OVERLAP),
    needed("register", LEAVE),
    needed("register_request"),
    needed("whole_lease"),
    needed("leave_without_lease", LEAVE),
    needed("clear_keeps_register"),
    needed("ack_proved", ACK),
    needed("outlived", FLUSH),
    needed("outlived_epoch", FLUSH),
    needed("barrier_head", FAILOVER, LEAVE),
    needed("left_out", FULL),
    needed("left_out_waits", FULL),
    needed("mark", OVERLAP),
    needed("own_mark", OVERLAP),
    needed("forget_after_reply", OVERLAP),
    needed("forget_late", OVERLAP),
    needed("forget_compares", OVERLAP),
    needed("polls_only_look", OVERLAP, long=True),
    needed("fresh_mark", OVERLAP, LATE, long=True),
    needed("ack_epoch", FLUSH, {"MaxWrites": "2"}, ACK, long=True),
    needed("adopted_at_reply", PAIR, FLUSH, long=True),
    needed("register_epoch", PAIR, FLUSH, {"MaxWrites": "2", "Home": '"q"'}, long=True),
    spare("barrier_epoch", PAIR, FLUSH, {"Home": '"p"'}, long=True),
    holds("flush and failover", FLUSH, FAILOVER, ANY, long=True),
    holds("two wait, a first look runs late", OVERLAP, LATE, long=True),
    holds("two wait, a node leaves", OVERLAP, LEAVE, long=True),
]
