"""The few verbs that the suite asks of every library, and where a library may keep things.

An adapter is a subclass in a file of its own beside this one. It overrides the verbs that its library has,
by the way that the library's documentation recommends, and says in `setting` which that is. What it does not
override raises Unable, and the table then says so.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

AHEAD = 0.7
"""Of its `ttl`, after which a value is old enough to be loaded anew, where a library refreshes early."""


class Unable(Exception):
    """This contender cannot do what is asked; the text is what the table says."""


@dataclass(frozen=True)
class Place:
    """Where a contender keeps things.

    `url` is that of the Redis it may use, None for memory alone; `maxsize` the entries of its in-process
    tier; `ttl` is in seconds. Its keys in Redis begin with `prefix`, so that a user's server can be cleaned.
    """

    url: str | None = None
    maxsize: int = 10_000
    ttl: float = 600.0
    prefix: str = "bench"


class Contender:
    """A library in one of the two worlds; in the awaited one, the verbs give awaitables.

    Tags are templates over the arguments ("user:{user_id}") in `wrap`, and plain strings elsewhere.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions the report gives; () for what is written by hand."""
    setting: ClassVar[str]
    """Its best documented setting in one line."""
    is_async: ClassVar[bool]
    uses_redis: ClassVar[bool]
    is_bounded: ClassVar[bool] = True
    """Its in-process tier keeps to `maxsize`."""
    expires: ClassVar[bool] = True
    """It keeps to `ttl`."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def open(self) -> None:
        """Connect, in both worlds."""

    async def close(self) -> None:
        """Let go of everything, in both worlds."""

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Callable[..., Any]:
        """The library's decorator, or a read-through by hand."""
        raise Unable("no decorator")

    def read(self, key: str) -> Any:
        """The value, or None."""
        raise Unable("no reading by key")

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> Any:
        raise Unable("no writing by key")

    def load(self, key: str, loader: Callable[[], Any], tags: Iterable[str] = ()) -> Any:
        """Read-through by key."""
        raise Unable("no read-through by key")

    def drop(self, key: str) -> Any:
        raise Unable("no deleting by key")

    def drop_tag(self, tag: str) -> Any:
        raise Unable("no tags")

    def read_many(self, keys: Iterable[str]) -> Any:
        """What was found, by key."""
        raise Unable("no reading of many keys at once")

    def write_many(self, values: Mapping[str, Any], tags: Iterable[str] = ()) -> Any:
        """*tags* are those of every key."""
        raise Unable("no writing of many keys at once")


def missing_packages(contender: type[Contender]) -> list[str]:
    return [package for package in contender.packages if version_of(package) is None]


def version_of(package: str) -> str | None:
    """The installed version, None if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
