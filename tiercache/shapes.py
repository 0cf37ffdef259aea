"""For integrations: how the classes of a library become storable wherever a value holds an instance.

A `Family` is asked once for each class that the codec does not know, and for each name it meets in stored
bytes and does not know. It answers with a `Shape`, whose instances come apart into parts, or with a `Linked`,
whose instances have identity and may refer to each other in circles. `Refused` says why an instance cannot be
stored, and what to do.

Users' own classes need none of it: they are dataclasses, NamedTuples or Enums, or `cache.register`ed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from tiercache._core.value_links import Layout, Linked
from tiercache._core.value_shapes import Refused, Shape
from tiercache._core.values import Family

__all__ = ["Family", "Layout", "Linked", "Refused", "Shape", "families", "teach"]


def teach(family: Family) -> None:
    """Every cache of this process, made or yet to be made, stores what *family* knows."""
    if family not in _families:
        _families.append(family)


def families() -> Sequence[Family]:
    """All that were taught, the first of them asked first."""
    return _families


class _OfLibrary:
    """The family in `module.FAMILY`, imported when a class of *library* is met, or a name in its presence.

    *marker* is an attribute of the library's on classes of a user's. Nobody has to import the module for a
    function to return what it knows.
    """

    def __init__(self, library: str, module: str, marker: str) -> None:
        self._library, self._module, self._marker = library, module, marker

    def shape(self, cls: type) -> Shape | Linked | None:
        if hasattr(cls, self._marker) or cls.__module__.partition(".")[0] == self._library:
            family = self._family()
            return family.shape(cls) if family is not None else None
        return None

    def named(self, name: str) -> type | None:
        family = self._family() if self._library in sys.modules else None
        return family.named(name) if family is not None else None

    def _family(self) -> Family | None:
        try:
            family: Family = import_module(self._module).FAMILY
        except ImportError:  # a release of the library that ours does not work with
            return None
        return family


_families: list[Family] = [_OfLibrary("sqlalchemy", "tiercache.sqlalchemy.family", "_sa_class_manager")]
