"""Where the calls of a decorated function go: to its cache, or whichever is the default one at the moment."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tiercache._core.l1 import Entry
from tiercache._core.tiers import Counts
from tiercache._errors import TierCacheError
from tiercache._locks import Guard
from tiercache._signatures import returned

if TYPE_CHECKING:
    from tiercache._cache import TierCache
    from tiercache._glances import Glances
    from tiercache._node import Node

_guard = Guard()  # a core's lock may be taken under it, never the other way about


class Bound(NamedTuple):
    """A cache, and what a function has of its own there.

    A call takes all of it at once, when it begins. Else:  1. A call begins in the old default cache.  2. The
    function goes to a new one.  3. The call files its entry in the table of the new one: no invalidation
    there would ever reach it.
    """

    cache: TierCache
    node: Node
    counts: Counts
    table: dict[Any, Entry]  # the hit path holds it, too
    retire: Callable[[], object]  # keeps what was counted, once; by itself, when the function is gone
    glances: Glances | None  # reads L2 for the usual call


class Binding:
    """Where the calls of *function*, which errors call *name*, go; *owner* gives the cache of the moment.

    *lead* is told of each place they go to from then on, one after the other, before any call goes there,
    and says what reads L2 for the usual call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        owner: Callable[[], TierCache],
        name: str,
        lead: Callable[[Node, Counts, dict[Any, Entry]], Glances | None],
    ) -> None:
        self._function, self._owner, self._name, self._lead = function, owner, name, lead
        self._bound: Bound | None = None  # written under `_guard`

    def bind(self) -> Bound:
        """Where a call that begins now goes."""
        cache = self._owner()
        bound = self._bound
        if bound is None or bound.cache is not cache:
            cache._node.values.learn(returned(self._function))
            with _guard.lock:
                bound = self._bound
                if bound is None or bound.cache is not cache:
                    self.unbind()
                    node, counts = cache._node, cache._node.counted()
                    retire = weakref.finalize(self, node.retire, counts)
                    retire.atexit = False
                    table: dict[Any, Entry] = {}
                    glances = self._lead(node, counts, table)
                    self._bound = bound = Bound(cache, node, counts, table, retire, glances)
                    cache._bindings.add(self)
        # Last: who closes the cache says so first, and then unbinds all that were bound to it by then.
        if cache._released:
            self.unbind(cache)
            raise TierCacheError(f"the cache of {self._name} is closed")
        return bound

    def unbind(self, cache: TierCache | None = None) -> None:
        """Find nothing by arguments any more; a load that is still under way files nothing either.

        With *cache*, only if that is where the calls go.
        """
        with _guard.lock:
            bound = self._bound
            if bound is None or (cache is not None and bound.cache is not cache):
                return
            with bound.node.tiers.core.lock:
                self._bound = None
                bound.table.clear()
            bound.retire()

    @property
    def table(self) -> dict[Any, Entry] | None:
        """In which calls may be filed now."""
        bound = self._bound
        return None if bound is None else bound.table


def unbind_all(cache: TierCache) -> None:
    """Have no function call *cache* any more; the next call of each finds that it is gone."""
    with _guard.lock:  # a set that another thread adds to cannot be listed
        bindings = list(cache._bindings)
    for each in bindings:
        each.unbind(cache)
