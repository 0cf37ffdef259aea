"""Rules switched off from outside, in every process of a run: the checker must see what they were for."""

from __future__ import annotations

import hashlib
from math import inf

from tiercache._core import fences, scripts
from tiercache._core.coherence import Coherence
from tiercache._core.plan import Plan
from tiercache._core.scripts import Script


def no_lease() -> None:
    """A lease never ends: L1 answers however long nothing has been heard of Redis."""
    fold = Coherence._fold

    def endless(self: Coherence) -> None:
        if self.epoch:
            self.lease = inf
        fold(self)

    Coherence._fold = endless  # type: ignore[method-assign]


def no_tenure() -> None:
    """A server that was restarted or promoted is taken for the one it was."""
    for script in vars(scripts).values():
        if isinstance(script, Script) and "local function tenure()" in script.source:
            _rewrite(script, "return id and n(string.sub(id, 1, 12), 16) or 0", "return id and 1 or 1")


def token_at_store() -> None:
    """A value is stamped when it is stored, as most caches do, and not before it was loaded."""
    stamp = (
        "local now = redis.call('ZMSCORE', KEYS[2], '\\1s')[1]\n"
        "if now then ARGV[2] = string.format('%.0f', -now) end\n"
    )
    first = scripts.FILL.source.splitlines()[0]
    _rewrite(scripts.FILL, first, stamp + first)


def no_fence() -> None:
    """Nothing stands before a COMMIT, and who believes that something does is told so."""

    def put_up(*_: object) -> Plan[None]:
        return None
        yield

    fences.put_up = put_up


def _rewrite(script: Script, before: str, after: str) -> None:
    assert before in script.source, f"{script.name} has changed, and the sabotage must too"
    script.source = script.source.replace(before, after, 1)
    script.sha = hashlib.sha1(script.source.encode(), usedforsecurity=False).hexdigest()
