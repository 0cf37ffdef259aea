"""Functions and values that the tests of keys call and pass."""

from __future__ import annotations

import dataclasses
import enum
import functools
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

import tiercache._core.key_text as key_text
from tiercache._core.keys import CallKeys

HERE = __name__


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    A = "a"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass
class Money:
    amount: object
    currency: object


@dataclasses.dataclass
class Weight:
    amount: object
    currency: object


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: object) -> None:
        self.a = a


class Subslotted(Slotted):
    __slots__ = ("c",)


class Empty:
    pass


class Repository:
    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def get(self, user_id: int) -> None: ...

    @classmethod
    def load(cls, user_id: int) -> None: ...

    @functools.cached_property
    def table(self) -> str:
        return "users"


class OtherRepository(Repository):
    def get(self, user_id: int) -> None: ...


class Tenant:
    def __init__(self, name: str, noise: object = None) -> None:
        self.name, self.noise = name, noise

    def __cache_key__(self) -> str:
        return self.name


class Shelf:
    __cache_key__ = ("shelf", 1)


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "loud"


class Row(dict[str, object]):
    def items(self) -> Any:
        return ()


class Rows(list[object]):
    def __iter__(self) -> Any:
        return iter(())


class Id(int):
    pass


class OrderId(uuid.UUID):
    pass


class Shifted(tzinfo):
    """One that has no name of its own, and a state."""

    def __init__(self, summer: int) -> None:
        self.summer = summer

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=self.summer if moment is not None and moment.month == 7 else 1)

    def tzname(self, moment: datetime | None) -> None: ...

    def dst(self, moment: datetime | None) -> None: ...


class Zone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, moment: datetime | None) -> None: ...

    def dst(self, moment: datetime | None) -> None: ...


def one(x: object) -> None: ...


def get_user(user_id: int, active: bool = True, *more: object, **options: object) -> None: ...


def key_of(value: object) -> str:
    return CallKeys(one).key({"x": value})


def call_key(function: Callable[..., object], *args: object, **kwargs: object) -> str:
    keys = CallKeys(function)
    return keys.key(keys.bind(args, kwargs))


def in_package(package: str, name: str) -> type:
    """A class as another package would define it, which need not be installed."""
    return type(name, (), {"__module__": package})


def run_python(*command: str, folder: Path, seed: str = "0") -> list[str]:
    root = Path(key_text.__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}{os.pathsep}{folder}"}
    process = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, check=True, capture_output=True, text=True
    )
    return process.stdout.splitlines()
