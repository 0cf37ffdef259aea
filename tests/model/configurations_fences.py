"""Configurations of Fences.tla: what holds with every rule on, and what each rule is there for."""

from __future__ import annotations

from tests.model.configuration import Configuration

SMALL = {"D": "1", "Writers": '{"w"}', "Others": "{}", "MaxEvictions": "0"}
TWO = {"Writers": '{"w", "x"}'}
ANOTHER_TAG = {**TWO, "Others": '{"x"}', "MaxEvictions": "1"}
EVICTION = {"MaxEvictions": "1"}


def acts(*names: str) -> dict[str, str]:
    return {"Acts": "{" + ", ".join(f'"{name}"' for name in names) + "}"}


LOADS = acts("lead", "crash")
LOCAL = acts("local", "crash")
ALL_LOADS = acts("lead", "local", "away", "join", "crash")


def make(
    name: str, off: str, breaks: str | None, *bounds: dict[str, str], long: bool = False
) -> Configuration:
    constants = {**SMALL, "Off": f'{{"{off}"}}' if off else "{}"}
    for some in bounds:
        constants |= some
    return Configuration(f"fences: {name}", "Fences", constants, ("G1", "G3", "G7", "Ends"), breaks, long)


def holds(name: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    return make(name, "", None, *bounds, long=long)


def needed(rule: str, breaks: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    """*rule* switched off breaks an invariant."""
    return make(f"without {rule}", rule, breaks, *bounds, long=long)


CONFIGURATIONS = [
    holds("a writer that dies", LOADS),
    holds("a writer that dies, loads for L1", LOCAL),
    holds("a set", acts("set", "crash")),
    holds("evictions, discard", acts("lead", "crash", "discard"), EVICTION),
    needed("fence_record", "G7", LOADS),
    needed("fill_fence", "G7", LOADS),
    needed("run_out_record", "G7", LOADS),
    needed("run_out_not_in_fill", "G7", LOADS),
    needed("run_out_first", "G7", LOCAL),
    needed("end_record", "G7", LOADS),
    needed("local_fence", "G7", LOCAL),
    needed("fences_lost", "Ends", LOADS, EVICTION),
    needed("set_fence", "G7", acts("set", "crash")),
    needed("set_place", "G3", acts("set")),
    needed("join_young", "G7", acts("lead", "join", "crash")),
    needed("join_away_young", "G7", acts("away", "join", "crash")),
    needed("lift_own", "G7", LOADS, TWO, long=True),
    needed("counts_lost", "G7", LOADS, ANOTHER_TAG, long=True),
    holds("every load, joins", ALL_LOADS, long=True),
]
