"""The nearest known name, for messages about an unknown one."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the likeliest of *known*, or nothing where none is near."""
    from difflib import get_close_matches  # only where there is a mistake to tell of

    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest_of(name: str, names: Collection[str]) -> str:
    """ "did you mean 'x'?" for the likeliest of *names*; all there are where none is near."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(map(repr, names))}" if names else "there are none"
