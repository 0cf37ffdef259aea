"""tiercache whose hits are all Python, as where it was not compiled: that is decided once in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

from bench.contenders.facade import Contender, Unable
from bench.contenders.tiercache import Tiercache, TiercacheAsync
from bench.elsewhere import Elsewhere, close_contender, open_contender
from tiercache._accelerator import compiled


class TiercachePure(Contender):
    name = "tiercache, in Python"
    packages = ("tiercache",)
    setting = "as tiercache, in a process of its own with TIERCACHE_PURE=1, which is timed in its turn"
    is_async = False
    uses_redis = True
    kind: ClassVar[type[Contender]] = Tiercache
    process: ClassVar[Elsewhere | None] = None
    """Where it lives; what measures it sees to that."""

    async def open(self) -> None:
        if compiled is None:
            raise Unable("is the line tiercache: nothing is compiled here")

    def wrap(self, function: Callable[..., Any], *, tags: Iterable[str] = ()) -> Any:
        """The process, which has the wrapped function."""
        if self.process is None:
            raise Unable("no process to be measured in")
        place = replace(self.place, prefix=f"{self.place.prefix}-pure")
        self.process.ask(open_contender, self.kind, place, function)
        return self.process

    def write(self, key: str, value: Any, tags: Iterable[str] = ()) -> Any:
        raise Unable("is the line tiercache: a hit by key is made in Python anyway")

    async def close(self) -> None:
        if compiled is not None and self.process is not None:
            self.process.ask(close_contender)


class TiercachePureAsync(TiercachePure):
    is_async = True
    kind = TiercacheAsync
