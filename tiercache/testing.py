"""Fixtures for your own tests: real tiers and real sockets, a fake server, a clock you drive.

    pytest_plugins = ["tiercache.testing"]  # in a test module, or in the conftest.py at the root

    def test_a_change_of_name_reaches_the_other_process(tiercache_pair):
        here, there = tiercache_pair
        there.sync.set("name", "old", tags=["user:7"])
        here.sync.invalidate_tags("user:7")
        settle(there)
        assert there.sync.get("name") is None

tiercache_url     a fakeredis server for this test alone, empty at its start; for TIERCACHE_URL, say
tiercache_clock   the `Clock` of the caches below; it stands still until `advance(seconds)`
tiercache_make    makes a cache: `tiercache_make(l1_maxsize=2)`; any setting of `TierCache`
tiercache_cache   one cache
tiercache_pair    two caches that share the server and nothing else, as those of two processes do
settle(*caches)   a function: brings each up to every invalidation that was done before

`def` and `async def` tests may use them alike. What they open they close. Imported instead of
named as a plugin, a fixture needs those it stands on beside it; `__all__` has them all.

The caches differ from your application's in three settings. listen=False: there is no thread that
hears of invalidations a few milliseconds later, so that both outcomes of that race can be tested:
before settle() the other cache still has its copy, after it no more. assume_no_failover_loss=True:
fakeredis has no INFO, so a cache cannot see that its server is the one it was, and would keep
nothing. timeout=10: a machine that is busy with tests is no outage.

What the clock drives: the life of entries, in Redis too; leases, so that after `max_staleness` the
next read asks Redis first; the lock of a load; how long a load may be joined; the mark of `invalidating`,
which a sync finds over; the next try after Redis failed, which comes within a second. Waits themselves
take real time. So does that of `wait=True`: it ends when the leases of the others would, and by this clock
they go on, unless both caches have listen=True, and were there for `max_staleness` of the clock: then they
answer, in milliseconds.

PYTEST_DONT_REWRITE: nothing here asserts, and a test module may import it above naming it a plugin.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol, Unpack

try:
    import pytest
    from fakeredis import FakeStrictRedis, TcpFakeServer

    import_module("lupa")  # what fakeredis runs scripts with; without it, it fails only then
except ImportError as error:
    raise ImportError(f"tiercache.testing: {error}; pip install 'tiercache[testing]'") from error

from tiercache import TierCache
from tiercache._core import scripts
from tiercache._settings import SettingArguments

__all__ = [
    "Clock",
    "MakeCache",
    "settle",
    "tiercache_cache",
    "tiercache_clock",
    "tiercache_make",
    "tiercache_pair",
    "tiercache_server",
    "tiercache_url",
]

_UP_TO_ITS_END = re.compile(rb"^(1\|\d+\|\d+\|)(\d+)(?=\|)")  # of an entry, in ms of the server
_FENCES = re.compile(rb"\}1:p$")  # the name of the marks of open writes, each with its end
POLL = 0.01  # seconds the server takes at most to notice that it is to end


class Clock:
    """A clock that stands still until it is told to advance: `TierCache(..., clock=Clock())`.

    Any thread may read it. *also* is called with the seconds of each advance, once the clock shows them.
    """

    def __init__(self, also: Callable[[float], None] | None = None) -> None:
        self._now = 1_000.0
        self._also = also

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; not backwards."""
        if not seconds >= 0:
            raise ValueError(f"a clock advances by zero or more seconds, not {seconds!r}")
        self._now += seconds
        if self._also is not None:
            self._also(seconds)

    def __repr__(self) -> str:
        return f"<Clock {self._now}>"


class FakeServer:
    """fakeredis on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._server = TcpFakeServer(("127.0.0.1", 0))
        self._inside = FakeStrictRedis(server=self._server.fake_server)
        # Its sockets close after any error, NOSCRIPT included: so it knows the scripts beforehand.
        for script in vars(scripts).values():
            if isinstance(script, scripts.Script):
                self._inside.script_load(script.source)
        self._owed_ms = 0.0  # by which it is not yet aged, or too much: less than one
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), name="fakeredis")
        self._thread.start()
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def age(self, seconds: float) -> None:
        """Take *seconds* off the life of all that ends: keys, by what they say too, and marks of writes."""
        self._owed_ms += seconds * 1000
        passed_ms = round(self._owed_ms)
        self._owed_ms -= passed_ms
        for key in self._inside.scan_iter() if passed_ms else ():
            if _FENCES.search(key):
                fences: Any = self._inside.zrange(key, 0, -1, withscores=True)
                for fence, until_ms in fences:
                    self._inside.zadd(key, {fence: until_ms - passed_ms})
            end_ms = self._inside.pexpiretime(key)
            if end_ms < 0:
                continue
            if self._inside.pttl(key) > passed_ms and self._inside.type(key) == b"string":
                raw = self._inside.get(key)
                assert isinstance(raw, bytes)
                self._inside.set(key, _ended_sooner(raw, passed_ms), keepttl=True)
            self._inside.pexpireat(key, end_ms - passed_ms)

    def close(self) -> None:
        """End it, and with it every thread and connection of it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._inside.close()


def _ended_sooner(entry: bytes, ms: int) -> bytes:
    return _UP_TO_ITS_END.sub(lambda found: found[1] + b"%0*d" % (len(found[2]), int(found[2]) - ms), entry)


class MakeCache(Protocol):
    """What `tiercache_make` is."""

    def __call__(self, **settings: Unpack[SettingArguments]) -> TierCache: ...


@pytest.fixture
def tiercache_server() -> Iterator[FakeServer]:
    """The server behind `tiercache_url`."""
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def tiercache_url(tiercache_server: FakeServer) -> str:
    """The URL of a fake server for this test alone, empty at its start."""
    return tiercache_server.url


@pytest.fixture
def tiercache_clock(tiercache_server: FakeServer) -> Clock:
    """The clock of the caches of this test; it stands still until it is told to advance."""
    return Clock(also=tiercache_server.age)


@pytest.fixture
def tiercache_make(tiercache_url: str, tiercache_clock: Clock) -> Iterator[MakeCache]:
    """Makes caches that share the fake server and nothing else; they are closed after the test."""
    made: list[TierCache] = []

    def make(**settings: Unpack[SettingArguments]) -> TierCache:
        whole: SettingArguments = {"listen": False, "assume_no_failover_loss": True, "timeout": 10.0}
        whole.update(settings)
        cache = TierCache(tiercache_url, private=True, clock=tiercache_clock, **whole)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.sync.close()


@pytest.fixture
def tiercache_cache(tiercache_make: MakeCache) -> TierCache:
    """A cache on a fake server, for this test alone."""
    return tiercache_make()


@pytest.fixture
def tiercache_pair(tiercache_make: MakeCache) -> tuple[TierCache, TierCache]:
    """Two caches on one fake server, as two processes have them."""
    return tiercache_make(), tiercache_make()


def settle(*caches: TierCache) -> None:
    """Bring each of *caches* up to every invalidation that was done, anywhere, before this call.

    It costs two round trips a cache, and blocks; a coroutine may call it, too. Raises L2Unavailable where
    Redis cannot be asked.
    """
    for cache in caches:
        # 1. The listener sends a sync.  2. Somebody invalidates.  3. This call meets the listener's sync and
        # waits for its end, which brings nothing of 2. A sync that begins after that one has ended does.
        cache.sync.token()
        cache.sync.token()
