"""Reads of L2 without a plan, for the usual call of a decorated function, and the usual read by key.

What a plan asks before its look and after it (`_core/l2_hits.py`) takes longer in Python than the look. Where
there is a compiled half it asks the same, of a read in whose way nothing is; any other read, and what was not
found as it usually is, is left to the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson

from tiercache._accelerator import compiled
from tiercache._core import sources
from tiercache._core.coherence import Coherence
from tiercache._core.flights import current_load
from tiercache._core.l2_hits import Taken, keep, learn_found, tags_to_look_for, unlooked
from tiercache._core.looks import Look, Looked
from tiercache._core.plan import Plan, run, run_async
from tiercache._core.reads import MISS, after_look, by_script
from tiercache._core.stand import Stand
from tiercache._core.tiers import Counts, Tiers, Want
from tiercache._core.values import PLAIN
from tiercache._core.whole import amend
from tiercache._errors import L2Unavailable

if TYPE_CHECKING:
    from tiercache._node import Node

Glance = tuple[Look, Stand]  # what to send, and where the node stands
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
ANY_PRINT = -1


class _Left:
    def __repr__(self) -> str:
        return "LEFT"


LEFT: Final = _Left()  # to a plan, and nothing was asked
if compiled is not None:
    compiled.use_glances(
        Coherence, Counts, Stand, Look, Taken, current_load, sources._writings, PLAIN, orjson.loads
    )


class Glances:
    """Those of one function in one place, whose usual calls *namer* names and whose tags have *print*.

    `begin` gives the look to send for a call, by args and kwargs, and where the node stands; None where a
    plan must see to it. `read`, or `read_async`, then comes to the value. Without a glance they begin
    one for the key and tags that are *named*. *want* makes what a call asks for, of what they are given for
    it; *l1*: it is kept there.
    """

    def __init__(
        self, tiers: Tiers, counts: Counts, namer: Any, print: int, want: Callable[..., Want], *, l1: bool
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
        self._begin: Callable[[Any, Any], Glance | None] = glancer.begin
        self._take: Callable[[Look, Stand, Looked], Any] = glancer.taken if l1 else glancer.value

    def begin(self, args: Args, kwargs: Kwargs) -> Glance | None:
        glance = self._begin(args, kwargs)
        if glance is None:
            return None
        if self._tiers.known_tags.get(glance[0].keys[0]) is None:
            return glance
        self.over(glance)  # its entry has tags that a glance does not ask for: the look of a plan does
        return None

    # In vain, the rest of a plan follows. Not by way of `Node.run`: a call under way goes on over a `close`.

    def read(self, node: Node, glance: Glance | None, named: tuple[Any, Any], *call: Any) -> Any:
        looked = None
        try:
            if glance is None and (glance := self._begin(*named)) is None:
                return LEFT
            assert node._blocking is not None
            (looked,) = node._blocking.look(glance[0])
        except BaseException as error:
            if glance is None:  # of a signal's handler, amid the beginning; a second who looks is no harm
                self._tiers.looking.discard(named[0])
            if glance is None or not isinstance(error, L2Unavailable):
                raise
            unlooked(self._tiers, self._counts, error)
        finally:
            if glance is not None:
                self.over(glance)
        assert glance is not None
        value = self.found(glance, looked, *call)
        if value is not MISS:
            return value
        return run(self._rest(glance, looked, call, blocking=True), node._perform)

    async def read_async(self, node: Node, glance: Glance | None, named: tuple[Any, Any], *call: Any) -> Any:
        looked = None
        try:
            if glance is None and (glance := self._begin(*named)) is None:
                return LEFT
            (looked,) = await node.loops.of_running().gather(glance[0])
        except BaseException as error:
            if glance is None:  # of a signal's handler, amid the beginning; a second who looks is no harm
                self._tiers.looking.discard(named[0])
            if glance is None or not isinstance(error, L2Unavailable):
                raise
            unlooked(self._tiers, self._counts, error)
        finally:
            if glance is not None:
                self.over(glance)
        assert glance is not None
        value = self.found(glance, looked, *call)
        if value is not MISS:
            return value
        rest = self._rest(glance, looked, call, blocking=False)
        return await run_async(rest, node.loops.of_running().perform)

    def over(self, glance: Glance) -> None:
        """Nobody looks for its key any more."""
        self._tiers.looking.discard(glance[0].keys[0])

    def found(self, glance: Glance, looked: Looked | None, *call: Any) -> Any:
        """What was *looked* at comes to, counted and kept; MISS where that is not for a glance to say."""
        assert compiled is not None
        if looked is None:
            return MISS
        core, key = self._tiers.core, glance[0].keys[0]
        if self._l1 and key in core.l1.entries:
            amend(core, core.l1.drop_over, key, glance[1].at)  # it serves nobody, and is in the way
        try:
            taken = self._take(*glance, looked)
        except compiled.Unanswered:
            return MISS
        if not self._l1:
            return taken
        want = self._want(*call)
        self._learn(want, taken)
        keep(self._tiers, want, taken)
        return taken.value

    def _learn(self, want: Want, taken: Taken) -> None:
        """The compiled half has: the tags of a function's entries are those that it declares."""

    def _rest(self, glance: Glance, looked: Looked | None, call: Args, *, blocking: bool) -> Plan[Any]:
        seen = None if looked is None else (glance[1], looked)
        return after_look(self._tiers, self._want(*call), seen, blocking=blocking)


class KeyGlances(Glances):
    """Those by key of one view: `read` and `read_async` begin them, for what is `named`."""

    def __init__(self, tiers: Tiers, counts: Counts, want: Callable[..., Want]) -> None:
        super().__init__(tiers, counts, None, ANY_PRINT, want, l1=True)

    def expected(self, key: str, tags: tuple[str, ...]) -> tuple[str, ...] | None:
        """The tags to look for; None: a look would be in vain, and the script alone can tell."""
        return tags_to_look_for(self._tiers, self._counts, key, tags)

    def _learn(self, want: Want, taken: Taken) -> None:
        learn_found(self._tiers, want, taken)

    # By the script, for who has no loader: the rest of a plan in whose way nothing is, or LEFT.

    def ask(self, node: Node, key: str, *call: Any) -> Any:
        if not self._is_free(key):
            return LEFT
        return run(by_script(self._tiers, self._want(*call), blocking=True), node._perform)

    async def ask_async(self, node: Node, key: str, *call: Any) -> Any:
        if not self._is_free(key):
            return LEFT
        plan = by_script(self._tiers, self._want(*call), blocking=False)
        return await run_async(plan, node.loops.of_running().perform)

    def _is_free(self, key: str) -> bool:
        """Whether a glance could begin for *key*; none does, for nothing is looked for."""
        glance: Any = LEFT
        try:
            glance = self._begin(key, ())
        finally:
            if glance is not None:  # LEFT: of a signal's handler, amid this
                self._tiers.looking.discard(key)
        return glance is not None
