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

from tiercache._errors import SettingError
from tiercache._locks import Guard
from tiercache._node import Clock, Node
from tiercache._settings import Settings, check_handle

if TYPE_CHECKING:
    from tiercache._transport.address import Address, Identity

    Name = tuple[Identity | None, str]

_guard = Guard()
_shared: dict[Name, tuple[Node, int]] = {}  # under `_guard`: the node and how many handles it has


def acquire(
    address: Address | None, given: Mapping[str, object], *, private: bool, clock: Clock
) -> tuple[Node, Settings]:
    """The node for a handle that was *given* these settings, and the handle's own settings."""
    check_handle(private, clock)
    settings = Settings.of(given)
    if private:
        return Node(address, settings, clock), settings
    name = (address.identity if address else None, settings.namespace)
    with _guard.lock:
        node, handles = _shared.get(name, (None, 0))
        if node is None:
            node = Node(address, settings, clock)
        else:
            _agree(node.settings, settings, given)
            _reach_alike(node.address, address)
            settings = Settings.of(given, base=_of_node(node.settings, settings))
        _shared[name] = node, handles + 1
    return node, settings


def release(node: Node) -> bool:
    """One handle of *node* less; whether it was the last, so that the node is to be closed."""
    with _guard.lock:
        for name, (shared, handles) in list(_shared.items()):
            if shared is node:
                if handles > 1:
                    _shared[name] = node, handles - 1
                    return False
                del _shared[name]
                break
    return True


@contextmanager
def replacing(node: Node | None) -> Iterator[None]:
    """A handle made within has a node of its own in the place of *node*, if that has just one handle.

    Where that raises, *node* is back in its place.
    """
    with _guard.lock:
        alone = {name: held for name, held in list(_shared.items()) if held == (node, 1)}
        for name in alone:
            del _shared[name]
    try:
        yield
    except BaseException:
        with _guard.lock:
            _shared.update(alone)
        raise


def live() -> list[Node]:
    """The shared nodes of this process."""
    with _guard.lock:
        return [node for node, _ in list(_shared.values())]


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
