"""What _compiled.c and its parts, _compiled_entries.c, _compiled_looks.c and _compiled_names.c, define."""

from collections.abc import Callable, Mapping
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

def sure_tags(key: object, tags: object, /) -> tuple[str, ...] | None: ...
def use(entry: type, core: type, /) -> None: ...
def copy(value: Any, /) -> Any: ...
def use_entries(stored: type, parse_entry: Callable[[bytes, str], StoredEntry | None], /) -> None: ...
def use_looks(good: Callable[[Any, str], Any], /) -> None: ...
def parse_entry(raw: bytes, key: str, /) -> StoredEntry | None: ...
def looked(look: tuple[Any, ...], replies: list[Any], /) -> Looked | None: ...
def pack_look(look: tuple[Any, ...], state: str, entries: str, ending: bytes, /) -> bytes | None: ...
