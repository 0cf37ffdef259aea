"""What a source of truth tells the loads that read it, for integrations such as `tiercache.sqlalchemy`.

A loader asks a source. Three things only the source can know decide what may be kept of the answer: whether
it is committed, as of when it is, and what it depends on. Each function here says one of them of every load
that the caller is inside of, known by a context variable, and does nothing outside of a load. None of them
does I/O.

A thread of an executor does not have the context of who waits for it: hand it `contextvars.copy_context()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiercache import _forks
from tiercache._core import sources
from tiercache._core.flights import running_load
from tiercache._core.key_text import ValueText
from tiercache._core.sources import Moment
from tiercache._core.tags import check_tags as checked_tags
from tiercache._settings import lifetime

if TYPE_CHECKING:
    from tiercache import TierCache

__all__ = [
    "Moment",
    "Writing",
    "answered_by",
    "as_of",
    "check_tags",
    "depends_on",
    "lifetime_of",
    "moment",
    "text_of",
    "uncommitted",
]


def uncommitted() -> None:
    """What was read is not committed: it is for who loads it alone.

    It is stored in neither tier, and who waited for the load loads for itself. Counted as `uncommitted`.
    """
    load = running_load()
    for each in load.chain() if load is not None else ():
        each.found.is_committed = False


def moment() -> Moment:
    """Where every cache of this process stands now: to be taken when a snapshot of the source begins."""
    return Moment(_forks.cores())


def answered_by(cache: TierCache) -> Moment:
    """How old what *cache* answers from now on may be, by its own records; by another's nothing is known."""
    return Moment.of_answers(cache._node.tiers.core)


def as_of(begun: Moment) -> None:
    """What was read is as old as *begun*: it is stored only if nothing it depends on changed since.

    A cache that began another epoch since, or that did not exist then, stores nothing of it.
    """
    load = running_load()
    for each in load.chain() if load is not None else ():
        each.found.lower(each.epoch, begun.of(each.core))


def depends_on(tags: str | Iterable[str]) -> None:
    """What the innermost load brings depends on *tags* besides those that were declared.

    TypeError or ValueError for what can be no tag. An entry has at most 128: the load that ends with more is
    a ValueError.
    """
    load = running_load()
    if load is not None:
        load.found.depend(tags)


def check_tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    """The tags, each once, however many; TypeError or ValueError for what can be no tag."""
    return checked_tags(tags, most=None)


def text_of(value: object) -> str:
    """The text of *value* in a key: the same in every process, and no other value's, as of an argument.

    1, 1.0, True and "1" differ. UnstableKey for what has none.
    """
    return ValueText("a query").of(value, "a bound value")


def lifetime_of(ttl: object) -> float | None:
    """The seconds that a `ttl` says, None for no expiry. SettingError for what can be none."""
    return lifetime(ttl, "ttl")


class Writing(sources.Writing):
    """What one transaction has changed and not committed: `add` tags, `end` it after commit or rollback.

    Until `end`, reads of this context, and of copies of it, go past both tiers where they depend on any of
    it, as a query inside the transaction would see it; other contexts have what is committed.
    """

    def __init__(self) -> None:
        super().__init__(_forks.cores)
