"""One run of TLC: a module of this folder with its bounds, and what must come of it.

Every module NAME.tla has a constant `Off`, the set of the rules that are switched off in it. Its
configurations stand in `configurations_<name>.py` as `CONFIGURATIONS`; `check.py` runs them all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Configuration:
    """What TLC is to check.

    `constants` maps each CONSTANT of *module* to its value in TLA+, `Off` among them. `breaks` is the
    one of `invariants` that must be found broken; None: all of them must hold in every state there is.
    A `long` one is run by `--long` alone.
    """

    name: str
    module: str
    constants: dict[str, str]
    invariants: tuple[str, ...]
    breaks: str | None
    long: bool = False
