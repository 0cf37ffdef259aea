"""What a node does its I/O with, loaded when the first cache is made and not with `tiercache`.

redis-py, asyncio and anyio are most of what importing everything costs, and a program that has
only decorated its functions needs none of them yet. Whoever makes a cache loads them all, before
any lock is taken and before the first connection, so that no later step is the first to import:
a child forked amid an import waits for a thread it does not have.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from tiercache._errors import SettingError

if TYPE_CHECKING:
    from tiercache._transport.address import Address

_begun = False


def load() -> None:
    """Import and read all that the I/O of a node takes, once. Not to be called under a lock."""
    global _begun
    _begun = True
    import asyncio  # noqa: F401

    import anyio.to_thread  # noqa: F401

    # Each by itself: what tests of the layers read are statements.
    import tiercache._transport.address
    import tiercache._transport.awaiting
    import tiercache._transport.blocking
    import tiercache._transport.listener
    import tiercache._transport.loops
    import tiercache._transport.memory  # noqa: F401
    from tiercache._core import scripts

    # All of one release: its files may be another one's by the time the process comes to need them.
    for script in scripts.ALL:
        _ = script.sha
    _look_up_a_version()


@cache
def _look_up_a_version() -> None:
    """As redis-py does when it connects: what that takes, Python imports at the first time."""
    import importlib.metadata

    with suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("redis")


def finish_loading() -> None:
    """Before a fork: wait for a thread that is in `load`, if there is one; not to be called under a lock."""
    if _begun:
        load()


def address_of(url: str, timeout: float) -> Address | None:
    """Where *url* points; None is memory://."""
    if not isinstance(url, str):
        # Not the value: a URL in bytes, or as an object of pydantic's, may have a password in it.
        raise SettingError(
            f"url must be text such as 'redis://127.0.0.1:6379/0', not {type(url).__name__}; "
            "pass str() of a URL that is an object, and a client or pool of redis-py as client="
        )
    if url == "memory://":
        return None
    if url.partition(":")[0] == "memory":
        raise SettingError("write 'memory://' without more; a namespace= keeps stores apart")
    from tiercache._transport.address import Address

    return Address.of_url(url, timeout)


def address_in_the_environment(url: str, timeout: float) -> Address | None:
    """Where TIERCACHE_URL, which is *url*, points; a SettingError names it."""
    load()
    try:
        return address_of(url, timeout)
    except SettingError as error:
        raise SettingError(f"TIERCACHE_URL: {error}") from None


def address_of_client(client: Any, timeout: float) -> Address | None:
    from tiercache._transport.address import Address

    return Address.of_client(client, timeout)
