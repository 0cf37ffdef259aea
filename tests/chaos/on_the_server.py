"""What is done to the server and what it holds."""

from __future__ import annotations

from contextlib import suppress
from itertools import cycle

import redis

from tests.chaos.world import OneServer, World

FILLER = b"x" * 10_000
ROOM = 100 * len(FILLER)  # few enough that the state is evicted several times a second


def flush(world: World) -> None:
    while world.goes_on(world.random.uniform(0.2, 0.6) * world.d):
        world.server.cli("FLUSHALL")
        world.struck()


def evict(world: World) -> None:
    """Any key goes for want of memory: a strike is when the state itself has gone."""
    server = world.server
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    known = world.epoch()
    with redis.Redis(port=server.port, socket_timeout=10) as client:
        server.cli("CONFIG", "SET", "maxmemory", client.info("memory")["used_memory"] + ROOM)
        fill = client.pipeline(transaction=False)
        number = 0
        while world.goes_on(0.02):
            for _ in range(20):
                number += 1
                fill.set(f"filler {number}", FILLER)
            with suppress(redis.ResponseError):
                fill.execute()
            epoch = world.epoch()
            if known is not None and epoch != known:
                world.struck()
            known = epoch
    server.cli("CONFIG", "SET", "maxmemory", "0")


def fill_up(world: World) -> None:
    """No memory for anybody, and nothing is evicted: every write of a client is refused."""
    server = world.server
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    for part in cycle((0.5, 1.5)):
        if not world.goes_on(0.4 * world.d):
            break
        server.cli("CONFIG", "SET", "maxmemory", "1")
        try:
            server.cli("SET", "filler", FILLER)
        except redis.exceptions.OutOfMemoryError:
            world.struck()
        world.goes_on(part * world.d)
        server.cli("CONFIG", "SET", "maxmemory", "0")


def restore_an_old_snapshot(world: World) -> None:
    """It is as if what happened since had not been: versions, entries and records go back together."""
    while world.goes_on(0.5 * world.d):
        world.server.save()
        world.goes_on(world.random.uniform(0.4, 0.9) * world.d)
        world.server.kill()
        world.server.start()
        world.struck()
        world.goes_on(0.5 * world.d)


def refuse(world: World) -> None:
    """Rights are taken away for a while: of all scripts; of a write in the middle of a script; of storing."""
    assert isinstance(world.site, OneServer)
    user, server = world.site.user, world.server
    for rights in cycle((("evalsha", "eval"), ("zadd",), ("set",), ("subscribe", "publish"))):
        if not world.goes_on(0.4 * world.d):
            break
        denied = _denied(world)
        server.cli("ACL", "SETUSER", user, *(f"-{right}" for right in rights))
        world.goes_on(world.random.choice((0.3, 1.3)) * world.d)
        server.cli("ACL", "SETUSER", user, *(f"+{right}" for right in rights))
        world.struck(_denied(world) - denied)


def _denied(world: World) -> int:
    """Commands that were refused for want of a right, so far."""
    return sum(int(entry["count"]) for entry in _log(world) if entry["reason"] == "command")


def _log(world: World) -> list[dict[str, str]]:
    with redis.Redis(port=world.server.port, decode_responses=True, socket_timeout=10) as client:
        return list(client.acl_log())  # type: ignore[arg-type]  # blocking
