"""The newest server of this machine, for questions in which a contender asks for more than Redis 6.2."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from bench.runs import Run
from tiercache import embedded


@contextmanager
def newest(run: Run) -> Iterator[str]:
    """The URL of the newest server that can be started here, or of the one that the user named."""
    if run.redis is not None:
        with run.server() as url:
            yield url
        return
    with embedded.start(binary=newest_binary()) as server:
        yield server.url


def newest_binary() -> str:
    return max(embedded.candidates(), key=version_of)


def version_of(binary: str) -> tuple[int, ...]:
    """What `redis-server --version` says: "v=6.2.14"."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([\d.]+)", text)
    return tuple(map(int, found[1].split("."))) if found else (0,)


def described(url: str) -> str:
    """ "Valkey 9.1.2", "Redis 6.2.14"."""
    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    own = info.get("valkey_version")
    return f"Valkey {own}" if own else f"Redis {info['redis_version']}"
