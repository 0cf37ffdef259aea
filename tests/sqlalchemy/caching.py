"""Entries under tags, and which of them are left after something was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context

from tiercache import TierCache


def _key(tag: str) -> str:
    return f"under {tag}"


class Entries:
    """A cache, with an entry under each tag that a test names."""

    def __init__(self, cache: TierCache) -> None:
        self.cache = cache

    def store(self, tags: Iterable[str]) -> None:
        self.cache.sync.set_many({_key(tag): "there" for tag in tags}, tags=lambda key: key[len("under ") :])

    def left(self, tags: Iterable[str]) -> set[str]:
        """Those of *tags* whose entries are there, for somebody who is in no transaction."""
        tags = list(tags)
        found = Context().run(self.cache.sync.get_many, [_key(tag) for tag in tags])
        return {tag for tag in tags if _key(tag) in found}

    @contextmanager
    def changed(self, goes: Iterable[str] | str, stays: Iterable[str] | str) -> Iterator[None]:
        """What is done inside makes the entries under *goes* invalid, and those under *stays* not."""
        going, staying = set(_each(goes)), set(_each(stays))
        assert not going & staying
        self.store([*going, *staying])
        assert self.left([*going, *staying]) == going | staying
        yield
        left = self.left([*going, *staying])
        assert left == staying, f"these should have gone: {left - staying}; and these not: {staying - left}"

    @contextmanager
    def unchanged(self, *tags: str) -> Iterator[None]:
        self.store(tags)
        yield
        assert self.left(tags) == set(tags)


def _each(tags: Iterable[str] | str) -> Iterable[str]:
    return tags.split() if isinstance(tags, str) else tags
