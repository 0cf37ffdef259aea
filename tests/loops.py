"""The event loops that applications run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
NewLoop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def run(new_loop: NewLoop, main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in such a loop; it takes one itself from Python 3.12 on."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)
