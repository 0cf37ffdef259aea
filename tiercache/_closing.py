"""The end of a node in a task, which a cancellation may make sooner, and never partial."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiercache._node import Node


async def close_node(node: Node) -> None:
    """Close what *node* has in the running loop, then the node, in a thread.

    Its handle is given back by now, so nobody would try again. A scope of anyio that is cancelled does not
    cut it short; the cancellation of its task ends the wait that it meets, and nothing else.
    """
    from anyio import CancelScope, CapacityLimiter, to_thread

    with CancelScope(shield=True):
        try:
            await node.close_loop()
        finally:
            try:
                # Of its own: those that anyio has for all may be busy with the application's work for long.
                await to_thread.run_sync(node.close, limiter=CapacityLimiter(1))
            except RuntimeError:
                if node.closed:  # else the system starts no more threads
                    raise
            finally:
                # Nothing to do, but where a cancellation came before the thread began, or there can be none.
                node.close()
