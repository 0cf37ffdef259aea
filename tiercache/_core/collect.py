"""Which record was the last that a part of the program made: the token a later request brings along.

Who collects puts a box into the context. Tasks and threads that get a copy of that context (`asyncio.gather`,
`asyncio.to_thread`, a framework's thread pool) note their records in the same box.
"""

from __future__ import annotations

from contextvars import ContextVar
from contextvars import Token as Reset
from typing import TYPE_CHECKING

from tiercache._cells import Cell

if TYPE_CHECKING:
    from tiercache._core.coherence import Coherence
    from tiercache._core.writes import Token


class Collected:
    """The newest record made for one cache inside `with`; `token` is None until there is one.

    May be entered again, one at a time; what it holds stays. What is pending has no record to be noted.
    """

    def __init__(self, core: Coherence) -> None:
        self._core = core
        self._newest: Cell[Token | None] = Cell(None)
        self._resets: list[Reset[tuple[Collected, ...]]] = []

    @property
    def token(self) -> Token | None:
        return self._newest.value

    def __enter__(self) -> Collected:
        self._resets.append(_boxes.set((*_boxes.get(), self)))
        return self

    def __exit__(self, *_: object) -> None:
        _boxes.reset(self._resets.pop())

    def note(self, core: Coherence, token: Token) -> None:
        if core is self._core:
            self._newest.change(lambda held: _newer(held, token))


def _newer(held: Token | None, token: Token) -> Token:
    # Of two epochs the one noted last: replies come in the order of epochs, but for two at once.
    return held if held is not None and held.epoch == token.epoch and held.number >= token.number else token


_boxes: ContextVar[tuple[Collected, ...]] = ContextVar("tiercache_collected", default=())


def note(core: Coherence, token: Token) -> Token:
    """*token*, once those who collect in this context know of it."""
    for box in _boxes.get():
        box.note(core, token)
    return token
