"""Rules of the protocol switched off, one at a time: the simulator must notice each.

A mutation is a place in the code, and what stands there instead while it is on. It is made from
the source of the function as it is now, so the product has no switch for it, and where the code
has changed and no longer says what is to be replaced, that is an error and not a silence.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

PACKAGES = ("tiercache._core", "tests.core", "tests.simulation")


@dataclass(frozen=True, slots=True)
class Mutation:
    """In *function* of *module*, *old* becomes *new*; to be noticed *within* so many seeds."""

    name: str
    module: ModuleType
    function: str  # "name", or "Class.name"
    old: str
    new: str
    within: int = 300
    theme: str = ""  # of the seeds that are looked at; one in thirty has it by itself
    also: Mutation | None = None  # what else stands guard, and has to go as well

    @contextmanager
    def on(self) -> Iterator[None]:
        *path, name = self.function.split(".")
        owner: Any = getattr(self.module, path[0]) if path else self.module
        original = inspect.getattr_static(owner, name)
        changed = self._changed(original)
        places = [(owner, name)] if path else _places_of(original)
        try:
            for place, known_as in places:
                setattr(place, known_as, changed)
            with self.also.on() if self.also else nullcontext():
                yield
        finally:
            for place, known_as in places:
                setattr(place, known_as, original)

    def _changed(self, original: FunctionType) -> FunctionType:
        source = textwrap.dedent(inspect.getsource(original))
        found = source.count(self.old)
        if found != 1:
            raise LookupError(f"{self.name}: {self.old!r} stands {found} times in {self.function}, not once")
        if inspect.unwrap(original).__globals__ is not vars(self.module):  # what it names would be missing
            raise LookupError(f"{self.name}: {self.function} is not of {self.module.__name__}")
        made: dict[str, Any] = {}
        code = compile(
            "from __future__ import annotations\n" + source.replace(self.old, self.new), self.name, "exec"
        )
        exec(code, self.module.__dict__, made)
        changed: FunctionType = made[original.__name__]
        return changed


def _places_of(function: FunctionType) -> list[tuple[ModuleType, str]]:
    """Every module that knows *function*, and under which name."""
    return [
        (module, name)
        for title, module in list(sys.modules.items())
        if title.startswith(PACKAGES)
        for name, value in list(vars(module).items())
        if value is function
    ]
