"""As little of a failing schedule as still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.checker import Violation
from tests.simulation.schedule import Act, Schedule, simpler
from tests.simulation.world import World

MAX_TRIES = 3_000


def broken(schedule: Schedule, trace: list[str] | None = None) -> str | None:
    """The promise that *schedule* breaks; any other error counts by its kind."""
    try:
        World(schedule, trace).play()
    except Violation as violation:
        return violation.promise
    except Exception as error:
        return type(error).__name__
    return None


def shrunk(schedule: Schedule, promise: str) -> Schedule:
    """*schedule*, which breaks *promise*, without whatever it breaks it without as well."""
    tries = 0

    def fails(candidate: Schedule) -> bool:
        nonlocal tries
        tries += 1
        return tries <= MAX_TRIES and broken(candidate) == promise

    before = None
    while before != schedule:
        before = schedule
        schedule = _fewer_acts(schedule, fails)
        schedule = _fewer_mishaps(schedule, fails)
        schedule = _plainer(schedule, fails)
    return schedule


def _fewer_acts(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Delta debugging over what happens: halves, quarters, and so on down to single acts."""
    size = max(1, len(schedule.acts) // 2)
    while size:
        for start in range(len(schedule.acts) - size, -size, -size):
            acts = schedule.acts[: max(0, start)] + schedule.acts[max(0, start + size) :]
            candidate = replace(schedule, acts=acts)
            if acts != schedule.acts and fails(candidate):
                schedule = candidate
        size //= 2
    return schedule


def _fewer_mishaps(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    for place in range(len(schedule.acts)):
        for mishap in schedule.acts[place].mishaps:
            act = schedule.acts[place]
            without: Act = replace(act, mishaps=tuple(m for m in act.mishaps if m != mishap))
            acts = (*schedule.acts[:place], without, *schedule.acts[place + 1 :])
            candidate = replace(schedule, acts=acts)
            if fails(candidate):
                schedule = candidate
    return schedule


def _plainer(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    for setting in simpler(schedule.setting):
        # One field at a time, on top of those that were taken before.
        changed = {
            name: getattr(setting, name)
            for name in setting.__slots__
            if getattr(setting, name) != getattr(schedule.setting, name)
        }
        for name, value in changed.items():
            candidate = replace(schedule, setting=replace(schedule.setting, **{name: value}))
            if fails(candidate):
                schedule = candidate
    return schedule
