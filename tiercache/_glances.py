"""Reads of L2 without a plan, for the usual call of a decorated function.

What a plan asks before its look and after it (`_core/l2_hits.py`) takes longer in Python than the look. Where
there is a compiled half it asks the same, of a read in whose way nothing is; any other read, and what was not
found as it usually is, is left to the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from tiercache._accelerator import compiled
from tiercache._core import sources
from tiercache._core.coherence import Coherence
from tiercache._core.flights import current_load
from tiercache._core.l2_hits import Taken, judged, keep, unlooked
from tiercache._core.looks import Look, Looked
from tiercache._core.plan import run, run_async
from tiercache._core.reads import MISS, fly
from tiercache._core.stand import Stand
from tiercache._core.tiers import Counts, Tiers, Want
from tiercache._core.values import PLAIN
from tiercache._errors import L2Unavailable

if TYPE_CHECKING:
    from tiercache._bound import Bound

Glance = tuple[Look, Stand]  # what to send, and where the node stands
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
if compiled is not None:
    compiled.use_glances(
        Coherence, Counts, Stand, Look, Taken, current_load, sources._writings, PLAIN, orjson.loads
    )


class Glances:
    """Those of one function in one place, whose usual calls *namer* names and whose tags have *print*.

    `begin` gives the look to send for a call, by args and kwargs, and where the node stands; None where a
    plan must see to it. `read`, or `read_async`, then comes to the value. *want* makes what a call asks for;
    *l1*: it is kept there.
    """

    def __init__(
        self,
        tiers: Tiers,
        counts: Counts,
        namer: Any,
        print: int,
        want: Callable[[Bound, Args, Kwargs], Want],
        *,
        l1: bool,
    ) -> None:
        assert compiled is not None
        self._tiers, self._counts, self._want, self._l1 = tiers, counts, want, l1
        glancer = compiled.Glancer(
            namer,
            tiers.core,
            counts,
            tiers.board._flights,
            tiers.looking,
            tiers.core.l1.entries._shelves,
            tiers.clock,
            tiers.values.decode,
            print,
            l1,
        )
        self._begin: Callable[[Args, Kwargs], Glance | None] = glancer.begin
        self._take: Callable[[Look, Stand, Looked], Any] = glancer.taken if l1 else glancer.value

    def begin(self, args: Args, kwargs: Kwargs) -> Glance | None:
        glance = self._begin(args, kwargs)
        if glance is None or self._tiers.known_tags.get(glance[0].keys[0]) is None:
            return glance
        self.over(glance)  # its entry has tags that a glance does not ask for: the look of a plan does
        return None

    # In vain, a plan follows. Not by way of `Node.run`: a call that is under way goes on over a `close`.

    def read(self, bound: Bound, args: Args, kwargs: Kwargs, glance: Glance) -> Any:
        node = bound.node
        try:
            assert node._blocking is not None
            (looked,) = node._blocking.look(glance[0])
        except L2Unavailable as error:
            value = self.failed(error)
        else:
            value = self.found(bound, args, kwargs, glance, looked)
        finally:
            self.over(glance)
        if value is not MISS:
            return value
        return run(fly(self._tiers, self._want(bound, args, kwargs), None, blocking=True), node._perform)

    async def read_async(self, bound: Bound, args: Args, kwargs: Kwargs, glance: Glance) -> Any:
        try:
            awaiting = bound.node.loops.of_running()
            (looked,) = await awaiting.gather(glance[0])
        except L2Unavailable as error:
            value = self.failed(error)
        else:
            value = self.found(bound, args, kwargs, glance, looked)
        finally:
            self.over(glance)
        if value is not MISS:
            return value
        want = self._want(bound, args, kwargs)
        return await run_async(fly(self._tiers, want, None, blocking=False), awaiting.perform)

    def over(self, glance: Glance) -> None:
        """Nobody looks for its key any more."""
        self._tiers.looking.discard(glance[0].keys[0])

    def failed(self, error: L2Unavailable) -> Any:
        unlooked(self._tiers, self._counts, error)
        return MISS

    def found(self, bound: Bound, args: Args, kwargs: Kwargs, glance: Glance, looked: Looked) -> Any:
        """What *looked* at comes to, counted and kept; MISS where it was in vain."""
        assert compiled is not None
        look, stand = glance
        taken: Taken | None
        try:
            if not self._l1:
                return self._take(look, stand, looked)
            taken = self._take(look, stand, looked)
            want = self._want(bound, args, kwargs)
        except compiled.Unanswered:
            want = self._want(bound, args, kwargs)
            taken = judged(self._tiers, want, stand, looked)
            if taken is None:
                return MISS
            self._counts.l2_hits += 1
        if self._l1:
            keep(self._tiers, want, taken)
        return taken.value
