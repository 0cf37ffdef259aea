"""What is done to the processes."""

from __future__ import annotations

import time
from itertools import cycle

from tests.chaos import in_tasks
from tests.chaos.crew import NAMES, READERS, WRITERS
from tests.chaos.station import wall_clock
from tests.chaos.world import World


def let_be(world: World) -> None:
    while world.goes_on(0.5 * world.d):
        world.struck()


def stop_readers(world: World) -> None:
    for name, part in zip(cycle(READERS), cycle((0.3, 1.5, 1.5, 0.3)), strict=False):
        if not world.goes_on(0.3 * world.d):
            break
        peer = world.crew.members[name].peer
        peer.stop()
        world.goes_on(part * world.d)
        peer.resume()
        world.struck()


def kill_readers(world: World) -> None:
    for name in cycle(READERS):
        if not world.goes_on(0.5 * world.d):
            break
        world.crew.again(name)
        world.struck()


def kill_writers_in_the_gap(world: World) -> None:
    """Between COMMIT and the invalidation: what they committed is never told of."""
    for name in cycle(WRITERS):
        if not world.goes_on(0.2 * world.d):
            break
        if world.hold(name, "the gap"):
            world.crew.again(name)
            world.struck()
        world.let_go(name, "the gap")


def stop_writers_in_the_gap(world: World) -> None:
    """For longer than its fence lives."""
    for name in cycle(WRITERS):
        if not world.goes_on(0.2 * world.d):
            break
        if world.hold(name, "the gap"):
            peer = world.crew.members[name].peer
            peer.stop()
            world.goes_on(2.5 * world.d)
            world.let_go(name, "the gap")
            peer.resume()
            world.struck()
        world.let_go(name, "the gap")


def kill_lock_holders(world: World) -> None:
    """In the loader: others wait until the lock ends by itself."""
    for name in cycle(NAMES):
        if not world.goes_on(0.2 * world.d):
            break
        if world.hold(name, "a load"):
            world.crew.again(name)
            world.struck()
        world.let_go(name, "a load")


def stop_lock_holders(world: World) -> None:
    """In the loader, for longer than its lock lives: another one loads, and then the first one stores."""
    for name in cycle(NAMES):
        if not world.goes_on(0.2 * world.d):
            break
        if world.hold(name, "a load"):
            peer = world.crew.members[name].peer
            peer.stop()
            world.goes_on(2.0 * world.d)
            world.let_go(name, "a load")
            peer.resume()
            world.struck()
        world.let_go(name, "a load")


def fork_readers(world: World) -> None:
    """A warm one forks in the middle of its reads; it and the child go on."""
    number = 0
    while world.goes_on(0.5 * world.d) and number < 4:
        world.crew.fork("reader in threads", f"child {number}")
        world.struck()
        number += 1
    while world.goes_on(0.5 * world.d):
        pass


def block_loops(world: World) -> None:
    for name, part in zip(
        cycle(("reader in tasks", "writer in tasks")), cycle((0.3, 1.5, 1.5, 0.3)), strict=False
    ):
        if not world.goes_on(0.3 * world.d):
            break
        world.crew.members[name].peer.call(in_tasks.block_loop, part * world.d)
        world.struck()


def compare_clocks(world: World) -> None:
    """They are wrong from the beginning."""
    here = time.time()
    clocks = {round((member.peer.call(wall_clock) - here) / 60) for member in world.crew.members.values()}
    world.struck(len(clocks) - 1)
    while world.goes_on(0.5 * world.d):
        pass
