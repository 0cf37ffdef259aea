"""Which handles share which node.

Handles with the same server, database, user and namespace share one: what one of them
invalidates no other serves. They must agree on the node's settings; one that is not given
is taken over from the node as it stands. They must agree on how to connect, too: on TLS and on
the password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiercache._cells import Cell
from tiercache._errors import SettingError
from tiercache._node import Clock, Node
from tiercache._settings import Settings, check_handle

if TYPE_CHECKING:
    from tiercache._transport.address import Address, Identity

    Name = tuple[Identity | None, str]

Held = tuple["Node | None", int]  # the node of a name, and how many handles it has
NOBODY: Held = (None, 0)

_places: dict[Name, Cell[Held]] = {}  # added to, and never taken from: who found one may be about to use it


def acquire(
    address: Address | None, given: Mapping[str, object], *, private: bool, clock: Clock
) -> tuple[Node, Settings]:
    """The node for a handle that was *given* these settings, and the handle's own settings."""
    check_handle(private, clock)
    settings = Settings.of(given)
    if private:
        return Node(address, settings, clock), settings
    name = (address.identity if address else None, settings.namespace)
    place = _places.setdefault(name, Cell(NOBODY))
    made: list[Node] = []

    def one_more(held: Held) -> Held:
        there, handles = held
        if there is None:
            made.append(Node(address, settings, clock))
            made[-1].place = place
            return made[-1], 1
        _agree(there.settings, settings, given)
        _reach_alike(there.address, address)
        return there, handles + 1

    _, (node, _) = place.change(one_more)
    assert node is not None
    if node in made:
        return node, settings
    return node, Settings.of(given, base=_of_node(node.settings, settings))


def release(node: Node) -> bool:
    """One handle of *node* less; whether it was the last, so that the node is to be closed."""

    def one_less(held: Held) -> Held:
        there, handles = held
        if there is not node:
            return held  # another is in its place
        return (node, handles - 1) if handles > 1 else NOBODY

    if node.place is None:
        return True
    _, (there, _) = node.place.change(one_less)
    return there is not node


@contextmanager
def replacing(node: Node | None) -> Iterator[None]:
    """A handle made within has a node of its own in the place of *node*, if that has just one handle.

    Where that raises, *node* is back in its place.
    """
    place: Cell[Held] = Cell(NOBODY) if node is None or node.place is None else node.place
    alone: Held = (node, 1)
    before, _ = place.change(lambda held: NOBODY if held == alone else held)
    try:
        yield
    except BaseException:
        if before == alone:
            place.change(lambda held: alone if held == NOBODY else held)
        raise


def live() -> list[Node]:
    """The shared nodes of this process."""
    return [node for place in list(_places.values()) if (node := place.value[0]) is not None]


def _agree(settled: Settings, asked: Settings, given: Mapping[str, object]) -> None:
    for name in Settings.OF_NODE:
        if name in given and getattr(asked, name) != getattr(settled, name):
            raise SettingError(
                f"another TierCache of this process on the same server and namespace has "
                f"{name}={getattr(settled, name)!r}, this one asks for {getattr(asked, name)!r}; handles "
                "share one L1, so give all of them the same, or another namespace"
            )


def _reach_alike(settled: Address | None, asked: Address | None) -> None:
    """Raise SettingError where a handle would use connections that were opened in another manner."""
    before, now = (address.manner if address else {} for address in (settled, asked))
    # No values: some are secrets.
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if differing:
        raise SettingError(
            f"another TierCache of this process on the same server and namespace connects with another "
            f"{', '.join(differing)}; handles share connections, so give all of them the same, or another "
            "namespace, or close the others first"
        )


def _of_node(settled: Settings, asked: Settings) -> Settings:
    node = {name: getattr(settled, name) for name in Settings.OF_NODE}
    return Settings.of(node, base=asked)
