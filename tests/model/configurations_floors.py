"""Configurations of Floors.tla: what holds with every rule on, and what each rule is there for."""

from __future__ import annotations

from tests.model.configuration import Configuration

SMALL = {"D": "1", "Cap": "1", "Remember": "1", "MaxWrites": "1", "MaxOthers": "1", "MaxEvictions": "0"}
TWO = {"MaxWrites": "2", "MaxOthers": "2"}
EVICTION = {"MaxEvictions": "1"}


def make(
    name: str, off: str, breaks: str | None, bounds: dict[str, str] | None, *, long: bool = False
) -> Configuration:
    constants = {**SMALL, **(bounds or {}), "Off": f'{{"{off}"}}' if off else "{}"}
    return Configuration(f"floors: {name}", "Floors", constants, ("G1", "G3"), breaks, long)


def holds(name: str, bounds: dict[str, str] | None = None, *, long: bool = False) -> Configuration:
    return make(name, "", None, bounds, long=long)


def needed(rule: str, bounds: dict[str, str] | None = None, *, long: bool = False) -> Configuration:
    """*rule* switched off lets an old value come back."""
    return make(f"without {rule}", rule, "G3", bounds, long=long)


CONFIGURATIONS = [
    holds("both tables trimmed"),
    holds("the table of keys lost", EVICTION),
    needed("trim_floor"),
    needed("fill_floor"),
    needed("fill_key_floor"),
    needed("read_floor"),
    needed("unlink"),
    needed("sync_floor"),
    needed("sync_key_floor"),
    needed("new_table_floor", EVICTION),
    needed("lost_table_floor", EVICTION),
    needed("flush_is_remembered"),
    needed("recent_floor"),
    needed("recent_floor_grows", {**TWO, "Cap": "2"}, long=True),
    holds("two writes", TWO, long=True),
]
