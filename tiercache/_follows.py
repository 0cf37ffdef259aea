"""Tasks that follow a load which is under way.

Where a hundred want one key at once, ninety-nine first steps stand before the answer to the one that will
load, in each process: a follower takes the shortest way to its wait, and no plan where none is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiercache._core.follows import Follower, follow, on, taken
from tiercache._core.loads import leave_abandoned
from tiercache._core.plan import run_async
from tiercache._core.reads import MISS
from tiercache._core.tiers import Counts, Want

if TYPE_CHECKING:
    from tiercache._bound import Bound
    from tiercache._decorator import Function
    from tiercache._node import Node


def follow_call(
    made: Function, bound: Bound, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Follower | None:
    """Join the load of this call that is under way; None where there is none, or a plan must see to it."""
    tiers = bound.node.tiers
    if tiers.board.is_empty or made.namer is None or bound.node.auditor is not None:
        return None
    named = made.namer.name(args, kwargs)
    return None if named is None else follow(tiers, named[0])


async def followed(node: Node, counts: Counts, follower: Follower, want: Callable[[], Want]) -> Any:
    """What its flight brings; or what the plan of *want* comes to, if it may not take that.

    Raises what the load does, and LoadTimeout. Not by way of `Node.run_async`: a call that is under way goes
    on over a `close`.
    """
    tiers, flight = node.tiers, follower[0]
    try:
        landing = await node.joined(flight.future, tiers.load_timeout)
    except BaseException as error:
        if not isinstance(error, GeneratorExit):
            await run_async(leave_abandoned(tiers, want(), flight), node.perform_async)
        raise
    finally:
        tiers.board.leave(flight, None, "follow")
    value = taken(tiers, counts, follower, landing)
    if value is not MISS:
        return value
    return await run_async(on(tiers, want(), follower, landing), node.perform_async)
