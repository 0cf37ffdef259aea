"""What is done between the processes and their server."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import cycle

from tests.chaos.crew import READERS
from tests.chaos.world import OneServer, World
from tiercache import TierCache


def kill_subscriptions(world: World) -> None:
    while world.goes_on(world.random.uniform(0.05, 0.3) * world.d):
        world.struck(int(world.server.cli("CLIENT", "KILL", "TYPE", "pubsub")))


def see_no_subscription(world: World) -> None:
    while world.goes_on(0.3 * world.d):
        assert not world.server.cli("CLIENT", "LIST", "TYPE", "pubsub"), "somebody listens"
        world.struck()


def silence_the_path(world: World) -> None:
    """Half-open: nothing is closed, nothing arrives; then all arrives late, or never."""
    assert isinstance(world.site, OneServer)
    proxy = world.site.proxy
    for seconds, late in cycle(((0.4, True), (2.5, False), (0.4, False), (2.5, True))):
        if not world.goes_on(0.4 * world.d):
            break
        proxy.fall_silent()
        world.goes_on(seconds * world.d)
        proxy.speak(late=late)
        world.struck()


def pause_clients(world: World) -> None:
    for part in cycle((0.2, 1.3)):
        if not world.goes_on(0.4 * world.d):
            break
        world.server.cli("CLIENT", "PAUSE", round(part * world.d * 1000))
        world.struck()
        world.goes_on(part * world.d)
    world.server.cli("CLIENT", "UNPAUSE")


def let_the_server_sleep(world: World) -> None:
    for part in cycle((0.2, 1.3)):
        if not world.goes_on(0.4 * world.d):
            break
        world.server.cli("DEBUG", "SLEEP", part * world.d)
        world.struck()


def overflow_a_slow_subscriber(world: World) -> None:
    """A reader is stopped, and invalidations of many long tags fill what the server holds back for it."""
    server, tags = world.server, [f"{number:0>500}" for number in range(1_000)]
    server.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1kb 1kb 1")
    with closing(TierCache(server.url(), private=True, listen=False).sync) as flood:
        for name in cycle(READERS):
            if not world.goes_on(0.5 * world.d):
                break
            peer = world.crew.members[name].peer
            peer.stop()
            before = _subscriptions(world)
            give_up = time.monotonic() + 5
            while not (cut := before - _subscriptions(world)) and time.monotonic() < give_up:
                flood.invalidate_tags(tags)
            peer.resume()
            world.struck(len(cut))


def _subscriptions(world: World) -> set[str]:
    text = world.server.cli("CLIENT", "LIST", "TYPE", "pubsub").decode()
    return {line.split()[0] for line in text.splitlines()}
