"""What _compiled.c and the other sources of its extension, _compiled_*.c, define."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, final

from tiercache._core.records import StoredEntry

class Unanswered(Exception): ...
class Missing(Exception): ...

class Tally:
    l1_hits: int

class Timed:
    deadline: float
    stamp: float

class Look:
    def one(self, argument: Any, /) -> Any: ...
    def many(self, *arguments: Any) -> Any: ...
    def bind(
        self, core: object, clock: Callable[[], float], counts: Tally, table: dict[Any, Any], /
    ) -> None: ...
    def unbind(self) -> None: ...

@final
class Looked:
    head: int
    epoch: int
    floor: int
    versions: dict[str, int | None]
    entries: dict[str, bytes | None]
    now_ms: int
    def good(self, key: str, /) -> tuple[StoredEntry, float] | None: ...

@final
class Namer:
    def __new__(
        cls,
        leaves: dict[type, Any],
        arguments: int,
        of_key: tuple[tuple[str, int], ...],
        of_tags: tuple[tuple[str, int], ...],
        /,
    ) -> Namer: ...
    def name(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> tuple[str, tuple[str, ...]] | None: ...

@final
class Glancer:
    def __new__(
        cls,
        namer: Namer,
        core: object,
        counts: Tally,
        flights: dict[str, Any],
        looking: set[str],
        shelves: tuple[dict[str, Any], ...],
        clock: Callable[[], float],
        decode: Callable[[bytes], Any],
        print: int,
        keeps: bool,
    ) -> Glancer: ...
    def begin(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], /
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None: ...
    def value(self, look: tuple[Any, ...], stand: tuple[Any, ...], looked: object, /) -> Any: ...
    def taken(self, look: tuple[Any, ...], stand: tuple[Any, ...], looked: object, /) -> tuple[Any, ...]: ...

def sure_tags(key: object, tags: object, /) -> tuple[str, ...] | None: ...
def use(entry: type, core: type, /) -> None: ...
def copy(value: Any, /) -> Any: ...
def use_entries(stored: type, parse_entry: Callable[[bytes, str], StoredEntry | None], /) -> None: ...
def use_looks(good: Callable[[Any, str], Any], /) -> None: ...
def use_glances(
    core: type,
    counts: type,
    stand: type,
    look: type,
    taken: type,
    current_load: ContextVar[Any],
    writings: ContextVar[Any],
    /,
) -> None: ...
def parse_entry(raw: bytes, key: str, /) -> StoredEntry | None: ...
def looked(look: tuple[Any, ...], replies: list[Any], /) -> Looked | None: ...
def pack_look(look: tuple[Any, ...], state: str, entries: str, ending: bytes, /) -> bytes | None: ...
