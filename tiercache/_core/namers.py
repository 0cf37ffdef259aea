"""The key and the tags of a usual call, or of a read by key, at once, where there is a compiled half.

Usual: all arguments given by place, and those that are written out whole numbers and short printable
texts. What comes of it is what `CallKeys.key` and `TagTemplates.render` give (tests/core/test_namers.py
asks both); any other call is named by them. Likewise `check_names`, for a key and tags that are given:
usual are a short printable text and a list or tuple of a few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiercache._accelerator import compiled
from tiercache._core.key_text import COUNTED_LEAVES
from tiercache._core.keys import CallKeys, check_key
from tiercache._core.tags import TagTemplates, check_entry_tags

Named = tuple[str, tuple[str, ...]]  # a key, and the tags of its entry

_sure_tags: Callable[[object, object], tuple[str, ...] | None] = (
    compiled.sure_tags if compiled is not None else lambda key, tags: None
)


def namer_of(keys: CallKeys, templates: TagTemplates, own_tag: str) -> Any:
    """What names calls, by `name(args, kwargs)`: the key, and the tags, *own_tag* the last of them.

    Or None, of a call that is not a usual one. None itself where there are no usual ones.
    """
    of_key, of_tags = keys.pieces(), templates.pieces()
    if compiled is None or of_key is None or of_tags is None or not own_tag.isascii():
        return None
    places = {name: at for at, name in enumerate(keys.parameters)}
    tags = [
        ((before, -1 if parameter is None else places[parameter]), (after, -1))
        for before, parameter, after in (*of_tags, (own_tag, None, ""))
    ]
    return compiled.Namer(
        COUNTED_LEAVES,
        len(places),
        tuple((text, -1 if parameter is None else places[parameter]) for text, parameter in of_key),
        tuple(piece for tag in tags for piece in tag),
    )


def check_names(key: object, tags: object) -> Named:
    """What check_key() and check_entry_tags() give for them, errors too."""
    sure = _sure_tags(key, tags)
    return (check_key(key), check_entry_tags(tags)) if sure is None else (key, sure)  # type: ignore[return-value]
