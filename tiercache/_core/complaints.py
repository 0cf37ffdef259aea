"""What the log is told of troubles: each cause once a minute at most, whatever its text quotes."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

log = logging.getLogger("tiercache")

AGAIN = 60.0  # seconds until a cause is told again
MOST = 16  # causes within that time; of more nothing is told
WORDS = 8  # by which a cause is known; what comes later, or in quotes, is of the one case


def tell(level: int, text: str, *args: object, exc_info: bool = False) -> None:
    """Log it; what a filter or a handler of the application raises must end no thread, and no request."""
    try:
        log.log(level, text, *args, exc_info=exc_info)
    except Exception as error:
        print(f"tiercache: what was to be logged was not, for {error!r}: {text}", file=sys.stderr)


class Complaints:
    """Those of one node. No lock is held: what two threads meet at the same instant may be told twice."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # when, by message and cause

    def warn(self, message: str, cause: object) -> None:
        """Log *message*, with *cause* in its place, unless that was the cause of another one lately."""
        now, name = self._clock(), (message, _name(cause))
        lately = {each: at for each, at in self._told.items() if now < at + AGAIN}
        if name not in lately and len(lately) < MOST:
            self._told = {**lately, name: now}
            tell(logging.WARNING, message, str(cause))  # a record that is kept must not keep its frames


def _name(cause: object) -> str:
    """What is the same in all cases of *cause*: its class and first words, without numbers."""
    words = re.split(r"['\"`]", str(cause), maxsplit=1)[0].split()[:WORDS]
    return re.sub(r"\d+", "0", " ".join((type(cause).__name__, *words)))
